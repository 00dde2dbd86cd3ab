# readygate as a sidecar: docker run -e READYGATE_UPSTREAM=http://127.0.0.1:8000 readygate
# What is in it, and why: docs/image.md. `make image` builds it with its labels.
#
# Both bases hold the same Python in the same place; the first has a C compiler, too.
ARG BUILD_BASE=docker.io/library/python:3.13
ARG BASE=docker.io/library/python:3.13-slim

FROM ${BUILD_BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_NO_COMPILE=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# The second has no pip: it is what goes into the image.
RUN python3 -m venv /opt/build && python3 -m venv --without-pip /opt/readygate && rm /opt/readygate/bin/[aA]ctivate*

# What it depends on, in a layer of its own. An index of one's own: --secret id=pip,src=pip.conf, and its authority
# as `cert = /run/secrets/ca` with --secret id=ca,src=ca.pem. Secrets leave nothing in any layer.
COPY pyproject.toml constraints.txt ./
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca \
    python3 -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
        > requirements.txt \
    && /opt/build/bin/pip --python /opt/readygate/bin/python install -c constraints.txt -r requirements.txt

# The hot path as machine code: an echo takes 0.85 of the CPU, a burst half. COMPILED=false: plain Python, no compiler.
ARG COMPILED=true
COPY README.md LICENSE ./
COPY policies policies
COPY proxy proxy
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca \
    HATCH_BUILD_HOOK_ENABLE_MYPYC=${COMPILED} PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
        /opt/build/bin/pip wheel --no-deps -w /opt/wheel . \
    && /opt/build/bin/pip --python /opt/readygate/bin/python install --no-deps --no-index /opt/wheel/*.whl

# Some wheels come with symbols for debuggers, 20 MB of them. Bytecode is made here, because a read-only root takes none
# later, and is never compared with its source again.
RUN if command -v strip > /dev/null; then find /opt/readygate -name '*.so*' -type f -exec strip --strip-unneeded {} +; fi \
    && /opt/readygate/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/readygate/lib

FROM ${BASE}
# The official images have their own library without bytecode. Nobody installs anything here.
RUN library="$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
    && rm -rf "$library"/ensurepip "$library"/idlelib "$library"/turtledemo "$library"/site-packages/pip* /usr/local/bin/pip* \
    && python3 -m compileall -q --invalidation-mode unchecked-hash -x '/(site|dist)-packages/|/tests?/|/lib2to3/|/tkinter/' "$library"
COPY --from=build /opt/readygate /opt/readygate
# PYTHONMALLOC: `run` would choose it itself, and start anew for it.
ENV PATH=/opt/readygate/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONMALLOC=malloc \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["readygate", "health"]
ENTRYPOINT ["readygate"]
CMD ["run"]

# Version, revision and time of creation come with --label (`make image`): made of ARGs, cached ones would be kept.
LABEL org.opencontainers.image.title="readygate" \
      org.opencontainers.image.description="Sidecar reverse proxy that opens a WebSocket only when both ends have proved that they are ready" \
      org.opencontainers.image.licenses="Apache-2.0"

# readygate as a sidecar image: docker run -e READYGATE_UPSTREAM=http://127.0.0.1:8000 readygate
FROM python:3.13-slim AS build
WORKDIR /src
COPY . .
RUN python -m venv /opt/readygate \
    && /opt/readygate/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt .

FROM python:3.13-slim
COPY --from=build /opt/readygate /opt/readygate
ENV PATH=/opt/readygate/bin:$PATH \
    PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["readygate"]
CMD ["run"]

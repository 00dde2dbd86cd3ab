# The application of `make image-test`: tests/backends/chat.py on uvicorn, on loopback, as behind any sidecar.
ARG BASE
FROM ${BASE}
WORKDIR /app
RUN python3 -m venv /app/venv
COPY constraints.txt ./
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca \
    /app/venv/bin/pip install --quiet --no-cache-dir -c constraints.txt fastapi uvicorn websockets
COPY chat.py ./
USER 65532:65532
CMD ["/app/venv/bin/uvicorn", "--host", "127.0.0.1", "--port", "8000", "--log-level", "warning", "chat:app"]

"""Starts what stands in front of a backend: nginx as its documentation sets it up, and readygate itself."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tests.backends.launch import Server, environment, free_port, installed, may_open, ready, start

NGINX = """
daemon off; master_process on; worker_processes 1; worker_rlimit_nofile {files}; pid {room}/pid; {user}
error_log {room}/stderr error;
events {{ worker_connections {files}; }}
http {{
  access_log off;
  client_body_temp_path {room}/body; proxy_temp_path {room}/proxy; fastcgi_temp_path {room}/fastcgi;
  uwsgi_temp_path {room}/uwsgi; scgi_temp_path {room}/scgi;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' {idle}; }}
  {pool}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    client_max_body_size 0; keepalive_requests 1000000;
    location / {{
      proxy_pass {upstream};
      proxy_request_buffering off; proxy_max_temp_file_size 0;
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_connect_timeout 10s; proxy_read_timeout 3600s;
    }}
  }}
}}
"""


def nginx(upstream: str, *, kept: int = 0) -> Server:
    """Nginx as its own documentation sets it up for WebSockets, bodies not spooled to files.

    `kept`: how many idle connections to the upstream it keeps for plain HTTP.
    """
    binary = installed("nginx")
    port, files = free_port(), may_open()
    room = Path(tempfile.mkdtemp(prefix="readygate-nginx-"))
    user = "user root;" if os.geteuid() == 0 else ""
    config = room / "nginx.conf"
    address = urlsplit(upstream).netloc
    pool = f"upstream pool {{ server {address}; keepalive {kept}; keepalive_requests 1000000; }}"
    config.write_text(
        NGINX.format(
            room=room,
            port=port,
            upstream="http://pool" if kept else upstream,
            pool=pool if kept else "",
            idle="''" if kept else "close",
            files=files,
            user=user,
        )
    )
    command = [binary, "-p", str(room), "-c", str(config), "-e", str(room / "stderr")]
    server = start("nginx", command, port=port)
    server._room.callback(shutil.rmtree, room, ignore_errors=True)
    return ready(server)


LISTENING = re.compile(r"^readygate listening on http://127\.0\.0\.1:(\d+) -> .*\n", re.MULTILINE)
GATE = [sys.executable, "-m", "proxy"]


def gate(
    upstream: str,
    policy: str = "production",
    *,
    env: dict[str, str] | None = None,
    program: Sequence[str] = GATE,
    **flags: str,
) -> Server:
    """Readygate itself, ready when it has printed its line. `policy`: a preset, a file, or YAML text.

    Its admin port cannot be left to the kernel, because nothing prints it; it is chosen again when taken.
    """
    for _ in range(3):
        try:
            return _gate(program, upstream, policy, env or {}, flags)
        except RuntimeError as error:
            taken = error
            if "in use" not in str(error):
                raise
    raise taken


def _gate(
    program: Sequence[str], upstream: str, policy: str, env: dict[str, str], flags: dict[str, str]
) -> Server:
    admin = free_port()
    room = contextlib.ExitStack()
    if "\n" in policy:
        policy = room.enter_context(policy_file(policy))
    options = {"listen": "127.0.0.1:0", "admin": f"127.0.0.1:{admin}", "policy": policy} | flags
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    command = [*program, "run", "--upstream", upstream, *words]
    server = start("gate", command, env=environment(**env))
    server._room.push(room)
    server.admin_port = admin
    try:
        text = server.wait_for_log(lambda text: LISTENING.search(text) or server.process.poll() is not None)
    except TimeoutError:
        server.stop()
        raise
    if not (found := LISTENING.search(text)):
        code = server.stop()
        raise RuntimeError(f"gate did not start (exit {code}):\n{text}")
    server.port = int(found[1])
    return ready(server)


@contextlib.contextmanager
def policy_file(text: str) -> Iterator[str]:
    """Write policy YAML to a file of its own; yields its path."""
    with tempfile.TemporaryDirectory(prefix="readygate-policy-") as room:
        path = Path(room) / "policy.yaml"
        path.write_text(text)
        yield str(path)

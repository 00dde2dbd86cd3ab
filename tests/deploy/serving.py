"""Starts the gate of a manifest for real, and asks it."""

from __future__ import annotations

import http.client
import re

from tests.backends.front import GATE
from tests.backends.launch import Server, environment, free_port, ready, start
from tests.deploy.manifests import Gate


def running(gate: Gate, **changed: str) -> Server:
    """A real gate with exactly the manifest's variables, on ports of its own."""
    listen, admin = free_port(), free_port()
    env = gate.env | {"READYGATE_POLICY": str(gate.policy)}
    moved = (
        {"READYGATE_LISTEN": re.sub(r"\d+$", str(listen), env["READYGATE_LISTEN"])}
        if "READYGATE_LISTEN" in env
        else {}
    )
    if env.get("READYGATE_ADMIN") != "off":
        moved["READYGATE_ADMIN"] = re.sub(r"\d+$", str(admin), env.get("READYGATE_ADMIN", "127.0.0.1:0"))
    moved |= {} if "READYGATE_LISTEN" in env else {"PORT": str(listen)}
    server = start("gate", [*GATE, "run", *gate.args], port=listen, env=environment(**env | moved | changed))
    server.admin_port = admin
    return ready(server)


def ask(port: int, path: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()

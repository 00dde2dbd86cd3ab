"""Who may come in: clear heads, hosts, origins, limits, whose client is counted, tokens. Pure.

`proxy.guard.keys` and `proxy.guard.verify` are not imported here: with PyJWT and cryptography they take as
long to import as all of aiohttp, and only a policy with `guard.jwt` needs them.
"""

from __future__ import annotations

from proxy.guard.claims import alias, claim_fields, without_spoofed
from proxy.guard.client import client_address
from proxy.guard.connections import Connections
from proxy.guard.denial import Denial
from proxy.guard.heads import Fault, request_fault, response_is_clear
from proxy.guard.host import bad_host, host_denied
from proxy.guard.limits import (
    CONNECTIONS,
    HEADER_BYTES,
    Clients,
    Limit,
    Load,
    Quieter,
    head_bytes,
    limit_reached,
    most_descriptors,
    most_sessions,
    raise_descriptor_limit,
)
from proxy.guard.origin import asked_host, origin_denied
from proxy.guard.paths import path_denied
from proxy.guard.refusal import Answer, BadKeyError, Reason, RefusedError, answer_to
from proxy.guard.tokens import Found, find_token

__all__ = [
    "CONNECTIONS",
    "HEADER_BYTES",
    "Answer",
    "BadKeyError",
    "Clients",
    "Connections",
    "Denial",
    "Fault",
    "Found",
    "Limit",
    "Load",
    "Quieter",
    "Reason",
    "RefusedError",
    "alias",
    "answer_to",
    "asked_host",
    "bad_host",
    "claim_fields",
    "client_address",
    "find_token",
    "head_bytes",
    "host_denied",
    "limit_reached",
    "most_descriptors",
    "most_sessions",
    "origin_denied",
    "path_denied",
    "raise_descriptor_limit",
    "request_fault",
    "response_is_clear",
    "without_spoofed",
]

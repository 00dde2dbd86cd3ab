"""The handshake core once more, its events chosen by bytes: less cleverly than by hypothesis, but far more.

An input is four bytes that choose the plan, then one byte for each thing that happens (see `WORDS`).
"""

from __future__ import annotations

from itertools import product
from typing import Any

from proxy.core.plan import Accept
from tests.fuzz.handshake import LEGS, Stage
from tests.fuzz.peer import KINDS
from tests.fuzz.target import Target
from tests.fuzz.world import CLIENT, UPSTREAM

ROLES = (str(CLIENT), str(UPSTREAM))
PLANS = [
    {"accept": str(accept), "client": client, "upstream": upstream}
    for accept, client, upstream in product(Accept, LEGS, LEGS)
]
WORDS: list[dict[str, Any]] = [
    {"do": "connected"},
    {"do": "client accepted"},
    {"do": "unreachable"},
    {"do": "timer", "late_ms": 0},
    {"do": "timer", "late_ms": 40},
    {"do": "late timer", "late_ms": 0},
    {"do": "drain"},
    *({"do": "wait", "ms": ms} for ms in (1, 7, 40, 3000)),
    *(
        {"do": "accepted", "subprotocol": name, "extensions": None, "tail": [], "cut": None}
        for name in (None, "chat")
    ),
    {"do": "accepted", "subprotocol": None, "extensions": "x", "tail": ["text", "pong"], "cut": 9},
    {"do": "accepted", "subprotocol": None, "extensions": None, "tail": ["text", "1011"], "cut": None},
    *(
        {"do": "rejected", "status": status, "held": held}
        for status, held in product((403, 503), (True, False))
    ),
    *({"do": "acked", "role": role} for role in ROLES),
    *({"do": "lost", "role": role} for role in ROLES),
    *(
        {"do": "says", "role": role, "kinds": [kind], "cut": cut}
        for role, kind, cut in product(ROLES, KINDS, (None, 3))
    ),
    *({"do": "says", "role": role, "kinds": [], "cut": cut} for role, cut in product(ROLES, (None, 1))),
    *({"do": "says", "role": role, "kinds": ["text", "pong", "start"], "cut": None} for role in ROLES),
]
# What is likely to happen comes first, and again behind the rest.
OFTEN = (
    0,
    1,
    3,
    3,
    11,
    11,
    *(WORDS.index({"do": "says", "role": role, "kinds": ["pong"], "cut": None}) for role in ROLES),
)


def check(data: bytes) -> None:
    head, steps = data[:4].ljust(4, b"\0"), data[4:]
    stage = Stage(
        **PLANS[head[0] % len(PLANS)],
        tries=head[1] % 3 + 1,
        limit=125 if head[2] & 1 else None,
        eager=["chat"] if head[2] & 2 else [],
        measurable=bool(head[3] & 1),
    )
    for step in steps:
        stage.do(**WORDS[step if step < len(WORDS) else OFTEN[step % len(OFTEN)]])
    stage.end()


def pieces(data: bytes) -> list[bytes]:
    return [data[:4], *(data[at : at + 1] for at in range(4, len(data)))]


TOKENS = (
    *(bytes([number]) for number in range(len(WORDS))),
    b"\xf8\xf9\xfa\xfb\xfc\xfd\xfe\xff",
    b"\xff" * 20,
)
TARGET = Target("events", check, TOKENS, pieces, share=1.5, longest=100, few=500)

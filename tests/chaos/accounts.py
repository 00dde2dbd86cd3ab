"""The accounts after the chaos: what clients know of their connections, what the backend wrote down.

Exact in both directions: whatever arrived is a prefix of what was sent, in order, each message once; what was
acknowledged did arrive; a session that both ends left properly has lost nothing at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from tests.backends.flaky import encode
from tests.backends.ledger import numbered

LEFT, PLAIN_END, GAVE_UP, NO_ANSWER = "left", "plain end", "gave up", "no answer"


@dataclass(slots=True, eq=False)
class Account:
    """What a client knows of one connection.

    `sent`, `acknowledged`, `heard`: how many of its messages, of their acknowledgements and of the pushes,
    all numbered from 0. `trouble`: what came otherwise than it should. `rest`: the bytes of a frame that was
    never finished. `end`: how it ended for the client; "" while it lasts.
    """

    identity: str
    began_s: float = 0.0
    ended_s: float = 0.0
    sent: int = 0
    acknowledged: int = 0
    heard: int = 0
    farewell: int | None = None
    end: str = ""
    rest: bytes = b""
    trouble: list[str] = field(default_factory=list)

    @property
    def refused(self) -> bool:
        """Whether it was told of a failure, and may rely on it that nothing of what it said was delivered."""
        return self.end.startswith("HTTP ")


@dataclass(slots=True)
class Visit:
    """What the backend wrote down of one connection that it accepted."""

    heard: list[int] = field(default_factory=list)
    pushed: list[int] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


def read_journal(lines: Iterable[str]) -> dict[str, list[Visit]]:
    """Return the visits of each identity, in the order in which they began. ValueError for a damaged line."""
    visits: dict[str, Visit] = {}
    books: dict[str, list[Visit]] = defaultdict(list)
    for line in lines:
        name, kind, *words = line.split(maxsplit=2)
        if kind == "o":
            visits[name] = Visit()
            books[words[0].strip()].append(visits[name])
        elif kind == "x":
            visits[name].damaged.append(words[0].strip())
        elif kind != "e":
            visit = visits[name]
            {"r": visit.heard, "s": visit.pushed, "k": visit.acknowledged}[kind].append(int(words[0]))
    return books


def judge(account: Account, visits: list[Visit]) -> list[str]:
    """Return what is wrong between the two, a sentence each; nothing when the account is in order."""
    wrong = list(account.trouble)
    *earlier, last = visits or [Visit()]
    for visit in earlier:  # a try of the gate's that it gave up before it opened
        if visit.heard or visit.acknowledged:
            wrong.append(f"a redialled try was told {len(visit.heard) + len(visit.acknowledged)} messages")
    wrong += [f"the backend heard something damaged: {what}" for visit in visits for what in visit.damaged]
    for name in ("heard", "pushed", "acknowledged"):
        wrong += _disorder(f"the backend's list of {name}", getattr(last, name))
    arrived = len(last.heard)
    wrong += _not_above("the backend heard", arrived, "the client sent", account.sent)
    wrong += _not_above("the client saw acknowledged", account.acknowledged, "the journal has", arrived)
    wrong += _not_above("the client heard pushes", account.heard, "the backend pushed", len(last.pushed))
    wrong += _not_above("acknowledged pushes", len(last.acknowledged), "the client heard", account.heard)
    if account.refused and arrived:
        wrong.append(f"told {account.end}, and yet {arrived} messages were delivered")
    if account.end == LEFT:
        wrong += _lost_nothing(account, last)
    return wrong + _rest(account)


def _disorder(what: str, numbers: list[int]) -> list[str]:
    if numbers == list(range(len(numbers))):
        return []
    at = next(
        (f"{before} is followed by {after}" for before, after in pairwise(numbers) if after != before + 1), ""
    )
    return [f"{what} is out of order: {at or f'it begins with {numbers[0]}'}"]


def _not_above(what: str, count: int, bound_name: str, bound: int) -> list[str]:
    return [f"{what} {count}, but {bound_name} {bound}"] if count > bound else []


def _lost_nothing(account: Account, last: Visit) -> list[str]:
    pairs = {
        "messages": (account.sent, len(last.heard), account.acknowledged),
        "pushes": (account.heard, len(last.pushed), account.farewell),
    }
    return [
        f"left properly, and lost {name}: {counts}" for name, counts in pairs.items() if len(set(counts)) > 1
    ]


def _rest(account: Account) -> list[str]:
    """Look at the frame that was cut: it must be the beginning of what was due, nothing put in behind."""
    if not account.rest:
        return []
    if account.end.startswith("close"):
        return [f"{len(account.rest)} bytes behind a Close: {account.rest[:40]!r}"]
    due = [
        numbered("s", account.identity, account.heard),
        f"a:{account.acknowledged}",
        f"z:{account.heard}",
    ]
    frames = [encode(0x81, text.encode()) for text in due]
    if account.rest[0] & 0x08 or any(frame.startswith(account.rest) for frame in frames):
        return []
    return [f"the frame that was cut was not the one that was due: {account.rest[:40]!r}"]


@dataclass(slots=True)
class Totals:
    """All accounts together. `wrong`: (identity, sentence)."""

    connections: int = 0
    visits: int = 0
    sent: int = 0
    arrived: int = 0
    acknowledged: int = 0
    pushed: int = 0
    heard: int = 0
    pushes_acknowledged: int = 0
    left: int = 0
    wrong: list[tuple[str, str]] = field(default_factory=list)


def settle(accounts: Iterable[Account], books: dict[str, list[Visit]]) -> Totals:
    """Judge every account, and every visit that nobody has an account of."""
    totals, unknown = Totals(), dict(books)
    for account in accounts:
        visits = unknown.pop(account.identity, [])
        totals.wrong += [(account.identity, what) for what in judge(account, visits)]
        totals.connections += 1
        totals.visits += len(visits)
        totals.sent += account.sent
        totals.acknowledged += account.acknowledged
        totals.heard += account.heard
        totals.left += account.end == LEFT
        totals.arrived += sum(len(visit.heard) for visit in visits)
        totals.pushed += sum(len(visit.pushed) for visit in visits)
        totals.pushes_acknowledged += sum(len(visit.acknowledged) for visit in visits)
    totals.wrong += [(identity, "the backend knows it, no client does") for identity in unknown]
    return totals

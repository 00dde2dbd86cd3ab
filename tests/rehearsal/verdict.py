"""What a rehearsal must show, judged from what was seen: no I/O, so that each rule has its test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.chaos.accounts import Visit
from tests.chaos.drain import fullest
from tests.rehearsal.clients import Absence, Account
from tests.rehearsal.front_end import Look
from tests.rehearsal.pair import Ended

SHARE_AND = 1.25
RESTART = 1012

Books = dict[str, list[Visit]]


@dataclass(slots=True)
class Messages:
    """All accounts against all records.

    `lost`: acknowledged, in no record. `unanswered`: said, never acknowledged. `twice`: records that were one
    too many, as happens when a client says again what had arrived.
    """

    said: int = 0
    repeated: int = 0
    acknowledged: int = 0
    recorded: int = 0
    twice: int = 0
    lost: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)

    def wrong(self) -> list[str]:
        """Return what must not be, a sentence each."""
        said = [f"{message} was acknowledged, and nobody has it" for message in self.lost]
        said += [f"{message} was never acknowledged" for message in self.unanswered]
        return said + self.strange


def settle(accounts: Iterable[Account], books: Sequence[Books]) -> Messages:
    """Compare what each client knows with what all applications together wrote down."""
    messages, unknown = Messages(), {identity for book in books for identity in book}
    for account in accounts:
        unknown.discard(account.identity)
        visits = [visit for book in books for visit in book.get(account.identity, [])]
        heard = Counter(number for visit in visits for number in visit.heard)
        said = set(range(account.said))
        messages.said += account.said
        messages.repeated += account.repeated
        messages.acknowledged += len(account.acknowledged)
        messages.recorded += len(heard)
        messages.twice += sum(count - 1 for count in heard.values())
        messages.lost += [
            f"{account.identity}:{number}" for number in sorted(account.acknowledged - set(heard))
        ]
        messages.unanswered += [
            f"{account.identity}:{number}" for number in sorted(said - account.acknowledged)
        ]
        messages.strange += [
            f"{account.identity}:{number} was never said" for number in sorted(set(heard) - said)
        ]
        messages.strange += [
            f"{account.identity}: damaged: {what}" for visit in visits for what in visit.damaged
        ]
    messages.strange += [f"{identity} is nobody's" for identity in sorted(unknown)]
    return messages


@dataclass(frozen=True, slots=True)
class Peak:
    """The most that a pair had of its share. `share`: sessions in all by pairs in service."""

    ratio: float
    pair: str
    sessions: int
    share: float
    at_s: float


def peak(looks: Iterable[Look], sessions: int, pairs: int) -> Peak:
    """Return the largest share that any pair had.

    `sessions`: all there are, those of clients on their way back included. They are shared by the pairs that
    take new ones, but by `pairs` at most: one that is started beside the others replaces one of them, and
    makes nobody's share smaller.
    """
    most = Peak(0.0, "", 0, 0.0, 0.0)
    for look in looks:
        share = sessions / (min(len(look.in_service), pairs) or 1)
        for pair, held in look.sessions.items():
            if held / share > most.ratio:
                most = Peak(held / share, pair, held, share, look.at_s)
    return most


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds, of many: median, 99th percentile, worst."""

    p50: float
    p99: float
    worst: float

    def __str__(self) -> str:
        return f"p50 {self.p50:.2f} s, p99 {self.p99:.2f} s, worst {self.worst:.2f} s"


def times(values: Iterable[float]) -> Times:
    """Return what stands for them; zeros for none."""
    ordered = sorted(values) or [0.0]
    return Times(*(ordered[min(int(len(ordered) * part), len(ordered) - 1)] for part in (0.5, 0.99, 1.0)))


@dataclass(frozen=True, slots=True)
class Roll:
    """One pair replaced by another. `held`: sessions of the old one at `signalled_s`, when it got SIGTERM."""

    old: str
    new: str
    held: int
    signalled_s: float
    ended: Ended


@dataclass(frozen=True, slots=True)
class Away:
    """How clients were closed in one roll, and when they were back.

    `away`: from a client's end until it was served again. `cost`: the same without its own pauses.
    `back`: from SIGTERM until it was served again. `fullest`: the largest share of ends within 100 ms.
    """

    codes: dict[int, int]
    away: Times
    cost: Times
    back: Times
    fullest: float
    missing: int

    @classmethod
    def of(cls, roll: Roll, absences: Sequence[Absence]) -> Away:
        """Sum up the absences of one roll."""
        returned = [one for one in absences if one.back_s is not None]
        return cls(
            dict(Counter(one.code for one in absences)),
            times(one.back_s - one.closed_s for one in returned),
            times(one.back_s - one.closed_s - one.pauses_s for one in returned),
            times(one.back_s - roll.signalled_s for one in returned),
            fullest(sorted(one.closed_s for one in absences)),
            len(absences) - len(returned),
        )

    def wrong(self, spread_s: float, pause_s: float, slack_s: float) -> list[str]:
        """Return what must not be, a sentence each.

        `spread_s`: the drain's window. `pause_s`: the most that a client waits. `slack_s`: for a handshake,
        and for a machine that does the work of many.
        """
        said = [
            f"{count} clients got {code}, not {RESTART}"
            for code, count in self.codes.items()
            if code != RESTART
        ]
        if self.missing:
            said.append(f"{self.missing} clients were never served again")
        if self.away.worst > (bound := max(spread_s, pause_s) + slack_s):
            said.append(f"a client was away for {self.away.worst:.2f} s, more than {bound:g} s")
        if self.back.worst > (bound := spread_s + pause_s + slack_s):
            said.append(f"a client was back {self.back.worst:.2f} s after SIGTERM, more than {bound:g} s")
        return said


def by_roll(rolls: Sequence[Roll], absences: Iterable[Absence]) -> list[list[Absence]]:
    """Sort absences into the rolls in which they began; the first list has those that were before any."""
    sorted_in: list[list[Absence]] = [[] for _ in range(len(rolls) + 1)]
    for one in absences:
        sorted_in[sum(one.closed_s >= roll.signalled_s for roll in rolls)].append(one)
    return sorted_in

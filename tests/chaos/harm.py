"""What one phase of the chaos did to whom, and whether the ends that followed are among those that may."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tests.chaos.accounts import PLAIN_END, Account

LOST = "close 1014"
RESTARTED = "close 1012"
IN_A_FRAME = "plain end in a frame"
LIVES = ""


def end_of(account: Account) -> str:
    """Return how it ended, told apart whether a frame was cut by it."""
    return IN_A_FRAME if account.end == PLAIN_END and account.rest else account.end


@dataclass(slots=True)
class Harm:
    """The connections that a phase touched: which ends each may see. All others may see none.

    `undo`: what has to be done when all is over. `free_by`: until when (loop time) the gate must have let
    these go. `wild`: everybody may see any end.
    """

    allowed: dict[str, frozenset[str]] = field(default_factory=dict)
    undo: list[Callable[[], None]] = field(default_factory=list)
    free_by: dict[str, float] = field(default_factory=dict)
    wild: bool = False

    def touch(self, identities: Iterable[str], *ends: str) -> None:
        """Note that these connections may see these ends; without `LIVES` they must see one."""
        self.allowed |= dict.fromkeys(identities, frozenset(ends))

    def pending(self, living: set[str]) -> set[str]:
        """Return those that must end and live still."""
        return {one for one, ends in self.allowed.items() if LIVES not in ends} & living

    def judge(self, accounts: dict[str, Account], ended: set[str]) -> list[str]:
        """Return what is wrong with the ends, a sentence each."""
        if self.wild:
            return []
        wrong = [
            f"{identity}: {end_of(accounts[identity])}, expected {self._expected(identity)}"
            for identity in sorted(ended)
            if end_of(accounts[identity]) not in self.allowed.get(identity, ())
        ]
        wrong += [
            f"{identity}: lives on, expected {self._expected(identity)}"
            for identity, ends in self.allowed.items()
            if identity not in ended and LIVES not in ends
        ]
        return wrong

    def _expected(self, identity: str) -> str:
        ends = self.allowed.get(identity, frozenset())
        return " or ".join(sorted(ends)) or "no end"


@dataclass(slots=True)
class Row:
    """One phase in the table. `touched`: connections that it meant; `ends`: those of all that ended in it."""

    name: str
    took_s: float
    touched: int
    ends: Counter[str]
    back_s: float
    wrong: list[str]

    def line(self) -> str:
        ends = ", ".join(f"{end} x{count}" for end, count in self.ends.most_common()) or "-"
        verdict = f"{len(self.wrong)} WRONG" if self.wrong else "ok"
        return COLUMNS.format(
            self.name, f"{self.took_s:.1f}", self.touched, f"{self.back_s:.1f}", verdict, ends
        )

    def record(self) -> dict[str, object]:
        return {
            "phase": self.name,
            "took_s": round(self.took_s, 1),
            "touched": self.touched,
            "ends": dict(self.ends),
            "served_again_s": round(self.back_s, 1),
            "wrong": self.wrong,
        }


COLUMNS = "{:<40}{:>6}{:>9}{:>8}  {:<10}{}"
HEADINGS = ("phase", "s", "touched", "back s", "verdict", "how connections ended for their clients")

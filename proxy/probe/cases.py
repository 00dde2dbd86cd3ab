"""What is tried: when a client speaks, and when it goes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Expect(StrEnum):
    """What counts as an answer."""

    ECHO = "echo"  # a message equal to ours
    ANY = "any"  # any message beyond those that the endpoint sends unasked
    NONE = "none"  # it never answers: nothing is awaited, nothing counts as lost


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of client. `delay_s`: how long it stays silent after its 101.

    `early`: its first frame is in the segment of its upgrade request. `leaves`: its Close is right behind its
    message, so an answer may come or not and none is lost. `together`: connections start in one instant, and
    the next ones when all of them are done.
    """

    name: str
    title: str
    early: bool = False
    silent: bool = False
    leaves: bool = False
    together: bool = False
    delay_s: float = 0.0


CASES: Final = (
    Case("early_frame", "frame in the segment of the upgrade", early=True),
    Case("frame_at_once", "frame at once after 101"),
    Case("slow_first_frame", "first frame 300 ms after 101", delay_s=0.3),
    Case("connect_storm", "connect storm", together=True),
    Case("send_and_leave", "send and leave", leaves=True),
)
QUIET: Final = Case("calibration", "quiet connection", silent=True)

"""A measured figure with its target, and the cheap backend that the figures share."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from tests.backends import launch


@dataclass(slots=True)
class Figure:
    """`value` is the figure itself, met when it is at most `target`; `lines` is what a reader sees."""

    title: str
    unit: str
    value: float
    target: float
    lines: list[str]
    raw: dict = field(default_factory=dict)

    @property
    def met(self) -> bool:
        return self.value <= self.target

    def show(self) -> str:
        verdict = "met" if self.met else "MISSED"
        last = f"{self.value:.2f} {self.unit}, target at most {self.target:g}: {verdict}"
        return "\n".join([self.title, *(f"  {line}" for line in [*self.lines, last])])


def echo_backend() -> launch.Server:
    """Start the picows echo server."""
    port = launch.free_port()
    command = [sys.executable, "-m", "tests.bench.echo", str(port)]
    return launch.ready(launch.start("picows", command, port=port))

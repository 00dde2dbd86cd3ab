"""`python -m tests.soak`: sessions connect, talk and leave for 15 minutes; does the gate stay as it is?

Exits 1 when a session failed, the backend or the gate logged an error, something is left at the end, or
memory grows. A line a minute; details go to soak-results/.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import uvloop

from tests.backends import front, launch
from tests.bench import idle, process
from tests.chaos.leftovers import Reading, given_back, left_over, settled
from tests.chaos.logs import backend_errors, gate_errors
from tests.soak.load import Load
from tests.soak.trend import Sample, Trend, trend

SAMPLE_S = 5.0
WARM_UP = 200
MINUTE_S = 60.0


@dataclass(slots=True)
class Soak:
    """What is measured, and what came out of it."""

    gate: launch.Server
    backend: launch.Server
    seconds: float
    load: Load
    samples: list[Sample] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    took_s: float = 0.0

    async def run(self) -> None:
        """Warm up, load and watch, and wait until nothing is left."""
        await idle.close_all(self.gate, await idle.open_all(self.gate, WARM_UP), None)
        self.readings.append(await settled(self.gate))
        watching = asyncio.create_task(self._watch())
        self.took_s = await self.load.for_seconds(self.seconds)
        watching.cancel()
        self.readings.append(await given_back(self.gate, self.readings[0], left_over))

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        began_s = told_s = loop.time()
        while True:
            await asyncio.sleep(SAMPLE_S)
            at_s = loop.time() - began_s
            sessions = await idle.session_count(self.gate)
            rss_kb, _ = process.memory_kb(self.gate.pid)
            self.samples.append(Sample(at_s, rss_kb, process.descriptors(self.gate.pid), sessions))
            if loop.time() - told_s >= MINUTE_S:
                told_s += MINUTE_S
                print(self._line(self.samples[-1]), flush=True)

    def _line(self, last: Sample) -> str:
        done, failed = self.load.done.total(), self.load.failed.total()
        return (
            f"{last.at_s / 60:4.0f} min  {done} sessions, {done / last.at_s:.1f} a second, {failed} failed; "
            f"{last.rss_kb} KB resident, {last.descriptors} descriptors, {last.sessions} sessions now; "
            f"backend's log {backend_errors(self.backend.log())}"
        )

    @property
    def rate(self) -> float:
        return self.load.done.total() / self.took_s

    def wrong(self, drift: Trend) -> list[str]:
        """Return what must not be, a sentence each."""
        said = [f"{count} x {what}" for what, count in self.load.failed.most_common()]
        said += [f"{count} {what} in the backend's log" for what, count in self._backend_log.items() if count]
        said += [f"the gate logged {line[:1000]}" for line in gate_errors(self.gate.log())]
        said += left_over(*self.readings)
        if drift.grows:
            said.append(f"memory grew by {drift.growth_kb:.0f} KB over the run")
        return said

    @property
    def _backend_log(self) -> dict[str, int]:
        return backend_errors(self.backend.log())

    def lines(self, drift: Trend) -> list[str]:
        """Return the figures in words."""
        return [
            f"sessions       {self.load.done.total()} in {self.took_s:.0f} s, {self.rate:.1f} a second "
            f"({self.load.rate:g} were asked for), {self.load.failed.total()} failed",
            f"left           {dict(self.load.done)}",
            f"memory         {drift.kb_per_minute:+.1f} KB a minute, {drift.percent_per_hour:+.2f} % an hour",
            f"before, after  {self.readings[0]}, {self.readings[1]}",
            f"backend's log  {self._backend_log}",
            *(f"WRONG: {what}" for what in self.wrong(drift)),
        ]

    def record(self, drift: Trend) -> dict[str, object]:
        return {
            "seconds": self.seconds,
            "asked_per_s": self.load.rate,
            "reached_per_s": self.rate,
            "done": self.load.done,
            "failed": self.load.failed,
            "trend": asdict(drift),
            "readings": [asdict(reading) for reading in self.readings],
            "samples": [asdict(sample) for sample in self.samples],
            "wrong": self.wrong(drift),
        }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=900.0)
    parser.add_argument("--rate", type=float, default=200.0, help="sessions a second")
    options = parser.parse_args()
    launch.may_open()
    print(f"soak: {options.seconds:.0f} s of {options.rate:g} sessions a second", flush=True)
    quiet = {"READYGATE_LOG_LEVEL": "WARNING"}  # two lines a session would fill the disk
    with launch.uvicorn("websockets-sansio") as backend, front.gate(backend.url, env=quiet) as gate:
        soak = uvloop.run(soaked(gate, backend, options.seconds, options.rate))
        drift = trend(soak.samples, options.seconds)
        print("\n".join(soak.lines(drift)), flush=True)
        wrong = write(soak.record(drift), backend.log())
    return int(wrong)


async def soaked(gate: launch.Server, backend: launch.Server, seconds: float, rate: float) -> Soak:
    """Run it to its end."""
    soak = Soak(gate, backend, seconds, Load((gate.host, gate.port), rate))
    await soak.run()
    return soak


def write(record: dict[str, object], backend_log: str) -> bool:
    """Write the record; return whether anything is wrong."""
    results = Path("soak-results")
    results.mkdir(exist_ok=True)
    path = results / time.strftime("soak-%Y%m%d-%H%M%S.json")
    path.write_text(json.dumps(record, indent=1))
    if record["wrong"]:
        path.with_suffix(".backend.log").write_text(backend_log[-1_000_000:])
    print(f"details in {path}", flush=True)
    return bool(record["wrong"])


if __name__ == "__main__":
    sys.exit(main())

"""What the kernel knows of a process: CPU, memory, descriptors. Linux only."""

from __future__ import annotations

import os
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """Return the process and its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += family(int(child))
    return found


def cpu_s(pid: int) -> float:
    """Return seconds of CPU, user and system, of all threads of the process and its descendants (proc(5))."""
    total = 0
    for member in family(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total * TICK_S


def pin(pid: int, core: int) -> None:
    """Let the process, all its threads and descendants run on one core only."""
    for member in family(pid):
        for task in Path(f"/proc/{member}/task").iterdir():
            os.sched_setaffinity(int(task.name), {core})


def memory_kb(pid: int) -> tuple[int, int]:
    """Return (Rss, Pss) in KB, summed over the process and its descendants (`smaps_rollup`)."""
    rss = pss = 0
    for member in family(pid):
        lines = (line.split() for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()[1:])
        values = {words[0]: int(words[1]) for words in lines}
        rss, pss = rss + values["Rss:"], pss + values["Pss:"]
    return rss, pss


def descriptors(pid: int) -> int:
    """Return how many file descriptors the process and its descendants have open."""
    return sum(len(list(Path(f"/proc/{member}/fd").iterdir())) for member in family(pid))

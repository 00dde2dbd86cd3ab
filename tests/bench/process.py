"""What the kernel knows of a process: CPU, memory, descriptors. Linux only."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

PROC = Path("/proc")
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """Return the process and its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += family(int(child))
    return found


def cpu_s(pid: int) -> float:
    """Return seconds of CPU, user and system, of all threads of the process and its descendants."""
    return sum(scheduled_s(member) or ticked_s(member) for member in family(pid))


def scheduled_s(pid: int, proc: Path = PROC) -> float:
    """Return seconds on a CPU from the scheduler's count in nanoseconds; 0.0 on kernels that do not count."""
    total_ns = 0
    for task in (proc / str(pid) / "task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # no such count; a thread that ended
            total_ns += int((task / "schedstat").read_text().split()[0])
    return total_ns / 1e9


def ticked_s(pid: int, proc: Path = PROC) -> float:
    """Return the same from `stat`, which counts in clock ticks of 10 ms (proc(5))."""
    fields = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def machine_cpu_s(proc: Path = PROC) -> float:
    """Return seconds that the machine's cores have worked, for whomever, in clock ticks of 10 ms."""
    user, nice, system, _idle, _wait, irq, softirq = map(
        int, (proc / "stat").read_text().splitlines()[0].split()[1:8]
    )
    return (user + nice + system + irq + softirq) * TICK_S


def pin(pid: int, core: int) -> None:
    """Let the process, all its threads and descendants run on one core only."""
    for member in family(pid):
        for task in Path(f"/proc/{member}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):
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

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.bench import process


def spin(cpu_s: float) -> None:
    end = time.process_time() + cpu_s
    while time.process_time() < end:
        pass


def test_cpu_is_that_of_all_threads_in_seconds(tmp_path: Path):
    for tid, ns in (("7", 1_500_000_000), ("8", 250_000_000)):
        (tmp_path / "7" / "task" / tid).mkdir(parents=True)
        (tmp_path / "7" / "task" / tid / "schedstat").write_text(f"{ns} 11 22\n")
    assert process.scheduled_s(7, tmp_path) == 1.75


def test_without_the_schedulers_count_clock_ticks_are_read(tmp_path: Path):
    (tmp_path / "7" / "task" / "7").mkdir(parents=True)
    fields = " ".join(str(number) for number in range(3, 53))
    (tmp_path / "7" / "stat").write_text(f"7 (a (strange) name) {fields}\n")
    assert process.scheduled_s(7, tmp_path) == 0
    assert process.ticked_s(7, tmp_path) == (14 + 15) * process.TICK_S


def test_the_machines_cpu_is_all_but_idle_and_waiting(tmp_path: Path):
    (tmp_path / "stat").write_text("cpu  10 1 5 1000 2000 3 4 0 0 0\ncpu0 1 1 1 1 1 1 1 0 0 0\n")
    assert process.machine_cpu_s(tmp_path) == (10 + 1 + 5 + 3 + 4) * process.TICK_S


def test_our_own_cpu_grows_as_the_process_clock_says():
    clock, counted = time.process_time(), process.cpu_s(os.getpid())
    spin(0.02)
    clock, counted = time.process_time() - clock, process.cpu_s(os.getpid()) - counted
    assert counted >= clock / 2

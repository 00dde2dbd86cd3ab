"""What a workload runs on: a backend, the ways to it, and a meter of what they cost.

The proxies have one core, backend and client the other, so that nobody's work slows anybody else's.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tests.backends.launch import Server
from tests.bench import process
from tests.bench.result import DIRECT, GATE, Reading

OTHERS = "others"
Start = Callable[[str], Server]
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is asked for. `ways`: those that are to be measured and can be, `direct` among them.

    `files`: how many descriptors a process may have. `quick`: a smoke run, whose figures mean little.
    """

    ways: tuple[str, ...]
    rounds: int = 5
    seconds: float = 1.0
    quick: bool = False
    files: int = 20_000

    def size(self, full: int, quick: int) -> int:
        """Return how many of something there should be."""
        return min(full, quick) if self.quick else full

    def connections(self, full: int, quick: int) -> int:
        """Return the same for connections: a proxy has two descriptors for each, and some of its own."""
        return min(self.size(full, quick), (self.files - 500) // 2)


class Meter:
    """CPU and time since it was made: of the proxy, which is charged, and of the backend and ourselves."""

    def __init__(self, proxy: Server | None, backend: Server) -> None:
        self._proxy, self._backend = proxy, backend
        self._began = self._now()

    def _now(self) -> tuple[float, float, float, float]:
        proxy_s = process.cpu_s(self._proxy.pid) if self._proxy else 0.0
        load_s = process.cpu_s(self._backend.pid) + time.process_time()
        return time.perf_counter(), proxy_s, load_s, process.machine_cpu_s()

    def took_s(self) -> float:
        return time.perf_counter() - self._began[0]

    def reading(self, units: float, within_s: float = 0.0) -> Reading:
        """Return CPU in microseconds per unit, units per second, and how busy the two cores were (1 = all).

        `others`: how many cores the rest of the machine kept busy, which had better be none.
        `within_s`: the time that the units took, when more was counted because their ends cost something too.
        """
        if not units:
            raise RuntimeError("nothing came back")
        now = self._now()
        wall_s, proxy_s, load_s, all_s = (one - then for one, then in zip(now, self._began, strict=True))
        others = max(0.0, all_s - proxy_s - load_s) / wall_s
        wall_s = within_s or wall_s
        read = {"cpu_us": proxy_s / units * 1e6, "per_s": units / wall_s}
        if not self._proxy:
            del read["cpu_us"]
        return read | {"proxy_core": proxy_s / wall_s, "load_core": load_s / wall_s, OTHERS: others}


@dataclass(slots=True)
class Stand:
    """A running backend and the proxies before it, by way."""

    backend: Server
    proxies: dict[str, Server]

    @property
    def ways(self) -> list[str]:
        return [DIRECT, *self.proxies]

    def address(self, way: str) -> Address:
        server = self.backend if way == DIRECT else self.proxies[way]
        return server.host, server.port

    def meter(self, way: str) -> Meter:
        """Begin to count what a way costs. Only one way may be busy meanwhile."""
        return Meter(self.proxies.get(way), self.backend)


@contextlib.contextmanager
def stand(backend: Callable[[], Server], starts: Mapping[str, Start]) -> Iterator[Stand]:
    """Start a backend and proxies before it, pinned; ends them all, the gate without its drain."""
    with contextlib.ExitStack() as stack:
        cores = os.sched_getaffinity(0)
        mine, theirs = min(cores), max(cores)
        stack.callback(os.sched_setaffinity, 0, cores)
        os.sched_setaffinity(0, {mine})
        upstream = stack.enter_context(backend())
        running = Stand(upstream, {})
        for way, start in starts.items():
            server = running.proxies[way] = start(upstream.url)
            stack.callback(server.stop, signal.SIGKILL if server.name == GATE else signal.SIGTERM)
            process.pin(server.pid, theirs)
        yield running

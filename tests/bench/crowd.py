"""Many connections of one way that can be kept busy together: picows clients with frames made beforehand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from picows import WSFrame, WSListener, WSTransport, ws_connect

from tests.bench.backend import EXTENSIONS
from tests.bench.result import Reading, p50_p99
from tests.bench.stand import Address, Meter

AT_ONCE = 100
OPEN_S = 30.0
ANSWER_S = 10.0
WARM_UP_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Shot:
    """What a speaker sends in one write: masked frames. It has been answered when `replies` messages came.

    `together`: all connections hear one speaker's message, instead of each its own.
    """

    frames: bytes
    replies: int = 1
    path: str = "/ws/echo"
    extensions: str = ""
    together: bool = False


class Volley(WSListener):
    """One connection. `speaker`: whom an arriving message answers, itself or the one that speaks to all."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        self.speaker = self
        self.waiting = 0
        self.fired_at = 0.0

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self.write = transport.underlying_transport.write

    def fire(self, shot: Shot) -> None:
        self.waiting = shot.replies
        self.fired_at = time.perf_counter()
        self.write(shot.frames)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:  # noqa: ARG002
        if frame.fin:
            speaker = self.speaker
            speaker.waiting -= 1
            if not speaker.waiting:
                self.crowd.answered(speaker)

    def on_ws_disconnected(self, transport: WSTransport) -> None:  # noqa: ARG002
        self.crowd.lose()


class Crowd:
    """`await open(...)`, then `play` as often as wanted, then `close`."""

    def __init__(self, shot: Shot) -> None:
        self._shot = shot
        self._volleys: list[Volley] = []
        self._speakers: list[Volley] = []
        self._latencies: list[float] = []
        self._playing = self._closing = self._lost = False
        self._busy = 0
        self._ended: asyncio.Future[None] | None = None

    async def open(self, address: Address, count: int) -> None:
        """Open this many connections, some at once. Raises what opening the first bad one raised."""
        shot, slots = self._shot, asyncio.Semaphore(AT_ONCE)
        url = "ws://{}:{}".format(*address) + shot.path
        headers = {EXTENSIONS: shot.extensions} if shot.extensions else None

        async def one() -> None:
            async with slots:
                transport, volley = await ws_connect(
                    lambda _request, _response: Volley(self),
                    url,
                    extra_headers=headers,
                    websocket_handshake_timeout=OPEN_S,
                )
            if shot.extensions and EXTENSIONS not in transport.response.headers:
                raise RuntimeError("the offered extension was lost on the way")
            self._volleys.append(volley)

        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(one())
        self._speakers = self._volleys[:1] if shot.together else self._volleys
        if shot.together:
            for volley in self._volleys:
                volley.speaker = self._speakers[0]

    async def play(self, seconds: float, meter: Callable[[], Meter]) -> Reading:
        """Keep all connections busy. The reading counts messages; latencies are of a whole shot, in us."""
        if self._lost:
            raise ConnectionError("a connection was lost while nobody spoke")
        self._ended = asyncio.get_running_loop().create_future()
        self._playing, self._busy = True, len(self._speakers)
        try:
            for speaker in self._speakers:
                speaker.fire(self._shot)
            await self._for(seconds * WARM_UP_SHARE)
            self._latencies = []
            measured = meter()
            await self._for(seconds)
            gives_up = time.perf_counter() + ANSWER_S
            while not self._latencies and time.perf_counter() < gives_up:  # a short run on a busy machine
                await self._for(seconds)
            reading = measured.reading(len(self._latencies) * self._shot.replies)
            p50, p99 = p50_p99(self._latencies)
        finally:
            self._playing = False
        await self._ended
        return reading | {"p50_us": p50 * 1e6, "p99_us": p99 * 1e6}

    async def _for(self, seconds: float) -> None:
        """Let it go on; raises at once when a connection is lost."""
        await asyncio.wait([self._ended], timeout=seconds)
        if self._ended.done():
            self._ended.result()

    def answered(self, speaker: Volley) -> None:
        self._latencies.append(time.perf_counter() - speaker.fired_at)
        if self._playing:
            speaker.fire(self._shot)
            return
        self._busy -= 1
        if not self._busy and not self._ended.done():
            self._ended.set_result(None)

    def lose(self) -> None:
        self._lost = True
        if not self._closing and self._ended and not self._ended.done():
            self._ended.set_exception(ConnectionError("a connection was lost"))

    def close(self) -> None:
        """Cut all connections."""
        self._closing = True
        for volley in self._volleys:
            volley.transport.disconnect()

"""An OpenTelemetry collector beside the demo, which prints the traces that the gate sends it: rotel."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from proxy.demo.children import Child
from proxy.demo.services import free_port
from proxy.demo.traces import Reader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_EXPORT_EVERY_MS: Final = "200"
_TRACE_S: Final = 10.0
_SETTLED_S: Final = 0.3  # when nothing comes for so long, what came last is whole
_LAST: Final = "websocket.session"


class Collector:
    """A running collector. `environment` is for the gate that is to send it its spans."""

    def __init__(self, child: Child, port: int) -> None:
        self._child = child
        traces = f"http://127.0.0.1:{port}/v1/traces"
        self.environment = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": traces,
            "OTEL_BSP_SCHEDULE_DELAY": _EXPORT_EVERY_MS,
        }
        self.where = traces
        self._reader = Reader()
        self._say: Callable[[str], None] | None = None
        self._sessions = 0
        self._session_came = asyncio.Event()
        self._settled: asyncio.TimerHandle | None = None

    def show(self, say: Callable[[str], None]) -> None:
        """Say from now on which traces it prints: its lines read again, see `traces`."""
        self._say, self._child.tell = say, self._take

    async def until_sessions_are_shown(self, sessions: int) -> None:
        """Wait until it has printed so many spans of sessions, which come last; not for ever."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_TRACE_S):
                while self._sessions < sessions:
                    self._session_came.clear()
                    await self._session_came.wait()

    def _take(self, line: str) -> None:
        if self._settled is not None:
            self._settled.cancel()
        self._settled = asyncio.get_running_loop().call_later(_SETTLED_S, self._settle)
        self._tell(self._reader.take(line))

    def _settle(self) -> None:
        self._tell(self._reader.end())

    def _tell(self, trace: str | None) -> None:
        if trace is None or self._say is None:
            return
        self._say(trace)
        if trace.startswith(_LAST):
            self._sessions += 1
            self._session_came.set()


def installed() -> bool:
    """Whether rotel is there: `pip install 'readygate[demo-otlp]'`."""
    return importlib.util.find_spec("rotel") is not None


@contextlib.asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    """Run one for as long as the context lasts. Raise ChildError."""
    spec = importlib.util.find_spec("rotel")
    assert spec is not None
    assert spec.origin is not None
    http, grpc = free_port(), free_port()
    with TemporaryDirectory(prefix="readygate-demo-") as room:
        command = [
            str(Path(spec.origin).with_name("rotel-agent")), "start",
            "--otlp-http-endpoint", f"127.0.0.1:{http}", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}",
            "--exporter", "blackhole", "--debug-log", "traces", "--debug-log-verbosity", "detailed",
            "--pid-file", f"{room}/pid",
        ]  # fmt: skip
        child = await Child.start("collector", command, ready="Starting Rotel", error="ERROR")
        try:
            await child.until_ready()
            yield Collector(child, http)
        finally:
            child.tell = None
            await child.stop()

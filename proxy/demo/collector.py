"""An OpenTelemetry collector beside the demo, which prints the traces that the gate sends it: rotel."""

from __future__ import annotations

import asyncio
import importlib.util
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from proxy.demo.children import Child
from proxy.demo.services import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_EXPORT_EVERY_MS: Final = "200"
_TRACE_S: Final = 10.0
_LAST_SPAN: Final = "websocket.session"
_SPAN_LINES: Final = 12  # its name stands in the middle


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

    def show(self, say: Callable[[str], None]) -> None:
        """Say from now on what it prints."""
        self._child.tell = say

    async def until_a_session_is_shown(self) -> None:
        """Wait until it has printed the span of a session, which comes last; not for ever."""
        over, after = asyncio.Event(), 0
        say = self._child.tell

        def look(line: str) -> None:
            nonlocal after
            if say is not None:
                say(line)
            after += bool(after) or _LAST_SPAN in line
            if after > _SPAN_LINES:
                over.set()

        self._child.tell = look
        try:
            async with asyncio.timeout(_TRACE_S):
                await over.wait()
        except TimeoutError:
            pass
        finally:
            self._child.tell = say


def installed() -> bool:
    """Whether rotel is there: `pip install 'readygate[demo-otlp]'`."""
    return importlib.util.find_spec("rotel") is not None


@asynccontextmanager
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

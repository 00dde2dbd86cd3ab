"""Processes of ours: started, read, and ended by pid."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_START_S: Final = 20.0
_STOP_S: Final = 10.0
_LAST_LINES: Final = 20
_LINE_BYTES: Final = 1 << 20


class ChildError(Exception):
    """A process ended, or said nothing, instead of getting ready; the text has its last lines."""


class Child:
    """One process whose output (both streams) is read line by line. `errors`: lines that report one.

    `tell` is called with each line, once it is set.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, ready: str, error: str) -> None:
        self.name = name
        self.errors = 0
        self.tell: Callable[[str], None] | None = None
        self.ready_line = ""
        self._process = process
        self._ready = ready
        self._error = error
        self._lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._is_ready = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str],
        *,
        ready: str,
        error: str,
        env: Mapping[str, str] | None = None,
    ) -> Child:
        """Start `command` with `env` added to our environment; it is ready when a line contains `ready`."""
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, **(env or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=_LINE_BYTES,
        )
        return cls(name, process, ready, error)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def until_ready(self) -> str:
        """Wait for the line that says so and return it; raises ChildError if it never comes."""
        waiting = asyncio.create_task(self._is_ready.wait())
        await asyncio.wait({waiting, self._reading}, timeout=_START_S, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not self._is_ready.is_set():
            said = "\n".join(self._lines) or "(it said nothing)"
            raise ChildError(f"the {self.name} did not start:\n{said}")
        return self.ready_line

    async def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL if that does not do. May be called twice."""
        with contextlib.suppress(ProcessLookupError):
            if self._process.returncode is None:
                self._process.terminate()
        try:
            async with asyncio.timeout(_STOP_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for raw in self._process.stdout:
            line = raw.decode(errors="replace").rstrip()
            self._lines.append(line)
            self.errors += self._error in line
            if self.tell is not None:
                self.tell(line)
            if not self._is_ready.is_set() and self._ready in line:
                self.ready_line = line
                self._is_ready.set()

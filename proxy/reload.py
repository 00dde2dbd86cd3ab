"""Loading the policy again while the gate serves: on SIGHUP, and with `--watch` when a file has changed."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from proxy.policy.load import digest, examine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from proxy.hangup import Hangups
    from proxy.policy import Policy
    from proxy.policy.load import Reading

Result: TypeAlias = Literal["switched", "unchanged", "refused"]

_log = logging.getLogger("readygate.reload")
# Notifications would come sooner, but not from every file system, nor through every link that a mounted
# ConfigMap is made of; and a second does not matter here.
_LOOK_EVERY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which preset or file was chosen at the start, what it was then, and when it is to be loaded again."""

    name_or_path: str
    reading: Reading
    hangups: Hangups
    watch: bool

    @property
    def policy(self) -> Policy:
        """The policy to start with."""
        assert self.reading.policy is not None
        return self.reading.policy


class Reloader:
    """Loads the chosen policy again whenever that is asked, once at a time, and once more if asked meanwhile.

    `apply` takes a changed policy into effect, or returns what keeps it from that, a line each; `told` hears
    the result of each reload.
    """

    def __init__(
        self,
        chosen: Chosen,
        apply: Callable[[Policy], Awaitable[Sequence[str]]],
        told: Callable[[Result], None],
    ) -> None:
        self._chosen = chosen
        self._serving = chosen.reading
        self._files = chosen.reading.files  # as they were last seen
        self._asked = chosen.hangups.asked
        self._apply = apply
        self._told = told

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Reload while the context lasts; what was asked before it is done first."""
        tasks = [asyncio.create_task(self._run())]
        if self._chosen.watch:
            tasks.append(asyncio.create_task(self._watch()))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            try:
                await self._reload()
            except Exception:  # noqa: BLE001 - a bug of ours costs this reload, not the next
                _log.exception("policy reload failed")

    async def _reload(self) -> None:
        """Load the policy again, and say what came of it."""
        # On a thread: it takes some ten ms, for which no session should have to wait.
        reading = await asyncio.to_thread(examine, self._chosen.name_or_path)
        self._files = reading.files
        result, fields = await self._take(reading)
        self._told(result)
        level = logging.ERROR if result == "refused" else logging.INFO
        _log.log(level, f"policy {result}", extra={"fields": fields})

    async def _take(self, reading: Reading) -> tuple[Result, dict[str, object]]:
        """Return the result, and what the log says of it."""
        policy = reading.policy
        fields: dict[str, object] = {"policy": self._chosen.policy.name}
        if policy is None:
            return "refused", fields | {"problems": list(map(str, reading.problems))}
        if reading.same(self._serving):
            return "unchanged", fields
        problems = await self._apply(policy)
        if problems:
            return "refused", fields | {"problems": list(problems)}
        self._serving = reading
        return "switched", fields | {"routes": len(policy.routes)}

    async def _watch(self) -> None:
        """Ask for a reload when a file has another content than when it was last read, twice in a row.

        The second look is for a file that is still being written.
        """
        before: Mapping[Path, str | None] = self._files
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            files = self._files
            now = await asyncio.to_thread(_digests, files)
            if now == before and now != files and files is self._files:
                self._files = now
                self._asked.set()
            before = now


def _digests(files: Mapping[Path, str | None]) -> dict[Path, str | None]:
    return {file: digest(file) for file in files}

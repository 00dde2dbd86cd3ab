"""How the supervisor and its workers agree on a policy: all of them take it, or none.

JSON objects, one a line, over a socketpair for each worker:

    worker       supervisor
    ready ---------------->          it serves
          <---------------- prepare  do all that may fail for the policy in this file
    prepared ------------->          with what is wrong, if anything is
          <---------------- commit   serve by it (all have prepared), or
          <---------------- abort    forget it (one has not)
    switched ------------->
          <---------------- count    what came of a reload, for the metrics
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from proxy.errors import StartError
from proxy.policy.load import examine

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from proxy.policy import Policy
    from proxy.reload import Result
    from proxy.server import Gate, Prepared

_log = logging.getLogger("readygate.reload")
# Preparing takes some ten ms; a worker that needs so long does not serve anybody either.
_ANSWER_S: Final = 5.0
_LINE_BYTES: Final = 1 << 20


class Channel:
    """One end. Iterate over it for what the other says, until that has gone."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, sock: socket.socket) -> Channel:
        """Use a connected socket, which is the channel's from now on."""
        return cls(*await asyncio.open_unix_connection(sock=sock, limit=_LINE_BYTES))

    def say(self, word: str, **more: object) -> None:
        """Say something; nothing happens when the other end has gone."""
        if not self._writer.is_closing():
            self._writer.write(line(word, **more))

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        with suppress(ConnectionError):
            while (said := await self._reader.readline()).endswith(b"\n"):
                yield json.loads(said)

    def close(self) -> None:
        """Let go of the socket."""
        self._writer.close()


def line(word: str, **more: object) -> bytes:
    """Return what `say` writes."""
    return json.dumps({"say": word, **more}).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Effective:
    """A policy as workers are given it: one file without parents, which stays as it is, and its name."""

    number: int
    file: Path
    name: str


class Worker:
    """A worker as the supervisor sees it. `listen` for as long as it lives."""

    def __init__(
        self,
        number: int,
        process: asyncio.subprocess.Process,
        channel: Channel,
        policy: Effective | None,
    ) -> None:
        """`policy` is what it was started with."""
        self.number = number
        self.process = process
        self.policy = policy
        self.ready = False
        self._channel = channel
        self._asked: tuple[str, int] | None = None
        self._answer: asyncio.Future[list[str]] | None = None

    async def listen(self, on_ready: Callable[[], None]) -> bool:
        """Hear what it says, until it has gone; return whether it ever got ready."""
        async for said in self._channel:
            if said["say"] == "ready":
                self.ready = True
                on_ready()
            elif (said["say"], said["policy"]) == self._asked:
                self._answered(said["problems"])
        was_ready, self.ready = self.ready, False
        self._channel.close()
        self._answered([f"worker {self.number} ended"])
        return was_ready

    async def prepare(self, policy: Effective) -> list[str]:
        """Let it prepare for a policy; return what is wrong, nothing if it can be committed."""
        self._channel.say("prepare", policy=policy.number, file=str(policy.file), name=policy.name)
        return await self._ask("prepared", policy)

    async def commit(self, policy: Effective) -> None:
        """Let it serve by the policy that it has prepared; wait until it does."""
        self.policy = policy
        self._channel.say("commit", policy=policy.number)
        for problem in await self._ask("switched", policy):
            _log.warning("policy committed, but %s", problem)

    def abort(self) -> None:
        """Let it forget what it has prepared."""
        self._channel.say("abort")

    def catch_up(self, policy: Effective) -> None:
        """Let it serve by a policy that was committed while it started; it stops if it cannot."""
        self.policy = policy
        self._channel.say("prepare", policy=policy.number, file=str(policy.file), name=policy.name)
        self._channel.say("commit", policy=policy.number)

    def count(self, result: Result) -> None:
        """Let it count what came of a reload."""
        self._channel.say("count", result=result)

    async def _ask(self, word: str, policy: Effective) -> list[str]:
        if not self.ready:
            return [f"worker {self.number} ended"]
        self._asked = (word, policy.number)
        self._answer = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await self._answer
        except TimeoutError:
            return [f"worker {self.number} did not answer within {_ANSWER_S:g} s"]
        finally:
            self._asked = self._answer = None

    def _answered(self, problems: list[str]) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(problems)


class Agreement:
    """The policy that all `workers` of a supervisor have, and how they come to another.

    They read it from a file in `room`, so that all read the same, whatever becomes of the user's files.
    """

    def __init__(self, room: Path, workers: Mapping[int, Worker]) -> None:
        self._room = room
        self._workers = workers
        self._numbers = itertools.count(1)
        self.policy: Effective | None = None

    def begin(self, policy: Policy) -> None:
        """Let the first workers start with this one."""
        self.policy = self._written(policy)

    def joined(self, worker: Worker) -> None:
        """Let a worker that has just been started have what was committed meanwhile."""
        if self.policy is not None and self.policy != worker.policy:
            worker.catch_up(self.policy)

    async def apply(self, policy: Policy) -> list[str]:
        """Have all workers take a policy; return why none of them has."""
        effective = await asyncio.to_thread(self._written, policy)
        asked = [worker for worker in self._workers.values() if worker.ready]
        answers = await asyncio.gather(*(worker.prepare(effective) for worker in asked))
        problems = list(dict.fromkeys(problem for answer in answers for problem in answer))
        if problems:
            for worker in asked:
                worker.abort()
            effective.file.unlink()
            return problems
        before, self.policy = self.policy, effective
        for worker in self._workers.values():
            if worker not in asked:
                worker.catch_up(effective)
        await asyncio.gather(*(worker.commit(effective) for worker in asked))
        self._tidy(effective, before)
        return []

    def count(self, result: Result) -> None:
        """Let all workers count what came of a reload."""
        for worker in self._workers.values():
            worker.count(result)

    def _written(self, policy: Policy) -> Effective:
        number = next(self._numbers)
        file = self._room / f"policy-{number}.yaml"
        file.write_text(policy.dump())
        return Effective(number, file, policy.name)

    def _tidy(self, now: Effective, before: Effective | None) -> None:
        """Remove the policies that no worker is going to read; one may be starting with that of before."""
        starting = [worker.policy for worker in self._workers.values() if not worker.ready]
        needed = {policy.file for policy in (now, before, *starting) if policy is not None}
        for file in set(self._room.glob("policy-*.yaml")) - needed:
            file.unlink()


async def obey(channel: Channel, gate: Gate, stop: Callable[[], None]) -> None:
    """Do in a worker what its supervisor says, in its order; `stop` one that cannot do as the others."""
    prepared: Prepared | None = None
    async for said in channel:
        match said["say"]:
            case "prepare":
                prepared, problems = await _prepared(gate, said["file"], said["name"])
                channel.say("prepared", policy=said["policy"], problems=problems)
            case "commit" if prepared is not None:
                gate.switch(prepared)
                channel.say("switched", policy=said["policy"], problems=[])
            case "commit":  # it was starting when the others prepared
                _log.error("worker stops: it cannot take the policy that the others have")
                stop()
            case "abort":
                prepared = None
            case "count":
                gate.reloaded(said["result"])


async def _prepared(gate: Gate, file: str, name: str) -> tuple[Prepared | None, list[str]]:
    reading = await asyncio.to_thread(examine, file, name)
    if reading.policy is None:
        return None, list(map(str, reading.problems))
    try:
        return await gate.prepare(reading.policy), []
    except StartError as error:
        return None, [str(error)]

"""`--workers N`: one supervisor, N worker processes that share a port by SO_REUSEPORT and nothing else.

The supervisor serves no client. It holds the port, starts the workers, replaces one that dies, passes the
signal to stop on, has all of them take a policy or none (`control.py`), and answers for them on the
admin port (`admin.py`).
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import socket
import sys
import tempfile
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proxy.admin import AdminAccess
from proxy.edge.authorities import authorities_unread
from proxy.edge.memory import set_aside
from proxy.reload import Reloader
from proxy.workers.control import Agreement, Channel, Worker
from proxy.workers.worker import ADMIN, CONTROL_FD, NUMBER, POLICY, POLICY_NAME, PORT, bound_socket

if TYPE_CHECKING:
    from proxy.reload import Chosen
    from proxy.workers.control import Effective

_log = logging.getLogger("readygate.workers")

_USAGE: Final = 2
_NOT_STARTED: Final = 3
# A worker that lived this long did not die of its start: its successor starts at once.
_SOON_S: Final = 10.0
_BACKOFF_BASE_S: Final = 0.1
_BACKOFF_MAX_S: Final = 5.0
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What to start and say. `argv` is a worker's whole command.

    `admin` is `(host, port)` or None, `admin_access` who may ask there.
    """

    argv: tuple[str, ...]
    host: str
    port: int
    admin: tuple[str, int] | None
    workers: int
    upstream: str
    policy: str
    scheme: str = "http"
    admin_access: AdminAccess = field(default_factory=AdminAccess)


async def supervise(options: WorkerOptions, chosen: Chosen | None = None) -> int:
    """Run the workers until a signal; return the exit code: 0, 2 or 3 (not started), 128 + a second signal.

    Prints the one line `readygate listening on ...` when all are ready. Logs go to `readygate.workers`.
    `chosen`: the policy that they are given, and what may come after it; None: they know it themselves.
    """
    async with AsyncExitStack() as stack:
        try:
            room = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="readygate-")))
        except OSError:
            return _fail(
                "readygate: --workers wants a directory for sockets that it may write to: /tmp, or TMPDIR"
            )
        try:
            held = stack.enter_context(_held_socket(options.host, options.port))
            admin = None
            if options.admin is not None:
                admin = stack.enter_context(bound_socket(*options.admin, share=False, listen=True))
        except OSError as error:
            return _fail(f"readygate: cannot listen: {error.strerror or error}")
        return await _Supervisor(options, room, held.getsockname()[1], admin, chosen).run()


class _Supervisor:
    """The workers of one gate, each kept alive by a task of its own."""

    def __init__(
        self,
        options: WorkerOptions,
        room: Path,
        port: int,
        admin: socket.socket | None,
        chosen: Chosen | None,
    ) -> None:
        self._options = options
        self._room = room
        self._port = port
        self._admin = admin
        self._chosen = chosen
        self._workers: dict[int, Worker] = {}
        self._agreement = Agreement(room, self._workers)
        self._spawned = asyncio.Event()  # or failed to be
        self._stop = asyncio.Event()
        self._exit_code = 0

    async def run(self) -> int:
        async with AsyncExitStack() as stack:
            await self._run(stack)  # its last worker has gone before the admin port is closed
        return self._exit_code

    async def _run(self, stack: AsyncExitStack) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        keepers: list[asyncio.Task[None]] = []
        try:
            if self._chosen is not None:
                self._chosen.hangups.listen(lambda: self._end(0))
                self._agreement.begin(self._chosen.policy)
            if await self._start_all(keepers, stack):
                set_aside()
                self._say_ready()
                await self._serve()
        finally:
            self._end(self._exit_code)
            await asyncio.gather(*keepers)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    async def _serve(self) -> None:
        async with AsyncExitStack() as stack:
            if self._chosen is not None:
                reloader = Reloader(self._chosen, self._agreement.apply, self._agreement.count)
                await stack.enter_async_context(reloader.running())
            await self._stop.wait()

    async def _start_all(self, keepers: list[asyncio.Task[None]], stack: AsyncExitStack) -> bool:
        """Start the first, then the others: what is wrong with all of them is said once. Return success."""
        numbers = _numbers(self._options)
        for group in (numbers[:1], numbers[1:]):
            ready = [asyncio.get_running_loop().create_future() for _ in group]
            for number, future in zip(group, ready, strict=True):
                keepers.append(asyncio.create_task(self._keep(number, future)))
            if group == numbers[:1]:
                await self._answer_admin(stack)
            if not all(await asyncio.gather(*ready)) or self._stop.is_set():
                return False
        return True

    async def _answer_admin(self, stack: AsyncExitStack) -> None:
        """Answer on the admin port, when a first worker is on its way: both have aiohttp to import."""
        await self._spawned.wait()
        if self._admin is None:
            return
        with authorities_unread():
            from proxy.workers.admin import serve_admin  # noqa: PLC0415

        paths = [_admin_path(self._room, number) for number in _numbers(self._options)]
        await stack.enter_async_context(serve_admin(self._admin, paths, self._options.admin_access))

    async def _keep(self, number: int, first: asyncio.Future[bool]) -> None:
        """Run a worker, and another when it dies. `first` tells whether the first one got ready."""
        loop = asyncio.get_running_loop()
        pause_s = 0.0
        while not self._stop.is_set():
            started_s = loop.time()
            was_ready, code = await self._run_one(number, first)
            if self._stop.is_set():
                break
            if not first.done():
                # Trying again would hide what the user has to mend: bad TLS files, a port taken at the last
                # moment.
                self._end(code if code == _USAGE else _NOT_STARTED)
                break
            lasted = was_ready and loop.time() - started_s >= _SOON_S
            pause_s = 0.0 if lasted else min(max(pause_s * 2, _BACKOFF_BASE_S), _BACKOFF_MAX_S)
            _log.error("worker %d ended with %d, replaced in %.1f s", number, code, pause_s)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause_s)
        if not first.done():
            first.set_result(False)

    async def _run_one(self, number: int, first: asyncio.Future[bool]) -> tuple[bool, int]:
        """Run one process to its end; return whether it got ready, and its exit code (minus a signal)."""
        try:
            worker = await self._spawn(number)
        except OSError as error:
            _log.error("worker %d: %s", number, error)
            return False, _NOT_STARTED
        finally:
            self._spawned.set()
        if self._stop.is_set():
            _signal(worker, signal.SIGTERM)
        was_ready = await worker.listen(lambda: None if first.done() else first.set_result(True))
        code = await worker.process.wait()
        del self._workers[number]
        return was_ready, code

    async def _spawn(self, number: int) -> Worker:
        """Start a worker."""
        policy = self._agreement.policy
        ours, theirs = socket.socketpair()
        supervisor = os.getpid()
        try:
            process = await asyncio.create_subprocess_exec(
                *self._options.argv,
                env=self._environ(number, theirs.fileno(), policy),
                pass_fds=(theirs.fileno(),),
                # A terminal's Ctrl-C is for the supervisor, which tells the workers: two signals would be one
                # too many.
                start_new_session=True,
                preexec_fn=lambda: _die_with(supervisor),
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        worker = self._workers[number] = Worker(number, process, await Channel.over(ours), policy)
        self._agreement.joined(worker)
        return worker

    def _environ(self, number: int, control: int, policy: Effective | None) -> dict[str, str]:
        environ = os.environ | {NUMBER: str(number), CONTROL_FD: str(control), PORT: str(self._port)}
        if self._options.admin is not None:
            environ[ADMIN] = str(_admin_path(self._room, number))
        if policy is not None:
            environ |= {POLICY: str(policy.file), POLICY_NAME: policy.name}
        return environ

    # -- the end --------------------------------------------------------------------------------------------

    def _on_signal(self, number: int) -> None:
        if self._stop.is_set():
            self._exit_code = 128 + number
            for worker in tuple(self._workers.values()):
                _signal(worker, signal.SIGKILL)
        else:
            self._end(0)

    def _end(self, exit_code: int) -> None:
        """Tell all workers to stop, once: to them a second signal means "at once"."""
        if self._stop.is_set():
            return
        self._exit_code = exit_code
        self._stop.set()
        for worker in tuple(self._workers.values()):
            _signal(worker, signal.SIGTERM)

    def _say_ready(self) -> None:
        said = self._options
        host = f"[{said.host}]" if ":" in said.host else said.host
        at = f"{said.scheme}://{host}:{self._port}"
        print(  # noqa: T201 - part of the contract
            f"readygate listening on {at} -> {said.upstream} (policy {said.policy})", flush=True
        )


def _numbers(options: WorkerOptions) -> list[int]:
    return list(range(1, options.workers + 1))


def _admin_path(room: Path, number: int) -> Path:
    return room / f"worker-{number}.sock"


def _die_with(supervisor: int) -> None:
    """Have the kernel send SIGTERM to this new process when its supervisor is gone (prctl(2))."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != supervisor:
        os._exit(_NOT_STARTED)


def _signal(worker: Worker, number: int) -> None:
    with suppress(ProcessLookupError):
        worker.process.send_signal(number)


def _held_socket(host: str, port: int) -> socket.socket:
    """Return a bound socket that keeps the port for the workers and takes no connection. Raise OSError.

    It is bound alone first: sharing is for our workers, not for another gate on the same port.
    """
    with bound_socket(host, port, share=False) as alone:
        port = alone.getsockname()[1]
    return bound_socket(host, port, share=True)


def _fail(text: str) -> int:
    print(text, file=sys.stderr)  # noqa: T201 - one clear line
    return _NOT_STARTED

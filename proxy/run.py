"""`readygate run`: which process this is, and from a signal to its exit code.

What serves (aiohttp, OpenTelemetry, the edge) is imported when it is known that this process does: a
supervisor starts sooner without it, and so do its workers.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, Final

import uvloop

from proxy import hangup
from proxy.edge.authorities import authorities_unread
from proxy.errors import StartError
from proxy.guard import raise_descriptor_limit
from proxy.policy.load import examine
from proxy.reload import Chosen
from proxy.telemetry import logs
from proxy.workers.worker import worker_number, worker_policy

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from proxy.options import RunOptions
    from proxy.policy import Policy
    from proxy.workers.supervisor import WorkerOptions

_USAGE: Final = 2
_NOT_STARTED: Final = 3


def run(options: RunOptions, environ: Mapping[str, str]) -> int:
    """Serve until a signal ends it; return the exit code."""
    if worker_number() is not None:
        return _run_worker(options, environ)
    hangups = hangup.Hangups()
    reading = examine(options.policy)
    if reading.policy is None:
        return _fail("\n".join(map(str, reading.problems)), _USAGE)
    logs.setup(environ)
    raise_descriptor_limit()  # workers inherit it
    chosen = Chosen(options.policy, reading, hangups, options.watch)
    if options.workers > 1:
        from proxy.workers.supervisor import supervise  # noqa: PLC0415

        return _finish(supervise(_worker_options(options, reading.policy), chosen))
    with authorities_unread():
        from proxy.serving import serve  # noqa: PLC0415
    return _finish(serve(options, chosen, environ))


def _run_worker(options: RunOptions, environ: Mapping[str, str]) -> int:
    hangup.ignore()  # its supervisor hears of changes
    reading = examine(*(worker_policy() or (options.policy,)))
    if reading.policy is None:
        return _fail("\n".join(map(str, reading.problems)), _USAGE)
    logs.setup(environ)
    with authorities_unread():
        from proxy.serving import work  # noqa: PLC0415
    return _finish(work(options, reading.policy, environ))


def _finish(work: Coroutine[Any, Any, int]) -> int:
    """Do the work to its end; return the exit code."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)
    except StartError as error:
        return _fail(f"readygate: {error}", _NOT_STARTED)
    finally:
        hangup.ignore()


def _worker_options(options: RunOptions, policy: Policy) -> WorkerOptions:
    from proxy.workers.supervisor import WorkerOptions  # noqa: PLC0415

    admin = options.admin
    return WorkerOptions(
        argv=(sys.executable, "-m", "proxy", "run", *options.words()),
        host=options.listen.host,
        port=options.listen.port,
        admin=None if admin is None else (admin.host, admin.port),
        workers=options.workers,
        upstream=str(options.upstream),
        policy=policy.name,
        scheme="https" if options.tls_cert else "http",
        admin_access=options.admin_access,
    )


def _fail(text: str, code: int) -> int:
    print(text, file=sys.stderr)  # noqa: T201 - one clear line
    return code

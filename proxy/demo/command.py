"""`readygate demo`: the command line of the demo, its table, and its clean end."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import itertools
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvloop

from proxy.demo import faults
from proxy.demo.children import ChildError
from proxy.demo.collector import collector, installed
from proxy.demo.stage import Stage
from proxy.probe.table import render, tally

if TYPE_CHECKING:
    from proxy.demo.collector import Collector
    from proxy.demo.faults import Fault, Faults, Result

_NEEDS: Final = ("starlette", "uvicorn", "websockets")
_POLICY: Final = Path(__file__).with_name("policy.yaml")
_MOST_CLIENTS: Final = 200
_OFTEN_S: Final = 2.0
_SELDOM_S: Final = 10.0  # each is a page of traces
_SETTLE_S: Final = 1.5
_STAY_S: Final = 8.0
# What clients come for, in turn; for the last one the session store is away for a moment.
_PATHS: Final = ("chat", "echo", "prices", "echo", "chat")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `readygate demo` takes."""
    parser.add_argument(
        "--once", action="store_true", default=os.environ.get("ONCE", "") not in {"", "0"},
        help="exit after the table; also ONCE=1 in the environment (off)",
    )  # fmt: skip
    parser.add_argument(
        "--otlp", action="store_true", default=os.environ.get("OTLP", "") not in {"", "0"},
        help="also run the OpenTelemetry collector rotel (extra readygate[demo-otlp]), and print the "
        "traces of a few clients; also OTLP=1 in the environment (off)",
    )  # fmt: skip
    parser.add_argument(
        "--listen", type=_address, default=("127.0.0.1", 0), metavar="HOST:PORT",
        help="where the gate listens (127.0.0.1:0)",
    )  # fmt: skip
    parser.add_argument(
        "--policy", default=str(_POLICY), metavar="NAME|FILE",
        help="policy of the gate (production with one announcement)",
    )  # fmt: skip
    parser.add_argument(
        "--clients",
        type=_clients,
        default=30,
        metavar="N",
        help=f"clients a fault, 1 to {_MOST_CLIENTS} (30)",
    )


def run(args: argparse.Namespace) -> int:
    """Play; return 0, or 3 when the backend or the gate cannot be started."""
    missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    extra = "demo"
    if args.otlp and not installed():
        missing, extra = [*missing, "rotel"], "demo,demo-otlp"
    if missing:
        advice = f"install them with: pip install 'readygate[{extra}]'"
        print(f"readygate demo: {', '.join(missing)} missing; {advice}", file=sys.stderr)
        return 3
    try:
        return uvloop.run(_play(args))
    except ChildError as error:
        print(f"readygate demo: {error}", file=sys.stderr)
        return 3


async def _play(args: argparse.Namespace) -> int:
    """Run the table, then stay until a signal comes. A signal before that ends it as well."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(signum, stopped.set)
    playing = asyncio.create_task(_show(args))
    stopping = asyncio.create_task(stopped.wait())
    await asyncio.wait({playing, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not playing.done():
        playing.cancel()
        await asyncio.wait({playing})
    if playing.cancelled():
        return 0
    playing.result()
    return 0


async def _show(args: argparse.Namespace) -> None:
    """Measure, print, and stay until cancelled, unless it is to be done once."""
    host, port = args.listen
    async with AsyncExitStack() as stack:
        traces = await stack.enter_async_context(collector()) if args.otlp else None
        environment = traces.environment if traces is not None else {}
        stage = await stack.enter_async_context(Stage(args.policy, host, port, environment=environment))
        _say(f"backend: uvicorn proxy.demo.backend:app    gate: readygate run --policy {_shown(args.policy)}")
        _say(f"live page: {stage.page}")
        found = await faults.measure(stage, args.clients, _say)
        _say(f"\n{as_text(found)}\n")
        if traces is not None:
            await _trace_two(stage, traces)
        if not args.once:
            _say(_where(stage))
            await _visits(stage, _SELDOM_S if traces is not None else _OFTEN_S)


async def _trace_two(stage: Stage, traces: Collector) -> None:
    """Let two clients come, one of them while a service is away, and tell what the collector got of them."""
    _say("two more clients, for the second the session store is away at first. Their traces, by way of rotel")
    _say(f"(OTLP to {traces.where}):\n")
    await asyncio.sleep(_SETTLE_S)  # what the gate still had to tell of the others
    traces.show(_say)
    await faults.visit(stage)
    await traces.until_sessions_are_shown(1)
    await faults.visit_too_soon(stage)
    await traces.until_sessions_are_shown(2)


async def _visits(stage: Stage, every_s: float) -> None:
    """Let clients come now and then and stay for a while, so that there is something to see."""
    async with asyncio.TaskGroup() as guests:
        for number in itertools.count():
            await asyncio.sleep(every_s)
            path = _PATHS[number % len(_PATHS)]
            last = number % len(_PATHS) == len(_PATHS) - 1
            come = faults.visit_too_soon if last else faults.visit
            guests.create_task(come(stage, path, stay_s=_STAY_S))


def as_text(found: Faults) -> str:
    """Lay out the table: a row a fault, what its clients got directly and through the gate."""
    rows = [
        (fault.title, *(_cell(fault, fault.results[road]) for road in ("direct", "gate")))
        for fault in found.rows()
    ]
    return render(("fault", "direct", "through the gate"), rows)


def _cell(fault: Fault, result: Result) -> str:
    if result.errors is not None:
        return f"{result.errors} errors in the backend's log"
    text = f"{result.served} of {result.clients} served"
    if result.instead:
        text += f" ({tally(result.instead)})"
    if fault.shows_time and result.answer_ms is not None:
        text += f", from connect to answer {result.answer_ms:.1f} ms (p50)"
    return text


def _where(stage: Stage) -> str:
    gate = f"{stage.gate_host}:{stage.gate_port}"
    return "\n".join(
        [
            "Still running, until Ctrl-C:",
            f"  gate     http://{gate}   ws://{gate}/ws/chat  /ws/echo  /ws/prices",
            f"  backend  http://127.0.0.1:{stage.backend_port}   the same paths, without the gate",
            f"  page     {stage.page}   each stage of every handshake; a client comes now and then",
            f"  admin    {stage.page}metrics  /handshakes  /sessions  /policy  /events",
            f"  try      readygate probe ws://{gate}/ws/chat",
        ]
    )


def _shown(policy: str) -> str:
    """Name a file shortly when it is below the working directory."""
    path = Path(policy)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else policy


def _say(text: str) -> None:
    print(text, flush=True)


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isdecimal() and int(port) < 1 << 16):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host, int(port)


def _clients(text: str) -> int:
    count = int(text) if text.isdecimal() else 0
    if not 1 <= count <= _MOST_CLIENTS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {_MOST_CLIENTS}")
    return count

"""`readygate probe URL`: the command line of the probe."""

from __future__ import annotations

import argparse
import resource
import sys
from typing import TYPE_CHECKING, Final

import uvloop

from proxy.probe.cases import Expect
from proxy.probe.client import Manner
from proxy.probe.measure import Effort, UnreachableError, measure
from proxy.probe.report import as_json, as_text
from proxy.probe.target import Target, parse_header, parse_target

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST: Final = 100_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `readygate probe` takes."""
    parser.add_argument("url", metavar="URL", type=_said(parse_target), help="ws:// or wss:// endpoint")
    parser.add_argument("-n", type=_count, default=100, metavar="N", help="connections a case (100)")
    parser.add_argument(
        "-c", type=_count, default=10, metavar="N", help="connections open at once, at most (10)"
    )
    parser.add_argument(
        "--message",
        default="readygate probe",
        metavar="TEXT",
        help="what a client says, as a text message (readygate probe)",
    )
    parser.add_argument(
        "--expect", type=Expect, choices=list(Expect), default=Expect.ANY,
        help="what counts as an answer. echo: a message equal to ours; any: any message beyond those that a "
        "quiet connection gets; none: the endpoint never answers (any)",
    )  # fmt: skip
    parser.add_argument(
        "--timeout", type=_seconds, default=2.0, metavar="S", help="seconds to wait for an answer (2)"
    )
    parser.add_argument(
        "--open-timeout", type=_seconds, default=15.0, metavar="S", help="seconds to wait for the 101 (15)"
    )
    parser.add_argument(
        "--limit", type=_seconds, default=300.0, metavar="S", help="seconds after which it stops (300)"
    )
    parser.add_argument(
        "--header", "-H", type=_said(parse_header), action="append", default=[], metavar="'K: V'",
        help="a header of the upgrade request; may be given more than once (none)",
    )  # fmt: skip
    parser.add_argument(
        "--subprotocol",
        action="append",
        default=[],
        metavar="NAME",
        help="offer it; may be given more than once (none)",
    )
    parser.add_argument(
        "--insecure", action="store_true", help="take any certificate of a wss:// endpoint (off)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table (off)")


def run(args: argparse.Namespace) -> int:
    """Measure and print; return 0, or 3 when the endpoint cannot be reached at all."""
    target = _target(args)
    _allow_files(args.c)
    manner = Manner(args.message.encode(), args.expect, args.open_timeout, args.timeout)
    try:
        found = uvloop.run(measure(target, manner, Effort(args.n, min(args.c, args.n), args.limit)))
    except UnreachableError as error:
        print(f"readygate probe: {target.url} cannot be reached: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    print(as_json(found) if args.json else as_text(found))
    return 0


def _allow_files(at_once: int) -> None:
    """Raise our limit of open files as far as `at_once` connections want it and the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = at_once + 64
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _target(args: argparse.Namespace) -> Target:
    given: Target = args.url
    return Target(
        given.host, given.port, given.tls, given.authority, given.resource,
        headers=(*given.headers, *args.header),
        subprotocols=tuple(args.subprotocol),
        verify=not args.insecure,
    )  # fmt: skip


def _said(parse: Callable[[str], object]) -> Callable[[str], object]:
    """Let argparse show the sentence of a ValueError."""

    def parsed(text: str) -> object:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parsed


def _count(text: str) -> int:
    count = int(text) if text.isdecimal() else 0
    if not 1 <= count <= _MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {_MOST}")
    return count


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86_400:  # noqa: PLR2004 - a day; also keeps nan out
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds

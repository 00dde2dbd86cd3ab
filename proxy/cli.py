"""The command line: `readygate run | check | health | probe | demo`.

Exit codes: 0 clean stop, 1 not healthy, 2 bad usage or policy, 3 could not start. What goes wrong is one
clear line on stderr (a policy's errors: one line each). A command imports what it needs itself, so that
starting is quick. `run` begins by starting the process anew: whatever is imported here at the top, it imports
twice.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

from proxy import __version__

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

UNHEALTHY: Final = 1
USAGE: Final = 2
_LONGEST_WAIT_S: Final = 3600


class UsageError(Exception):
    """The command line or the environment is wrong; the text is one clear line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if argv is None and words[:1] == ["run"]:
        # Until `run` listens for it, also over the exec: a SIGHUP that nobody handles ends the process. And a
        # SIGTERM that nobody handles does not end the first process of a container: it would be lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGTERM})
        _use_libc_malloc()
        signal.signal(signal.SIGTERM, _stop_while_starting)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    args = _parser(words[0] if words else "", os.environ).parse_args(words)
    try:
        code: int = args.command(args)
    except UsageError as error:
        return _fail(str(error), USAGE)
    except KeyboardInterrupt:
        return 130
    return code


def _stop_while_starting(*_: object) -> None:
    os._exit(0)  # nobody is served yet: a clean stop. An exception might be lost in what is being imported


def _parser(wanted: str, environ: Mapping[str, str]) -> argparse.ArgumentParser:
    """Build the parser; only the command that is wanted gets its arguments, and is imported for them."""
    import argparse  # noqa: PLC0415 - see above

    parser = argparse.ArgumentParser(
        prog="readygate",
        description="Opens a WebSocket only when both ends have proved that they are ready.",
    )
    parser.add_argument("--version", action="version", version=f"readygate {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, (text, fill) in _COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name == wanted:
            fill(command, environ)
    return parser


def _use_libc_malloc() -> None:
    """Start this command anew (same process, same words) with the C library's allocator, where it can trim.

    CPython's own keeps a megabyte for every counter that was made while many sessions were open, so that the
    memory of a wave would never come back (see `edge.memory`); it is no faster here. PYTHONMALLOC, if set,
    decides.
    """
    if "PYTHONMALLOC" in os.environ:
        return
    import ctypes  # noqa: PLC0415 - not for who has been started anew

    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        return
    os.execve(sys.executable, sys.orig_argv, {**os.environ, "PYTHONMALLOC": "malloc"})  # noqa: S606 - ourselves


# -- flags that stand for variables --------------------------------------------------------------------------


def _variable(name: str) -> str:
    return "READYGATE_" + name.removeprefix("--").replace("-", "_").upper()


def _flag(
    parser: argparse.ArgumentParser,
    environ: Mapping[str, str],
    name: str,
    metavar: str,
    default: str,
    text: str,
) -> None:
    variable = _variable(name)
    parser.add_argument(
        name, metavar=metavar, default=environ.get(variable) or default, help=f"{text} [{variable}]"
    )


def _listen_default(environ: Mapping[str, str]) -> str:
    return f"0.0.0.0:{environ.get('PORT') or '8080'}"


# -- run ----------------------------------------------------------------------------------------------------


# The texts of all flags end in their default, in brackets; docs/configuration.md is written from them.
def _fill_run(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    def flag(name: str, metavar: str, default: str, text: str) -> None:
        _flag(parser, environ, name, metavar, default, text)

    def switch(name: str, text: str) -> None:
        variable = _variable(name)
        default = environ.get(variable) or ""
        parser.add_argument(
            name, action="store_const", const="on", default=default, help=f"{text} (off) [{variable}]"
        )

    flag("--upstream", "URL", "", "the backend: http://HOST[:PORT], https://HOST[:PORT] or unix:/path, "
         "without path, query or user name (required)")  # fmt: skip
    flag("--listen", "HOST:PORT", _listen_default(environ), "where clients connect: HOST:PORT, [IPv6]:PORT "
         "or :PORT; port 0 takes a free one, PORT in the environment sets the port "
         "(0.0.0.0:8080)")  # fmt: skip
    flag("--admin", "HOST:PORT", "127.0.0.1:9901", "the admin port, or off; on any address but loopback it "
         "wants READYGATE_ADMIN_TOKEN (127.0.0.1:9901)")  # fmt: skip
    flag("--admin-hosts", "NAMES", "", "further names that the admin port goes by, separated by commas: "
         "gate.internal,*.ops.example.com (none)")  # fmt: skip
    flag("--policy", "NAME|FILE", "", "a preset or a policy file (chosen from the environment)")
    flag("--workers", "N", "1", "processes that share the port, 1 to 256 (1)")
    flag("--tls-cert", "FILE", "", "serve clients over TLS with this certificate chain, PEM (none)")
    flag("--tls-key", "FILE", "", "its private key, PEM (in the chain's file)")
    switch("--watch", "load the policy again when its file, or one that it extends, changes; SIGHUP does it "
           "at any time")  # fmt: skip
    switch("--trace-failures", "make the spans of handshakes that fail, whether they are sampled or not")
    parser.set_defaults(command=_run)


def _run(args: argparse.Namespace) -> int:
    gc.disable()  # nearly all that is made from here to `edge.memory.set_aside` stays
    from proxy.options import RunOptions  # noqa: PLC0415
    from proxy.run import run  # noqa: PLC0415

    try:
        options = RunOptions.parse(args, os.environ)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return run(options, os.environ)


# -- check --------------------------------------------------------------------------------------------------


def _fill_check(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    parser.add_argument(
        "policy", nargs="?", metavar="FILE", default=environ.get("READYGATE_POLICY") or "",
        help="a policy file or the name of a preset (READYGATE_POLICY, or chosen from the environment)",
    )  # fmt: skip
    parser.set_defaults(command=_check)


def _check(args: argparse.Namespace) -> int:
    from proxy.policy import PolicyError, detect, load  # noqa: PLC0415

    try:
        policy = load(args.policy or detect(os.environ))
    except PolicyError as error:
        print(error, file=sys.stderr)  # noqa: T201 - this is what a command line is for
        return USAGE
    print(policy.dump(), end="")  # noqa: T201
    return 0


# -- health -------------------------------------------------------------------------------------------------


def _fill_health(parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    from proxy.health import ENDPOINTS  # noqa: PLC0415

    default = _listen_default(environ)
    _flag(parser, environ, "--listen", "HOST:PORT", default, "where the gate listens; PORT in the "
          "environment sets the port (0.0.0.0:8080)")  # fmt: skip
    _flag(parser, environ, "--tls-cert", "FILE", "", "if there is one, the gate serves TLS; it is not read, "
          "and the gate's certificate not checked (none)")  # fmt: skip
    parser.add_argument("--endpoint", choices=ENDPOINTS, default="readyz", help="what to ask for (readyz)")
    parser.add_argument("--timeout", type=float, default=2.0, metavar="S", help="seconds to wait for the "
                        "connection, and for each part of the answer; 3600 at most (2)")  # fmt: skip
    parser.set_defaults(command=_health)


def _health(args: argparse.Namespace) -> int:
    from proxy.address import Address  # noqa: PLC0415
    from proxy.health import UnhealthyError, ask  # noqa: PLC0415

    try:
        at = Address.parse(args.listen, "--listen").from_here()
    except ValueError as error:
        raise UsageError(str(error)) from None
    if at.port == 0:
        raise UsageError("--listen: port 0 was any free one; give the port that the gate has got")
    if not 0 < args.timeout <= _LONGEST_WAIT_S:
        raise UsageError(
            f"--timeout {args.timeout:g}: expected seconds, more than 0, {_LONGEST_WAIT_S} at most"
        )
    try:
        ask(at, args.endpoint, tls=bool(args.tls_cert), timeout_s=args.timeout)
    except UnhealthyError as error:
        return _fail(f"{args.endpoint} of {at}: {error}", UNHEALTHY)
    print(f"{args.endpoint} of {at}: ok")  # noqa: T201 - this is what a command line is for
    return 0


# -- probe and demo -----------------------------------------------------------------------------------------


def _fill_probe(parser: argparse.ArgumentParser, _: Mapping[str, str]) -> None:
    from proxy.probe import add_arguments, run  # noqa: PLC0415

    add_arguments(parser)
    parser.set_defaults(command=run)


def _fill_demo(parser: argparse.ArgumentParser, _: Mapping[str, str]) -> None:
    from proxy.demo import add_arguments, run  # noqa: PLC0415

    add_arguments(parser)
    parser.set_defaults(command=run)


def _fail(text: str, code: int) -> int:
    print(f"readygate: {text}", file=sys.stderr)  # noqa: T201 - this is what a command line is for
    return code


_COMMANDS: Final = {
    "run": ("serve: stand before a backend and open its WebSockets when both ends are ready", _fill_run),
    "check": ("validate a policy and print what is in effect", _fill_check),
    "health": ("ask a running gate whether it is well: exit code 0, or 1", _fill_health),
    "probe": ("measure how racy a WebSocket endpoint is, with or without the gate", _fill_probe),
    "demo": ("run a racy backend and the gate, and print a table of before and after", _fill_demo),
}

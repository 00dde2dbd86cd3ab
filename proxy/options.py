"""What `readygate run` was asked for, parsed and judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from proxy.address import Address
from proxy.admin.access import TOKEN_VARIABLE, AdminAccess
from proxy.edge.upstream import Upstream, parse_upstream
from proxy.policy import detect

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

_MAX_WORKERS: Final = 256
_ON: Final = ("on", "1", "true", "yes")
_OFF: Final = ("off", "0", "false", "no", "")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What `readygate run` was asked for, parsed. `policy` "" means: chosen from the environment."""

    upstream: Upstream
    listen: Address
    admin: Address | None
    admin_hosts: str
    admin_access: AdminAccess
    policy: str
    workers: int
    tls_cert: str
    tls_key: str
    watch: bool
    trace_failures: bool = False

    @classmethod
    def parse(cls, args: argparse.Namespace, environ: Mapping[str, str]) -> Self:
        """Parse the flags. Raise ValueError with one clear line."""
        if not args.upstream:
            raise ValueError(
                "--upstream URL (or READYGATE_UPSTREAM) is required, such as http://127.0.0.1:8000"
            )
        if not args.workers.isdecimal() or not 1 <= int(args.workers) <= _MAX_WORKERS:
            raise ValueError(f"--workers {args.workers!r}: expected a number from 1 to {_MAX_WORKERS}")
        if args.tls_key and not args.tls_cert:
            raise ValueError("--tls-key needs --tls-cert")
        watch = _switch("READYGATE_WATCH", args.watch)
        trace_failures = _switch("READYGATE_TRACE_FAILURES", args.trace_failures)
        trace_url = environ.get("READYGATE_TRACE_URL", "")
        if trace_url and not (trace_url.startswith(("http://", "https://")) and "{trace_id}" in trace_url):
            expected = "an http or https URL with {trace_id} in it"
            raise ValueError(f"READYGATE_TRACE_URL {trace_url!r}: expected {expected}")
        admin = None if args.admin.lower() == "off" else Address.parse(args.admin, "--admin")
        at = admin.host if admin is not None else "localhost"
        return cls(
            upstream=parse_upstream(args.upstream),
            listen=Address.parse(args.listen, "--listen"),
            admin=admin,
            admin_hosts=args.admin_hosts,
            admin_access=AdminAccess.parse(at, args.admin_hosts, environ.get(TOKEN_VARIABLE, "")),
            policy=args.policy or detect(environ),
            workers=int(args.workers),
            tls_cert=args.tls_cert,
            tls_key=args.tls_key,
            watch=watch,
            trace_failures=trace_failures,
        )

    def words(self) -> list[str]:
        """Return the command-line words that ask a worker for the same. Watching is its supervisor's."""
        flags = {
            "--upstream": str(self.upstream),
            "--listen": str(self.listen),
            "--admin": "off" if self.admin is None else str(self.admin),
            "--admin-hosts": self.admin_hosts,
            "--policy": self.policy,
            "--workers": str(self.workers),
            "--tls-cert": self.tls_cert,
            "--tls-key": self.tls_key,
        }
        words = [word for flag, value in flags.items() if value for word in (flag, value)]
        return [*words, "--trace-failures"] if self.trace_failures else words


def _switch(variable: str, text: str) -> bool:
    """Parse `on` or `off`. Raise ValueError with one clear line."""
    if text.lower() not in _ON + _OFF:
        raise ValueError(f"{variable} {text!r}: expected on or off")
    return text.lower() in _ON

"""Real gates in front of real backends, started once per test process and only when a test wants them."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.backends import front, launch
from tests.backends.launch import MissingToolError, Server

ALL = (
    *(f"uvicorn-{flavour}" for flavour in launch.UVICORN_FLAVOURS),
    "hypercorn",
    "daphne",
    "aiohttp",
    "websockets",
    pytest.param("node", marks=pytest.mark.needs_node),
)
Address = tuple[str, int]


@dataclass(frozen=True)
class Pair:
    """A backend and the gate in front of it."""

    backend: Server
    gate: Server

    @property
    def direct(self) -> Address:
        return (self.backend.host, self.backend.port)

    @property
    def through(self) -> Address:
        return (self.gate.host, self.gate.port)


class Stands:
    """Starts pairs on demand and keeps them until the end."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._backends: dict[str, Server] = {}
        self._pairs: dict[tuple[str, str], Pair] = {}

    def backend(self, name: str) -> Server:
        if name not in self._backends:
            make = launch.flaky if name == "flaky" else launch.BACKENDS[name]
            self._backends[name] = self._stack.enter_context(make())
        return self._backends[name]

    def pair(self, name: str, policy: str = "production") -> Pair:
        """Return the gate with this policy (preset or YAML text) in front of this backend."""
        if (name, policy) not in self._pairs:
            backend = self.backend(name)
            gate = self._stack.enter_context(front.gate(backend.url, policy))
            self._pairs[name, policy] = Pair(backend, gate)
        return self._pairs[name, policy]


@contextlib.contextmanager
def skipping() -> Iterator[None]:
    """Skip for a tool that is not here; in CI that is a failure."""
    try:
        yield
    except MissingToolError as missing:
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(f"in CI every tool must be there: {missing}")
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def stands() -> Iterator[Stands]:
    launch.may_open()
    with contextlib.ExitStack() as stack:
        yield Stands(stack)


@pytest.fixture
def pair(request: pytest.FixtureRequest, stands: Stands) -> Pair:
    """The pair whose backend's name is the parameter."""
    with skipping():
        return stands.pair(request.param)


@pytest.fixture
def chat(stands: Stands) -> Pair:
    """One pair for what does not depend on the backend: the FastAPI app on uvicorn."""
    return stands.pair("uvicorn-websockets-sansio")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """PEM files: a certificate with its key for localhost and 127.0.0.1, and the authority behind it."""
    import trustme  # noqa: PLC0415 - slow to import, and only these tests need it

    room, authority = tmp_path_factory.mktemp("tls"), trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(room / "server.pem")
    authority.cert_pem.write_to_path(room / "authority.pem")
    return room / "server.pem", room / "authority.pem"


@pytest.fixture
def logged() -> Callable[[Server, str], None]:
    """Wait until the gate has logged a warning, or a line that contains the word, since `mark()`."""

    def wait(gate: Server, word: str = "") -> None:
        def tells(line: str) -> bool:
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                return entry["severity"] != "INFO" or bool(word and word in line)
            return False

        gate.wait_for_log(lambda text: any(tells(line) for line in text.splitlines()), within_s=10)

    return wait

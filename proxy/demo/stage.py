"""What the demo plays on: the services, the backend, and the gate before it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from proxy.demo.children import Child
from proxy.demo.services import Service, free_port, price_service, session_store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_ERROR = "ERROR"


@dataclass(slots=True)
class Stage:
    """An async context manager: on entry the gate runs; on exit everything of ours is ended.

    The backend is started and stopped as often as the play wants; its port stays. `gate_port` 0: a free one.
    `environment` is added to the gate's.
    """

    policy: str
    gate_host: str = "127.0.0.1"
    gate_port: int = 0
    admin: str = "127.0.0.1:0"
    backend_port: int = field(default_factory=free_port)
    sessions: Service = field(default_factory=session_store)
    prices: Service = field(default_factory=price_service)
    environment: Mapping[str, str] = field(default_factory=dict)
    _backend: Child | None = None
    _gate: Child | None = None

    @property
    def backend(self) -> Child:
        """The running backend."""
        assert self._backend is not None
        return self._backend

    async def __aenter__(self) -> Self:
        """Start the gate; the backend need not be there."""
        self.gate_port = self.gate_port or free_port()
        if self.admin.endswith(":0"):
            self.admin = f"{self.admin.removesuffix(':0')}:{free_port()}"
        try:
            await self.start_gate()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End backend, gate and services."""
        await self._close()

    @property
    def page(self) -> str:
        """Where the gate's live page is."""
        return f"http://{self.admin}/"

    async def start_gate(self) -> None:
        """Start the gate, or start it anew, and wait until it listens; its ports stay."""
        if self._gate is not None:
            await self._gate.stop()
        self._gate = await Child.start(
            "gate",
            self._gate_command(),
            ready="readygate listening on",
            error=_ERROR,
            env=self.environment,
        )
        await self._gate.until_ready()

    async def start_backend(self) -> None:
        """Start the backend and wait until it listens."""
        command = [
            sys.executable, "-m", "uvicorn", "proxy.demo.backend:app", "--port", str(self.backend_port),
            "--timeout-graceful-shutdown", "1",
        ]  # fmt: skip
        where = {"SESSION_STORE": self.sessions.address, "PRICE_SERVICE": self.prices.address}
        self._backend = await Child.start(
            "backend", command, ready="Uvicorn running on", error=_ERROR, env=where
        )
        await self._backend.until_ready()

    async def stop_backend(self) -> None:
        """Stop the backend, if it runs."""
        if self._backend is not None:
            await self._backend.stop()
            self._backend = None

    def _gate_command(self) -> list[str]:
        return [
            sys.executable, "-m", "proxy", "run",
            "--upstream", f"http://127.0.0.1:{self.backend_port}",
            "--listen", f"{self.gate_host}:{self.gate_port}",
            "--admin", self.admin,
            "--policy", self.policy,
        ]  # fmt: skip

    async def _close(self) -> None:
        self.sessions.down()
        self.prices.down()
        try:
            await self.stop_backend()
        finally:
            if self._gate is not None:
                await self._gate.stop()

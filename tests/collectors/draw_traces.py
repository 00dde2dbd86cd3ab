"""Write docs/img/trace-*.svg, of what a real gate exports now: `python -m tests.collectors.draw_traces`."""

from __future__ import annotations

import asyncio

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.backends import front, launch, wire
from tests.backends.launch import ROOT
from tests.collectors.collector import Collector
from tests.collectors.waterfall import bars, svg

IMAGES = ROOT / "docs" / "img"
NAME = "pictures"
TITLES = {
    "good": "A good handshake: the backend is ready, and so is the client",
    "slow": "A slow one: the backend takes its time to accept",
    "redialled": "A redialled one: two tries get 503, the third is taken",
    "degraded": "A degraded one: the client answers no ping, the gate opens without proof",
}
# What each client asks for, and whether it answers pings.
VISITS = {
    "good": ("/echo", True),
    "slow": ("/ws/slow?wait=0.3", True),
    "redialled": ("/cold?id=a&refuse=2&status=503", True),
    "degraded": ("/echo", False),
}
WARM_UP = 25  # sessions after which a route believes that its backend stays up


def trace_id(name: str) -> str:
    return f"{list(TITLES).index(name) + 1:032x}"


async def visit(address: tuple[str, int], path: str, *fields: str, answer_pings: bool = True) -> None:
    """One client: it says a message before the gate is open, hears the answer, and leaves."""
    client = await wire.opened(address, path, *fields, early=wire.text("hello"), answer_pings=answer_pings)
    assert await client.message() == b"hello"
    await client.leave()


async def visits(gates: dict[str, launch.Server]) -> None:
    for gate in gates.values():
        await asyncio.gather(*(visit((gate.host, gate.port), "/ws/echo") for _ in range(WARM_UP)))
    for name, (path, answers) in VISITS.items():
        gate = gates["slow" if name == "slow" else "others"]
        caller = f"traceparent: 00-{trace_id(name)}-00000000000000aa-01"
        await visit((gate.host, gate.port), path, caller, answer_pings=answers)


def record() -> dict[str, tuple[Span, list[Span]]]:
    """Return the handshake of each picture with its parts, as a collector read them."""
    with Collector() as collector, launch.flaky() as flaky, launch.uvicorn() as application:
        env = collector.environment("grpc", "none", NAME)
        with front.gate(flaky.url, env=env) as others, front.gate(application.url, env=env) as slow:
            asyncio.run(visits({"others": others, "slow": slow}))
        roots = (WARM_UP * 2 + len(VISITS)) * 2  # handshakes and sessions
        spans = collector.spans(
            NAME, lambda spans: sum(span.name.startswith("websocket.") for span in spans) == roots
        )
    told = {}
    for name in VISITS:
        of_trace = [span for span in spans if span.trace_id.hex() == trace_id(name)]
        (root,) = (span for span in of_trace if span.name == "websocket.handshake")
        told[name] = root, [span for span in of_trace if span is not root]
    return told


def main() -> None:
    """Write the pictures."""
    IMAGES.mkdir(exist_ok=True)
    for name, (root, children) in record().items():
        (IMAGES / f"trace-{name}.svg").write_text(svg(TITLES[name], bars(root, children)))


if __name__ == "__main__":
    main()

"""What a real collector reads of a real gate, field by field: gRPC and HTTP/protobuf, gzip and none."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from proxy import __version__
from tests.backends import front, launch, wire
from tests.backends.launch import Server
from tests.collectors.collector import Collector, attributes
from tests.collectors.tap import Tap
from tests.telemetry.reports import PARENT_ID, TRACE_ID

POLICY = "extends: production\nhandshake: {redial: {tries: 3}}\n"
WAYS = [(protocol, zipped) for protocol in ("grpc", "http/protobuf") for zipped in ("none", "gzip")]
CALLER = f"traceparent: 00-{TRACE_ID}-{PARENT_ID}-01"
TRACESTATE = "vendor=1"
ROOT, SESSION = "websocket.handshake", "websocket.session"
# Of the flags of a span, whether its parent is of another process: known, and so.
LOCAL, REMOTE = 0x100, 0x300
KINDS = {
    ROOT: Span.SPAN_KIND_SERVER,
    "upstream.connect": Span.SPAN_KIND_CLIENT,
    "upstream.upgrade": Span.SPAN_KIND_CLIENT,
}
STAGES = [f"{leg}.{stage}" for leg in ("upstream", "client") for stage in ("propagation", "validation")]
STAGES += ["upstream.stabilization", "client.stabilization"]
OPENED = [*STAGES, "client.accept", "gate.flush"]


@pytest.fixture(scope="module")
def backend() -> Iterator[Server]:
    with launch.flaky() as server:
        yield server


@dataclass
class Exported:
    """What one gate told the collector: its name there, and the port of its backend."""

    collector: Collector
    name: str
    port: int


@pytest.mark.parametrize(("protocol", "compression"), WAYS)
def test_a_collector_reads_each_span_and_metric_as_it_was(collector, backend, protocol, compression):
    name = f"{protocol}-{compression}"
    with Tap(collector.port(protocol)) as tap:
        env = collector.environment(protocol, compression, name, port=tap.port)
        env |= {"OTEL_RESOURCE_ATTRIBUTES": "service.version=v7,deployment.environment.name=test"}
        with front.gate(backend.url, POLICY, env=env) as gate:
            asyncio.run(asyncio.wait_for(visits((gate.host, gate.port), name), launch.START_S))
    exported = Exported(collector, name, backend.port)
    check_good(exported)
    check_redialled(exported)
    check_rejected(exported)
    check_resource(exported)
    check_metrics(exported)
    assert (b"readygate.evidence" in tap.seen) == (compression == "none")


async def visits(address: tuple[str, int], name: str) -> None:
    """A good session, one that is redialled, one that is rejected; ids are for the backend's memory."""
    trace = (CALLER, f"tracestate: {TRACESTATE}", "User-Agent: tests/1")
    paths = ("/echo?token=abc", f"/cold?refuse=2&status=503&id={name}")

    async def opened(path: str) -> None:
        client = await wire.opened(address, path, *trace, early=wire.text("hello"))
        assert await client.message() == b"hello"
        client.send(wire.binary(b"1234"))
        assert await client.message() == b"1234"
        await client.leave(4000)

    async def rejected() -> None:
        path = f"/cold?refuse=9&status=504&id={name}-no"
        async with await wire.Wire.dial(address, wire.upgrade(path, *trace)) as client:
            assert (await client.head()).status == 504

    await asyncio.gather(*map(opened, paths), rejected())


def of_trace(exported: Exported, outcome: str, redials: int) -> tuple[Span, list[Span]]:
    """The handshake that ended so, and its children as they began: they are connected by its span id."""
    spans = exported.collector.spans(
        exported.name, lambda spans: sum(span.name in {ROOT, SESSION} for span in spans) == 5
    )
    (root,) = (
        span
        for span in spans
        if span.name == ROOT
        and attributes(span.attributes)["readygate.outcome"] == outcome
        and attributes(span.attributes)["readygate.redials"] == redials
    )
    children = [span for span in spans if span.parent_span_id == root.span_id]
    return root, sorted(children, key=lambda span: (span.start_time_unix_nano, span.end_time_unix_nano))


def handshake_attributes(path: str, query: str, redials: int, status: int, **changes: object) -> dict:
    told = {
        "http.request.method": "GET",
        "url.path": path,
        "url.query": query,
        "url.scheme": "http",
        "http.route": "*",
        "network.protocol.name": "http",
        "network.protocol.version": "1.1",
        "network.peer.address": "127.0.0.1",
        "client.address": "127.0.0.1",
        "server.address": "example.test",
        "user_agent.original": "tests/1",
        "readygate.route": "*",
        "readygate.policy": "policy.yaml",
        "readygate.redials": redials,
        "http.response.status_code": status,
        "readygate.early.client.messages": 1,
        "readygate.early.client.bytes": 11,
        "readygate.early.upstream.messages": 0,
        "readygate.early.upstream.bytes": 0,
    }
    return told | changes


def check_root(root: Span, told: dict[str, object], error: str = "") -> None:
    found = attributes(root.attributes)
    assert 0 < found.pop("network.peer.port") < 65536
    assert found == told | ({"error.type": error} if error else {})
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == (TRACE_ID, PARENT_ID)
    assert (root.kind, root.trace_state, root.flags & REMOTE) == (KINDS[ROOT], TRACESTATE, REMOTE)
    assert root.status.code == (Status.STATUS_CODE_ERROR if error else Status.STATUS_CODE_UNSET)
    assert not root.events


def check_children(root: Span, children: list[Span]) -> None:
    """What all have in common: trace, parent, kind, times inside of their parent's."""
    for span in children:
        assert span.trace_id == root.trace_id, span.name
        assert span.kind == KINDS.get(span.name, Span.SPAN_KIND_INTERNAL), span.name
        assert span.trace_state == TRACESTATE
        assert span.flags & REMOTE == LOCAL
        assert not span.links
        times = (root.start_time_unix_nano, span.start_time_unix_nano)
        assert times[0] <= times[1] <= span.end_time_unix_nano <= root.end_time_unix_nano, (
            f"{span.name} is not inside of its parent"
        )
    assert len({span.span_id for span in [root, *children]}) == len(children) + 1


def check_tries(children: list[Span], port: int, statuses: list[int]) -> None:
    """Each try connects and upgrades; what answers 5xx is an error."""
    for name in ("upstream.connect", "upstream.upgrade"):
        tries = [span for span in children if span.name == name]
        assert len(tries) == len(statuses)
        for attempt, (span, status) in enumerate(zip(tries, statuses, strict=True), start=1):
            wanted: dict[str, object] = {"server.address": "127.0.0.1", "server.port": port}
            wanted |= {"readygate.attempt": attempt}
            wanted |= {"http.request.resend_count": attempt - 1} if attempt > 1 else {}
            failed = name == "upstream.upgrade" and status != 101
            if name == "upstream.upgrade":
                wanted |= {"http.request.method": "GET", "http.response.status_code": status}
                wanted |= {"error.type": str(status)} if failed else {}
            assert attributes(span.attributes) == wanted
            assert span.status.code == (Status.STATUS_CODE_ERROR if failed else Status.STATUS_CODE_UNSET)
            assert not span.events


def check_opening(children: list[Span], attempt: int) -> None:
    """The stages of the last try, and what followed: each once, proved, with its ping and pong."""
    opening = {span.name: span for span in children if span.name in OPENED}
    assert sorted(span.name for span in children if span.name in OPENED) == sorted(OPENED)
    assert attributes(opening["client.accept"].attributes) == {}
    flushed = {"readygate.early.client.bytes": 11, "readygate.early.upstream.bytes": 0}
    assert attributes(opening["gate.flush"].attributes) == flushed
    evidence = {
        "propagation": ("acked", 50.0),
        "validation": ("pong", 75.0),
        "stabilization": ("quiet", None),
    }
    for name in STAGES:
        span, found = opening[name], attributes(opening[name].attributes)
        budget_ms = found.pop("readygate.budget_ms")
        proof, wanted_ms = evidence[name.partition(".")[2]]
        assert isinstance(budget_ms, float)
        assert budget_ms == wanted_ms if wanted_ms else 0 <= budget_ms <= 25
        stage = {
            "readygate.evidence": proof,
            "readygate.stage.outcome": "proved",
            "readygate.attempt": attempt,
        }
        assert found == stage
        assert span.status.code == Status.STATUS_CODE_UNSET
        events = ["ping", "pong"] if name.endswith("validation") else []
        assert [event.name for event in span.events] == events
        at = [event.time_unix_nano for event in span.events]
        assert at == sorted(at)
        assert all(span.start_time_unix_nano <= one <= span.end_time_unix_nano for one in at)


def check_session(exported: Exported, root: Span) -> None:
    """A trace of its own; the two link to each other."""
    spans = exported.collector.inbox.spans[exported.name]
    (own,) = (span for span in spans if span.span_id == root.links[0].span_id)
    assert (own.name, own.kind, own.parent_span_id) == (SESSION, Span.SPAN_KIND_INTERNAL, b"")
    assert own.trace_id == root.links[0].trace_id != root.trace_id
    (link,) = own.links
    assert (link.trace_id, link.span_id) == (root.trace_id, root.span_id)
    assert root.start_time_unix_nano < own.start_time_unix_nano < own.end_time_unix_nano
    found = attributes(own.attributes)
    assert found.pop("readygate.departure.quiet_ms") > 0
    said = {"messages": 2, "text_messages": 1, "binary_messages": 1, "bytes": 9}
    assert found == {
        "readygate.policy": "policy.yaml",
        "readygate.route": "*",
        "client.address": "127.0.0.1",
        "readygate.ended_by": "client",
        "readygate.end_reason": "closed",
        "readygate.close.client.code": 4000,
        "readygate.close.upstream.code": 4000,
        "readygate.departure.discarded_messages": 0,
        "readygate.departure.discarded_bytes": 0,
    } | {f"readygate.{side}.{key}": count for side in ("client", "upstream") for key, count in said.items()}


def check_good(exported: Exported) -> None:
    root, children = of_trace(exported, "ready", 0)
    told = handshake_attributes("/echo", "token=REDACTED", 0, 101, **{"readygate.outcome": "ready"})
    check_root(root, told)
    check_children(root, children)
    check_tries(children, exported.port, [101])
    check_opening(children, attempt=1)
    assert len(children) == 2 + len(OPENED)
    check_session(exported, root)


def check_redialled(exported: Exported) -> None:
    root, children = of_trace(exported, "ready", 2)
    found = attributes(root.attributes)
    query, causes = str(found["url.query"]), ("status_503", "status_503")
    assert query.startswith("refuse=2&status=503&id=")
    more = {"readygate.outcome": "ready", "readygate.redial.causes": causes}
    check_root(root, handshake_attributes("/cold", query, 2, 101, **more))
    check_children(root, children)
    check_tries(children, exported.port, [503, 503, 101])
    check_opening(children, attempt=3)
    assert len(children) == 6 + len(OPENED)
    check_session(exported, root)


def check_rejected(exported: Exported) -> None:
    root, children = of_trace(exported, "rejected", 2)
    query, causes = str(attributes(root.attributes)["url.query"]), ("status_504", "status_504")
    more: dict[str, object] = {"readygate.outcome": "rejected", "readygate.redial.causes": causes}
    more |= {"readygate.early.client.messages": 0, "readygate.early.client.bytes": 0}
    check_root(root, handshake_attributes("/cold", query, 2, 504, **more), error="504")
    assert not root.links
    check_children(root, children)
    check_tries(children, exported.port, [504, 504, 504])
    assert len(children) == 6


def check_resource(exported: Exported) -> None:
    inbox = exported.collector.inbox
    found = attributes(inbox.resources[exported.name].attributes)
    assert len(str(found.pop("service.instance.id"))) == 36
    assert {key: value for key, value in found.items() if not key.startswith("telemetry.sdk.")} == {
        "service.name": exported.name,
        "service.version": "v7",
        "deployment.environment.name": "test",
    }
    assert inbox.scopes[exported.name] == {("readygate", __version__)}


def check_metrics(exported: Exported) -> None:
    metrics = exported.collector.metrics(exported.name, {"readygate.handshakes", "readygate.stage.duration"})
    counted = {
        attributes(point.attributes)["outcome"]: point.as_int
        for point in metrics["readygate.handshakes"].sum.data_points
    }
    assert counted == {"ready": 2, "rejected": 1}
    assert metrics["readygate.handshakes"].sum.is_monotonic
    assert (metrics["readygate.traffic"].unit, metrics["readygate.handshake.duration"].unit) == ("By", "s")
    durations = metrics["readygate.handshake.duration"].histogram.data_points
    assert sum(point.count for point in durations) == 3
    assert all(sum(point.bucket_counts) == point.count for point in durations)

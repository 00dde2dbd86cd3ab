"""A real OTLP/HTTP receiver: what we export is what a collector reads."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from typing import Self

import pytest
from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource

from proxy.telemetry import exporters
from proxy.telemetry.spans import resource
from proxy.telemetry.telemetry import Telemetry
from tests.telemetry.reports import PARENT_ID, START_MS, TRACE_ID, TRACEPARENT, closed, open_session, request


class Collector:
    """Keeps decoded OTLP requests; with `answers` False it takes them and never answers."""

    def __init__(self, *, answers: bool = True) -> None:
        self._answering = asyncio.Event()
        if answers:
            self._answering.set()
        self.asked = asyncio.Event()
        self.spans: list[Span] = []
        self.resource: dict[str, str] = {}
        self.metrics: list[str] = []
        self.histograms: list[Metric] = []

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(web.Server(self._take))
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.answer()
        await self._runner.cleanup()

    def answer(self) -> None:
        """Answer from now on, those who have been waiting first."""
        self._answering.set()

    async def _take(self, asked: web.BaseRequest) -> web.Response:
        self.asked.set()
        await self._answering.wait()
        body = await asked.read()
        if asked.path == "/v1/traces":
            for block in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resource = {one.key: one.value.string_value for one in block.resource.attributes}
                self.spans += [span for scope in block.scope_spans for span in scope.spans]
        else:
            for block in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                told = [metric for scope in block.scope_metrics for metric in scope.metrics]
                self.metrics += [metric.name for metric in told]
                self.histograms += [metric for metric in told if metric.HasField("histogram")]
        return web.Response(content_type="application/x-protobuf")


@pytest.fixture
def environ(monkeypatch):
    """The process's environment, restored afterwards."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)

    def change(**variables: str) -> dict[str, str]:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return dict(os.environ)

    return change


def attributes(span: Span) -> dict[str, object]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_collector_reads_the_spans_and_metrics_of_a_session(run, environ, compression):
    async def main() -> Collector:
        async with Collector() as collector:
            made = Telemetry.from_environment(
                environ(
                    OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_EXPORTER_OTLP_COMPRESSION=compression
                ),
                version="1.2.3",
                upstream=("127.0.0.1", 8000),
            )
            _, session, _ = open_session(made, request(headers=[(b"traceparent", TRACEPARENT)]))
            session.finish(closed(), START_MS + 5010)
            await asyncio.to_thread(made.shutdown, 10)
            return collector

    collector = run(main())
    spans = {span.name: span for span in collector.spans}
    assert len(collector.spans) == len(spans) == 12
    assert collector.resource["service.name"] == "readygate"
    root, own, validation = (
        spans[name] for name in ("websocket.handshake", "websocket.session", "client.validation")
    )
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == (TRACE_ID, PARENT_ID)
    assert root.kind == Span.SPAN_KIND_SERVER
    assert attributes(root)["readygate.outcome"] == "ready"
    assert attributes(root)["readygate.early.client.bytes"] == 34
    assert validation.parent_span_id == root.span_id
    assert [event.name for event in validation.events] == ["ping", "pong"]
    assert validation.events[1].time_unix_nano == validation.end_time_unix_nano
    assert (root.links[0].trace_id, own.links[0].trace_id) == (own.trace_id, root.trace_id)
    assert attributes(spans["upstream.upgrade"])["server.port"] == 8000
    assert {"readygate.handshakes", "readygate.handshake.duration", "readygate.sessions.closed"} <= set(
        collector.metrics
    )


@pytest.mark.parametrize(
    ("preference", "temporality"),
    [
        ("", AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE),
        ("delta", AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA),
        ("lowmemory", AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA),
    ],
)
def test_a_collector_reads_the_histograms_with_the_temporality_that_it_prefers(
    run, environ, preference, temporality
):
    """They are ours, and join what the SDK has collected: a canary for how they get there."""

    async def main() -> Collector:
        async with Collector() as collector:
            settings = environ(
                OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=f"{collector.url}/v1/metrics",
                OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=preference,
            )
            made = Telemetry.from_environment(settings, version="0")
            open_session(made)
            await asyncio.to_thread(made.shutdown, 10)
            return collector

    told = {metric.name: metric for metric in run(main()).histograms}
    assert set(told) == {"readygate.handshake.duration", "readygate.stage.duration"}
    histogram = told["readygate.handshake.duration"].histogram
    assert histogram.aggregation_temporality == temporality
    (point,) = histogram.data_points
    assert (point.count, point.sum) == (1, 0.01)
    assert dict(zip(point.explicit_bounds, point.bucket_counts, strict=False))[0.01] == 1
    assert {one.key: one.value.string_value for one in point.attributes} == {
        "outcome": "ready",
        "route": "/ws/**",
    }
    assert not point.HasField("min")
    assert len(told["readygate.stage.duration"].histogram.data_points) == 6


def test_the_service_name_is_the_users(run, environ):
    async def main() -> Collector:
        async with Collector() as collector:
            settings = environ(
                OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{collector.url}/v1/traces",
                OTEL_SERVICE_NAME="chat-gate",
                OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test",
            )
            made = Telemetry.from_environment(settings, version="0")
            open_session(made)
            await asyncio.to_thread(made.shutdown, 10)
            return collector

    collector = run(main())
    assert collector.resource["service.name"] == "chat-gate"
    assert collector.resource["deployment.environment.name"] == "test"
    assert collector.metrics == []


def test_the_encoder_may_ask_for_the_resource_with_each_span(environ, monkeypatch):
    told = resource(environ(OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test"))
    like = Resource(dict(told.attributes), told.schema_url)
    assert (told, hash(told)) == (like, hash(like))
    monkeypatch.setattr("opentelemetry.sdk.resources.dumps", None)  # what hashing one costs
    assert hash(told) == hash(told)


def test_the_sampler_is_the_users(run, environ):
    async def main() -> Collector:
        async with Collector() as collector:
            settings = environ(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_TRACES_SAMPLER="always_off")
            made = Telemetry.from_environment(settings, version="0")
            open_session(made)
            await asyncio.to_thread(made.shutdown, 10)
            return collector

    assert run(main()).spans == []


def test_a_collector_that_never_answers_holds_up_neither_sessions_nor_the_stop(run, environ, caplog):
    async def main() -> tuple[float, float]:
        loop, before = asyncio.get_running_loop(), set(threading.enumerate())
        async with Collector(answers=False) as collector:
            made = Telemetry.from_environment(
                environ(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{collector.url}/v1/traces"), version="0"
            )
            started_s = loop.time()
            for _ in range(500):
                open_session(made)[1].finish(closed(), START_MS + 20)
            spent_s = loop.time() - started_s
            await collector.asked.wait()
            started_s = loop.time()
            await asyncio.to_thread(made.shutdown, 0.2)
            stopping_s = loop.time() - started_s
            collector.answer()  # or a thread of the exporter would try again during the tests that follow
            for thread in set(threading.enumerate()) - before:
                if thread.name.startswith("OtelBatch"):
                    await asyncio.to_thread(thread.join, 10)
                    assert not thread.is_alive()
            return spent_s, stopping_s

    spent_s, stopping_s = run(main())
    assert spent_s < 10  # 6000 spans, three times the queue; a single export may take 10 s
    assert stopping_s < 10
    dropped = [entry for entry in caplog.records if "does not keep up" in entry.getMessage()]
    assert 1 < len(dropped) < 30


def test_grpc_is_used_when_asked_for(environ):
    made = Telemetry.from_environment(
        environ(
            OTEL_TRACES_EXPORTER="otlp",
            OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
            OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
            OTEL_METRICS_EXPORTER="none",
        ),
        version="0",
    )
    assert made.recorder.on
    assert any("OtelBatchSpan" in thread.name for thread in threading.enumerate())
    made.shutdown(1)


@pytest.mark.parametrize("compression", ["none", "", "gzip"])
def test_grpc_takes_each_compression_of_the_specification(environ, caplog, compression):
    """The SDK's exporter knows of gzip only."""
    settings = environ(
        OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
        OTEL_EXPORTER_OTLP_COMPRESSION=compression,
    )
    (spans,), (metrics,) = exporters.span_exporters(settings), exporters.metric_readers(settings)
    assert not caplog.records
    spans.shutdown()
    with contextlib.suppress(Exception):  # nobody listens
        metrics.shutdown(10)

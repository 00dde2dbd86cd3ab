"""A real OpenTelemetry collector, rotel, that hands on what it gets to a gRPC sink in this process.

    with Collector() as collector:
        with front.gate(backend.url, env=collector.environment("grpc", "gzip")) as gate:
            ...
        spans = collector.spans(of="my gate", until=...)

The sink is oteltest's. Rotel is a program of its own, in Rust: what it can read is OTLP.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.backends.launch import MissingToolError, Server, free_port, ready, start

WAIT_S = 20.0


def agent() -> str:
    """Return the path of rotel's program. MissingToolError without it."""
    spec = importlib.util.find_spec("rotel")
    program = Path(spec.origin).with_name("rotel-agent") if spec and spec.origin else None
    if program is None or not program.exists() or importlib.util.find_spec("oteltest") is None:
        raise MissingToolError("rotel or oteltest is not installed")
    return str(program)


def attributes(told: Iterable[KeyValue]) -> dict[str, object]:
    """Return attributes as plain values, lists as tuples."""
    return {one.key: _plain(one.value) for one in told}


def _plain(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return tuple(_plain(one) for one in value.array_value.values)
    return getattr(value, kind)


class Inbox:
    """What came, by the `service.name` of its resource. The sink calls the `handle_...`, on its threads."""

    def __init__(self) -> None:
        self.came = threading.Condition()
        self.spans: dict[str, list[Span]] = defaultdict(list)
        self.metrics: dict[str, dict[str, Metric]] = defaultdict(dict)
        self.resources: dict[str, Resource] = {}
        self.scopes: dict[str, set[tuple[str, str]]] = defaultdict(set)

    def handle_trace(self, request: ExportTraceServiceRequest, _: object) -> None:
        with self.came:
            for block in request.resource_spans:
                name = self._name(block.resource)
                for scope in block.scope_spans:
                    self.scopes[name].add((scope.scope.name, scope.scope.version))
                    self.spans[name] += scope.spans
            self.came.notify_all()

    def handle_metrics(self, request: ExportMetricsServiceRequest, _: object) -> None:
        with self.came:
            for block in request.resource_metrics:
                name = self._name(block.resource)
                for scope in block.scope_metrics:
                    self.metrics[name] |= {metric.name: metric for metric in scope.metrics}
            self.came.notify_all()

    def handle_logs(self, _: ExportLogsServiceRequest, __: object) -> None:
        raise AssertionError("the gate sends no logs")

    def _name(self, resource: Resource) -> str:
        name = str(attributes(resource.attributes)["service.name"])
        self.resources[name] = resource
        return name


class Collector:
    """A running rotel and its sink. Gates are told apart by their `OTEL_SERVICE_NAME`."""

    def __init__(self) -> None:
        program = agent()
        from oteltest.sink import GrpcSink  # noqa: PLC0415 - may not be there

        self.inbox = Inbox()
        self._sink = GrpcSink(self.inbox, logging.getLogger("sink"), port=free_port())
        self._sink.start()
        self.grpc, self.http = free_port(), free_port()
        options = {
            "otlp-grpc-endpoint": f"127.0.0.1:{self.grpc}",
            "otlp-http-endpoint": f"127.0.0.1:{self.http}",
            "otlp-exporter-endpoint": f"http://127.0.0.1:{self._sink.port}",
            "otlp-exporter-protocol": "grpc",
            "batch-timeout": "20ms",
            "pid-file": "/dev/null",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        server = start("rotel", [program, "start", "--exporter", "otlp", *words], port=self.http)
        self.server: Server = ready(server)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()
        self._sink.stop()

    def port(self, protocol: str) -> int:
        """Return where it takes this protocol."""
        return self.grpc if protocol == "grpc" else self.http

    def environment(self, protocol: str, compression: str, name: str, *, port: int = 0) -> dict[str, str]:
        """Return the variables that make a gate send to this collector (or to this port), as `name`."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port or self.port(protocol)}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_COMPRESSION": compression,
            "OTEL_SERVICE_NAME": name,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }

    def spans(self, name: str, until: Callable[[list[Span]], bool]) -> list[Span]:
        """Wait until the spans of the gate called `name` are what is wanted; return them."""
        inbox = self.inbox
        with inbox.came:
            if not inbox.came.wait_for(lambda: until(inbox.spans[name]), WAIT_S):
                told = sorted(span.name for span in inbox.spans[name])
                raise TimeoutError(f"of {name} there are only {told}\n{self.server.log()[-2000:]}")
            return list(inbox.spans[name])

    def metrics(self, name: str, wanted: set[str]) -> dict[str, Metric]:
        """Wait until these metrics of the gate called `name` have come; return all."""
        inbox = self.inbox
        with inbox.came:
            if not inbox.came.wait_for(lambda: wanted <= set(inbox.metrics[name]), WAIT_S):
                raise TimeoutError(f"of {name} there are only {sorted(inbox.metrics[name])}")
            return dict(inbox.metrics[name])

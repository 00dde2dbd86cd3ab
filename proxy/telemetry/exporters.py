"""Where telemetry goes: the standard OTEL_* variables, exporters imported only when asked for.

The SDK and its exporters read the process's environment themselves (headers, timeouts, batch sizes,
samplers); what is decided here is only which of them run. With nothing configured there is no exporter, no
thread and no log line.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from proxy.telemetry.histogram import Reader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk.trace.export import SpanExporter

_log = logging.getLogger("readygate.telemetry")
_PROTOCOLS = ("http/protobuf", "grpc")


def disabled(environ: Mapping[str, str]) -> bool:
    """Whether OTEL_SDK_DISABLED says so."""
    return environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def span_exporters(environ: Mapping[str, str]) -> list[SpanExporter]:
    """Return the exporters that OTEL_TRACES_EXPORTER or an OTLP endpoint asks for."""
    return _build(environ, "TRACES", {"otlp": _otlp_spans, "console": _console_spans})


def metric_readers(environ: Mapping[str, str]) -> list[Reader]:
    """Return the readers that OTEL_METRICS_EXPORTER or an OTLP endpoint asks for (each runs a thread)."""
    return _build(environ, "METRICS", {"otlp": _otlp_metrics, "console": _console_metrics})


def _build(environ: Mapping[str, str], signal: str, kinds: dict[str, Any]) -> list[Any]:
    built = []
    for name in _wanted(environ, signal):
        if name not in kinds:
            _log.warning("OTEL_%s_EXPORTER: found %r, expected none, console or otlp", signal, name)
            continue
        try:
            built.append(kinds[name](_protocol(environ, signal) if name == "otlp" else ""))
        except Exception as error:  # noqa: BLE001 - sessions are served, whatever is wrong here
            _log.warning("the %s exporter for %s cannot run: %s", name, signal.lower(), error)
    return built


def _wanted(environ: Mapping[str, str], signal: str) -> list[str]:
    if disabled(environ):
        return []
    named = environ.get(f"OTEL_{signal}_EXPORTER", "").strip().lower()
    if not named:
        endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
        return ["otlp"] if any(environ.get(name) for name in endpoints) else []
    # `prometheus` needs nothing: the admin listener always has /metrics
    return [name for part in named.split(",") if (name := part.strip()) not in {"", "none", "prometheus"}]


def _protocol(environ: Mapping[str, str], signal: str) -> str:
    """Return the OTLP protocol; the specification's default is http/protobuf."""
    name = environ.get(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    found = (name or _PROTOCOLS[0]).strip().lower()
    if found not in _PROTOCOLS:
        raise ValueError(f"OTLP protocol: found {found!r}, expected {' or '.join(_PROTOCOLS)}")
    if found == "grpc":
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its C core prints to stderr on its own
    return found


def _grpc_compression(signal: str) -> Any:  # noqa: ANN401 - grpc has no types
    """Return what the variables say, where the SDK's gRPC exporter does not understand them itself.

    The specification has `none` and takes an empty variable for one that is not set; it raises for both.
    """
    from grpc import Compression  # type: ignore[import-untyped] # noqa: PLC0415 - 0.3 s

    names = (f"OTEL_EXPORTER_OTLP_{signal}_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION")
    told = [value for name in names if (value := os.environ.get(name, "").strip().lower())]
    return Compression.NoCompression if not told or told[0] == "none" else None


def _otlp_spans(protocol: str) -> SpanExporter:
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415 - 0.3 s
            OTLPSpanExporter as Grpc,
        )

        return Grpc(compression=_grpc_compression("TRACES"))
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

    return OTLPSpanExporter()


def _otlp_metrics(protocol: str) -> Reader:
    preference = os.environ.get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "").strip().lower()
    delta = preference in {"delta", "lowmemory"}  # for histograms the specification has both mean delta
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (  # noqa: PLC0415
            OTLPMetricExporter as Grpc,
        )

        return Reader(Grpc(compression=_grpc_compression("METRICS")), delta=delta)
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415

    return Reader(OTLPMetricExporter(), delta=delta)


def _console_spans(_: str) -> SpanExporter:
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter  # noqa: PLC0415

    return ConsoleSpanExporter(formatter=lambda span: (span.to_json(indent=None) or "") + "\n")


def _console_metrics(_: str) -> Reader:
    from opentelemetry.sdk.metrics.export import ConsoleMetricExporter  # noqa: PLC0415

    return Reader(ConsoleMetricExporter())

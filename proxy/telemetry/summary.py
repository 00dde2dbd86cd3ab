"""One redacted record per handshake and per session: the fields of log lines and of the admin's events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.core.report import Outcome
from proxy.telemetry.attributes import handshake_error, session_error

if TYPE_CHECKING:
    from proxy.core.report import HandshakeReport
    from proxy.telemetry.facts import SessionReport, Subject, Traffic
    from proxy.telemetry.session_trace import SessionTrace
    from proxy.telemetry.traces import HandshakeTrace

_HEADLINES = {
    Outcome.READY: "session open",
    Outcome.READY_UNPROVEN: "session open",
    Outcome.REJECTED: "handshake rejected",
    Outcome.ABANDONED: "handshake abandoned",
    Outcome.TIMEOUT: "handshake timed out",
    Outcome.FAILED: "handshake failed",
}
_MAX_CAUSES = 16


def headline(report: HandshakeReport) -> str:
    """Return the message of a handshake's log line."""
    return _HEADLINES[report.outcome]


def of_handshake(trace: HandshakeTrace, report: HandshakeReport, ms: float) -> dict[str, object]:
    """Return the fields of a finished handshake; `stages` holds the last try of each stage of each leg."""
    subject = trace.subject
    fields = who(subject)
    fields |= {
        "outcome": report.outcome.value,
        "status": report.status,
        "ms": round(ms, 2),
        "redials": len(report.redials),
        "stages": {
            f"{stage.role}.{stage.stage}": f"{stage.outcome} {stage.ended_ms - stage.started_ms:.2f}ms"
            for stage in report.stages
        },
        "early_client": [report.early_client.messages, report.early_client.bytes],
        "early_upstream": [report.early_upstream.messages, report.early_upstream.bytes],
    }
    if report.redials:
        fields["redial_causes"] = list(report.redials[:_MAX_CAUSES])
    if report.close_code is not None:
        fields["close_code"] = report.close_code
    if report.limit is not None:
        fields["limit"] = report.limit
    if report.guard is not None:
        fields["guard"] = report.guard
    if report.auth is not None:
        fields["auth"] = report.auth
    if error := handshake_error(report):
        fields["error"] = error
    if subject.subprotocols:
        fields["subprotocols"] = subject.subprotocols
    if subject.user_agent:
        fields["user_agent"] = subject.user_agent
    return fields | {"trace_id": trace.trace_id, "span_id": trace.span_id}


def of_session(trace: SessionTrace, report: SessionReport, ms: float) -> dict[str, object]:
    """Return the fields of a closed session."""
    fields = who(trace.handshake.subject)
    fields |= {
        "ended_by": report.ended_by,
        "reason": report.reason,
        "client_code": report.client_code,
        "upstream_code": report.upstream_code,
        "duration_s": round(ms / 1000, 3),
        "client": _traffic(report.client),
        "upstream": _traffic(report.upstream),
    }
    if (departure := report.departure) is not None:
        fields["discarded_messages"] = departure.discarded_messages
        fields["discarded_bytes"] = departure.discarded_bytes
        fields["quiet_ms"] = round(departure.quiet_ms, 2)
    if error := session_error(report):
        fields["error"] = error
    fields["handshake_trace_id"] = trace.handshake.trace_id
    return fields | {"trace_id": trace.trace_id, "span_id": trace.span_id}


def who(subject: Subject) -> dict[str, object]:
    """Return who asked for what, and which part of which policy it came under."""
    return {
        "route": subject.route,
        "policy": subject.policy,
        "path": subject.target,
        "client_address": subject.client,
    }


def _traffic(traffic: Traffic) -> dict[str, int]:
    return {
        "messages": traffic.messages,
        "text": traffic.text_messages,
        "binary": traffic.binary_messages,
        "bytes": traffic.bytes,
    }

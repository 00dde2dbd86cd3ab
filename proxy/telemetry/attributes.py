"""The attributes of our spans: OpenTelemetry's stable conventions, and `readygate.*` where there are none.

Google's Trace API keeps 32 attributes a span; the handshake stays below that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.trace.status import Status, StatusCode

from proxy.core.plan import Role
from proxy.core.report import Outcome, StageOutcome

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

    from proxy.core.report import HandshakeReport, StageRecord
    from proxy.telemetry.facts import SessionReport, Subject, Traffic

Attributes = dict[str, "AttributeValue"]

UNSET = Status(StatusCode.UNSET)
ERROR = Status(StatusCode.ERROR)
_SERVER_ERROR = 500
_FAILED = frozenset({Outcome.TIMEOUT, Outcome.FAILED})
_BROKEN_CODES = frozenset({1006, 1011, 1014})  # what an upstream ends with when it failed rather than left


def of_request(subject: Subject) -> Attributes:
    """Return the attributes of the upgrade request (semantic conventions: HTTP server, network, client)."""
    told: Attributes = {
        "http.request.method": subject.method,
        "url.path": subject.path,
        "url.scheme": subject.scheme,
        "http.route": subject.route,
        "network.protocol.name": "http",
        "network.protocol.version": subject.http_version,
        "readygate.policy": subject.policy,
        "readygate.route": subject.route,
    }
    optional = (
        ("url.query", subject.query),
        ("server.address", subject.host),
        ("server.port", subject.port),
        ("client.address", subject.client),
        ("network.peer.address", subject.peer),
        ("network.peer.port", subject.peer_port),
        ("user_agent.original", subject.user_agent),
        ("readygate.subprotocols", subject.subprotocols),
    )
    told.update((key, value) for key, value in optional if value)
    return told


def of_handshake(report: HandshakeReport) -> Attributes:
    """Return how a handshake ended."""
    told: Attributes = {
        "readygate.outcome": report.outcome.value,
        "readygate.redials": len(report.redials),
        "readygate.early.client.messages": report.early_client.messages,
        "readygate.early.client.bytes": report.early_client.bytes,
        "readygate.early.upstream.messages": report.early_upstream.messages,
        "readygate.early.upstream.bytes": report.early_upstream.bytes,
    }
    if report.redials:
        told["readygate.redial.causes"] = report.redials[:16]
    if report.status is not None:
        told["http.response.status_code"] = report.status
    if report.close_code is not None:
        told["readygate.close.code"] = report.close_code
    if report.limit is not None:
        told["readygate.limit"] = report.limit
    if report.guard is not None:
        told["readygate.guard"] = report.guard
    if report.auth is not None:
        told["readygate.auth.outcome"] = report.auth
    if error := handshake_error(report):
        told["error.type"] = error
    return told


def handshake_error(report: HandshakeReport) -> str:
    """Return the error type of a handshake, "" for one that is none of ours.

    A 4xx is the backend's answer and a client that leaves has left: neither is an error.
    """
    if report.outcome is Outcome.TIMEOUT:
        return "timeout"
    if report.outcome is Outcome.FAILED:
        if report.cause is not None:
            return report.cause
        if report.close_code is not None:
            return f"close_{report.close_code}"
        return str(report.status or "failed")
    return str(report.status) if (report.status or 0) >= _SERVER_ERROR else ""


def is_failure(report: HandshakeReport) -> bool:
    """Return whether a handshake failed, so that it is worth its spans though it was not sampled.

    Those whose span has an error are meant, but not what a limit refused: in a flood that would be most.
    """
    return report.limit is None and bool(handshake_error(report))


def of_stage(stage: StageRecord, report: HandshakeReport) -> Attributes:
    """Return what a stage waited for, for how long at most, and what came of it.

    A failure that cost a try or the handshake is an error; one by a refusal or a client that left is none.
    """
    told: Attributes = {
        "readygate.evidence": stage.evidence.value,
        "readygate.budget_ms": stage.budget_ms,
        "readygate.stage.outcome": stage.outcome.value,
        "readygate.attempt": stage.attempt,
    }
    if stage.outcome is StageOutcome.FAILED and (error := _stage_error(stage, report)):
        told["error.type"] = error
    return told


def _stage_error(stage: StageRecord, report: HandshakeReport) -> str:
    if stage.role is Role.UPSTREAM and stage.attempt <= len(report.redials):
        return report.redials[stage.attempt - 1]
    return handshake_error(report) if report.outcome in _FAILED else ""


def status(told: Attributes) -> Status:
    """Return the status of a span with these attributes: an `error.type` makes it an ERROR."""
    return ERROR if "error.type" in told else UNSET


def of_auth(source: str, algorithm: str, outcome: str) -> Attributes:
    """Return where a token was, what it is signed with, and what came of it: nothing of the token itself."""
    told: Attributes = {"readygate.auth.outcome": outcome}
    if source:
        told["readygate.auth.source"] = source
    if algorithm:
        told["readygate.auth.algorithm"] = algorithm
    return told


def of_session(subject: Subject, report: SessionReport) -> Attributes:
    """Return how a session ended and what was said in it."""
    told: Attributes = {
        "readygate.policy": subject.policy,
        "readygate.route": subject.route,
        "client.address": subject.client,
        "readygate.ended_by": report.ended_by,
        "readygate.end_reason": report.reason,
    }
    if report.client_code is not None:
        told["readygate.close.client.code"] = report.client_code
    if report.upstream_code is not None:
        told["readygate.close.upstream.code"] = report.upstream_code
    told |= _traffic("client", report.client)
    told |= _traffic("upstream", report.upstream)
    if (departure := report.departure) is not None:
        told["readygate.departure.discarded_messages"] = departure.discarded_messages
        told["readygate.departure.discarded_bytes"] = departure.discarded_bytes
        told["readygate.departure.quiet_ms"] = departure.quiet_ms
    if error := session_error(report):
        told["error.type"] = error
    return told


def _traffic(side: str, traffic: Traffic) -> Attributes:
    return {
        f"readygate.{side}.messages": traffic.messages,
        f"readygate.{side}.bytes": traffic.bytes,
        f"readygate.{side}.text_messages": traffic.text_messages,
        f"readygate.{side}.binary_messages": traffic.binary_messages,
    }


def session_error(report: SessionReport) -> str:
    """Return the error type of a session, "" for most: only an upstream that broke makes one."""
    if report.ended_by == "upstream" and report.code in _BROKEN_CODES:
        return f"close_{report.code}"
    return ""

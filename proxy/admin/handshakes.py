"""A handshake that is over, as JSON: each step and stage of both legs, in ms after the upgrade request."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from proxy.telemetry.attributes import handshake_error
from proxy.telemetry.recent import ends

if TYPE_CHECKING:
    from typing import TypeAlias

    from proxy.core.report import StageRecord
    from proxy.telemetry.recent import Finished, Step

Told: TypeAlias = "dict[str, object]"

_FIRST_CAUSES: Final = 64
_MS_DIGITS: Final = 3


def handshake(one: Finished, unix_ms: float) -> Told:
    """Return one handshake. `unix_ms`: when it began, in ms since 1970.

    `first_reply_ms` counts from the open gate: 0 if the upstream had spoken before, None if it has not
    spoken yet.
    """
    trace, report, subject = one.trace, one.report, one.trace.subject
    zero_ms = trace.started_ms
    opened_ms = next((step.ended_ms for step in reversed(one.steps) if step.name == "gate.flush"), None)
    steps = [_step(step, zero_ms) for step in one.steps]
    steps += [_stage(stage, zero_ms) for stage in ends(report.stages)]
    return {
        "id": trace.span_id,
        "trace_id": trace.trace_id,
        "sampled": trace.sampled,
        "began": datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="milliseconds"),
        "route": subject.route,
        "policy": subject.policy,
        "path": subject.target,
        "client_address": subject.client,
        "user_agent": subject.user_agent,
        "subprotocols": subject.subprotocols,
        "outcome": report.outcome.value,
        "status": report.status,
        "close_code": report.close_code,
        "limit": report.limit,
        "guard": report.guard,
        "auth": report.auth,
        "error": handshake_error(report) or None,
        "ms": _ms(one.ended_ms - zero_ms),
        "open_ms": None if opened_ms is None else _ms(opened_ms - zero_ms),
        "first_reply_ms": _first_reply_ms(one, opened_ms),
        "redials": len(report.redials),
        "redial_causes": list(report.redials[:_FIRST_CAUSES]),
        "early_client": [report.early_client.messages, report.early_client.bytes],
        "early_upstream": [report.early_upstream.messages, report.early_upstream.bytes],
        "steps": sorted(steps, key=_by_time),
    }


def _first_reply_ms(one: Finished, opened_ms: float | None) -> float | None:
    if opened_ms is None:
        return None
    if one.report.early_upstream.messages:
        return 0.0
    replied_ms = one.trace.replied_ms
    return None if replied_ms is None else _ms(max(replied_ms - opened_ms, 0.0))


def _step(step: Step, zero_ms: float) -> Told:
    leg, _, name = step.name.partition(".")
    ended_ms, error = step.ended_ms, step.error
    assert ended_ms is not None
    if error is None and step.status is not None and step.status != HTTPStatus.SWITCHING_PROTOCOLS:
        error = f"status_{step.status}"
    return {
        "leg": leg,
        "name": name,
        "attempt": step.attempt,
        "start_ms": _ms(step.started_ms - zero_ms),
        "end_ms": _ms(ended_ms - zero_ms),
        "outcome": "failed" if error else "done",
        "status": step.status,
        "error": error,
    }


def _stage(stage: StageRecord, zero_ms: float) -> Told:
    return {
        "leg": stage.role.value,
        "name": stage.stage.value,
        "attempt": stage.attempt,
        "start_ms": _ms(stage.started_ms - zero_ms),
        "end_ms": _ms(stage.ended_ms - zero_ms),
        "outcome": stage.outcome.value,
        "evidence": stage.evidence.value,
        "budget_ms": _ms(stage.budget_ms),
        "marks": [[name, _ms(at_ms - zero_ms)] for name, at_ms in stage.marks],
    }


def _by_time(step: Told) -> tuple[float, float]:
    return (step["start_ms"], step["end_ms"])  # type: ignore[return-value]


def _ms(value: float) -> float:
    return round(value, _MS_DIGITS)

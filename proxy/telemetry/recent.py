"""The last handshakes as they were, for whoever looks at them: references only, no text, no sums."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.core.report import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeVar

    from opentelemetry.trace import SpanContext

    from proxy.core.report import HandshakeReport
    from proxy.telemetry.attributes import Attributes
    from proxy.telemetry.traces import HandshakeTrace

    T = TypeVar("T")

MOST: Final = 200
# Of one handshake: the first half and the last half of so many are kept.
MOST_STEPS: Final = 128


class Step:
    """What the gate did itself in a handshake, beside its stages: a span, if the handshake has spans.

    `name` is `guard.auth`, `upstream.connect` or `upstream.upgrade` (one each a try, `attempt` 1 is the
    first), `client.accept` or `gate.flush`. Times in ms of the monotonic clock; `ended_ms` None: it is under
    way. `status` that came, or `error` that came instead. `attributes` of the span, but for what is here.
    `context` of the span: None until it is made, unless somebody had to be told of it before.
    """

    __slots__ = ("attempt", "attributes", "context", "ended_ms", "error", "name", "started_ms", "status")

    def __init__(
        self,
        name: str,
        started_ms: float,
        ended_ms: float | None = None,
        *,
        attempt: int = 1,
        attributes: Attributes | None = None,
        error: str | None = None,
    ) -> None:
        self.name = name
        self.attempt = attempt
        self.started_ms = started_ms
        self.ended_ms = ended_ms
        self.attributes = attributes
        self.context: SpanContext | None = None
        self.status: int | None = None
        self.error = error


class Finished(NamedTuple):
    """A handshake that is over, when it ended (ms of the monotonic clock), and its steps."""

    trace: HandshakeTrace
    report: HandshakeReport
    ended_ms: float
    steps: Sequence[Step]


def ends(many: Sequence[T]) -> Sequence[T]:
    """Return all, or of very many the first and the last ones."""
    if len(many) <= MOST_STEPS:
        return many
    half = MOST_STEPS // 2
    return [*many[:half], *many[-half:]]


def unfinished(report: HandshakeReport) -> str:
    """Return the error of a step that the handshake's end has cut short."""
    return "timeout" if report.outcome is Outcome.TIMEOUT else "abandoned"

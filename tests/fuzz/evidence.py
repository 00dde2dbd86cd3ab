"""What a handshake claims of its stages, held against what the peers have really done."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby, pairwise

from proxy.core.plan import Evidence, HandshakePlan, OnExpiry, Role, Stage, StagePlan
from proxy.core.report import HandshakeReport, Outcome, StageOutcome, StageRecord
from tests.fuzz.peer import Peer

_ORDER = list(Stage)


@dataclass(frozen=True, slots=True)
class Learned:
    """What there is to know of one leg in one try. The client has one, whatever the upstream's try."""

    role: Role
    attempt: int
    peer: Peer


def check_stages(
    plan: HandshakePlan, report: HandshakeReport, learned: list[Learned], now: float, *, opened: bool
) -> None:
    """Check every record, their order, and what an open gate must have seen."""
    peers = {(each.role, each.attempt): each.peer for each in reversed(learned)}

    def run(record: StageRecord) -> tuple[Role, int]:
        return record.role, record.attempt if record.role is Role.UPSTREAM else 0

    runs = {key: list(records) for key, records in groupby(sorted(report.stages, key=run), run)}
    for key, records in runs.items():
        for record in records:
            _check(plan, record, peers[key], now)
        for one, other in pairwise(records):
            assert _ORDER.index(one.stage) < _ORDER.index(other.stage), "each stage once, in order"
            assert one.ended_ms <= other.started_ms
    if opened:
        _check_opened(plan, report, runs, learned)


def _check(plan: HandshakePlan, record: StageRecord, peer: Peer, now: float) -> None:
    took = record.ended_ms - record.started_ms
    assert took >= 0
    assert record.ended_ms <= now
    match record.outcome:
        case StageOutcome.PROVED:
            assert record.evidence is not Evidence.FIXED
            assert _is_so(record, peer, took), f"{record.role} {record.stage} proved by {record.evidence}"
        case StageOutcome.EXPIRED:
            assert took >= record.budget_ms, "it had its time"
            assert record.evidence is not Evidence.QUIET, "quiet is never given up"
        case StageOutcome.SKIPPED:
            assert took == 0 or peer.paused, "what is not read any more proves nothing"
    if record.stage is Stage.ANNOUNCEMENT:
        assert plan.leg(record.role).announcement is not None


def _is_so(record: StageRecord, peer: Peer, took: float) -> bool:
    match record.evidence:
        case Evidence.ACKED:  # any byte shows that what we sent arrived; the upstream's 101 does
            return record.role is Role.UPSTREAM or peer.acked or len(peer.sent) > peer.at_101
        case Evidence.PONG:
            return peer.pinged is not None and peer.ponged
        case Evidence.FRAME:
            return peer.frames > 0
        case Evidence.QUIET:
            return took >= record.budget_ms
        case Evidence.MESSAGE:
            return peer.seen.text + peer.seen.binary > 0
    return False


def _check_opened(
    plan: HandshakePlan,
    report: HandshakeReport,
    runs: dict[tuple[Role, int], list[StageRecord]],
    learned: list[Learned],
) -> None:
    """An open gate: both legs went through all their stages, unless the upstream's Close is its answer."""
    last = max(each.attempt for each in learned)
    upstream = next(each.peer for each in learned if each.role is Role.UPSTREAM and each.attempt == last)
    expired = False
    for key in ((Role.UPSTREAM, last), (Role.CLIENT, 0)):
        records = runs.get(key, [])
        if key[0] is Role.UPSTREAM and upstream.closed is not None:
            continue
        announced = plan.leg(key[0]).announcement is not None
        assert [record.stage for record in records] == _ORDER[: 4 if announced else 3]
        for record in records:
            assert record.outcome is not StageOutcome.FAILED
            if record.outcome is StageOutcome.EXPIRED:
                expired = True
                assert _on_expiry(plan, record) is OnExpiry.PROCEED
    if upstream.closed is None:
        assert report.outcome is (Outcome.READY_UNPROVEN if expired else Outcome.READY)


def _on_expiry(plan: HandshakePlan, record: StageRecord) -> OnExpiry:
    stage = getattr(plan.leg(record.role), record.stage.value)
    return stage.on_expiry if isinstance(stage, StagePlan) else OnExpiry.PROCEED

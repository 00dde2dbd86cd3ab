"""What the admin listener is shown of a gate: sessions as they are now, what was learned, counts."""

from __future__ import annotations

import heapq
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from proxy.admin import LegSnapshot, NowSnapshot, SessionSnapshot, WindowSnapshot
from proxy.core.plan import Role, WindowPlan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.core.adaptive import LearnedWindow
    from proxy.core.departure import LearnedQuiet
    from proxy.edge.session import Session
    from proxy.edge.shared import Shared
    from proxy.policy import Route
    from proxy.telemetry.metrics import Metrics

# A policy may have a thousand routes, and this is worked out every second while somebody looks.
_MOST_ROUTES: Final = 50


def of_session(session: Session, at_ms: float) -> SessionSnapshot:
    """Return one session as it is at `at_ms`."""
    return SessionSnapshot(
        id=str(session.id),
        route=session.route.pattern,
        path=session.path,
        client_address=session.client_address,
        age_s=(at_ms - session.started_ms) / 1000,
        client=_leg(session, Role.CLIENT),
        upstream=_leg(session, Role.UPSTREAM),
        redials=session.redials,
        trace_id=session.trace_id,
    )


def chosen(shared: Shared, most: int) -> list[Session]:
    """Return at most so many sessions: those pending, the oldest first, then the newest of the others."""
    pending = heapq.nsmallest(most, shared.pending, key=attrgetter("id"))
    newest = heapq.nlargest(most, shared.sessions, key=attrgetter("id"))
    others = (session for session in newest if session not in shared.pending)
    return [*pending, *islice(others, most - len(pending))]


def of_process(shared: Shared, metrics: Metrics, at_ms: float) -> NowSnapshot:
    """Return how the process is doing at `at_ms`."""
    learned = islice(shared.learned(), _MOST_ROUTES)
    return NowSnapshot(
        sessions=metrics.active,
        pending=metrics.pending,
        early_bytes=shared.early.bytes,
        outcomes=metrics.outcomes(),
        windows=[_window(route, windows, quiet, at_ms) for route, windows, quiet in learned],
        policy=shared.policy.name,
    )


def _leg(session: Session, role: Role) -> LegSnapshot:
    view = session.leg(role)
    return LegSnapshot(view.state.value, view.messages, view.bytes, view.early_bytes, view.unsent_bytes)


def _window(
    route: Route,
    windows: Mapping[Role, LearnedWindow] | None,
    quiet: LearnedQuiet | None,
    at_ms: float,
) -> WindowSnapshot:
    plan, departure = route.settings.handshake, route.settings.departure
    width, most = {}, {}
    for role in Role:
        stabilization = plan.leg(role).stabilization
        learns = windows is not None and isinstance(stabilization, WindowPlan)
        width[role] = windows[role].width_ms(at_ms) if windows is not None and learns else None
        most[role] = stabilization.max_ms if isinstance(stabilization, WindowPlan) else 0.0
    return WindowSnapshot(
        route=route.pattern,
        client_ms=width[Role.CLIENT],
        upstream_ms=width[Role.UPSTREAM],
        quiet_ms=quiet.quiet_ms if quiet is not None and departure.enabled else None,
        most_ms=(most[Role.CLIENT], most[Role.UPSTREAM], departure.max_ms),
    )

"""Clients leave open sessions while the backend answers them: it does not notice, and nobody waits for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.backends import front, launch
from tests.integration.conftest import Address, Pair
from tests.race import idle
from tests.race.family import Run
from tests.race.leavers import Manner, Visit
from tests.race.leaving import LEAVE_MID_STREAM, SEND_AND_LEAVE, SEND_AND_RESET, visited
from tests.race.row import complaints, percentile

CLIENTS = 20
AT_ONCE = 5
SHORTEST_QUIET_MS = 20  # departure.min_ms


@pytest.fixture(scope="module", params=["websockets-sansio", "wsproto"])
def own(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A pair of this module's own: nobody else may write into the backend's log."""
    launch.may_open()
    with launch.uvicorn(request.param) as backend, front.gate(backend.url) as gate:
        yield Pair(backend, gate)


async def crowd(pair: Pair, address: Address, label: str, manners: tuple[Manner, ...]) -> list[Visit]:
    ours = Run(address, pair.backend, lambda: pair.backend, label, CLIENTS, AT_ONCE)
    return await visited(ours, manners, through_gate=address == pair.through)


@pytest.mark.parametrize(
    ("label", "manners"),
    [
        pytest.param("leave", SEND_AND_LEAVE, id="with a Close behind the last words"),
        pytest.param("reset", SEND_AND_RESET, id="with a reset or the mere end behind the last words"),
        pytest.param("stream", LEAVE_MID_STREAM, id="in mid-stream"),
    ],
)
def test_a_client_that_leaves_is_answered_at_once_and_the_backend_is_not_disturbed(
    run, own: Pair, label: str, manners: tuple[Manner, ...]
):
    own.backend.mark()
    visits = run(crowd(own, own.through, label, manners))
    assert [visit for visit in visits if not visit.outcome.served] == []
    assert own.backend.log() == ""


def test_without_the_gate_the_same_clients_fill_the_backends_log(run, own: Pair):
    own.backend.mark()
    visits = run(crowd(own, own.direct, "direct", SEND_AND_LEAVE))
    assert all(visit.outcome.opened for visit in visits)
    assert complaints(own.backend.log())["accept"] == CLIENTS


def test_the_upstream_of_an_idle_session_hears_the_close_without_a_wait():
    result = idle.idle_sessions(CLIENTS)
    assert result.trouble == []
    assert len(result.told_ms) == CLIENTS
    assert percentile(result.told_ms, 50) < SHORTEST_QUIET_MS

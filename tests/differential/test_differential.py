"""The same exchange directly and through the gate: equal in all but the differences of docs/http.md.

300 and more: those of known shape (`shapes.py`), and as many again that hypothesis makes (`made.py`).
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from tests.differential.allowed import (
    NOTHING,
    OWN,
    REQUEST_RULES,
    RESPONSE_RULES,
    Way,
    comparable,
    expected,
)
from tests.differential.conftest import Ways
from tests.differential.exchange import Exchange
from tests.differential.made import exchanges
from tests.differential.shapes import SHAPES

MADE = 200
PROBLEM = b"application/problem+json"


def way(ways: Ways, exchange: Exchange) -> Way:
    return Way(exchange, f"{ways.backend.host}:{ways.backend.port}".encode())


def compare(ways: Ways, exchange: Exchange) -> None:
    """Do it both ways and compare."""
    direct, through = ways.direct(exchange), ways.through(exchange)
    wanted, _ = expected(direct, way(ways, exchange))
    assert comparable(through) == wanted
    assert through.follow_up in {"", "in step"}


def compare_own(ways: Ways, exchange: Exchange) -> None:
    """Do what the gate answers itself: the backend would have had it, and the answer says whose it is."""
    status, passes = OWN[exchange.own]
    direct, through = ways.direct(exchange), ways.through(exchange)
    assert direct.requests
    assert bool(through.requests) is passes
    response = through.response
    if status == NOTHING:
        assert direct.response
        assert response is None
        return
    assert response
    assert response.status_line[:12].replace(b"1.0", b"1.1") == b"HTTP/1.1 %d" % status
    assert PROBLEM in dict(response.fields)[b"Content-Type"]
    assert through.follow_up in {"", "in step"}


@pytest.mark.parametrize("exchange", SHAPES, ids=lambda exchange: exchange.name[:80])
def test_an_exchange_is_the_same_through_the_gate(ways: Ways, exchange: Exchange):
    compare_own(ways, exchange) if exchange.own else compare(ways, exchange)


@settings(
    max_examples=MADE,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(exchanges())
def test_any_exchange_is_the_same_through_the_gate(ways: Ways, exchange: Exchange):
    compare(ways, exchange)


def test_no_difference_is_allowed_in_vain(ways: Ways):
    missing = {*REQUEST_RULES, *RESPONSE_RULES, *OWN} - {exchange.own for exchange in SHAPES}
    for exchange in SHAPES:
        if missing and not exchange.own:
            missing -= expected(ways.direct(exchange), way(ways, exchange))[1]
    assert not missing


def test_there_are_enough_exchanges_and_each_shape_has_a_name_of_its_own():
    assert len({exchange.name for exchange in SHAPES}) == len(SHAPES) >= 400

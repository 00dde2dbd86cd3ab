"""The bench of tokens itself: what it calls good is accepted, what it calls bad is refused."""

from __future__ import annotations

import pytest

from tests.backends.issuer import Issuer
from tests.bench import tokens
from tests.bench.result import GATE, Result
from tests.bench.stand import Plan


def test_every_kind_of_token_is_measured_and_treated_as_it_deserves(run, monkeypatch):
    monkeypatch.setattr(tokens, "SETTLE_S", 0.0)
    monkeypatch.setattr(tokens, "VISITORS", 2)
    result = run(tokens.tokens(Plan(("gate",), rounds=1, seconds=0.01, quick=True)))
    assert result.failed == {}
    with Issuer() as issuer:
        names = [*tokens.good(issuer), *tokens.bad(issuer)]
    assert result.ways == [GATE, *(f"{tokens.CHECKING}: {name}" for name in names)]
    assert all(result.median(way) for way in result.ways)


def test_a_good_token_is_compared_with_no_check_and_a_bad_one_with_no_token():
    rounds = [
        {
            GATE: {"cpu_us": 500.0},
            "gate + jwt: ES256": {"cpu_us": 700.0},
            "gate + jwt: expired": {"cpu_us": 400.0},
            "gate + jwt: none": {"cpu_us": 150.0},
        }
    ]
    told = tokens.notes(Result("tokens", "", "connection", "cpu_us", rounds), {GATE, "gate + jwt: ES256"})
    assert told == [
        "gate + jwt: ES256: +200 us of CPU to a session without a check",
        "gate + jwt: expired: +250 us of CPU to refusing a request without a token",
    ]


@pytest.mark.parametrize(("refused", "status"), [(True, "101"), (False, "401")])
def test_an_answer_that_is_not_the_expected_one_is_an_error(run, monkeypatch, refused, status):
    async def answered(*_: object) -> None:
        if status != "101":
            raise ConnectionError(f"HTTP/1.1 {status} Unauthorized")

    monkeypatch.setattr(tokens.visit, "come_and_go", answered)
    with pytest.raises((ConnectionError, RuntimeError)):
        run(tokens.knock(("127.0.0.1", 1), b"", refused=refused))

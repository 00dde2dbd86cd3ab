"""A key set over real HTTP: kept, refreshed in time, once for all who ask, and never trusted beyond that."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace

import pytest
import trustme

from proxy.edge.auth import load_materials
from proxy.edge.jwks import Jwks
from proxy.policy import JwksSettings, load
from tests.backends.issuer import Issuer

SETTINGS = JwksSettings("", None, cache_s=300, min_refresh_s=10, stale_s=600, timeout_s=20)


@pytest.fixture
def issuer():
    with Issuer() as one:
        yield one


class Kept:
    """A key set with a clock of its own, and what was told of its fetches."""

    def __init__(self, issuer: Issuer, tls: ssl.SSLContext | None = None, **changes: object) -> None:
        self.now_s = 1000.0
        self.told: list[str] = []
        settings = replace(SETTINGS, **({"url": issuer.url} | changes))
        self.jwks = Jwks(settings, ("ES256",), tls, self.told.append, lambda: self.now_s)

    def has(self, kid: str | None) -> bool:
        return bool(self.jwks.fitting("ES256", kid))

    async def refreshed(self) -> None:
        assert self.jwks.may_refresh
        await self.jwks.refresh()


def test_what_was_fetched_is_there_and_a_key_is_found_by_its_id(run, issuer):
    async def main() -> None:
        kept = Kept(issuer)
        assert not kept.jwks.usable
        assert not kept.has("key-0")
        await kept.refreshed()
        assert (kept.has("key-0"), kept.has("key-1"), kept.has(None), kept.told) == (
            True,
            False,
            True,
            ["ok"],
        )
        assert kept.jwks.fitting("RS256", "key-0") == []

    run(main())


def test_many_who_ask_at_once_cause_one_fetch_and_the_next_comes_no_earlier_than_stated(run, issuer):
    async def main() -> None:
        kept = Kept(issuer)
        await asyncio.gather(*(kept.jwks.refresh() for _ in range(50)))
        assert issuer.fetches == 1
        issuer.rotate()
        kept.now_s += 9.9
        assert not kept.jwks.may_refresh
        kept.now_s += 0.1
        await kept.refreshed()
        assert (issuer.fetches, kept.has("key-0"), kept.has("key-1")) == (2, False, True)

    run(main())


def test_who_gives_up_waiting_does_not_end_the_fetch_for_the_others(run, issuer):
    async def main() -> None:
        issuer.mode = "hang"
        kept = Kept(issuer)
        first, second = (asyncio.ensure_future(kept.jwks.refresh()) for _ in range(2))
        await asyncio.to_thread(issuer.wait_fetches, 1, 20)
        first.cancel()
        issuer.mode = "ok"
        issuer.release()
        await second
        assert kept.has("key-0")

    run(main())


def test_a_set_that_grows_old_is_fetched_in_the_background(run, issuer):
    async def main() -> None:
        kept = Kept(issuer)
        await kept.refreshed()
        issuer.rotate()
        kept.now_s += 239
        assert kept.has("key-0")
        assert kept.jwks._fetching is None
        kept.now_s += 1  # 80 % of 300 s
        assert kept.has("key-0")  # nobody waits
        await kept.jwks.refresh()  # the one that is under way
        assert (issuer.fetches, kept.has("key-1"), kept.told) == (2, True, ["ok", "ok"])

    run(main())


@pytest.mark.parametrize("mode", ["500", "garbage", "huge", "redirect"])
def test_what_is_no_key_set_changes_nothing_and_is_asked_for_again_later(run, issuer, mode):
    async def main() -> None:
        kept = Kept(issuer)
        await kept.refreshed()
        issuer.mode = mode
        kept.now_s += 10
        await kept.refreshed()
        assert (kept.told, kept.has("key-0"), issuer.fetches) == (["ok", "failed"], True, 2)
        assert not kept.jwks.may_refresh
        kept.now_s += 10
        issuer.mode = "ok"
        await kept.refreshed()
        assert kept.told == ["ok", "failed", "ok"]

    run(main())


def test_an_issuer_that_does_not_answer_is_waited_for_no_longer_than_stated(run, issuer):
    async def main() -> None:
        issuer.mode = "hang"
        kept = Kept(issuer, timeout_s=0.1)
        await kept.refreshed()
        assert (kept.told, kept.jwks.usable) == (["failed"], False)

    run(main())


def test_keys_are_good_for_a_stated_time_while_the_issuer_is_away(run, issuer):
    async def main() -> None:
        kept = Kept(issuer)
        await kept.refreshed()
        issuer.mode = "500"
        for after_s, usable in ((300, True), (599.9, True), (0.1, False)):
            kept.now_s += after_s
            assert (kept.jwks.usable, kept.has("key-0")) == (usable, usable)
            await kept.jwks.refresh()
        assert "ok" not in kept.told[1:]

    run(main())


def test_a_set_without_keys_is_a_set_and_takes_the_old_ones_away(run, issuer):
    async def main() -> None:
        kept = Kept(issuer)
        await kept.refreshed()
        issuer.mode = "empty"
        kept.now_s += 10
        await kept.refreshed()
        assert (kept.has("key-0"), kept.jwks.usable) == (False, True)

    run(main())


def test_an_issuer_that_cannot_be_reached_is_no_error_of_ours(run, issuer):
    async def main() -> None:
        kept = Kept(issuer, url="http://127.0.0.1:1/keys")
        await kept.refreshed()
        assert kept.told == ["failed"]

    run(main())


def test_a_certificate_is_checked_by_the_authority_that_the_policy_names(run):
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)

    async def main() -> None:
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        with Issuer(tls=server) as issuer:
            for tls, result in ((trusting, "ok"), (None, "failed")):
                kept = Kept(issuer, tls, url=issuer.url.replace("http://127.0.0.1", "https://localhost"))
                await kept.refreshed()
                assert kept.told == [result]

    run(main())


@pytest.mark.parametrize("scheme", ["https", "HTTPS"])
def test_whom_a_key_set_is_trusted_by_does_not_go_by_how_its_scheme_is_spelt(tmp_path, scheme):
    file = tmp_path / "policy.yaml"
    file.write_text(
        "extends: testing\nguard:\n  jwt:\n    sources: [{from: authorization}]\n    algorithms: [ES256]\n"
        f"    jwks: {{url: '{scheme}://id.example/keys'}}\n"
    )
    (material,) = load_materials(load(str(file)), {}).values()
    assert material.tls is not None

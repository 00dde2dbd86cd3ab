"""One reload after another, and what makes it begin. The files are real; the test takes the policies."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

import pytest

from proxy import reload
from proxy.hangup import Hangups
from proxy.policy import Policy
from proxy.policy.load import examine
from proxy.reload import Chosen, Reloader
from tests.reload.conftest import PolicyFile


class Taker:
    """What takes policies: keeps them waiting until `go`, and tells how each reload ended."""

    def __init__(self, hangups: Hangups) -> None:
        self.hangups = hangups
        self.problems: Sequence[str] = ()
        self.codes: list[int] = []
        self.results: list[str] = []
        self.go = asyncio.Event()
        self.go.set()
        self._pulse = asyncio.Condition()

    async def apply(self, policy: Policy) -> Sequence[str]:
        self.codes.append(policy.default.settings.session.upstream_lost_code)
        await self._tell()
        await self.go.wait()
        return self.problems

    def told(self, result: str) -> None:
        self.results.append(result)
        self._telling = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        async with self._pulse:
            self._pulse.notify_all()

    async def until(self, so: Callable[[], object]) -> None:
        async with self._pulse:
            await self._pulse.wait_for(so)


@pytest.fixture(autouse=True)
def _signal_as_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "_LOOK_EVERY_S", 0.05)


@asynccontextmanager
async def reloading(policy: PolicyFile, *, watch: bool = False) -> AsyncIterator[Taker]:
    hangups = Hangups()
    taker = Taker(hangups)
    chosen = Chosen(str(policy), examine(str(policy)), hangups, watch)
    async with Reloader(chosen, taker.apply, taker.told).running():
        yield taker


def fields(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, dict]]:
    records = [record for record in caplog.records if record.name == "readygate.reload"]
    return [(record.levelname, record.getMessage(), record.fields) for record in records]


def test_a_changed_policy_is_taken_and_an_equal_one_is_not(run, policy, caplog):
    async def main():
        async with reloading(policy) as taker:
            policy.lost_code(4002)
            taker.hangups.asked.set()
            await taker.until(lambda: taker.results == ["switched"])
            taker.hangups.asked.set()
            await taker.until(lambda: taker.results == ["switched", "unchanged"])
            assert taker.codes == [4002]

    caplog.set_level(logging.INFO)
    run(main())
    assert fields(caplog) == [
        ("INFO", "policy switched", {"policy": "gate.yaml", "routes": 0}),
        ("INFO", "policy unchanged", {"policy": "gate.yaml"}),
    ]


def test_a_bad_file_is_one_error_with_all_its_problems_and_what_was_before_can_come_back(run, policy, caplog):
    async def main():
        async with reloading(policy) as taker:
            policy.says("sesion: {}\ndrain: {grace_s: soon}\n")
            taker.hangups.asked.set()
            await taker.until(lambda: taker.results == ["refused"])
            policy.lost_code(4001)
            taker.hangups.asked.set()
            await taker.until(lambda: taker.results == ["refused", "unchanged"])
            assert taker.codes == []

    caplog.set_level(logging.INFO)
    run(main())
    level, message, told = fields(caplog)[0]
    assert (level, message, told["policy"]) == ("ERROR", "policy refused", "gate.yaml")
    first, second = told["problems"]
    assert first.startswith(f"{policy}:1: sesion: found an unknown key, expected ")
    assert second.startswith(f"{policy}:2: drain.grace_s: found ")


def test_what_keeps_a_policy_from_being_taken_is_told_and_it_is_tried_again_when_asked(run, policy, caplog):
    async def main():
        async with reloading(policy) as taker:
            taker.problems = ["upstream.tls.ca_file /none: no such file"]
            policy.lost_code(4002)
            taker.hangups.asked.set()
            await taker.until(lambda: taker.results == ["refused"])
            taker.problems = ()
            taker.hangups.asked.set()
            await taker.until(lambda: taker.results == ["refused", "switched"])

    caplog.set_level(logging.INFO)
    run(main())
    assert fields(caplog)[0][2]["problems"] == ["upstream.tls.ca_file /none: no such file"]


def test_reloads_never_overlap_and_one_more_follows_those_that_came_meanwhile(run, policy):
    async def main():
        async with reloading(policy) as taker:
            taker.go.clear()
            policy.lost_code(4002)
            taker.hangups.asked.set()
            await taker.until(lambda: taker.codes == [4002])
            policy.lost_code(4003)
            for _ in range(5):
                taker.hangups.asked.set()
                await asyncio.sleep(0)
            assert (taker.codes, taker.results) == ([4002], [])
            taker.go.set()
            await taker.until(lambda: taker.results == ["switched", "switched"])
            assert taker.codes == [4002, 4003]
            assert not taker.hangups.asked.is_set()

    run(main())


def test_a_bug_costs_one_reload_and_not_the_next(run, policy, caplog):
    async def main():
        async with reloading(policy) as taker:
            go, taker.go = taker.go, None
            policy.lost_code(4003)
            taker.hangups.asked.set()
            await taker.until(lambda: taker.codes == [4003])
            taker.go = go
            taker.hangups.asked.set()
            await taker.until(lambda: taker.results == ["switched"])

    run(main())
    assert [record.getMessage() for record in caplog.records if record.exc_info] == ["policy reload failed"]


def test_a_watched_file_that_changes_is_loaded_again(run, policy):
    async def main():
        async with reloading(policy, watch=True) as taker:
            policy.lost_code(4002)
            await taker.until(lambda: taker.results == ["switched"])
            policy.path.write_text("extends: testing\nsession: {upstream_lost_code: 4003}\n")
            await taker.until(lambda: taker.codes == [4002, 4003])

    run(main())


def test_a_watched_file_behind_links_that_are_swapped_is_loaded_again(run, policy, tmp_path):
    """Kubernetes mounts a ConfigMap so: gate.yaml -> ..data/gate.yaml, and ..data -> a folder that is new."""
    for number in (1, 2):
        (tmp_path / f"..{number}").mkdir()
        text = f"extends: testing\nsession: {{upstream_lost_code: {4000 + number}}}\n"
        (tmp_path / f"..{number}" / "gate.yaml").write_text(text)
    (tmp_path / "..data").symlink_to("..1")
    policy.path.unlink()
    policy.path.symlink_to("..data/gate.yaml")

    async def main():
        async with reloading(policy, watch=True) as taker:
            (tmp_path / "..data_tmp").symlink_to("..2")
            (tmp_path / "..data_tmp").replace(tmp_path / "..data")
            await taker.until(lambda: taker.codes == [4002])

    run(main())


def test_what_a_policy_comes_to_extend_is_watched_too(run, policy, tmp_path):
    async def main():
        async with reloading(policy, watch=True) as taker:
            policy.says("extends: sub/parent.yaml\n")
            await taker.until(lambda: taker.results == ["refused"])
            (tmp_path / "sub").mkdir()
            (tmp_path / "sub/parent.yaml").write_text("session: {upstream_lost_code: 4002}\n")
            await taker.until(lambda: taker.codes == [4002])
            (tmp_path / "sub/parent.yaml").write_text("session: {upstream_lost_code: 4003}\n")
            await taker.until(lambda: taker.codes == [4002, 4003])

    run(main())


def test_a_watched_folder_that_goes_and_comes_again_does_not_end_the_watch(run, tmp_path):
    (tmp_path / "mount").mkdir()
    policy = PolicyFile(tmp_path / "mount")
    policy.lost_code(4001)

    async def main():
        async with reloading(policy, watch=True) as taker:
            shutil.rmtree(tmp_path / "mount")
            await taker.until(lambda: taker.results == ["refused"])
            (tmp_path / "mount").mkdir()
            policy.lost_code(4002)
            await taker.until(lambda: taker.codes == [4002])
            assert taker.results[:1] == ["refused"]

    run(main())


def test_a_file_that_is_bad_is_told_once_not_at_every_look(run, policy):
    async def main():
        async with reloading(policy, watch=True) as taker:
            policy.says("nonsense: 1\n")
            await taker.until(lambda: taker.results == ["refused"])
            policy.says("nonsense: 2\n")
            await taker.until(lambda: len(taker.results) > 1)
            policy.lost_code(4002)
            await taker.until(lambda: len(taker.results) > 2)
            assert taker.results == ["refused", "refused", "switched"]

    run(main())

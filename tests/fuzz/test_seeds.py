"""Every input that is kept keeps its promise, and so do the first few that chance makes of them."""

from __future__ import annotations

import pytest

from tests.fuzz import engine, target
from tests.fuzz.handshake import play

KEPT = [(name, file) for name in target.NAMES for file in target.seed_files(name)]


@pytest.fixture(scope="module", autouse=True)
def _ended():
    """End what the checks have started."""
    yield
    for name in target.NAMES:
        target.target(name).end()


@pytest.mark.parametrize(("name", "file"), KEPT, ids=[f"{name}-{file.stem}" for name, file in KEPT])
def test_a_seed_keeps_its_promise(name, file):
    target.target(name).check(target.read(file))


@pytest.mark.parametrize("name", [name for name in target.NAMES if target.target(name).sweep is None])
def test_a_few_inputs_made_of_the_seeds_keep_their_promise(name):
    subject = target.target(name)
    inputs = [target.read(file) for file in target.seed_files(name)]
    tried, failing = engine.by_chance(subject, inputs, seconds=50, seed=1, most=subject.few)
    if failing is not None:
        subject.check(failing)
    assert (tried, failing) == (subject.few, None)


def test_a_handshake_in_any_order_of_events_ends_and_tells_the_truth():
    failing = play(target.target("handshake").few, seed=1)
    assert failing is None, failing.decode()


def test_every_target_has_seeds_and_no_seed_is_without_a_target():
    assert {file.name for file in target.SEEDS.iterdir()} == set(target.NAMES)
    assert all(map(target.seed_files, target.NAMES))

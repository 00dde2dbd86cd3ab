"""What one leg said: held, counted, and taken as evidence only when it was said after its 101."""

from __future__ import annotations

import pytest

from proxy.core.adaptive import LearnedWindow
from proxy.core.frames import CLOSE, NO_CODE, PING, PONG, TEXT, close_frame, frame
from proxy.core.leg import Leg, Trigger
from proxy.core.plan import WindowPlan
from proxy.core.report import EarlyCount
from proxy.core.side import Side
from proxy.core.stages import Stages
from tests.core.script import CLIENT, HELLO, KEY, NONCE, PONGS, leg_plan


def side_before_its_101(early_bytes=1 << 20):
    side = Side(Leg(CLIENT), early_bytes)
    side.walker.hold_close = True
    return side


def side_in_its_stages():
    side = side_before_its_101()
    side.leg.move(Trigger.ACCEPTED)
    side.walker.expect_pong(NONCE)
    window = LearnedWindow(WindowPlan(0.0, 0.0))
    side.stages = Stages(side.leg, leg_plan(), window, None, attempt=1, measurable=True, nonce=NONCE)
    return side


def learned(side):
    return {name for name in ("acked", "frame", "pong") if getattr(side.stages, name)}


def test_what_is_said_before_the_101_is_held_and_proves_nothing():
    side = side_before_its_101()
    assert not side.hold(HELLO, 0.0)
    assert side.early.take() == HELLO
    side = side_in_its_stages()
    assert learned(side) == set()


@pytest.mark.parametrize("wire", [HELLO, frame(PING, mask=KEY), frame(PONG, b"unasked", mask=KEY)])
def test_any_frame_after_the_101_proves(wire):
    side = side_in_its_stages()
    side.hold(wire, 0.0)
    assert "frame" in learned(side)
    assert side.early.take() == wire


def test_any_byte_after_the_101_shows_that_it_arrived_though_it_is_no_frame_yet():
    side = side_in_its_stages()
    side.hold(HELLO[:1], 0.0)
    assert learned(side) == {"acked"}


@pytest.mark.parametrize("cut", range(1, len(PONGS[CLIENT])))
def test_our_own_pong_split_over_two_chunks_proves_as_a_pong_and_is_not_held(cut):
    side = side_in_its_stages()
    side.hold(PONGS[CLIENT][:cut], 0.0)
    assert not {"frame", "pong"} & learned(side)
    side.hold(PONGS[CLIENT][cut:], 1.0)
    assert learned(side) == {"acked", "pong"}
    assert side.early.take() == b""


def test_our_own_pong_between_frames_of_the_peer_is_cut_out():
    side = side_in_its_stages()
    side.hold(HELLO + PONGS[CLIENT] + HELLO, 0.0)
    assert learned(side) == {"acked", "frame", "pong"}
    assert side.early.take() == HELLO + HELLO


@pytest.mark.parametrize(("wire", "close"), [
    (close_frame(4000, "bye", mask=KEY), (4000, "bye")),
    (close_frame(NO_CODE, mask=KEY), (NO_CODE, "")),
    (frame(CLOSE, b"\x03", mask=KEY), (1002, "")),
])  # fmt: skip
def test_a_close_is_noted_and_kept_back_with_all_behind_it(wire, close):
    side = side_in_its_stages()
    side.hold(HELLO + wire + HELLO, 0.0)
    assert side.close == close
    assert side.left
    assert side.early.take() == HELLO


def test_only_the_first_close_counts():
    side = side_in_its_stages()
    side.walker.hold_close = False
    side.hold(close_frame(1000, mask=KEY) + close_frame(1011, mask=KEY), 0.0)
    assert side.close == (1000, "")


def test_the_watermark_asks_for_a_pause():
    side = side_before_its_101(early_bytes=len(HELLO) + 1)
    assert not side.hold(HELLO, 0.0)
    assert side.hold(HELLO[:1], 0.0)


def test_it_counts_whole_messages_and_all_bytes_even_those_that_were_given_away():
    side = side_before_its_101()
    side.hold(frame(TEXT, b"a", mask=KEY, fin=False), 0.0)
    side.hold(frame(0, b"b", mask=KEY) + HELLO[:3], 0.0)
    side.early.clear()
    assert side.count() == EarlyCount(messages=1, bytes=2 * len(frame(TEXT, b"a", mask=KEY)) + 3)


def test_a_side_that_never_began_has_no_stages_to_end():
    side = side_before_its_101()
    side.abort(0.0)
    side.gone = True
    assert side.left

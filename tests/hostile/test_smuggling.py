"""Requests that two readers might take differently: refused, or passed on as every reader takes them."""

from __future__ import annotations

import pytest

from tests.hostile import attacks
from tests.hostile.attacks import Attack
from tests.hostile.conftest import Stand
from tests.hostile.recorder import statuses


def each(group: dict[str, Attack]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("attack", group.values(), ids=group)


def refused(stand: Stand, attack: Attack) -> None:
    """It is answered once, with one of its statuses, and closed; the backend hears nothing."""
    with stand.peer() as peer:
        peer.send(attack.sent)
        (answer,) = peer.responses(1)
        # or the gate would wait a while for the rest of a body
        assert statuses(peer.finish()) == [int(answer.start[0])]
    assert int(answer.start[0]) in attack.answers
    assert stand.fence() == []


def passed(stand: Stand, attack: Attack) -> bytes:
    """Each request in it is answered, in order, and the backend hears exactly those; return what it got."""
    with stand.peer() as peer:
        peer.send(attack.sent)
        answers = peer.responses(len(attack.answers))
    assert [int(answer.start[0]) for answer in answers] == list(attack.answers)
    assert stand.backend.targets() == list(attack.reaches)
    assert all(heard.ambiguous is None for heard in stand.backend.connections)
    return b"".join(bytes(heard.raw) for heard in stand.backend.connections)


@each(attacks.TWO_FRAMINGS)
def test_a_body_with_two_framings_is_refused(stand: Stand, attack: Attack):
    refused(stand, attack)


@each(attacks.LENGTHS)
def test_a_length_that_is_not_one_number_is_refused(stand: Stand, attack: Attack):
    refused(stand, attack)


@each(attacks.CODINGS)
def test_a_transfer_coding_other_than_chunked_is_refused(stand: Stand, attack: Attack):
    refused(stand, attack)


@each(attacks.LINE_ENDS)
def test_folds_bare_line_feeds_and_carriage_returns_are_refused(stand: Stand, attack: Attack):
    refused(stand, attack)


@each(attacks.CONTROLS)
def test_control_characters_are_refused(stand: Stand, attack: Attack):
    refused(stand, attack)


@each(attacks.NAMES)
def test_a_field_name_that_is_no_token_is_refused(stand: Stand, attack: Attack):
    refused(stand, attack)


@each(attacks.ALIASES)
def test_a_field_name_that_servers_take_for_ours_is_refused(stand: Stand, attack: Attack):
    refused(stand, attack)


@each(attacks.START_LINES)
def test_an_odd_request_line_is_refused(stand: Stand, attack: Attack):
    refused(stand, attack)


@each(attacks.TARGETS)
def test_a_target_that_is_no_path_is_refused(stand: Stand, attack: Attack):
    refused(stand, attack)


@each(attacks.OVERSIZED)
def test_an_oversized_head_is_refused(stand: Stand, attack: Attack):
    refused(stand, attack)


@each(attacks.CHUNKS)
def test_a_bad_chunk_is_refused(stand: Stand, attack: Attack):
    refused(stand, attack)


@each(attacks.CHUNKS)
def test_a_bad_chunk_behind_a_request_that_is_under_way_never_ends_its_body(stand: Stand, attack: Attack):
    """The backend has the head already: its body must not end, and what is behind it is no request."""
    head, _, rest = attack.sent.partition(b"\r\n\r\n")
    with stand.peer() as peer:
        peer.send(head + b"\r\n\r\n")
        stand.backend.until(lambda connections: [heard for heard in connections if heard.messages])
        peer.send(rest)
    (heard,) = stand.backend.until(lambda connections: [each for each in connections if each.lost])
    assert (heard.targets, heard.whole, heard.ambiguous) == ([b"/a"], 0, None)
    assert stand.fence() == [b"/a"]


@pytest.mark.parametrize(("attack", "absent"), attacks.NORMALISED.values(), ids=attacks.NORMALISED)
def test_what_can_be_made_clear_is_passed_on_so(stand: Stand, attack: Attack, absent: bytes):
    assert absent not in passed(stand, attack)


@each(attacks.PIPELINED)
def test_pipelined_requests_are_passed_on_one_by_one(stand: Stand, attack: Attack):
    passed(stand, attack)


@pytest.mark.parametrize("name", ["length", "line ends", "field name", "chunk"])
def test_it_makes_no_difference_where_segments_end(stand: Stand, name: str):
    """Byte by byte; the answer itself may be cut, since the gate closes with bytes unread."""
    attack = next(iter(attacks.REFUSED[name].values()))
    head = attack.sent.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if name != "chunk" else attack.sent
    with stand.peer() as peer:
        for offset in range(len(head)):
            peer.send(head[offset : offset + 1])
        peer.finish()
    assert all(target == b"/a" for target in stand.fence())
    assert b"/smuggled" not in stand.backend.targets()

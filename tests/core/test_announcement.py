"""The application's own "I am ready" is heard in every form in which it can come over the wire."""

from __future__ import annotations

import json
import zlib

import pytest

from proxy.core.announcement import Announcement
from proxy.core.frames import BINARY, CONTINUATION, PING, PONG, TEXT, FrameWalker, frame
from proxy.core.plan import JsonMatch

KEY = b"\xa1\xb2\xc3\xd4"
RSV1 = 0x40
READY = json.dumps({"type": "connection_established", "id": 7}).encode()
OTHER = json.dumps({"type": "connection_pending", "id": 7}).encode()
TYPE = JsonMatch(("type",), "connection_established")


def heard(*wire, match=TYPE, step=None):
    """Whether `wire` announces; `step`: cut into chunks of that size."""
    walker = FrameWalker()
    walker.tap = announcement = Announcement(match)
    data = b"".join(wire)
    for start in range(0, len(data), step or max(len(data), 1)):
        walker.feed(data[start : start + (step or len(data))])
    return announcement.heard


def compressed(deflater, text, *, flush=zlib.Z_SYNC_FLUSH):
    """A message as permessage-deflate sends it (RFC 7692 7.2.1): flushed, without its last four bytes."""
    data = deflater.compress(text) + deflater.flush(flush)
    return data.removesuffix(b"\x00\x00\xff\xff")


def deflater():
    return zlib.compressobj(wbits=-zlib.MAX_WBITS)


@pytest.mark.parametrize("mask", [None, KEY])
@pytest.mark.parametrize("step", [1, 2, 3, 5, None])
def test_a_text_message_whose_field_matches_is_heard_however_it_is_cut(mask, step):
    assert heard(frame(TEXT, READY, mask=mask), step=step)
    assert not heard(frame(TEXT, OTHER, mask=mask), step=step)


@pytest.mark.parametrize("step", [1, 4, None])
@pytest.mark.parametrize("mask", [None, KEY])
def test_a_fragmented_message_is_heard_with_control_frames_in_between(mask, step):
    wire = [
        frame(TEXT, READY[:9], mask=mask, fin=False),
        frame(PING, b'{"type": 0}', mask=mask),
        frame(CONTINUATION, READY[9:11], mask=mask, fin=False),
        frame(PONG, b"", mask=mask),
        frame(CONTINUATION, READY[11:], mask=mask),
    ]
    assert heard(*wire, step=step)
    assert not heard(*wire[:-1], step=step)


def test_an_empty_last_fragment_ends_the_message():
    assert heard(frame(TEXT, READY, fin=False), frame(CONTINUATION))


def test_a_message_behind_others_is_heard_and_stays_heard():
    assert heard(frame(TEXT, OTHER), frame(BINARY, b"\x00"), frame(TEXT, READY), frame(TEXT, OTHER))


def test_without_a_match_the_first_whole_message_announces_text_or_binary():
    assert heard(frame(BINARY, b"\x00"), match=None)
    assert heard(frame(TEXT), match=None)
    assert heard(frame(TEXT, bytes(1 << 17)), match=None)
    assert not heard(frame(TEXT, b"x", fin=False), match=None)


def test_without_a_match_control_frames_announce_nothing():
    assert not heard(frame(PING, b"x"), frame(PONG, b"x"), match=None)


@pytest.mark.parametrize("step", [1, None])
def test_a_compressed_message_is_heard(step):
    assert heard(frame(TEXT | RSV1, compressed(deflater(), READY)), step=step)
    assert not heard(frame(TEXT | RSV1, compressed(deflater(), OTHER)), step=step)


def test_with_context_takeover_a_message_that_refers_to_those_before_it_is_heard():
    shared = deflater()
    first, second = compressed(shared, OTHER), compressed(shared, READY)
    assert len(second) < len(compressed(deflater(), READY)), "it leans on the first"
    assert heard(frame(TEXT | RSV1, first), frame(TEXT | RSV1, second))
    assert not heard(frame(TEXT | RSV1, second)), "and means nothing without"


def test_with_context_takeover_binary_and_uncompressed_messages_in_between_do_no_harm():
    shared = deflater()
    one, two, three = (compressed(shared, text) for text in (OTHER, OTHER * 2, READY))
    wire = [frame(TEXT | RSV1, one), frame(TEXT, OTHER), frame(BINARY | RSV1, two), frame(TEXT | RSV1, three)]
    assert heard(*wire)


def test_without_context_takeover_each_message_is_heard_by_itself():
    assert heard(*(frame(TEXT | RSV1, compressed(deflater(), text)) for text in (OTHER, OTHER, READY)))


def test_a_compressed_message_in_fragments_has_its_bit_on_the_first_only():
    data = compressed(deflater(), READY)
    wire = [
        frame(TEXT | RSV1, data[:5], mask=KEY, fin=False),
        frame(PING, mask=KEY),
        frame(CONTINUATION, data[5:], mask=KEY),
    ]
    assert heard(*wire)


def test_a_final_block_does_not_deafen_to_the_next_message():
    """RFC 7692 7.2.3.4: a sender may set BFINAL; the inflater is over then, the connection is not."""
    final = compressed(deflater(), OTHER, flush=zlib.Z_FINISH) + b"\x00"
    assert heard(frame(TEXT | RSV1, final), frame(TEXT | RSV1, compressed(deflater(), READY)))


def test_what_does_not_inflate_is_no_announcement_and_does_not_deafen_to_the_next():
    assert not heard(frame(TEXT | RSV1, b"\xff\xff\xff"))
    assert heard(frame(TEXT | RSV1, b"\xff\xff\xff"), frame(TEXT | RSV1, compressed(deflater(), READY)))


def test_a_message_that_inflates_beyond_its_bound_is_none_and_does_not_deafen_to_the_next():
    bomb = json.dumps({"type": "connection_established", "pad": " " * 10_000_000}).encode()
    assert not heard(frame(TEXT | RSV1, compressed(deflater(), bomb)))
    assert heard(
        frame(TEXT | RSV1, compressed(deflater(), bomb)), frame(TEXT | RSV1, compressed(deflater(), READY))
    )


def test_a_compressed_message_that_is_too_long_on_the_wire_does_not_deafen_to_the_next():
    stored = zlib.compressobj(0, wbits=-zlib.MAX_WBITS)
    long = frame(TEXT | RSV1, compressed(stored, bytes(100_000)))
    assert heard(long, frame(TEXT | RSV1, compressed(deflater(), READY)))


@pytest.mark.parametrize("fragments", [1, 3])
def test_a_message_that_is_too_long_is_none_but_the_next_one_can_be(fragments):
    long = json.dumps({"type": "connection_established", "pad": "x" * 70_000}).encode()
    size = len(long) // fragments + 1
    parts = [long[i : i + size] for i in range(0, len(long), size)]
    wire = [frame(CONTINUATION if i else TEXT, part, fin=i == len(parts) - 1) for i, part in enumerate(parts)]
    assert not heard(*wire)
    assert heard(*wire, frame(TEXT, READY))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"ready",
        b"\xff\xfe\x00",
        b"[" * 60_000,
        b"1" * 60_000,
        b"[]",
        b"null",
        b'"type"',
        b'{"type"',
        b"{}\x1e",
    ],
)
def test_garbage_announces_nothing(text):
    assert not heard(frame(TEXT, text))


def test_a_binary_message_is_not_taken_for_json_text():
    assert not heard(frame(BINARY, READY))


def test_a_nested_path_is_followed_outermost_first():
    match = JsonMatch(("data", "event"), "connection_established")
    said = {"type": "system_message", "data": {"event": "connection_established"}}
    assert heard(frame(TEXT, json.dumps(said).encode()), match=match)


@pytest.mark.parametrize(
    "data", [None, "event", ["event"], {}, {"event": {}}, {"Event": "connection_established"}]
)
def test_a_nested_path_that_leads_nowhere_announces_nothing(data):
    match = JsonMatch(("data", "event"), "connection_established")
    assert not heard(frame(TEXT, json.dumps({"data": data}).encode()), match=match)


@pytest.mark.parametrize(
    ("equals", "said", "announces"),
    [
        (1, "1", True),
        (1, "1.0", False),
        (1, "true", False),
        (1, '"1"', False),
        (1.0, "1.0", True),
        (1.0, "1", False),
        (True, "true", True),
        (True, "1", False),
        (False, "0", False),
        (None, "null", True),
        (None, "false", False),
        (None, '""', False),
        ("", '""', True),
        ("ready", '"Ready"', False),
    ],
)
def test_a_value_matches_in_type_too(equals, said, announces):
    wire = frame(TEXT, b'{"ok": ' + said.encode() + b"}")
    assert heard(wire, match=JsonMatch(("ok",), equals)) is announces


def test_a_path_that_is_missing_is_not_null():
    assert not heard(frame(TEXT, b"{}"), match=JsonMatch(("ok",), None))


def test_the_stream_passes_unchanged_while_it_is_read_along():
    walker = FrameWalker()
    walker.tap = Announcement(TYPE)
    wire = frame(TEXT, READY[:5], mask=KEY, fin=False) + frame(CONTINUATION, READY[5:], mask=KEY)
    assert b"".join(walker.feed(wire[i : i + 3]) for i in range(0, len(wire), 3)) == wire

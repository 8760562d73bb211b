"""The cutter: the same frames from any chunking, every byte passes, nothing is held without bound."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.proxy.frames import LONGEST, Cutter, Message, Part, frame

HEAD = {
    True: b"GET /ws?c=7 HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    False: b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
}
TEXT, BINARY, CLOSE, PING, PONG, MORE = 1, 2, 8, 9, 10, 0


def wire(parts: list[Part]) -> bytes:
    return b"".join(part if isinstance(part, bytes) else part.wire for part in parts)


def seen(parts: list[Part]) -> list[tuple[int, bytes, list[tuple[int, bytes]]]]:
    return [
        (part.opcode, part.payload, [(control.opcode, control.payload) for control in part.between])
        for part in parts
        if isinstance(part, Message)
    ]


def fed(cutter: Cutter, stream: bytes, cuts: list[int]) -> list[Part]:
    parts: list[Part] = []
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    for start, end in pairwise(edges):
        if start < end:
            parts += cutter.feed(stream[start:end])
    return parts


payloads = st.binary(max_size=200) | st.integers(100, 300).map(bytes) | st.just(bytes(70_000))
controls = st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125))
messages = st.tuples(
    st.sampled_from([TEXT, BINARY]),
    st.lists(payloads, min_size=1, max_size=3),
    st.lists(controls, max_size=2),
)


@st.composite
def streams(draw: st.DrawFn) -> tuple[bool, bytes, list[tuple[int, bytes, list[tuple[int, bytes]]]]]:
    """(masked, bytes after the head, what they hold): fragments, control frames between them and alone."""
    masked = draw(st.booleans())

    def one(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
        mask = draw(st.binary(min_size=4, max_size=4)) if masked else None
        return frame(opcode, payload, mask=mask, final=final)

    data, held = b"", []
    for item in draw(st.lists(messages | controls, max_size=6)):
        if len(item) == 2:
            data += one(*item)
            held.append((*item, []))
            continue
        opcode, pieces, between = item
        for nth, piece in enumerate(pieces):
            data += one(opcode if nth == 0 else MORE, piece, final=nth == len(pieces) - 1)
            if nth == 0 and len(pieces) > 1:
                data += b"".join(one(*control) for control in between)
        held.append((opcode, b"".join(pieces), between if len(pieces) > 1 else []))
    return masked, data, held


@given(streams(), st.lists(st.integers(0, 10**6), max_size=12))
def test_any_chunking_gives_the_same_frames_and_every_byte(stream, cuts):
    masked, data, held = stream
    cutter = Cutter(masked=masked)
    parts = fed(cutter, HEAD[masked] + data, cuts)
    assert seen(parts) == held
    assert wire(parts) == HEAD[masked] + data
    assert cutter.left() == b""
    assert cutter.unparsed == cutter.too_long == 0


@given(streams(), st.integers(0, 10**6))
def test_one_byte_at_a_time_what_is_held_is_the_rest(stream, stop):
    masked, data, _ = stream
    whole = (HEAD[masked] + data)[:2000]
    whole = whole[: stop % (len(whole) + 1)]
    cutter = Cutter(masked=masked)
    parts = [part for byte in whole for part in cutter.feed(bytes((byte,)))]
    assert wire(parts) + cutter.left() == whole


@given(st.booleans(), st.lists(st.binary(min_size=1, max_size=60), max_size=20), st.booleans())
def test_whatever_comes_passes(masked, chunks, upgraded):
    cutter = Cutter(masked=masked)
    stream = [HEAD[masked], *chunks] if upgraded else chunks
    parts = [part for chunk in stream for part in cutter.feed(chunk)]
    assert wire(parts) + cutter.left() == b"".join(stream)


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(bytes((0x83, 1)) + b"x", id="a reserved opcode"),
        pytest.param(bytes((0xA1, 1)) + b"x", id="RSV2"),
        pytest.param(bytes((0x81, 0x81)) + b"mask" + b"x", id="a mask from a server"),
        pytest.param(bytes((0x09, 0)), id="a control frame in pieces"),
        pytest.param(bytes((0x89, 126, 0, 126)) + bytes(126), id="a long control frame"),
        pytest.param(bytes((0x80, 1)) + b"x", id="more of no message"),
        pytest.param(bytes((0x81, 127)) + b"\xff" * 8, id="a length of 2^64"),
    ],
)
def test_what_is_no_frame_passes_and_is_counted_and_later_frames_are_seen_again(bad):
    cutter = Cutter(masked=False)
    parts = cutter.feed(HEAD[False] + frame(TEXT, b"one") + bad)
    parts += cutter.feed(frame(TEXT, b"two"))
    assert wire(parts) == HEAD[False] + frame(TEXT, b"one") + bad + frame(TEXT, b"two")
    assert cutter.unparsed == len(bad)
    assert [payload for _, payload, _ in seen(parts)] == [b"one", b"two"]


def test_a_new_message_inside_of_another_lets_both_pass():
    cutter = Cutter(masked=False)
    bad = frame(TEXT, b"one", final=False) + frame(TEXT, b"two")
    parts = cutter.feed(HEAD[False] + bad)
    assert wire(parts) == HEAD[False] + bad
    assert cutter.left() == b""


@pytest.mark.parametrize("cuts", [[], [100], list(range(0, LONGEST, 997))], ids=["whole", "two", "many"])
def test_a_message_that_is_too_long_passes_at_once_and_the_next_is_seen(cuts):
    cutter = Cutter(masked=True)
    mask = b"\x01\x02\x03\x04"
    long = frame(BINARY, bytes(LONGEST + 1), mask=mask, final=False) + frame(PING, b"p", mask=mask)
    long += frame(MORE, b"rest", mask=mask)
    stream = HEAD[True] + long + frame(TEXT, b"next", mask=mask)
    held = 0
    parts: list[Part] = []
    edges = [0, *(cut + len(HEAD[True]) for cut in cuts), len(stream)]
    for start, end in pairwise(edges):
        parts += cutter.feed(stream[start:end])
        held = max(held, end - len(wire(parts)))
    assert wire(parts) == stream
    assert held <= 20  # the header of a frame that is not whole yet
    assert cutter.too_long == 1
    assert seen(parts) == [(PING, b"p", []), (TEXT, b"next", [])]


def test_fragments_that_grow_too_long_are_let_go_before_they_fill_memory():
    cutter = Cutter(masked=False)
    piece = frame(MORE, bytes(1000), final=False)
    stream = HEAD[False] + frame(TEXT, b"begin", final=False)
    parts = cutter.feed(stream)
    for _ in range(LONGEST // 1000 + 50):
        parts += cutter.feed(piece)
        stream += piece
        assert len(stream) - len(wire(parts)) <= LONGEST
        if cutter.too_long:
            break
    assert cutter.too_long == 1
    assert wire(parts) == stream


def test_pings_between_fragments_are_bounded_too():
    cutter = Cutter(masked=False)
    parts = cutter.feed(HEAD[False] + frame(TEXT, b"begin", final=False))
    ping, fed_bytes = frame(PING, bytes(125)), 0
    while not cutter.too_long:
        parts += cutter.feed(ping)
        fed_bytes += len(ping)
        assert fed_bytes <= LONGEST + 200
    parts += cutter.feed(frame(MORE, b"end") + frame(TEXT, b"next"))
    assert seen(parts)[-1] == (TEXT, b"next", [])


@pytest.mark.parametrize("masked", [True, False])
def test_a_stream_that_is_met_in_its_middle_is_read_from_the_first_chunk_of_whole_frames(masked):
    mask = b"\x91\x52\xe3\x34" if masked else None
    one, two = (frame(TEXT, text, mask=mask) for text in (b'{"type":"message"}', b"{}"))
    cutter = Cutter(masked=masked)
    assert seen(cutter.feed(one[5:] + two)) == []  # begins inside of a frame
    assert seen(cutter.feed(one + two[:3])) == []  # ends inside of one
    assert seen(cutter.feed(two[3:])) == []
    assert [payload for _, payload, _ in seen(cutter.feed(one + two))] == [b'{"type":"message"}', b"{}"]
    assert cutter.unparsed == len(one[5:] + two + one + two)


@given(st.binary(min_size=1, max_size=80), st.binary(min_size=4, max_size=4), st.integers(1, 200))
def test_the_middle_of_a_text_is_not_taken_for_frames(payload, mask, start):
    text = (b'{"type":"message","data":"' + payload.hex().encode() + b'"}') * 2
    stream = frame(TEXT, text) + frame(TEXT, b"{}")
    assert seen(Cutter(masked=False).feed(stream[2 + start % (len(text) - 1) + 1 :])) == []


def test_an_answer_that_is_no_upgrade_is_not_read():
    cutter = Cutter(masked=False)
    parts = cutter.feed(b"HTTP/1.1 503 Service Unavailable\r\n\r\n" + frame(TEXT, b"x") + b"!")
    assert seen(parts) == []
    assert cutter.unparsed == len(frame(TEXT, b"x")) + 1


def test_a_connection_that_upgrades_after_another_request_is_read():
    cutter = Cutter(masked=True)
    parts = cutter.feed(b"GET /healthz HTTP/1.1\r\n\r\n")
    parts += cutter.feed(HEAD[True])
    parts += cutter.feed(frame(TEXT, b"x", mask=b"abcd"))
    assert seen(parts) == [(TEXT, b"x", [])]


@given(st.binary(max_size=70_000), st.binary(min_size=4, max_size=4) | st.none(), st.booleans())
def test_a_frame_that_is_made_is_the_frame_that_is_cut(payload, mask, rsv1):
    masked = mask is not None
    cutter = Cutter(masked=masked)
    _, made = cutter.feed(HEAD[masked] + frame(BINARY, payload, mask=mask, rsv1=rsv1))
    assert isinstance(made, Message)
    assert (made.payload, made.mask, made.rsv1) == (payload, mask, rsv1)
    assert made.remade(payload) == made.wire

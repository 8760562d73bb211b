"""Frames: what is read, what is refused and how, and that nothing else is ever raised."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.protocol import messages as m

names = st.text(min_size=1, max_size=20)
serials = st.integers(0, m.MAX_SERIAL)
positions = st.tuples(st.text(max_size=16), serials)
froms = st.one_of(positions, st.sampled_from(["new", "first"]), st.builds(m.Last, last=serials))
bodies = st.recursive(
    st.none() | st.booleans() | serials | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
).map(lambda value: msgspec.Raw(json.dumps(value).encode()))
ids = st.integers(0, 2**32 - 1)
whys = st.sampled_from(["trimmed", "epoch", "fork", "ahead", "lag"])
requests = st.one_of(
    st.builds(
        m.Connect,
        id=ids,
        token=st.none() | names,
        client=st.none() | names,
        subscribe=st.lists(
            st.builds(m.ChannelFrom, channel=names, from_=froms, echo=st.booleans()), max_size=3
        ),
    ),
    st.builds(m.Subscribe, id=ids, channel=names, from_=st.none() | froms, echo=st.booleans()),
    st.builds(m.Unsubscribe, id=ids, channel=names),
    st.builds(m.Publish, id=ids, channel=names, message=names, data=bodies),
    st.builds(
        m.HistoryRequest,
        id=ids,
        channel=names,
        before=st.none() | serials,
        after=st.none() | positions,
        limit=st.integers(1, 1000),
    ),
)
gaps = st.builds(m.GapInfo, why=whys, from_=positions, to=positions)
replies = st.one_of(
    st.builds(
        m.Subscribed,
        channel=names,
        position=positions,
        resumed=st.booleans(),
        count=serials,
        floor=serials,
        start=serials,
        id=st.none() | ids,
        gap=st.none() | gaps,
        epochs=st.none() | st.lists(positions, max_size=3),
    ),
    st.builds(m.Live, channel=names, position=positions),
    st.builds(m.Gap, channel=names, why=whys, from_=positions, to=positions),
    st.builds(
        m.Message,
        channel=names,
        serial=serials,
        message=names,
        user=names,
        time=serials,
        data=bodies,
        kind=names,
    ),
    st.builds(m.Ack, id=ids, message=names, position=positions, duplicate=st.booleans(), durability=names),
    st.builds(m.Unsubscribed, id=ids, channel=names),
    st.builds(
        m.Error,
        code=st.integers(400, 599),
        reason=names,
        temporary=st.booleans(),
        definite=st.booleans(),
        id=st.none() | ids,
        after_ms=st.none() | serials,
    ),
    st.builds(
        m.Goodbye,
        code=st.integers(4000, 4999),
        why=names,
        after_ms=st.tuples(serials, serials),
        to=st.lists(names),
    ),
)


@given(requests)
def test_request_survives_the_wire(request: m.Request) -> None:
    assert m.decode_request(m.encode(request)) == request


@given(replies)
def test_reply_survives_the_wire(reply: m.Reply) -> None:
    assert m.decode_reply(m.encode(reply)) == reply


@given(bodies)
def test_body_is_kept_byte_for_byte(body: msgspec.Raw) -> None:
    spaced = msgspec.Raw(b" " + bytes(body).replace(b":", b" : "))
    payload = b'{"type":"publish","id":1,"channel":"c","message":"m","data":%b}' % bytes(spaced)
    request = m.decode_request(payload)
    assert isinstance(request, m.Publish)
    assert bytes(request.data).strip() == bytes(spaced).strip()
    assert bytes(request.data) in payload


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_a_request_or_undecodable(payload: bytes) -> None:
    with contextlib.suppress(m.Undecodable):
        m.decode_request(payload)


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_a_reply_or_a_decode_error(payload: bytes) -> None:
    with contextlib.suppress(msgspec.DecodeError):
        m.decode_reply(payload)


@pytest.mark.parametrize(
    ("payload", "request_id", "unknown_type", "reason"),
    [
        pytest.param(b"", None, False, "", id="empty"),
        pytest.param(b"nonsense", None, False, "malformed", id="no JSON"),
        pytest.param(b"[]", None, False, "object", id="no object"),
        pytest.param(b"{}", None, False, "type", id="no type"),
        pytest.param(b'"\xff\xfe"', None, False, "", id="no UTF-8"),
        pytest.param(b"[" * 100_000, None, False, "", id="nested too deep"),
        pytest.param(b'{"type":"wave","id":3}', 3, True,
                     "type is 'wave': must be one of",
                     id="an unknown type names the known ones"),
        pytest.param(b'{"type":"wave"}', None, True, "wave", id="unknown type without an id"),
        pytest.param(b'{"type":"publish","id":4,"channel":"c","message":"m"}', 4, False, "data",
                     id="no data"),
        pytest.param(b'{"type":"subscribe","id":5,"channel":7}', 5, False, "$.channel", id="wrong type"),
        pytest.param(b'{"type":"subscribe","channel":"c"}', None, False, "id", id="no id"),
        pytest.param(b'{"type":"unsubscribe","id":-1,"channel":"c"}', None, False, "id is -1: must be from 0",
                     id="id below the range"),
        pytest.param(b'{"type":"unsubscribe","id":4294967296,"channel":"c"}', None, False, "2^32",
                     id="id above the range"),
        pytest.param(b'{"type":"unsubscribe","id":1.5,"channel":"c"}', None, False, "",
                     id="id no whole number"),
        pytest.param(b'{"type":"subscribe","id":6,"channel":"c","from":"middle"}', 6, False, "from",
                     id="from is no known word"),
        pytest.param(b'{"type":"subscribe","id":6,"channel":"c","from":["E1"]}', 6, False, "from",
                     id="from is half a position"),
        pytest.param(b'{"type":"subscribe","id":6,"channel":"c","from":{"first":1}}', 6, False, "from",
                     id="from is another object"),
        pytest.param(b'{"type":"message","id":6}', 6, True, "message", id="a server's frame"),
    ],
)  # fmt: skip
def test_what_is_no_request(payload: bytes, request_id: int | None, unknown_type: bool, reason: str) -> None:
    with pytest.raises(m.Undecodable) as caught:
        m.decode_request(payload)
    assert (caught.value.request_id, caught.value.unknown_type) == (request_id, unknown_type)
    assert reason in caught.value.reason


@pytest.mark.parametrize("payload", [b"", b"[" * 100_000, b'"\xff"', b'{"type":"publish"}', b"{}"])
def test_what_is_no_reply(payload: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        m.decode_reply(payload)


def test_unknown_fields_are_ignored_in_both_directions() -> None:
    extra: dict[str, Any] = {"later": [1, {"x": None}]}
    request = {"type": "unsubscribe", "id": 1, "channel": "c", **extra}
    assert m.decode_request(json.dumps(request).encode()) == m.Unsubscribe(id=1, channel="c")
    reply = {"type": "live", "channel": "c", "position": ["E", 1], **extra}
    assert m.decode_reply(json.dumps(reply).encode()) == m.Live(channel="c", position=("E", 1))


def test_buffers_of_every_kind_are_read() -> None:
    payload = m.encode(m.Unsubscribe(id=1, channel="c"))
    for kind in (bytes, bytearray, memoryview):
        assert m.decode_request(kind(payload)) == m.Unsubscribe(id=1, channel="c")


def test_ping_is_neither_request_nor_reply() -> None:
    assert m.PING == b"{}"
    with pytest.raises(m.Undecodable):
        m.decode_request(m.PING)


def test_frames_are_values_that_cannot_be_changed() -> None:
    frame = m.Live(channel="c", position=("E", 1))
    with pytest.raises(AttributeError):
        frame.channel = "d"  # type: ignore[misc]

"""The parts of the fallback transports that need no socket."""

from __future__ import annotations

import json

import msgspec
import pytest
from multidict import MultiDict

from chatd.framing import CLOSE, TEXT, close_frame, text_frame, unframe
from chatd.protocol.errors import BadRequest
from chatd.protocol.messages import ChannelFrom, Last, Publish, decode_request
from chatd.transports.asked import CHANNELS, asked_for, token_of, wait_of
from chatd.transports.guard import objection, readable_by
from chatd.transports.longpoll import ANSWER_BYTES, Piece
from chatd.transports.mailbox import Refused
from chatd.transports.page import policy
from chatd.transports.positions import Positions, parse_positions
from chatd.transports.posting import parse_post
from chatd.transports.sse import Events, event


def frame(kind: str, **fields: object) -> bytes:
    return json.dumps({"type": kind, **fields}).encode()


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 70_000])
def test_frames_are_taken_apart_as_they_were_put_together(size: int) -> None:
    payload = b"x" * size
    data = text_frame(payload) + close_frame(4101, "drain") + text_frame(b"{}")
    assert list(unframe(data)) == [(TEXT, payload), (CLOSE, b"\x10\x05drain"), (TEXT, b"{}")]


# Positions --------------------------------------------------------------------------------------------

STREAM = [
    pytest.param(frame("connected", id=0, user="ann"), "connected", {}, id="no position yet"),
    pytest.param(
        frame("subscribed", channel="a", position=["E1", 9], start=4, resumed=False),
        "subscribed",
        {"a": ["E1", 4]},
        id="subscribed",
    ),
    pytest.param(frame("message", channel="a", serial=5, to=3), "message", {"a": ["E1", 5]}, id="message"),
    pytest.param(frame("typing", channel="a", user="bob"), "typing", {"a": ["E1", 5]}, id="ephemeral"),
    pytest.param(
        frame("message", channel="b", serial=5), "message", {"a": ["E1", 5]}, id="of no channel here"
    ),
    pytest.param(
        frame("gap", channel="a", why="trimmed", **{"from": ["E1", 5], "to": ["E1", 8]}),
        "gap",
        {"a": ["E1", 8]},
        id="gap",
    ),
    pytest.param(frame("live", channel="a", position=["E1", 9]), "live", {"a": ["E1", 9]}, id="live"),
    pytest.param(
        frame("reset", channel="a", position=["E2", 12], fork=7, epochs=[], why="x"),
        "reset",
        {"a": ["E2", 7]},
        id="reset",
    ),
    pytest.param(
        frame("goodbye", code=4101, why="x", to=["ws://x"]), "goodbye", {"a": ["E2", 7]}, id="goodbye"
    ),
]


def test_positions_follow_the_frames_of_a_stream() -> None:
    places, before = Positions({}, ["a"]), {}
    for row in STREAM:
        payload, kind, expected = row.values
        assert places.take(payload) == (kind, expected != before), row.id
        assert json.loads(places.text) == expected, row.id
        before = expected


def test_the_position_map_is_one_line_of_ascii_whatever_the_channel_is_called() -> None:
    channel = 'raum "ä" 🦊 \\'
    places = Positions({channel: ("E1", 4)}, [channel])
    assert places.text.isascii()
    assert places.text.isprintable()
    assert parse_positions(places.text) == {channel: ("E1", 4)}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a":4}', '{"a":["E1","4"]}', '{"a":["E1",4,5]}', "\udcff"])
def test_a_position_map_that_is_none_is_a_bad_request(text: str) -> None:
    with pytest.raises(BadRequest, match=r"position is no map of the form"):
        parse_positions(text)


# What is asked for ------------------------------------------------------------------------------------


def test_a_query_becomes_the_connect_frame_of_a_session() -> None:
    query = MultiDict(channel="a", client="ann", echo="0")
    query.add("channel", "b")
    query["from"] = "last:7"
    asked = asked_for(query, {"Last-Event-ID": '{"a":["E1",4],"gone":["E1",1]}'})
    assert asked.connect.client == "ann"
    assert asked.connect.subscribe == [
        ChannelFrom(channel="a", from_=("E1", 4), echo=False),
        ChannelFrom(channel="b", from_=Last(7), echo=False),
    ]


def test_without_channels_those_of_the_position_are_meant() -> None:
    asked = asked_for(MultiDict(position='{"a":["E1",4]}'), {})
    assert asked.connect.subscribe == [ChannelFrom(channel="a", from_=("E1", 4))]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param([], "channel is given 0 times", id="no channel"),
        pytest.param([("channel", f"c{n}") for n in range(CHANNELS + 1)], "from 1 to 32", id="too many"),
        pytest.param([("channel", "a"), ("from", "last:x")], "from is 'last:x'", id="last of nothing"),
        pytest.param([("channel", "a"), ("from", "x")], "must be new, first or last:N", id="unknown start"),
        pytest.param([("channel", "a"), ("from", "new"), ("from", "new")], "given 2 times", id="twice"),
        pytest.param([("channel", "a"), ("token", "x")], "token in a URL", id="a token"),
        pytest.param([("position", "x")], "position is no map", id="no map"),
    ],
)
def test_a_query_that_cannot_be_understood_says_why(fields: list[tuple[str, str]], reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        asked_for(MultiDict(fields), {})


@pytest.mark.parametrize(("text", "wait_s"), [("", 25.0), ("0", 0.0), ("1.5", 1.5), ("60", 60.0)])
def test_wait_of_a_poll(text: str, wait_s: float) -> None:
    assert wait_of(MultiDict(wait_s=text)) == wait_s


@pytest.mark.parametrize("text", ["-1", "61", "x", "nan", "inf"])
def test_wait_of_a_poll_has_bounds(text: str) -> None:
    with pytest.raises(BadRequest, match="from 0 to 60"):
        wait_of(MultiDict(wait_s=text))


@pytest.mark.parametrize(("value", "token"), [(None, None), ("Bearer a.b.c", "a.b.c"), ("bearer  x ", "x")])
def test_token_of_the_authorization_header(value: str | None, token: str | None) -> None:
    assert token_of(MultiDict() if value is None else MultiDict(Authorization=value)) == token


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Basic eA=="])
def test_another_authorization_is_refused(value: str) -> None:
    with pytest.raises(BadRequest, match="Bearer TOKEN"):
        token_of(MultiDict(Authorization=value))


# Who may ask ------------------------------------------------------------------------------------------


NAMED = ("https://chat.example",)


@pytest.mark.parametrize(
    ("host", "origin", "code"),
    [
        pytest.param("127.0.0.1:8766", None, None, id="a program"),
        pytest.param("localhost:8766", "http://localhost:8766", None, id="the page"),
        pytest.param("[::1]:8766", "http://[::1]:8766", None, id="the page, by IPv6"),
        pytest.param("localhost:8766", "http://localhost:3000", None, id="another page of this machine"),
        pytest.param("localhost:8766", "https://evil.example", 403, id="a page from elsewhere"),
        pytest.param("localhost:8766", "null", 403, id="a page from nowhere"),
        pytest.param("localhost:8766", "http://[", 403, id="an origin that is none"),
        pytest.param("localhost:8766", "https://chat.example", None, id="a page that is named"),
        pytest.param("chat.example", "https://chat.example", None, id="through a proxy with that name"),
        pytest.param("evil.example:8766", None, 403, id="a foreign name for this machine"),
        pytest.param("evil.example:8766", "http://evil.example:8766", 403, id="and a page of it"),
        pytest.param("localhost.evil.example", None, 403, id="a name that only begins well"),
        pytest.param("", None, 400, id="no host"),
        pytest.param("a@localhost", None, 400, id="a host that is none"),
    ],
)
def test_who_may_ask_on_loopback(host: str, origin: str | None, code: int | None) -> None:
    headers = {"Host": host} | ({} if origin is None else {"Origin": origin})
    error = objection(headers, loopback=True, named=NAMED)
    assert (error.code if error else None) == code


def test_a_server_with_a_name_of_its_own_serves_the_pages_of_that_name() -> None:
    headers = {"Host": "chat.example", "Origin": "https://chat.example"}
    assert objection(headers, loopback=False, named=()) is None
    assert objection({**headers, "Origin": "https://evil.example"}, loopback=False, named=()) is not None
    assert readable_by(headers)["Access-Control-Allow-Origin"] == "https://chat.example"


def test_the_page_may_load_nothing_but_itself_and_its_socket() -> None:
    text = policy("ws://127.0.0.1:8765/ws")
    rules = dict(rule.strip().split(" ", 1) for rule in text.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == "'self'"
    assert rules["connect-src"] == "'self' ws://127.0.0.1:8765"
    assert "unsafe" not in text


# Bodies and events ------------------------------------------------------------------------------------


def test_a_posted_body_keeps_its_data_byte_for_byte() -> None:
    posted = parse_post(b'{"client":"ann","channel":"a","message":"m","data":{"x":  1.50, "y":"\\u00e9"}}')
    request = decode_request(posted.frame)
    assert isinstance(request, Publish)
    assert (posted.client, posted.kind, posted.request, request.id) == ("ann", "publish", 1, 1)
    assert bytes(request.data) == b'{"x":  1.50, "y":"\\u00e9"}'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"client":5}',
        b'{"id":"x"}',
        b'{"type":5}',
        b'{"id":0}',
        b'{"id":4294967296}',
        b"[" * 5000,
    ],
)
def test_a_body_that_is_no_frame_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_post(body)


@pytest.mark.parametrize("kind", ["connect", "subscribe", "unsubscribe", "presence", "typing", "receipt"])
def test_a_request_that_needs_a_stream_is_not_posted(kind: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_post(b'{"type":"%b","id":7}' % kind.encode())
    assert (refused.value.status, refused.value.error.id) == (400, 7)


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_line_ends_inside_a_frame_do_not_end_the_event(end: str) -> None:
    data = f'{{"a":{end}1}}'.encode()
    lines = event("message", data, '{"a":["E1",1]}').split(b"\n")
    assert lines == [b'id: {"a":["E1",1]}', b"event: message", b'data: {"a":', b"data: 1}", b"", b""]


def test_a_ping_is_a_comment_and_only_what_moves_a_position_has_an_id() -> None:
    events = Events(Positions({"a": ("E1", 4)}, ["a"]))
    assert events.encode(b"{}") == b":\n\n"
    assert events.encode(frame("message", channel="a", serial=5)).startswith(b'id: {"a":["E1",5]}\n')
    assert events.encode(frame("typing", channel="a")).startswith(b"event: typing\n")


# Polling ----------------------------------------------------------------------------------------------

RESUMED = frame("subscribed", channel="a", position=["E1", 4], start=4, resumed=True)
LIVE = frame("live", channel="a", position=["E1", 4])


def piece(query: str | None) -> Piece:
    fields = {"position": query} if query else {"channel": "a"}
    return Piece(asked_for(MultiDict(fields), {}), b'{"type":"connected"}')


def test_an_answer_waits_for_news() -> None:
    answer = piece('{"a":["E1",4]}')
    typing = frame("typing", channel="a", users=["bob"])
    for payload in (b"{}", RESUMED, LIVE, typing):
        answer.take(payload)
    assert (answer.ready, answer.replaying) == (False, False)
    answer.take(frame("message", channel="a", serial=5))
    assert answer.ready
    body = msgspec.json.decode(answer.body())
    assert body["position"] == {"a": ["E1", 5]}
    assert [each["type"] for each in body["frames"]] == ["subscribed", "live", "typing", "message"]


def test_an_answer_waits_for_the_end_of_a_replay_unless_it_is_long() -> None:
    answer = piece('{"a":["E1",4]}')
    answer.take(frame("subscribed", channel="a", position=["E1", 9], start=4, resumed=True))
    answer.take(frame("message", channel="a", serial=5))
    assert (answer.ready, answer.replaying) == (False, True)
    answer.take(frame("message", channel="a", serial=6, data="x" * ANSWER_BYTES))
    assert answer.ready


def test_a_gap_at_the_start_and_a_goodbye_are_news() -> None:
    answer = piece('{"a":["E0",4]}')
    answer.take(frame("subscribed", channel="a", position=["E1", 4], start=4, resumed=False, gap={}))
    answer.take(LIVE)
    assert answer.ready
    answer = piece('{"a":["E1",4]}')
    answer.take(frame("goodbye", code=4101, why="drain"))
    assert answer.ready


def test_the_first_answer_has_connected_and_comes_at_once() -> None:
    answer = piece(None)
    for payload in (frame("subscribed", channel="a", position=["E1", 4], start=4, resumed=False), LIVE):
        answer.take(payload)
    assert answer.ready
    assert msgspec.json.decode(answer.body())["frames"][0]["type"] == "connected"

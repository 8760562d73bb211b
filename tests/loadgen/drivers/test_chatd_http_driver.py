"""The driver for chatd over HTTP: the conformance suite, requests, and what of a poll's answer is told."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from chatd.protocol import messages as wire
from chatd.transports.posting import parse_post
from loadgen.drivers import HTTP_DRIVERS
from loadgen.drivers.base import Capability, Want, Welcome
from loadgen.drivers.chatd_http import UNSAID, ChatdHttpDriver
from reports.history import BadReason, Transport
from tests.conformance.drivers import BODY, DriverConformance, Spy
from tests.loadgen.drivers.test_chatd_driver import ChatdPeer, error

KNOWN = Welcome(node="n1", ping_s=5.0, pong_s=2.0, retry_s=(0.2, 2.0), contract={})


class Asked:
    """A request as a server reads it."""

    def __init__(self, request: bytes) -> None:
        head, self.body = request.split(b"\r\n\r\n", 1)
        first, *fields = head.decode().split("\r\n")
        self.method, self.url, self.version = first.split(" ")
        self.path = urlsplit(self.url).path
        self.query = parse_qs(urlsplit(self.url).query)
        self.fields = dict(field.split(": ", 1) for field in fields)

    @property
    def places(self) -> dict[str, Any]:
        text = self.fields.get("Last-Event-ID") or self.query.get("position", ["{}"])[0]
        return {channel: tuple(place) for channel, place in msgspec.json.decode(text).items()}


class HttpPeer(ChatdPeer):
    """chatd's frames, in answer to requests over HTTP: the body of a post is read as chatd reads it."""

    def _frame(self, post: bytes) -> bytes:
        return parse_post(Asked(post).body).frame

    def connected(self, connect_frame: bytes, *, ping_s: float, pong_s: float) -> bytes:
        return super().connected(wire.encode(wire.Connect(id=0)), ping_s=ping_s, pong_s=pong_s)

    def ack(self, publish_frame: bytes, *, epoch: str, serial: int, duplicate: bool) -> bytes:
        return super().ack(self._frame(publish_frame), epoch=epoch, serial=serial, duplicate=duplicate)

    def refusal(self, publish_frame: bytes, *, temporary: bool, definite: bool) -> bytes:
        return super().refusal(self._frame(publish_frame), temporary=temporary, definite=definite)

    def sent(self, publish_frame: bytes) -> tuple[str, str, bytes]:
        return super().sent(self._frame(publish_frame))

    def asked(self, connect_frame: bytes) -> dict[str, Any]:
        asked = Asked(connect_frame)
        rest = dict.fromkeys(asked.query["channel"], asked.query["from"][0])
        return rest | asked.places


class TestChatdHttpDriver(DriverConformance):
    driver = ChatdHttpDriver
    peer = HttpPeer()

    def test_it_is_found_under_its_name(self) -> None:
        assert HTTP_DRIVERS["chatd"] is self.driver

    def test_a_subscription_asks_for_what_it_was_told(self) -> None:
        """One request says ``from`` once, for all channels without a position."""
        for rest in ("new", "first"):
            wanted = [Want("room:1", ("E1", 41)), Want("room:2", rest)]
            for transport in (Transport.SSE, Transport.POLL):
                frame = ChatdHttpDriver(transport).connect("c1", wanted)
                assert self.peer.asked(frame) == {want.channel: want.start for want in wanted}


def open_polls(known: Welcome | None = None, *wanted: Want) -> tuple[ChatdHttpDriver, Asked]:
    driver = ChatdHttpDriver(Transport.POLL, known)
    driver.at(7)
    return driver, Asked(driver.connect("c7", wanted or [Want("room:1")]))


def piece(position: dict[str, tuple[str, int]], *frames: wire.Reply) -> bytes:
    return msgspec.json.encode(
        {"position": position, "frames": [msgspec.Raw(wire.encode(frame)) for frame in frames]}
    )


def subscribed(start: int, *, resumed: bool = True, epoch: str = "E1") -> wire.Subscribed:
    return wire.Subscribed(
        channel="room:1", position=(epoch, 10), resumed=resumed, count=10 - start, floor=1, start=start
    )


LIVE = wire.Live(channel="room:1", position=("E1", 10))


def message(serial: int) -> wire.Message:
    return wire.Message(channel="room:1", serial=serial, message="m", user="u", time=1, data=wire.NULL)


def hear(driver: ChatdHttpDriver, body: bytes) -> list[str]:
    spy = Spy()
    for frame in driver.frames(body, spy):
        driver.feed(frame, spy)
    return spy.names


CONNECTED = msgspec.json.decode(
    ChatdPeer().connected(wire.encode(wire.Connect(id=0)), ping_s=5, pong_s=2), type=wire.Connected
)


def test_a_stream_asks_with_its_ordinal_its_name_and_its_token() -> None:
    driver = ChatdHttpDriver()
    driver.at(7)
    asked = Asked(driver.connect("c7", [Want("room:1", ("E1", 4))], "secret"))
    assert (asked.method, asked.path, asked.version) == ("GET", "/sse", "HTTP/1.1")
    assert (asked.query["c"], asked.query["client"]) == (["7"], ["c7"])
    assert asked.fields["Authorization"] == "Bearer secret"
    assert "secret" not in asked.url


def test_a_post_names_its_client_and_where_it_comes_from() -> None:
    driver, _ = open_polls()
    asked = Asked(driver.publish("room:1", "c7:1", BODY, object()))
    assert (asked.method, asked.path, asked.query["c"]) == ("POST", "/publish", ["7"])
    assert int(asked.fields["Content-Length"]) == len(asked.body)
    assert parse_post(asked.body).client == "c7"


def test_the_first_poll_waits_for_nothing_and_the_next_ones_as_long_as_the_server_is_silent() -> None:
    driver, first = open_polls(KNOWN)
    assert first.query["wait_s"] == ["0"]
    hear(driver, piece({"room:1": ("E1", 10)}, CONNECTED, subscribed(10), LIVE))
    request, places = driver.poll()
    assert Asked(request).query["wait_s"] == ["5"]
    assert Asked(request).places == places == {"room:1": ("E1", 10)}


def test_later_polls_tell_messages_and_say_nothing_of_subscriptions_that_go_on() -> None:
    driver, _ = open_polls()
    first = piece({"room:1": ("E1", 10)}, CONNECTED, subscribed(10, resumed=False), LIVE)
    assert hear(driver, first) == ["connected", "subscribed", "live"]
    driver.poll()
    assert hear(driver, piece({"room:1": ("E1", 11)}, subscribed(10), LIVE, message(11))) == ["message"]
    driver.poll()
    assert hear(driver, piece({"room:1": ("E1", 11)}, subscribed(11), LIVE)) == []


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(subscribed(9), id="elsewhere"),
        pytest.param(subscribed(10, resumed=False), id="not-resumed"),
        pytest.param(subscribed(10, epoch="E2"), id="another-epoch"),
        pytest.param(
            msgspec.structs.replace(
                subscribed(10), gap=wire.GapInfo(why="trimmed", from_=("E1", 10), to=("E1", 12))
            ),
            id="with-a-gap",
        ),
    ],
)
def test_a_subscription_that_does_not_just_go_on_is_told(answer: wire.Subscribed) -> None:
    driver, _ = open_polls()
    hear(driver, piece({"room:1": ("E1", 10)}, CONNECTED, subscribed(10), LIVE))
    driver.poll()
    assert hear(driver, piece({"room:1": ("E1", 12)}, answer, LIVE)) == ["subscribed", "live"]


def test_who_comes_back_with_positions_is_accepted_without_a_word() -> None:
    for known in (KNOWN, None):
        driver, _ = open_polls(known, Want("room:1", ("E1", 10)))
        spy = Spy()
        assert len(driver.frames(piece({"room:1": ("E1", 10)}, subscribed(10), LIVE), spy)) == 2
        assert spy.calls == [("connected", (known or UNSAID,), {})]


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b'{"position":7,"frames":[]}', b'{"position":{}'])
def test_an_answer_that_is_no_piece_is_bad(body: bytes) -> None:
    driver, _ = open_polls()
    spy = Spy()
    assert driver.frames(body, spy) == ()
    assert spy.calls == [("bad", (BadReason.UNDECODABLE,), {})]


@pytest.mark.parametrize("request_id", [1, None])
def test_a_refused_post_is_that_of_its_id_or_else_the_one_that_waits(request_id: int | None) -> None:
    driver, _ = open_polls()
    driver.publish("room:1", "c7:1", BODY, "tag")
    spy = Spy()
    driver.answered(504, error(request_id, 504, temporary=True, definite=False), spy)
    assert spy.calls == [("nack", ("tag", 504), {"temporary": True, "definite": False, "after_s": 0.25})]


@pytest.mark.parametrize(("status", "temporary"), [(403, False), (502, True)])
def test_an_answer_of_somebody_between_says_nothing_of_the_outcome(status: int, temporary: bool) -> None:
    driver, _ = open_polls()
    driver.publish("room:1", "c7:1", BODY, "tag")
    spy = Spy()
    driver.answered(status, b"<html>", spy)
    assert spy.calls == [
        ("nack", ("tag", status), {"temporary": temporary, "definite": False, "after_s": None})
    ]


def test_an_event_is_a_frame_or_says_the_close_code() -> None:
    driver = ChatdHttpDriver()
    assert driver.closing(b"message", b"{}") is None
    assert driver.closing(b"close", b'{"code":4101,"reason":"drain"}') == 4101
    assert driver.closing(b"close", b"no JSON") == 4000


def test_a_goodbye_gives_the_code_with_which_the_polls_end() -> None:
    driver, _ = open_polls()
    assert driver.goodbye_code == 0
    driver.feed(ChatdPeer().goodbye(), Spy())
    assert driver.goodbye_code == 4101


def test_what_belongs_to_a_connection_is_not_promised() -> None:
    missing = frozenset(Capability) - ChatdHttpDriver.capabilities
    assert missing == {Capability.CHANNELS, Capability.PRESENCE, Capability.TYPING, Capability.RECEIPT}

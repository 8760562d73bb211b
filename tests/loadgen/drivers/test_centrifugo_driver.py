"""The Centrifugo driver: the conformance suite, what is Centrifugo's own, and real servers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from chatd.protocol.tokens import sign
from loadgen.drivers.base import Capability, Hole, Want
from loadgen.drivers.centrifugo import CentrifugoDriver
from reports.history import BadReason, GapReason
from tests.conformance.drivers import DriverConformance, Spy
from tests.loadgen.drivers.centrifuge_server import engine, product

BODY = b'"0123456789abcdef"'


def commands(frame: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in frame.split(b"\n")]


def reply(**fields: Any) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


class CentrifugoPeer:
    """Writes the frames that a server on centrifuge 0.40 writes."""

    def connected(self, connect_frame: bytes, *, ping_s: float, pong_s: float) -> bytes:
        first = commands(connect_frame)[0]
        return reply(id=first["id"], connect={"client": "bd68", "ping": int(ping_s), "pong": True})

    def subscribed(
        self, channel: str, *, epoch: str, start: int, top: int, floor: int, resumed: bool
    ) -> bytes:
        pubs = [{"data": "x", "offset": offset} for offset in range(start + 1, top + 1)]
        found = {"recovered": True, "publications": pubs, "offset": start} if resumed else {"offset": top}
        # The id of the subscription in the frame of `DriverConformance.open`: the second command.
        return reply(id=2, subscribe={"recoverable": True, "epoch": epoch, "positioned": True, **found})

    def live(self, channel: str, *, epoch: str, serial: int) -> None:
        return None

    def message(self, channel: str, serial: int, body: bytes) -> bytes:
        return b'{"push":{"channel":"%b","pub":{"data":%b,"offset":%d}}}' % (channel.encode(), body, serial)

    def gap(self, channel: str, *, why: GapReason, after: tuple[str, int], to: tuple[str, int]) -> None:
        return None

    def ack(self, publish_frame: bytes, *, epoch: str, serial: int, duplicate: bool) -> bytes:
        return reply(id=commands(publish_frame)[0]["id"], publish={})

    def refusal(self, publish_frame: bytes, *, temporary: bool, definite: bool) -> bytes:
        error: dict[str, Any] = {"code": 103 if definite else 100, "message": "no"}
        if temporary:
            error["temporary"] = True
        return reply(id=commands(publish_frame)[0]["id"], error=error)

    def ping(self) -> bytes:
        return b"{}"

    def goodbye(self) -> bytes:
        return reply(push={"disconnect": {"code": 3001, "reason": "shutdown"}})

    def sent(self, publish_frame: bytes) -> tuple[str, None, bytes]:
        (command,) = commands(publish_frame)
        return command["publish"]["channel"], None, json.dumps(command["publish"]["data"]).encode()

    def asked(self, connect_frame: bytes) -> dict[str, Any]:
        return {
            wish["channel"]: _start(wish)
            for command in commands(connect_frame)
            if (wish := command.get("subscribe"))
        }


def _start(wish: dict[str, Any]) -> Any:
    if not wish.get("recover"):
        return "new"
    return (wish["epoch"], wish["offset"]) if wish["epoch"] else "first"


class TestCentrifugoDriver(DriverConformance):
    driver = CentrifugoDriver
    peer = CentrifugoPeer()
    pong_s = 10
    tells_floor = False


def opened(*wanted: Want) -> tuple[CentrifugoDriver, Spy]:
    driver, spy = CentrifugoDriver(), Spy()
    driver.feed(CentrifugoPeer().connected(driver.connect("c1", wanted), ping_s=25, pong_s=8), spy)
    spy.calls.clear()
    return driver, spy


def test_every_line_of_a_frame_is_read_in_its_order() -> None:
    driver, spy = opened(Want("room:1"))
    publish = driver.publish("room:1", "c1:1", BODY, "tag")
    peer = CentrifugoPeer()
    lines = [peer.message("room:1", 1, BODY), peer.ack(publish, epoch="", serial=0, duplicate=False), b"{}"]
    driver.feed(b"\n".join(lines) + b"\n", spy)
    assert spy.names == ["message", "ack", "ping"]


def test_after_a_line_that_cannot_be_read_nothing_is_believed() -> None:
    driver, spy = opened()
    driver.feed(CentrifugoPeer().message("room:1", 1, BODY) + b"\n{oops\n{}", spy)
    assert spy.names == ["message", "bad"]


def test_publications_in_the_answer_are_the_replay() -> None:
    driver, spy = opened(Want("room:1", ("E1", 1)))
    pubs = [{"data": "a", "offset": 2}, {"data": "b", "offset": 3}]
    answer = {"epoch": "E1", "offset": 1, "positioned": True, "recovered": True, "publications": pubs}
    driver.feed(reply(id=2, subscribe=answer), spy)
    assert spy.names == ["subscribed", "message", "message", "live"]
    assert [args for _, args, _ in spy.calls[1:]] == [
        ("room:1", 2, b'"a"'), ("room:1", 3, b'"b"'), ("room:1", "E1", 3),
    ]  # fmt: skip
    (told,) = spy.calls[0][1]
    assert (told.start, told.top, told.resumed, told.hole) == (1, 3, True, None)


@pytest.mark.parametrize(
    ("asked", "epoch", "offset", "hole"),
    [
        pytest.param(("E1", 4), "E1", 9, Hole(GapReason.TRIMMED, ("E1", 4), ("E1", 9)), id="trimmed"),
        pytest.param(("E1", 4), "E2", 2, Hole(GapReason.EPOCH, ("E1", 4), ("E2", 2)), id="another epoch"),
        pytest.param(("E1", 4), "E1", 2, Hole(GapReason.AHEAD, ("E1", 4), ("E1", 2)), id="ahead"),
        pytest.param(("E1", 4), "E1", 4, None, id="nothing missed"),
        pytest.param("first", "E1", 9, None, id="no position"),
        pytest.param("new", "E1", 9, None, id="no wish to recover"),
    ],
)
def test_what_is_not_recovered_is_a_declared_hole(
    asked: Any, epoch: str, offset: int, hole: Hole | None
) -> None:
    driver, spy = opened(Want("room:1", asked))
    driver.feed(reply(id=2, subscribe={"epoch": epoch, "offset": offset, "positioned": True}), spy)
    (told,) = spy.calls[0][1]
    assert (told.hole, told.resumed, told.start, told.floor) == (hole, False, offset, offset + 1)


def test_a_whole_history_read_from_its_beginning_has_floor_one() -> None:
    driver, spy = opened(Want("room:1", "first"))
    pubs = [{"data": "a", "offset": 1}]
    driver.feed(
        reply(id=2, subscribe={"epoch": "E1", "positioned": True, "recovered": True, "publications": pubs}),
        spy,
    )
    (told,) = spy.calls[0][1]
    assert (told.start, told.floor, told.resumed) == (0, 1, False)


def test_a_channel_without_history_is_refused_with_the_remedy() -> None:
    driver, spy = opened(Want("room:1"))
    driver.feed(reply(id=2, subscribe={}), spy)
    ((name, (channel, _, why), kwargs),) = spy.calls
    assert (name, channel, kwargs) == ("refused", "room:1", {"temporary": False})
    assert "history_size" in why


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param(2000, ["unsubscribed"], id="for good"),
        pytest.param(2500, ["unsubscribed", "refused"], id="insufficient state"),
    ],
)
def test_a_server_that_unsubscribes_may_ask_to_subscribe_again(code: int, expected: list[str]) -> None:
    driver, spy = opened(Want("room:1"))
    driver.feed(reply(push={"channel": "room:1", "unsubscribe": {"code": code, "reason": "r"}}), spy)
    assert spy.names == expected
    if "refused" in expected:
        assert spy.calls[1][2] == {"temporary": True}


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        pytest.param({"push": {"channel": "room:1", "pub": {"offset": 3}}}, "UNEXPECTED", id="no body"),
        pytest.param({"push": {"channel": "room:1", "pub": {"data": 1}}}, "UNEXPECTED", id="no offset"),
        pytest.param({"push": {"channel": "room:1"}}, "UNEXPECTED", id="nothing pushed"),
        pytest.param({"id": 77, "subscribe": {}}, "UNEXPECTED", id="never asked"),
        pytest.param({"id": 2, "publish": {}}, "UNEXPECTED", id="another answer than asked"),
        pytest.param({"id": "2"}, "UNDECODABLE", id="id of another type"),
    ],
)
def test_what_is_not_legal_is_bad(frame: dict[str, Any], reason: str) -> None:
    driver, spy = opened(Want("room:1"))
    driver.feed(json.dumps(frame).encode(), spy)
    assert spy.calls == [("bad", (BadReason[reason],), {})]


@pytest.mark.parametrize(
    ("code", "returns"),
    [(3001, True), (3008, True), (3010, True), (3500, False), (3999, False), (4400, True), (4500, False)],
)
def test_close_codes_say_who_comes_back(code: int, returns: bool) -> None:
    assert CentrifugoDriver.may_return(code) == returns


def test_a_refused_connection_names_no_channel() -> None:
    driver, spy = CentrifugoDriver(), Spy()
    driver.connect("c1", [])
    driver.feed(reply(id=1, error={"code": 109, "message": "token expired"}), spy)
    assert spy.calls == [("refused", (None, 109, "token expired"), {"temporary": False})]


# ── Centrifugo, and a server on its engine ─────────────────────────────────────────────────────


@pytest.fixture(scope="module", params=[engine, product], ids=["engine", "product"])
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    with request.param("secret") as url:
        yield url


class Wire:
    """A driver on a socket."""

    def __init__(self, url: str, *wanted: Want, token: str | None = None) -> None:
        self.driver, self.spy = CentrifugoDriver(), Spy()
        token = token or sign(b"secret", {"sub": "c1", "exp": int(time.time() + 600)})
        self._stack = ExitStack()
        opened = connect(url + self.driver.path(1), compression=None)
        self.socket: ClientConnection = self._stack.enter_context(opened)
        self.say(self.driver.connect("c1", wanted, token))

    def close(self) -> None:
        self._stack.close()

    def say(self, frame: bytes) -> None:
        self.socket.send(frame.decode())

    def until(self, name: str, times: int = 1) -> list[tuple[Any, ...]]:
        """Arguments of the calls of a name, once there are so many."""
        while self.spy.names.count(name) < times:
            frame = self.socket.recv(timeout=30)
            self.driver.feed(frame if isinstance(frame, bytes) else frame.encode(), self.spy)
        return [args for called, args, _ in self.spy.calls if called == name]


def test_a_subscriber_gets_what_is_published_and_recovers_what_it_missed(server: str) -> None:
    one = Wire(server, Want("room:1"))
    ((start,),) = one.until("subscribed")
    for count in range(3):
        one.say(one.driver.publish("room:1", f"c1:{count}", BODY, count))
    acks = one.until("ack", 3)
    assert [(args[0], args[2:4]) for args in acks] == [(0, ("", 0)), (1, ("", 0)), (2, ("", 0))]
    assert one.until("message", 3) == [("room:1", serial, BODY) for serial in (1, 2, 3)]
    one.close()
    again = Wire(server, Want("room:1", (start.epoch, 1)))
    ((answer,),) = again.until("subscribed")
    assert (answer.resumed, answer.start, answer.top, answer.hole) == (True, 1, 3, None)
    assert again.until("message", 2) == [("room:1", serial, BODY) for serial in (2, 3)]
    assert again.spy.names[-1] == "live"
    again.say(again.driver.history("room:1", 2))
    assert again.until("noticed") == [(Capability.HISTORY,)]
    again.say(again.driver.unsubscribe("room:1"))
    assert again.until("unsubscribed") == [("room:1",)]
    again.say(again.driver.subscribe(Want("room:1", "first")))
    assert again.until("subscribed", 2)[1][0].floor == 1
    again.close()


def test_a_position_of_another_life_is_a_declared_hole(server: str) -> None:
    one = Wire(server, Want("room:2", ("gone", 7)))
    ((answer,),) = one.until("subscribed")
    assert answer.hole == Hole(GapReason.EPOCH, ("gone", 7), (answer.epoch, 0))
    one.close()


def test_a_wrong_token_ends_it_for_good(server: str) -> None:
    one = Wire(server, token="wrong")
    with pytest.raises(ConnectionClosed):
        one.until("connected")
    assert one.socket.close_code is not None
    assert not CentrifugoDriver.may_return(one.socket.close_code)

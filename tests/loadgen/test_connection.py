"""A client's socket: fragments, equal frames, close frames, and how a failed dial is classed."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from picows import WSHandshakeError, WSMsgType, WSUpgradeResponse
from picows.picows import _make_test_ws_frame

from chatd.protocol import messages as wire
from loadgen.body import encode_body
from loadgen.client import Client
from loadgen.connection import Memo, Wires, _Socket, failure
from loadgen.drivers.chatd import ChatdDriver
from loadgen.publisher import Shared
from loadgen.recorder import Recorder
from reports.history import CONN_ERRNO, BadReason, Kind


def delivery(serial: int) -> bytes:
    body = encode_body(nonce=7, channel=1, publisher=2, pub_seq=serial, scheduled_ns=5, body_bytes=3)
    return wire.encode(
        wire.Message(channel="room:1", serial=serial, message="m", user="u", time=0, data=msgspec.Raw(body))
    )


refused = WSUpgradeResponse.create_error_response


class Wired:
    """A socket with its client and log; frames are given to it as picows gives them."""

    def __init__(self, path: Path) -> None:
        self.recorder = Recorder(path, 1, 7, segment_bytes=1 << 14)
        self.ends: list[float | None] = []
        shared = Shared(
            recorder=self.recorder, driver=ChatdDriver, nonce=7, body_bytes=3, ack_timeout_s=5.0,
            now_ns=lambda: 1, rng=random.Random(1),
            later=lambda _wait, _call: pytest.fail("no timer"),
        )  # fmt: skip
        crashed: Any = pytest.fail
        self.wires = Wires(shared, ended=lambda _client, wait_s: self.ends.append(wait_s), crashed=crashed)
        self.client = Client(5, (1,), shared)
        self.socket = _Socket(self.client, self.wires)
        self.client.link = self.socket

    def say(self, payload: bytes, kind: Any = WSMsgType.TEXT, *, fin: bool = True) -> None:
        self.socket.on_ws_frame(None, _make_test_ws_frame(kind, payload, fin, False))  # type: ignore[arg-type]

    def rows(self) -> list[tuple[int, int]]:
        return [(int(row["kind"]), int(row["serial"])) for row in self.recorder.fresh()]


@pytest.fixture
def wired(tmp_path: Path) -> Iterator[Wired]:
    wired = Wired(tmp_path)
    yield wired
    wired.recorder.close()


def test_equal_frames_are_read_once_and_recorded_each_time(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[bytes] = []
    real = ChatdDriver.feed
    monkeypatch.setattr(
        ChatdDriver, "feed", lambda self, payload, sink: (reads.append(payload), real(self, payload, sink))
    )
    for serial in (1, 2, 1, 1):
        wired.say(delivery(serial))
    assert wired.rows() == [(Kind.RECV, serial) for serial in (1, 2, 1, 1)]
    assert reads == [delivery(1), delivery(2)]


def test_frames_that_are_no_delivery_are_read_each_time(wired: Wired) -> None:
    for _ in range(3):
        wired.say(b"nonsense")
    assert wired.rows() == [(Kind.BAD, BadReason.UNDECODABLE)] * 3


def test_fragments_are_put_together(wired: Wired) -> None:
    whole = delivery(4)
    wired.say(whole[:9], fin=False)
    wired.say(whole[9:20], WSMsgType.CONTINUATION, fin=False)
    wired.say(whole[20:], WSMsgType.CONTINUATION)
    wired.say(delivery(5))
    assert wired.rows() == [(Kind.RECV, 4), (Kind.RECV, 5)]


def test_a_binary_frame_is_bad(wired: Wired) -> None:
    wired.say(delivery(1), WSMsgType.BINARY)
    assert wired.rows() == [(Kind.BAD, BadReason.UNDECODABLE)]


@pytest.mark.parametrize(
    ("payload", "code"),
    [pytest.param(b"\x0f\xa3slow", 4003, id="with a code"), pytest.param(b"", 1005, id="without")],
)
def test_a_close_frame_ends_the_connection_once_with_its_code(
    wired: Wired, payload: bytes, code: int
) -> None:
    wired.say(payload, WSMsgType.CLOSE)
    wired.socket.on_ws_disconnected(None)  # type: ignore[arg-type]
    assert wired.rows() == [(Kind.CONN, 101), (Kind.CLOSE, code)]
    assert len(wired.ends) == 1


def test_what_comes_behind_a_close_frame_is_discarded(wired: Wired) -> None:
    wired.say(delivery(1))
    before = wired.rows()
    wired.say(b"\x03\xea", WSMsgType.CLOSE)
    wired.say(delivery(1))  # known, so that it takes the short way
    wired.say(delivery(2))
    assert wired.rows() == [(Kind.CONN, 101), (Kind.CLOSE, 1002)]
    assert before


def test_the_memo_is_bounded() -> None:
    memo = Memo()
    for n in range(10_000):
        memo.remember(b"%d" % n, ("room:1", n, 1, 1, 1, 0))
    assert 0 < len(memo.known) <= 4096
    assert memo.known[b"9999"][1] == 9999


@pytest.mark.parametrize(
    ("error", "status"),
    [
        pytest.param(
            ConnectionRefusedError(errno.ECONNREFUSED, "no"), CONN_ERRNO + errno.ECONNREFUSED, id="refused"
        ),
        pytest.param(TimeoutError("no answer to the upgrade"), CONN_ERRNO + errno.ETIMEDOUT, id="no answer"),
        pytest.param(TimeoutError(errno.ETIMEDOUT, "syn"), CONN_ERRNO + errno.ETIMEDOUT, id="no route"),
        pytest.param(OSError("name lookup"), CONN_ERRNO + errno.EIO, id="without a number"),
        pytest.param(WSHandshakeError("garbage"), CONN_ERRNO + errno.EPROTO, id="not HTTP"),
        pytest.param(
            WSHandshakeError("503", b"", b"", WSUpgradeResponse.create_error_response(503)),
            503,
            id="refused by HTTP",
        ),
    ],
)
def test_a_failed_dial_says_how_it_failed(error: Any, status: int) -> None:
    assert failure(error) == (status, 0.0)


@pytest.mark.parametrize(("header", "wait_s"), [("3", 3.0), ("9999", 60.0), ("Tue, 24 Nov 2026", 0.0)])
def test_a_refusal_may_say_how_long_to_stay_away(header: str, wait_s: float) -> None:
    response = WSUpgradeResponse.create_error_response(503, None, {"Retry-After": header})
    assert failure(WSHandshakeError("503", b"", b"", response)) == (503, wait_s)

"""A client's socket: fragments, equal frames, close frames, and how a failed dial is classed."""

from __future__ import annotations

import errno
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picows import WSHandshakeError, WSMsgType, WSUpgradeResponse
from picows.picows import _make_test_ws_frame

from chatd.protocol import messages as wire
from loadgen.body import encode_body, identify
from loadgen.client import Client
from loadgen.connection import Memo, Wires, _Socket, failure
from loadgen.drivers.chatd import ChatdDriver
from loadgen.publisher import Shared
from loadgen.recorder import Recorder
from reports.history import CONN_ERRNO, BadReason, Kind


def body(serial: int, channel: int = 1) -> bytes:
    return encode_body(nonce=7, channel=channel, publisher=2, pub_seq=serial, scheduled_ns=5, body_bytes=3)


def delivery(serial: int, channel: int = 1) -> bytes:
    data = msgspec.Raw(body(serial, channel))
    return wire.encode(
        wire.Message(channel=f"room:{channel}", serial=serial, message="m", user="u", time=0, data=data)
    )


refused = WSUpgradeResponse.create_error_response


class Wired:
    """A socket with its client and log; frames are given to it as picows gives them.

    Somebody else is on room:1 too.
    """

    def __init__(self, path: Path, channels: tuple[int, ...] = (1,)) -> None:
        self.recorder = Recorder(path, 1, 7, segment_bytes=1 << 14)
        self.ends: list[float | None] = []
        shared = Shared(
            recorder=self.recorder, driver=ChatdDriver, nonce=7, body_bytes=3, ack_timeout_s=5.0,
            now_ns=lambda: 1, rng=random.Random(1),
            later=lambda _wait, _call: pytest.fail("no timer"),
        )  # fmt: skip
        crashed: Any = pytest.fail
        self.wires = Wires(shared, ended=lambda _client, wait_s: self.ends.append(wait_s), crashed=crashed)
        self.client = Client(5, channels, shared)
        Client(6, (1,), shared)
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
    bodies: list[bytes] = []
    real = identify
    monkeypatch.setattr(
        "loadgen.publisher.identify", lambda raw, *run: (bodies.append(bytes(raw)), real(raw, *run))[1]
    )
    for serial in (1, 2, 1, 1):
        wired.say(delivery(serial))
    assert wired.rows() == [(Kind.RECV, serial) for serial in (1, 2, 1, 1)]
    assert bodies == [body(1), body(2)]


def test_what_nobody_else_here_will_get_is_not_remembered(tmp_path: Path) -> None:
    wired = Wired(tmp_path, channels=(1, 2))
    wired.say(delivery(1, channel=2))
    assert not wired.wires.memo.known
    wired.say(delivery(1))
    assert list(wired.wires.memo.known) == [delivery(1)]
    assert wired.rows() == [(Kind.RECV, 1)] * 2
    wired.recorder.close()


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """A message or a reaction, sound or with some bytes changed, or something else."""
    channel, serial = draw(st.sampled_from([1, 2, 3])), draw(st.sampled_from([0, 1, 2, 2**32 - 1, 2**32, -1]))
    told = body(serial % 2**32, channel)
    react = draw(st.booleans())
    data = told if not react else b'{"emoji":%b,"op":"add"}' % told
    whole = wire.encode(
        wire.Message(
            channel=f"room:{channel}", serial=serial, message="m", user="u", time=0, data=msgspec.Raw(data),
            kind="react" if react else "text", to=4 if react else None,
        )
    )  # fmt: skip
    for position, cut, put in draw(st.lists(EDITS, max_size=2)):
        whole = whole[:position] + put + whole[position + cut :]
    return draw(
        st.sampled_from(
            [whole, whole, b"{}", b"", wire.encode(wire.Live(channel="room:1", position=("E", 1)))]
        )
    )


EDITS = st.tuples(
    st.integers(0, 180), st.integers(0, 2), st.sampled_from([b"", b"0", b'"', b"\\", b"\xff", b","])
)


@settings(max_examples=50)
@given(st.lists(frames(), max_size=6), st.lists(st.integers(0, 5), max_size=12))
def test_the_short_ways_record_what_reading_every_frame_records(drawn: list[bytes], order: list[int]) -> None:
    """``order`` lets frames come again, so that the remembered ones are among them."""
    said = []
    for short in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            wired = Wired(Path(folder), channels=(1, 2))
            wired.client.link = None  # no pongs
            for payload in [drawn[n] for n in order if n < len(drawn)]:
                if short:
                    wired.say(payload)
                else:
                    wired.client.feed(payload, 1)
            rows = wired.recorder.fresh().copy()
            rows["t"] = 0
            # Which message is the newest may differ, where an old one came again; that there is one may not.
            said.append((rows.tolist(), sorted(wired.wires.shared.newest)))
            wired.recorder.close()
    assert said[0] == said[1]


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

"""Probes for the words of Shows that are about WebSocket messages.

The echo server knows no WebSocket: a client writes the beginning of a connection and frames, and gets back
what the proxy made of them, on the way there (frames of a client) or on the way back (of a server).
Frames are read here by a parser of its own, not by the proxy's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from chaos.faults.base import Shows

if TYPE_CHECKING:
    from tests.conformance.faults import Bench

VIEW = "loadgen.drivers.chatd_view:FRAME_VIEW"
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
MASK = b"\x11\x22\x33\x44"
HEADS = {
    "upstream": b"GET /ws?c=2 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n",
    "downstream": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
}
MESSAGES = [
    b'{"type":"message","channel":"ch-1","serial":%d,"data":"number %d"}' % (n, n) for n in range(1, 5)
]


class Frame(NamedTuple):
    final: bool
    opcode: int
    masked: bool
    payload: bytes


def written(payload: bytes, direction: str, opcode: int = TEXT) -> bytes:
    """A frame of less than 126 bytes, as that side writes it."""
    mask = MASK if direction == "upstream" else b""
    assert len(payload) < 126
    body = bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload)) if mask else payload
    return bytes((0x80 | opcode, (0x80 if mask else 0) | len(payload))) + mask + body


def parsed(stream: bytes) -> list[Frame]:
    """All frames of a stream that ends with one."""
    frames, at = [], 0
    while at < len(stream):
        first, second = stream[at : at + 2]
        at += 2
        size = second & 0x7F
        if size > 125:
            width = 2 if size == 126 else 8
            size, at = int.from_bytes(stream[at : at + width], "big"), at + width
        mask = stream[at : at + 4] if second & 0x80 else b""
        at += len(mask)
        body = stream[at : at + size]
        assert len(body) == size
        frames.append(
            Frame(
                bool(first & 0x80),
                first & 0xF,
                bool(mask),
                bytes(byte ^ mask[n % 4] for n, byte in enumerate(body)) if mask else body,
            )
        )
        at += size
    return frames


def play(bench: Bench, through: str, direction: str, frames: list[bytes], last: bytes) -> list[Frame]:
    """Send frames behind a handshake; what comes back, up to ``last``."""
    head = HEADS[direction]
    with bench.dial(through) as connection:
        connection.sendall(head + b"".join(frames))
        got = b""
        while not got.endswith(last):
            data = connection.recv(65536)
            assert data, f"the connection ended after {got!r}"
            got += data
    assert got.startswith(head)
    return parsed(got[len(head) :])


def sent_and_got(bench: Bench, direction: str = "downstream") -> list[Frame]:
    """What became of MESSAGES on proxy a; through b all is as sent. The end is a pong: no rule matches it."""
    end = written(b"end", direction, PONG)
    frames = [written(message, direction) for message in MESSAGES] + [end]
    through_b = play(bench, "b", direction, frames, end)
    assert [frame.payload for frame in through_b] == [*MESSAGES, b"end"]
    *got, pong = play(bench, "a", direction, frames, end)
    assert pong.opcode == PONG
    return got


def payloads(frames: list[Frame]) -> list[bytes]:
    assert all(frame.final and frame.opcode == TEXT for frame in frames)
    return [frame.payload for frame in frames]


@contextmanager
def held(bench: Bench) -> Iterator[None]:
    start = time.monotonic()
    assert payloads(sent_and_got(bench)) == MESSAGES
    assert time.monotonic() - start >= 0.14
    yield


@contextmanager
def farewell(bench: Bench) -> Iterator[None]:
    frames = [written(message, "downstream") for message in MESSAGES]
    close = written((1012).to_bytes(2, "big"), "downstream", CLOSE)
    got = play(bench, "a", "downstream", frames, close)
    assert [(frame.opcode, frame.payload) for frame in got] == [
        (TEXT, MESSAGES[0]),
        (CLOSE, (1012).to_bytes(2, "big")),
    ]
    yield


@contextmanager
def no_ping(bench: Bench) -> Iterator[None]:
    frames = [
        written(b"", "downstream", PING),
        written(b"{}", "downstream"),
        written(b"x", "downstream", PONG),
    ]
    last = written(MESSAGES[0], "downstream")
    assert payloads(play(bench, "a", "downstream", [*frames, last], last)) == [MESSAGES[0]]
    yield


@contextmanager
def fragments(bench: Bench) -> Iterator[None]:
    got = sent_and_got(bench)
    assert len(got) > 2 * len(MESSAGES)
    assert sum(frame.final for frame in got) == len(MESSAGES)
    assert b"".join(frame.payload for frame in got) == b"".join(MESSAGES)
    yield


@contextmanager
def huge(bench: Bench) -> Iterator[None]:
    got = payloads(sent_and_got(bench, "upstream"))
    assert {len(payload) for payload in got} == {300_000}
    assert [payload.rstrip() for payload in got] == MESSAGES
    yield


@contextmanager
def illegal(bench: Bench) -> Iterator[None]:
    def is_text(payload: bytes) -> bool:
        return payload.decode(errors="ignore").encode() == payload

    got = sent_and_got(bench, "upstream")
    assert len(got) == len(MESSAGES)
    assert all(not frame.masked or not is_text(frame.payload) for frame in got)
    yield


@contextmanager
def missing(bench: Bench) -> Iterator[None]:
    assert sent_and_got(bench) == []
    yield


@contextmanager
def twice(bench: Bench) -> Iterator[None]:
    assert payloads(sent_and_got(bench)) == [message for message in MESSAGES for _ in range(2)]
    yield


@contextmanager
def swapped(bench: Bench) -> Iterator[None]:
    assert payloads(sent_and_got(bench)) == [MESSAGES[n] for n in (1, 0, 3, 2)]
    yield


@contextmanager
def changed(bench: Bench) -> Iterator[None]:
    got = payloads(sent_and_got(bench))
    assert len(got) == len(MESSAGES)
    assert all(payload != message for payload, message in zip(got, MESSAGES, strict=True))
    yield


@contextmanager
def foreign(bench: Bench) -> Iterator[None]:
    got = payloads(sent_and_got(bench))
    assert [payload for payload in got if payload in MESSAGES] == MESSAGES
    assert len(got) > len(MESSAGES)
    yield


FRAME_PROBES: Mapping[Shows, Callable[[Bench], AbstractContextManager[None]]] = {
    Shows.HELD: held,
    Shows.FAREWELL: farewell,
    Shows.NO_PING: no_ping,
    Shows.FRAGMENTS: fragments,
    Shows.HUGE: huge,
    Shows.ILLEGAL: illegal,
    Shows.MISSING: missing,
    Shows.TWICE: twice,
    Shows.SWAPPED: swapped,
    Shows.CHANGED: changed,
    Shows.FOREIGN: foreign,
}

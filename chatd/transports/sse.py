"""Server-sent events: ``GET /sse``, one stream of frames. PROTOCOL.md § Fallback transports."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from ..config import Config
from ..flush import PIECE_BYTES, SLOW_BYTES
from ..protocol.messages import PING
from .asked import asked_for
from .base import Gateway
from .caller import caller
from .guard import readable_by
from .mailbox import HIGH_BYTES, Mailbox, session
from .positions import Positions
from .websocket import patience_ms, tune

HEADERS: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would wait for a full buffer
}
HEARTBEAT: Final = b":\n\n"
# Of what a slow reader may cost (SLOW_BYTES), the mailbox has its part, with the piece that goes beyond it.
# The rest is the socket's: a full buffer, and as much again that is written to it. Events are written in
# pieces, because each has more bytes than its frame: its id names all channels.
HIGH_WATER_BYTES: Final = (SLOW_BYTES - HIGH_BYTES - PIECE_BYTES) // 2
LINE_ENDS: Final = re.compile(rb"\r\n|\r|\n")


def event(kind: str, data: bytes, place: str | None = None) -> bytes:
    """One event. Line ends in ``data`` (white space between JSON tokens) become LF for the reader.

    >>> event("live", b'{"type":"live"}', '{"a":["E1",5]}')
    b'id: {"a":["E1",5]}\\nevent: live\\ndata: {"type":"live"}\\n\\n'
    """
    if b"\n" in data or b"\r" in data:
        data = b"\ndata: ".join(LINE_ENDS.split(data))
    head = b"" if place is None else b"id: %b\n" % place.encode()
    return b"%bevent: %b\ndata: %b\n\n" % (head, kind.encode(), data)


class Events:
    """Frames of one stream, as events; each that moves a position has the whole map as its id."""

    def __init__(self, positions: Positions) -> None:
        self._positions = positions

    def encode(self, payload: bytes) -> bytes:
        if payload == PING:
            return HEARTBEAT
        kind, moved = self._positions.take(payload)
        return event(kind, payload, self._positions.text if moved else None)


async def serve_sse(request: web.BaseRequest, gateway: Gateway, config: Config) -> web.StreamResponse:
    """Subscribe, and send frames until either side ends. Raises ``Refused``, ``ChatdError``."""
    asked = asked_for(request.query, request.headers)
    transport = request.transport
    async with session(gateway, caller(request), asked.connect) as (mailbox, connected):
        if transport is not None:
            transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
            tune(transport.get_extra_info("socket"), patience_ms(config))
        response = web.StreamResponse(headers=HEADERS | readable_by(request.headers))
        writer = await response.prepare(request)
        assert writer is not None
        events = Events(Positions(asked.positions, asked.channels))
        with suppress(ConnectionError):
            await _pump(writer, mailbox, events, b"retry: 500\n\n" + events.encode(connected))
        return response


async def _pump(writer: AbstractStreamWriter, mailbox: Mailbox, events: Events, first: bytes) -> None:
    await writer.write(first)
    while frames := await mailbox.take():
        for piece in pieces(map(events.encode, frames)):
            await writer.write(piece)
            await writer.drain()  # `write` looks at the buffer once in 64 KiB
        mailbox.written()
    if mailbox.end is not None:
        code, reason = mailbox.end
        await writer.write(event("close", _close(code, reason)))


def pieces(events: Iterable[bytes]) -> Iterator[bytes]:
    """What is written at a time: whole events, no more than ``HIGH_WATER_BYTES`` unless one alone is larger.

    >>> [len(piece) for piece in pieces([b"x" * 3000] * 4 + [b"x" * 9000, b"x"])]
    [6000, 6000, 9000, 1]
    """
    batch, size = list[bytes](), 0
    for one in events:
        if batch and size + len(one) > HIGH_WATER_BYTES:
            yield b"".join(batch)
            batch, size = [], 0
        batch.append(one)
        size += len(one)
    if batch:
        yield b"".join(batch)


def _close(code: int, reason: str) -> bytes:
    return msgspec.json.encode({"code": code, "reason": reason})

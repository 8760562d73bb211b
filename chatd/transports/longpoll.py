"""Long polling: ``GET /poll``, a stream in pieces. PROTOCOL.md § Fallback transports."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from ..config import Config
from ..protocol.messages import PING
from .asked import Asked, asked_for, wait_of
from .base import Gateway
from .caller import caller
from .mailbox import Mailbox, session
from .positions import Positions
from .websocket import patience_ms, tune

ANSWER_BYTES: Final = 256 * 1024  # of frames, before the answer goes out though more is there
REPLAY_S: Final = 10.0  # beyond wait_s, for a replay that has begun

# What is worth an answer. What is not stored (who types, who has read) goes with the next one: told again
# after each subscribe, it would make every poll return at once.
NEWS: Final = frozenset({"message", "gap", "reset", "goodbye"})


class Piece:
    """What one answer will hold. ``ready`` says that there is something worth an answer."""

    def __init__(self, asked: Asked, connected: bytes) -> None:
        self.positions = Positions(asked.positions, asked.channels)
        self._size = 0
        self._replaying = set(asked.channels)
        self._news = any(channel not in asked.positions for channel in asked.channels)
        self.frames = [connected] if self._news else []
        self._leaving = False

    def take(self, payload: bytes) -> None:
        if payload == PING:
            return
        kind, moved = self.positions.take(payload)
        self.frames.append(payload)
        self._size += len(payload)
        self._leaving |= kind == "goodbye"
        # A `subscribed` that moves a position has a gap to tell.
        self._news |= kind in NEWS or (kind == "subscribed" and moved)
        if kind == "live":
            self._replaying.discard(self.positions.channel)

    @property
    def replaying(self) -> bool:
        return bool(self._replaying)

    @property
    def ready(self) -> bool:
        full = self._size >= ANSWER_BYTES
        return full or self._leaving or (self._news and not self._replaying)

    def body(self) -> bytes:
        frames = b",".join(self.frames)
        return b'{"position":%b,"frames":[%b]}' % (self.positions.text.encode(), frames)


async def serve_poll(request: web.BaseRequest, gateway: Gateway, config: Config) -> web.StreamResponse:
    """Answer with what follows the position; wait for it if need be. Raises ``Refused``, ``ChatdError``."""
    asked = asked_for(request.query, request.headers)
    wait_s = wait_of(request.query)
    if request.transport is not None:
        # The session ends with the answer, so that the kernel alone sees that nobody takes it.
        tune(request.transport.get_extra_info("socket"), patience_ms(config))
    async with session(gateway, caller(request), asked.connect) as (mailbox, connected):
        piece = Piece(asked, connected)
        await _collect(piece, mailbox, asyncio.get_running_loop().time() + wait_s)
        if mailbox.over and not piece.frames:
            raise mailbox.why_over()
        return web.Response(body=piece.body(), content_type="application/json")


async def _collect(piece: Piece, mailbox: Mailbox, deadline_s: float) -> None:
    """Until there is something to tell, or the time is over."""
    while not piece.ready:
        try:
            async with asyncio.timeout_at(deadline_s + REPLAY_S * piece.replaying):
                frames = await mailbox.take()
        except TimeoutError:
            return
        if not frames:
            return
        for payload in frames:
            piece.take(payload)
        mailbox.written()

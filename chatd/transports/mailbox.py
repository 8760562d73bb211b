"""A session that is served over HTTP: the same one as behind a WebSocket, with another way out.

The daemon writes WebSocket frames, built once for all subscribers; here they are taken apart
again and wait until the handler of the request has written them in its own way. What the session
promises (order, replay, gaps, limits, rights) therefore holds for every transport alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from ..framing import CLOSE, TEXT, unframe
from ..protocol.errors import BadRequest, ChatdError, Forbidden, OutcomeUnknown, Unauthorized, Unavailable
from ..protocol.messages import PING, Connect, Error, encode
from .base import Gateway, Peer

HIGH_BYTES: Final = 32 * 1024  # waiting for the handler, before the daemon holds the rest itself


class Refused(Exception):
    """The request is answered with an error. ``error`` is the frame of PROTOCOL.md § Errors."""

    def __init__(self, error: Error, *, status: int | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(error.reason)
        self.error = error
        self.status = status if status is not None else _status(error.code)
        self.retry_after_s = retry_after_s
        if retry_after_s is None and error.after_ms is not None:
            self.retry_after_s = -(-error.after_ms // 1000)

    @classmethod
    def because(cls, error: ChatdError, *, status: int | None = None, request: int | None = None) -> Refused:
        frame = Error(
            id=request,
            code=error.code,
            reason=error.reason,
            temporary=error.temporary,
            definite=error.definite,
            after_ms=error.after_ms,
        )
        return cls(frame, status=status)


def _status(code: int) -> int:
    """The HTTP status of an error code: the same number, except that a token is renewed on 401."""
    return 401 if code == 402 else code


class Mailbox:
    """Contract: ``Link`` (chatd/transports/base.py). One handler takes the frames out."""

    def __init__(self, transport: asyncio.Transport | None) -> None:
        self.peer: Peer
        self.over = False  # nothing more comes
        self.end: tuple[int, str] | None = None  # close code and reason, once the daemon has said them
        self._transport = transport
        self._frames: list[bytes] = []
        self._bytes = 0
        self._full = False
        self._arrived = asyncio.Event()

    # Called by the daemon ---------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        for opcode, payload in unframe(data):
            if opcode == TEXT:
                self._frames.append(payload)
                self._bytes += len(payload)
                if payload == PING:
                    # A stream has no way back, so that the handler's comment is the ping, and the
                    # kernel's acknowledgement of it the pong (TCP_USER_TIMEOUT).
                    self.peer.received(PING)
            elif opcode == CLOSE:
                self.end = (int.from_bytes(payload[:2], "big"), payload[2:].decode())
                self.over = True
        self._arrived.set()
        if self._bytes > HIGH_BYTES and not self._full:
            self._full = True
            self.peer.blocked()

    @property
    def buffered(self) -> int:
        return self._bytes + (0 if self._transport is None else self._transport.get_write_buffer_size())

    def hang_up(self) -> None:
        self.over = True
        self._arrived.set()

    def abort(self) -> None:
        self.hang_up()
        if self._transport is not None:
            self._transport.abort()

    def pause_reading(self) -> None:
        """A request is all that there is to read."""

    def resume_reading(self) -> None: ...

    # Called by the handler --------------------------------------------------------------------------

    async def take(self) -> list[bytes]:
        """The payloads that came, pings included. None at all: the session is over."""
        while not self._frames and not self.over:
            self._arrived.clear()
            await self._arrived.wait()
        frames, self._frames = self._frames, []
        return frames

    def put_back(self, frames: list[bytes]) -> None:
        """These were taken too early: they come first again."""
        self._frames[:0] = frames

    def written(self) -> None:
        """What was taken is out: there is room for more."""
        self._bytes = sum(map(len, self._frames))
        if self._full:
            self._full = False
            self.peer.unblocked()

    def why_over(self) -> Refused:
        """The session ended before it gave what the request asks for."""
        code, reason = self.end or (1006, "the session ended")
        error: ChatdError
        if code == 4500:
            error = Unauthorized(reason)
        elif code == 4506:
            error = Forbidden(reason)
        elif 4500 <= code <= 4599:
            error = BadRequest(reason)
        else:
            error = Unavailable(reason, after_ms=1000)
        return Refused.because(error)


class Caller(msgspec.Struct, frozen=True):
    """Who makes a request."""

    transport: asyncio.Transport | None
    address: str
    token: str | None  # of the Authorization header


@asynccontextmanager
async def session(gateway: Gateway, caller: Caller, connect: Connect) -> AsyncIterator[tuple[Mailbox, bytes]]:
    """Open a session for one request; gives its mailbox and its `connected`. Raises ``Refused``."""
    refusal = gateway.refuse(caller.address)
    if refusal is not None:
        unavailable = Unavailable(refusal.body.strip()).reason
        error = Error(code=503, reason=unavailable, temporary=True, definite=True)
        raise Refused(error, status=refusal.status, retry_after_s=refusal.retry_after_s)
    mailbox = Mailbox(caller.transport)
    mailbox.peer = gateway.accept(mailbox, address=caller.address, token=caller.token)
    try:
        mailbox.peer.received(encode(connect))
        yield mailbox, await _connected(mailbox)
    finally:
        mailbox.peer.lost()


async def _connected(mailbox: Mailbox) -> bytes:
    frames = await mailbox.take()
    if not frames:
        raise mailbox.why_over()
    first = frames.pop(0)
    if (error := as_error(first)) is not None:
        raise Refused(error)
    mailbox.put_back(frames)
    return first


def as_error(payload: bytes) -> Error | None:
    """The frame as an error, if it is one."""
    if not payload.startswith(b'{"type":"error"'):
        return None
    return msgspec.json.decode(payload, type=Error)


def outcome_unknown(reason: str) -> Refused:
    return Refused.because(OutcomeUnknown(f"{reason}: publish again with the same message id"))

"""One connection to a server that speaks RESP: commands out, replies in. No retries, no pool.

What a caller must know of a command that failed is whether it can have run: ``NotSent`` says that
nothing of it left this process, ``NoReply`` that it was sent and the answer never came. A library
that dials again and repeats commands by itself cannot say which of the two it was.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis

Command = tuple[str | bytes | int | float, ...]
Reply = Any  # bytes, int, None, ReplyError, or a list of them

_pack = cast(Callable[[Command], bytes], hiredis.pack_command)  # its annotation is of one word


class ReplyError(Exception):
    """An error that the server answered with. ``code``: its first word."""

    @property
    def code(self) -> str:
        return str(self).partition(" ")[0]


class NotSent(Exception):
    """There is no connection: nothing was sent."""


class NoReply(Exception):
    """The connection broke or was too slow, and what was sent may have been executed."""


class Wire(asyncio.Protocol):
    """A connection. Made by ``dial``; it ends by itself and never comes back.

    Args:
        heard: called with every reply, if the connection is for listening (pub/sub).
        ended: called once when it is over, with the reason.
    """

    def __init__(
        self, heard: Callable[[Reply], None] | None = None, ended: Callable[[str], None] | None = None
    ) -> None:
        self._reader = hiredis.Reader(replyError=ReplyError, protocolError=ConnectionError)
        self._heard = heard
        self._ended = ended
        self._waiting: deque[tuple[int, asyncio.Future[list[Reply]]]] = deque()
        self._replies: list[Reply] = []
        self._transport: asyncio.Transport | None = None
        self.closed = asyncio.Event()

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    # What callers do --------------------------------------------------------------------------------

    async def ask(self, commands: Sequence[Command], timeout_s: float) -> list[Reply]:
        """Send commands in one write; returns one reply each, errors among them as ``ReplyError``.

        Raises:
            NotSent: nothing was sent.
            NoReply: everything was sent, or some of it. The connection is closed then.
        """
        if not commands:
            return []  # no reply would ever end the waiting
        future: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()
        self.send(commands)
        self._waiting.append((len(commands), future))
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            self.abort()
            raise NoReply(f"no answer within {timeout_s:g} s") from None

    def send(self, commands: Sequence[Command]) -> None:
        """Send commands whose replies are only ``heard``. Raises ``NotSent``."""
        if self._transport is None or self._transport.is_closing():
            raise NotSent("not connected")
        self._transport.write(b"".join(map(_pack, commands)))

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def hold(self, hold: bool) -> None:
        """Stop reading, so that the server has to wait, or go on."""
        if self._transport is not None and not self._transport.is_closing():
            (self._transport.pause_reading if hold else self._transport.resume_reading)()

    # What the event loop calls ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                self._take(reply)
        except ConnectionError:
            self.abort()

    def _take(self, reply: Reply) -> None:
        if self._heard is not None:
            self._heard(reply)
            return
        if not self._waiting:
            raise ConnectionError("an answer to nothing")
        self._replies.append(reply)
        count, future = self._waiting[0]
        if len(self._replies) == count:
            self._waiting.popleft()
            if not future.done():  # its caller may have gone
                future.set_result(self._replies)
            self._replies = []

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        why = str(error) if error is not None else "the connection was closed"
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(NoReply(why))
        self._waiting.clear()
        self.closed.set()
        if self._ended is not None:
            self._ended(why)


async def dial(wire: Wire, host: str, port: int, *, tls: bool = False, timeout_s: float) -> None:
    """Connect ``wire``. Raises ``NotSent``."""
    loop = asyncio.get_running_loop()
    context = ssl.create_default_context() if tls else None
    try:
        async with asyncio.timeout(timeout_s):
            await loop.create_connection(lambda: wire, host, port, ssl=context)
    except TimeoutError:
        raise NotSent(f"no connection within {timeout_s:g} s") from None
    except OSError as bad:
        raise NotSent(bad.strerror or str(bad)) from None
    except UnicodeError:  # of the codec for names of hosts
        raise NotSent(f"{host!r} cannot be the name of a host") from None

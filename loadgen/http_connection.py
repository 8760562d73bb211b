"""A client's connection where its WebSocket does not get through: a stream or polls, and posts beside them.

To the client it is one connection, as a WebSocket is: it begins when the server has accepted the client, and
is over when the stream ends, a poll fails, or a post is not answered. What the sockets carry is read by
``http1``, what it means by an ``HttpDriver``; each frame goes the same way as a frame of a WebSocket.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections import deque
from collections.abc import Callable
from functools import partial
from socket import IPPROTO_TCP, TCP_INFO
from time import monotonic, monotonic_ns
from typing import Final, NamedTuple, cast
from urllib.parse import urlsplit

from reports.history import CONN_ERRNO, Transport

from .client import ABNORMAL, Client
from .connection import ESTABLISHED, HANDSHAKE_S, Appetite, Failed, Wires, failure, feed, retry_after_s
from .drivers import HTTP_DRIVERS
from .http1 import DONE, Answers, BadAnswer, Events, Head, Part, addressed

FIRST_WORD_S: Final = 3.0  # a stream that has not begun by then is held back by somebody between
IDLE_S: Final = 15.0  # a connection that was not used for so long may be closed by the server at any time
_MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
_LEFT: Final = 1000


class _Wire(asyncio.Protocol):
    """One TCP connection, and the answers that come on it."""

    def __init__(self, part: Callable[[Part], None], lost: Callable[[_Wire], None]) -> None:
        self._part, self._lost = part, lost
        self._answers = Answers()
        self.transport: asyncio.Transport | None = None
        self.used_s = monotonic()
        self.spent = False  # the server will close it behind the answer at hand

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.used_s = monotonic()
        try:
            for part in self._answers.feed(data):
                self._part(part)
        except BadAnswer:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if exc is None and self._answers.ended() is DONE:
            self._part(DONE)
        self._lost(self)

    @property
    def usable(self) -> bool:
        """Whether another request may be written, and will not meet a server that is about to close."""
        return (
            self.transport is not None
            and not self.spent
            and not self.transport.is_closing()
            and monotonic() - self.used_s < IDLE_S
        )

    def write(self, request: bytes) -> None:
        if self.transport is not None:
            self.used_s = monotonic()
            self.transport.write(request)

    def hold(self, held: bool) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        if held:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class Site(NamedTuple):
    """Where requests go: the URL as far as its port, and who is meant (the header Host)."""

    url: str
    host: str


class _Requests:
    """Requests, one at a time, on a connection that is made when it is needed and kept while it is good.

    Args:
        answered: called with each answer's parts.
        broke: called when a request will not be answered.
    """

    def __init__(
        self, site: Site, wires: Wires, answered: Callable[[Part], None], broke: Callable[[], None]
    ) -> None:
        self._site, self._wires, self._answered, self._broke = site, wires, answered, broke
        self._wire: _Wire | None = None
        self._waiting: deque[bytes] = deque()
        self._asked = False  # a request is under way
        self._dial: asyncio.Task[None] | None = None
        self._held = self._closed = False

    async def connect(self) -> asyncio.BaseTransport:
        """Raises OSError, TimeoutError, AuthFailed."""
        parts = urlsplit(self._site.url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        wire = _Wire(self._part, self._lost)
        trust = self._wires.trust
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                transport, _ = await asyncio.get_running_loop().create_connection(
                    lambda: wire, str(parts.hostname), port, **trust.tls_of(self._site.url)
                )
        except ssl.SSLCertVerificationError as error:
            raise trust.stranger(self._site.url, error) from None
        self._wire = wire
        if self._closed:
            wire.abort()
        elif self._held:
            wire.hold(True)
        return transport

    def ask(self, request: bytes) -> None:
        """Send a request, now or after those before it."""
        self._waiting.append(addressed(request, self._site.host))
        self._go_on()

    def hold(self, held: bool) -> None:
        self._held = held
        if self._wire is not None:
            self._wire.hold(held)

    def close(self) -> None:
        """Nothing more is sent or told."""
        self._closed = True
        if self._dial is not None:
            self._dial.cancel()
        if self._wire is not None:
            self._wire.abort()

    @property
    def cut(self) -> bool:
        """Linux tells the state of a connection that nobody reads: struct tcp_info begins with it."""
        if self._wire is None or self._wire.transport is None:
            return True
        socket = self._wire.transport.get_extra_info("socket")
        return bool(socket.getsockopt(IPPROTO_TCP, TCP_INFO, 1)[0] != ESTABLISHED)

    def _go_on(self) -> None:
        if self._asked or not self._waiting or self._closed:
            return
        self._asked = True
        if self._wire is not None and self._wire.usable:
            self._wire.write(self._waiting.popleft())
        else:
            self._dial = asyncio.get_running_loop().create_task(self._connect_and_ask())

    async def _connect_and_ask(self) -> None:
        if self._wire is not None:
            self._wire.abort()
        try:
            await self.connect()
        except OSError:
            self._fail()
            return
        except Exception as error:
            self._wires.crashed(error)
            return
        if self._wire is not None and not self._closed:
            self._wire.write(self._waiting.popleft())

    def _part(self, part: Part) -> None:
        if self._closed:
            return
        try:
            if part is DONE:
                self._asked = False
            elif isinstance(part, Head) and not part.keeps and self._wire is not None:
                self._wire.spent = True
            self._answered(part)
        except Exception as error:
            self._wires.crashed(error)
        self._go_on()

    def _lost(self, wire: _Wire) -> None:
        if wire is not self._wire:
            return
        self._wire = None
        if self._asked:
            self._fail()

    def _fail(self) -> None:
        if not self._closed:
            try:
                self._broke()
            except Exception as error:
                self._wires.crashed(error)


class HttpLink:
    """The ``Link`` of a client that came over HTTP.

    ``accepted`` is done when the client has been accepted (None), or will not be (why).
    """

    def __init__(self, client: Client, wires: Wires, site: Site) -> None:
        self._client, self._wires = client, wires
        driver = HTTP_DRIVERS[wires.shared.driver.name]
        self._codec = driver(client.over, client.welcome)
        self._codec.at(client.ordinal)
        self._polls = client.over is Transport.POLL
        self._stream = _Requests(site, wires, self._heard, partial(self._end, ABNORMAL))
        self._posts = _Requests(site, wires, self._replied, partial(self._end, ABNORMAL))
        self._head = self._reply_head = Head(0, {})
        self._body, self._reply = bytearray(), bytearray()
        self._events = Events()
        slow = client.persona.read_per_s is not None and not self._polls
        self._appetite = Appetite(client, lambda reads: self._stream.hold(not reads)) if slow else None
        self._over = self._leaving = False
        self.accepted: asyncio.Future[Failed | None] = asyncio.get_running_loop().create_future()

    async def open(self) -> None:
        """Connect and ask to be let in. Raises OSError, AuthFailed."""
        transport = await self._stream.connect()
        if self._appetite is not None:
            self._appetite.begin(transport)
        self._client.opened(self, monotonic_ns(), self._codec)

    # What the client calls ----------------------------------------------------------------------------

    def send(self, frame: bytes) -> bool:
        if self._over or self._leaving:
            return False
        (self._stream if frame.startswith(b"GET ") else self._posts).ask(frame)
        return True

    def hold(self) -> None:
        self._stream.hold(True)
        self._posts.hold(True)

    def release(self) -> None:
        if self._appetite is not None:
            self._appetite.released()
        self._stream.hold(False)
        self._posts.hold(False)

    @property
    def cut(self) -> bool:
        return self._over or self._stream.cut

    def close(self) -> None:
        self._leave(_LEFT)

    def abort(self) -> None:
        self._leave(ABNORMAL)

    def _leave(self, code: int) -> None:
        """The end comes soon, as that of a socket does: never while the client is doing something else."""
        self._leaving = True
        asyncio.get_running_loop().call_soon(self._end, code)

    # The stream, or polls -----------------------------------------------------------------------------

    def _heard(self, part: Part) -> None:
        now_ns = self._client.heard_ns = monotonic_ns()
        if isinstance(part, Head):
            self._head = part
            self._body.clear()
        elif self._head.status != 200:
            if part is DONE:
                self._refused(Failed(self._head.status, retry_after_s(self._head.fields.get("retry-after"))))
        elif part is DONE:
            if self._polls:
                self._piece(now_ns)
            else:
                self._end(ABNORMAL)  # a stream says why it ends, and this one did not
        elif self._polls:
            self._collect(self._body, part)
        else:
            for event in self._events.feed(part):
                code = self._codec.closing(event.kind, event.data)
                if code is None:
                    self._feed(event.data)
                    if self._appetite is not None:
                        self._appetite.took()
                else:
                    self._end(code)

    def _piece(self, now_ns: int) -> None:
        for frame in self._codec.frames(bytes(self._body), self._client):
            self._feed(bytes(frame))
        if self._codec.goodbye_code:
            self._end(self._codec.goodbye_code)
        elif self._client.ready:
            request, positions = self._codec.poll()
            self._client.asking(positions, now_ns)
            self.send(request)
        else:
            self._end(ABNORMAL)

    def _feed(self, payload: bytes) -> None:
        if self._over:
            return
        client, wires = self._client, self._wires
        delivery = wires.memo.known.get(payload) or wires.learn(payload)
        if delivery is not None:
            client.deliver(delivery)
        else:
            feed(client, wires, payload)
        if client.ready and not self.accepted.done():
            self.accepted.set_result(None)

    def _refused(self, failed: Failed) -> None:
        if self._client.ready:
            self._end(ABNORMAL)
        else:
            self._give_up(failed)

    # Posts --------------------------------------------------------------------------------------------

    def _replied(self, part: Part) -> None:
        if isinstance(part, Head):
            self._reply_head = part
            self._reply.clear()
        elif part is DONE:
            client, heard_ns = self._client, self._client.heard_ns
            client.heard_ns = monotonic_ns()
            self._codec.answered(self._reply_head.status, bytes(self._reply), client)
            client.heard_ns = heard_ns  # an answered post says nothing of how the stream is
        else:
            self._collect(self._reply, part)

    def _collect(self, body: bytearray, part: bytes) -> None:
        body += part
        if len(body) > _MAX_ANSWER_BYTES:
            self._end(ABNORMAL)

    # The end ------------------------------------------------------------------------------------------

    def _end(self, code: int) -> None:
        """The first sign that the connection is over; others follow and say nothing new."""
        if not self._client.ready:
            why = errno.ECONNABORTED if self._client.leaving else errno.ECONNRESET
            self._give_up(Failed(CONN_ERRNO + why, 0.0))
        elif not self._over:
            self.shut()
            self._wires.ended(self._client, self._client.disconnected(code, monotonic_ns()))

    def _give_up(self, failed: Failed) -> None:
        if not self._over:
            self.shut()
            self.accepted.set_result(failed)

    def shut(self) -> None:
        """Close the sockets; nothing more is told."""
        self._over = True
        if self._appetite is not None:
            self._appetite.end()
        self._stream.close()
        self._posts.close()


async def open_http(
    client: Client, url: str, wires: Wires, *, patience_s: float = HANDSHAKE_S
) -> Failed | None:
    """Be let in over HTTP. None: the client is connected.

    Args:
        patience_s: to be accepted in, from the moment that the socket is connected.
    Raises:
        AuthFailed: the server is not the one that is trusted.
    """
    link = HttpLink(client, wires, Site(url, wires.trust.host_for(urlsplit(url).netloc)))
    try:
        await link.open()
        async with asyncio.timeout(patience_s):
            return await asyncio.shield(link.accepted)
    except OSError as error:  # TimeoutError is one
        return failure(error)
    finally:
        if not client.ready:
            link.shut()
            client.abandoned()

"""The Python client of chatd: it stays connected, and each message arrives once and in order.

::

    async with Client("ws://127.0.0.1:8765/ws", client="alice") as alice:
        room = await alice.subscribe("room:1")
        ack = await alice.publish("room:1", {"text": "hi"})
        async for item in room:
            match item:
                case Message():
                    print(item.user, item.data["text"])
                case GapNotice():
                    print("the server no longer has", item.missing)

Connections come and go underneath. After each break the client resumes every channel from its
position and sends the publishes without an answer again, under the same ids. What the server
cannot resend it declares, and that is an item of the stream like any other: a ``GapNotice``
stands exactly where the missing messages would.

With ``presence=True`` or ``signals=True`` a subscription also has ``Present``, ``Typing`` and ``Receipt``
items: who is there, who types, who has read what. They have no place in the stream.

A subscription holds at most ``buffer`` items that the application has not taken. Beyond that
the client leaves the channel, and resumes it from its position when the application has caught
up; so memory stays bounded, acks are never stuck behind a slow reader, and nothing is lost
inside the server's retention.

All errors are ``chatd.protocol.errors.ChatdError``. The logic is in ``chatd.client_core``, which does
no I/O; this module performs its actions on a ``websockets`` connection. One event loop, no threads.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Any, Final, Literal, Self, cast

import msgspec
import websockets.asyncio.client
import websockets.exceptions
import websockets.uri

from .client_actions import (
    Action,
    ClientEnded,
    Deliver,
    Dial,
    Done,
    Failed,
    Hangup,
    History,
    Over,
    Renew,
    Send,
    State,
    StreamOver,
    Up,
)
from .client_company import Present, Receipt, Typing
from .client_core import ClientCore
from .client_dialer import ABNORMAL
from .client_inbox import GapNotice, Message, Wants
from .client_stream import Subscription
from .client_token import Token, fetch
from .protocol.errors import AlreadySubscribed, ChatdError
from .protocol.messages import (
    SUBPROTOCOL,
    Ack,
    Connected,
    Delete,
    Edit,
    From,
    HistoryRequest,
    Last,
    Notice,
    Position,
    PresenceRequest,
    Publish,
    React,
    Write,
)

__all__ = [
    "Ack",
    "ChatdError",
    "Client",
    "ClientEnded",
    "GapNotice",
    "History",
    "Last",
    "Message",
    "Present",
    "Receipt",
    "Subscription",
    "Typing",
]

MAX_FRAME_BYTES: Final = 16 * 2**20  # a history page of 100 large messages fits
OPEN_S: Final = 10.0  # TCP, TLS and the WebSocket handshake together
log = logging.getLogger(__name__)
_Ticket = asyncio.Future[Any]


class _Connect(websockets.asyncio.client.connect):
    """Follows no HTTP redirect: only ``goodbye.to`` may send a client elsewhere, and not to any host."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class Client:
    """A client of chatd; see the module's text.

    Args:
        url: ws://host:port/ws.
        client: the name to go by, ``message.user`` for the others; None makes one up.
        token: proof of who this is, where the server asks for one: a token, or a function (asynchronous
            or not) that gives a fresh one for each connection, and again before it expires.
        follow: hosts, besides the url's own, that a draining server may send this client to.
        retry_s: (base, cap) in seconds of the full-jitter backoff; None takes the server's bounds.
        buffer: items that one subscription holds before it is paused.
        connect_s: how long ``async with`` tries to get the first connection. Later it tries for ever.
    """

    def __init__(
        self,
        url: str,
        *,
        client: str | None = None,
        token: Token | None = None,
        follow: Collection[str] = (),
        retry_s: tuple[float, float] | None = None,
        buffer: int = 1000,
        connect_s: float = 10.0,
    ) -> None:
        try:
            websockets.uri.parse_uri(url)
        except (websockets.exceptions.InvalidURI, ValueError):
            raise ValueError(f"url is {url!r}: must be ws://host:port/ws or wss://host:port/ws") from None
        if buffer < 1:
            raise ValueError(f"buffer is {buffer}: must be 1 or more")
        self.buffer: Final = buffer
        self._connect_s = connect_s
        self._token = token
        self._core: ClientCore[_Ticket] = ClientCore(
            url, random.Random(), client=client, follow=follow, retry_s=retry_s, renews=callable(token)
        )
        self._subscriptions: dict[str, Subscription] = {}
        self._dial: asyncio.Queue[str] = asyncio.Queue()
        self._socket: websockets.asyncio.client.ClientConnection | None = None
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue()
        self._up: _Ticket | None = None
        self._why = "no attempt was made"  # of the last failure to connect
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = 0.0  # when it is due; uvloop's handles do not tell
        self._renewing: asyncio.Task[None] | None = None

    # For the application ---------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Connect. Raises ``ClientEnded`` when the server refuses or cannot be reached in time."""
        if self._task is not None:
            raise RuntimeError("a Client is entered once: make a new one")
        self._up = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(), name=f"chatd client {self._core.url}")
        self._perform([])
        try:
            async with asyncio.timeout(self._connect_s):
                await self._up
        except TimeoutError:
            await self.close()
            raise ClientEnded(
                f"url is {self._core.url!r}: no connection within {self._connect_s:g} s ({self._why}); "
                "check the address, and that chatd is running"
            ) from None
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the client: its streams end, what is open fails with ``ClientEnded``, its task is gone."""
        self._closing = True
        self._perform(self._core.end(ClientEnded("the client was closed by the application")))
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def subscribe(
        self, channel: str, *, from_: From = "new", presence: bool = False, signals: bool = False
    ) -> Subscription:
        """Follow a channel.

        Args:
            from_: "new": what comes from now on; "first": everything retained, then that;
                ``Last(n)``: the newest n, then that; a ``Position``: what comes after it.
            presence: be told, by ``Present`` items, who is present, and whenever that changes.
            signals: be told, by ``Typing`` and ``Receipt`` items, who types and who has read what.
        Raises:
            ChatdError: the server refuses, or the channel is subscribed already by this client.
        """
        if channel in self._subscriptions:
            raise AlreadySubscribed(f"channel is {channel!r}: this client is subscribed to it already")
        wants = Wants(presence, signals)
        subscription = self._subscriptions[channel] = Subscription(self, channel)
        try:
            subscription.position = cast(
                Position,
                await self._ask(
                    lambda ticket: self._core.subscribe(channel, from_, ticket, self._now(), wants=wants)
                ),
            )
        except BaseException:
            if self._subscriptions.get(channel) is subscription:
                del self._subscriptions[channel]
                self._perform(self._core.unsubscribe(channel, self._future(), self._now()))
            raise
        return subscription

    async def publish(self, channel: str, data: object, *, message: str | None = None) -> Ack:
        """Publish a message, and wait until the server has placed it.

        The wait lasts over any number of disconnects. Giving it up (a timeout, a cancelled task) does
        not take the message back: the client goes on until it has an answer.

        Args:
            data: anything that msgspec can write as JSON; a ``msgspec.Raw`` is sent as it is.
            message: the message's id, where the application wants to be able to publish the same
                message again after it was itself restarted; by default a fresh one.
        Raises:
            ChatdError: the server refused. ``definite`` says that the message certainly has no place.
            ValueError: a publish with this id is still open.
        """
        return await self._place(Publish(id=0, channel=channel, message=message or "", data=_raw(data)))

    async def react(self, channel: str, to: int, emoji: str, *, op: Literal["add", "remove"] = "add") -> Ack:
        """Add an emoji to the message with serial ``to``, or take it back. Waits and fails as ``publish``."""
        return await self._place(React(id=0, channel=channel, to=to, message="", emoji=emoji, op=op))

    async def edit(self, channel: str, to: int, data: object) -> Ack:
        """Say what stands instead of the message with serial ``to``; for its author, and for moderators."""
        return await self._place(Edit(id=0, channel=channel, to=to, message="", data=_raw(data)))

    async def delete(self, channel: str, to: int) -> Ack:
        """Say that the message with serial ``to`` is not to be shown; for its author, and for moderators."""
        return await self._place(Delete(id=0, channel=channel, to=to, message=""))

    async def enter(self, channel: str, data: object = None) -> Present:
        """Be present in a channel until ``leave``, over any number of connections; again: say something else.

        Returns: how many are present then. Raises ``ChatdError`` when the server refuses.
        """
        return await self._presence(PresenceRequest(id=0, channel=channel, op="enter", data=_raw(data)))

    def leave(self, channel: str) -> None:
        """Be present in a channel no longer."""
        self._perform(self._core.leave(channel, self._now()))

    async def present(self, channel: str) -> Present:
        """Ask who is present. Raises ``ChatdError`` when the server refuses."""
        return await self._presence(PresenceRequest(id=0, channel=channel, op="get"))

    async def history(
        self, channel: str, *, before: int | None = None, after: Position | None = None, limit: int = 100
    ) -> History:
        """Read retained messages: the ``limit`` ones next after a position, or next before a serial.

        Raises:
            ChatdError: the server refused.
        """
        question = HistoryRequest(id=0, channel=channel, before=before, after=after, limit=limit)
        return cast(
            History,
            await self._ask(lambda ticket: self._core.read(question, ticket, self._now())),
        )

    @property
    def connected(self) -> bool:
        """Whether there is a connection now. Nothing needs to be done about it when there is none."""
        return self._core.state is State.CONNECTED

    @property
    def server(self) -> Connected:
        """What the server said of itself: the user this is, its contract and limits.

        Raises:
            ClientEnded: there never was a connection.
        """
        if self._core.server is None:
            raise ClientEnded("there has been no connection yet: enter the client with `async with` first")
        return self._core.server

    # The core's actions ----------------------------------------------------------------------------

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    @staticmethod
    def _future() -> _Ticket:
        return asyncio.get_running_loop().create_future()

    async def _ask(self, request: Callable[[_Ticket], list[Action[_Ticket]]]) -> object:
        if self._task is None:
            raise RuntimeError("the client is not connected: use `async with Client(...) as client:`")
        ticket = self._future()
        self._perform(request(ticket))
        return await ticket

    async def _place(self, frame: Write) -> Ack:
        return cast(Ack, await self._ask(lambda ticket: self._core.write(frame, ticket, self._now())))

    async def _presence(self, request: PresenceRequest) -> Present:
        return cast(Present, await self._ask(lambda ticket: self._core.read(request, ticket, self._now())))

    def _tell(self, notice: Notice) -> None:
        self._perform(self._core.tell(notice))

    async def _unsubscribe(self, channel: str) -> None:
        self._subscriptions.pop(channel, None)
        await self._ask(lambda ticket: self._core.unsubscribe(channel, ticket, self._now()))

    def _perform(self, actions: list[Action[_Ticket]]) -> None:
        """Carry out what the core says, and arrange for its next tick."""
        for action in actions:
            match action:
                case Deliver(channel, item):
                    if self._subscriptions[channel]._deliver(item):
                        self._perform(self._core.pause(channel, self._now()))
                case Send(payload):
                    self._outgoing.put_nowait(payload)
                case Done(ticket, value):
                    if not ticket.done():
                        ticket.set_result(value)
                case Failed(ticket, error):
                    if not ticket.done():
                        ticket.set_exception(error)
                case StreamOver(channel, error):
                    self._subscriptions.pop(channel)._end(None if self._closing else error)
                case Dial(url):
                    self._dial.put_nowait(url)
                case Hangup(why):
                    self._hang_up(why)
                case Renew():
                    self._renewing = asyncio.create_task(self._renew(), name="chatd client token")
                case Up():
                    if self._up is not None and not self._up.done():
                        self._up.set_result(None)
                case Over(error):
                    self._finish(error)
        self._wake()

    def _wake(self) -> None:
        wake_s = self._core.wake_s
        if wake_s is None or (self._timer is not None and self._timer_s <= wake_s):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_s = asyncio.get_running_loop().call_at(wake_s, self._tick), wake_s

    def _tick(self) -> None:
        self._timer = None
        self._perform(self._core.tick(self._now()))

    def _hang_up(self, why: str) -> None:
        log.info("%s: giving the connection up: %s", self._core.url, why)
        self._why = why
        if self._socket is not None:
            self._socket.transport.abort()  # a close handshake would wait for a peer that is gone

    def _finish(self, error: ChatdError) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._renewing is not None:
            self._renewing.cancel()
        if self._up is not None and not self._up.done():
            self._up.set_exception(error)

    # The socket ------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while self._core.ended is None:
                await self._connect(await self._dial.get())
        except Exception as bug:
            log.exception("%s: the client failed", self._core.url)
            # Nobody may be left waiting for an answer that cannot come any more.
            self._perform(self._core.end(ClientEnded(f"the client failed: {bug!r}")))

    async def _fresh_token(self) -> bool:
        """Ask the application for a token. What its function raises may hold secrets: it is not logged."""
        try:
            self._core.token = await fetch(self._token)
        except Exception as failure:
            self._why = f"the application gave no token: {type(failure).__name__}"
            log.warning("%s: %s", self._core.url, self._why)
            return False
        return True

    async def _renew(self) -> None:
        if await self._fresh_token() and self._core.token is not None:
            self._perform(self._core.renewed(self._core.token, self._now()))

    async def _connect(self, url: str) -> None:
        if not await self._fresh_token():
            self._perform(self._core.closed(self._now()))
            return
        try:
            socket = await self._open(url)
        except websockets.exceptions.InvalidStatus as refusal:
            self._turned_away(url, refusal.response.status_code, refusal.response.headers)
        except (OSError, TimeoutError, websockets.exceptions.WebSocketException) as failure:
            self._why = str(failure) or type(failure).__name__
            log.info("%s: cannot connect: %s", url, self._why)
            self._perform(self._core.closed(self._now()))
        else:
            await self._converse(socket)

    @staticmethod
    async def _open(url: str) -> websockets.asyncio.client.ClientConnection:
        return await _Connect(
            url,
            subprotocols=[websockets.Subprotocol(SUBPROTOCOL)],
            compression=None,
            ping_interval=None,  # the protocol has its own pings
            open_timeout=OPEN_S,
            close_timeout=1,
            max_size=MAX_FRAME_BYTES,
            proxy=None,
        )

    def _turned_away(self, url: str, status: int, headers: websockets.Headers) -> None:
        """The server answered the handshake with an HTTP status."""
        self._why = f"HTTP status {status}"
        log.info("%s: the handshake was answered with %s", url, self._why)
        if self._core.server is None and 300 <= status < 500 and status not in (408, 425, 429):
            text = f"url is {url!r}: answered with HTTP status {status}; chatd's WebSocket is at /ws"
            self._perform(self._core.end(ClientEnded(text)))
            return
        wait = headers.get("Retry-After", "")
        self._perform(
            self._core.closed(
                self._now(), retry_after_s=float(wait) if wait.isascii() and wait.isdigit() else 0
            )
        )

    async def _converse(self, socket: websockets.asyncio.client.ClientConnection) -> None:
        """One connection, from its handshake to its end."""
        if socket.subprotocol != SUBPROTOCOL:
            await socket.close()
            text = f"url is {self._core.url!r}: the server there does not speak {SUBPROTOCOL}"
            self._perform(self._core.end(ClientEnded(text)))
            return
        self._socket, self._outgoing = socket, asyncio.Queue()
        writer = asyncio.create_task(self._write(socket, self._outgoing), name="chatd client writer")
        try:
            self._perform(self._core.opened(self._now()))
            while self._core.ended is None:
                payload = await socket.recv(decode=False)
                self._perform(self._core.received(payload, self._now()))
        except websockets.exceptions.ConnectionClosed:
            pass
        finally:
            self._socket = None
            writer.cancel()
            await asyncio.wait([writer])
            await socket.close()
        code, reason = socket.close_code or ABNORMAL, socket.close_reason or ""
        log.info("%s: the connection ended with %d %s", self._core.url, code, reason)
        self._why = f"closed with {code} {reason}".rstrip()
        self._perform(self._core.closed(self._now(), code=code, reason=reason))

    @staticmethod
    async def _write(
        socket: websockets.asyncio.client.ClientConnection, outgoing: asyncio.Queue[bytes]
    ) -> None:
        try:
            while True:
                await socket.send(await outgoing.get(), text=True)
        except websockets.exceptions.ConnectionClosed:
            pass  # whoever reads finds out too


def _raw(data: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(data))

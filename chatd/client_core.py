"""The client of chatd without its socket: frames, ticks and closes in, actions out.

``ClientCore`` holds everything that outlives a connection: the position in each channel,
the publishes without a final answer, when to dial again. It does no I/O, reads no clock and
draws no randomness of its own: ``now_s`` and ``rng`` are arguments. ``chatd.client`` performs
its actions on a real socket; the tests perform them on a model of the network.

The caller's protocol: perform each returned action in order; call ``tick`` at ``wake_s``; after
``Dial`` call exactly one of ``opened`` or ``closed``; after ``opened``, ``received`` for each frame
and ``closed`` once, whoever closed. ``ticket`` is the caller's handle for one answer, opaque here.
The rules that this obeys: PROTOCOL.md § Client rules.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

import msgspec

from .client_actions import (
    Action,
    Asked,
    ClientEnded,
    Deliver,
    Dial,
    Done,
    Failed,
    Hangup,
    HistoryAsked,
    Kind,
    Over,
    Renew,
    Send,
    State,
    StreamOver,
    Up,
    read_error,
    read_history,
)
from .client_dialer import ABNORMAL, Dialer
from .client_inbox import HOLE, Inbox, Item, Sign
from .client_outbox import Entry, Fate, Publishes
from .client_token import TokenClock
from .protocol import messages
from .protocol.errors import AlreadySubscribed, ChatdError, Internal, TokenExpired, TooLarge, may_return
from .protocol.messages import From, Position

T = TypeVar("T")

HANDSHAKE_S: Final = 10.0  # an open socket that has not said `connected` by then is given up
ANSWER_S: Final = 30.0  # so is one that leaves a request without any answer for this long


@dataclass(slots=True)
class ClientCore(Generic[T]):
    """One client, over any number of connections. The module's text says how to drive it.

    Args:
        url: ws:// or wss://, the home address.
        rng: draws the jitter of the backoff, and the prefix of message ids.
        client: the name to go by; None makes one up. It is the same on every connection, because
            a publish that is sent again is recognised only under the name that sent it first.
        token: for the ``connect`` frame; may be set before each ``opened``. ``renews``: may be asked for.
        follow: hosts, besides the url's own, that ``goodbye.to`` may send this client to.
        retry_s: (base, cap) of the backoff; None takes the server's ``retry_ms``.
    """

    url: str
    rng: random.Random
    client: str | None = None
    token: str | None = None
    follow: Collection[str] = ()
    retry_s: tuple[float, float] | None = None
    renews: bool = False

    state: State = State.WAITING
    server: messages.Connected | None = None  # what the server last said of itself
    ended: ChatdError | None = None
    wasted: int = 0  # frames of the server that could not be read, or that answer nothing open
    _dialer: Dialer = field(init=False)
    _token: TokenClock = field(init=False)
    _heard_s: float = 0.0
    _last_id: int = 0
    _prefix: str = ""
    _published: int = 0
    _last_key: int = 0
    _requests: dict[int, Asked] = field(default_factory=dict)  # on this connection, in the order sent
    _inboxes: dict[str, Inbox[T]] = field(default_factory=dict)
    _retrying: dict[str, float] = field(default_factory=dict)  # channel -> when to subscribe again
    _publishes: Publishes[T] = field(default_factory=Publishes)
    _histories: dict[str, HistoryAsked[T]] = field(default_factory=dict)
    _unsubscribes: dict[int, T] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._dialer = Dialer(self.url, self.follow, self.retry_s)
        self._token = TokenClock(self.renews)
        self._prefix = f"{self.rng.getrandbits(64):016x}"
        if self.client is None:
            self.client = f"anon-{self._prefix}"

    # What the application asks ---------------------------------------------------------------------

    def subscribe(self, channel: str, from_: From, ticket: T, now_s: float) -> list[Action[T]]:
        """Follow a channel until ``unsubscribe``, across connections.

        Done: the ``Position`` that its stream starts after.
        """
        if self.ended is not None:
            return [Failed(ticket, self.ended)]
        if channel in self._inboxes:
            return [Failed(ticket, AlreadySubscribed(f"channel is {channel!r}: already subscribed"))]
        inbox = self._inboxes[channel] = Inbox(channel, from_, ticket)
        return [self._subscribe(inbox, now_s)] if self.state is State.CONNECTED else []

    def unsubscribe(self, channel: str, ticket: T, now_s: float) -> list[Action[T]]:
        """Forget a channel: nothing of it is delivered any more. Done: None."""
        inbox = self._inboxes.pop(channel, None)
        self._retrying.pop(channel, None)
        if inbox is None or inbox.paused or self.state is not State.CONNECTED:
            return [Done(ticket)]
        send = self._leave(inbox, now_s)
        self._unsubscribes[self._last_id] = ticket
        return [send]

    def publish(
        self, channel: str, data: msgspec.Raw, ticket: T, now_s: float, *, message: str | None = None
    ) -> list[Action[T]]:
        """Publish once, however often it has to be sent. Done: ``messages.Ack``."""
        if self.ended is not None:
            return [Failed(ticket, self.ended)]
        if message is None:
            self._published += 1
            message = f"{self._prefix}:{self._published}"
        if self._publishes.get(message) is not None:
            raise ValueError(f"message is {message!r}: a publish with this id is still open")
        entry = Entry(ticket, channel, data)
        if not self._publishes.add(message, entry) or self.state is not State.CONNECTED:
            return []
        return self._publish(message, entry, now_s)

    def history(
        self,
        channel: str,
        ticket: T,
        now_s: float,
        *,
        before: int | None = None,
        after: Position | None = None,
        limit: int = 100,
    ) -> list[Action[T]]:
        """Read retained messages; asked again after a disconnect. Done: ``History``."""
        if self.ended is not None:
            return [Failed(ticket, self.ended)]
        self._last_key += 1
        key = str(self._last_key)
        request = messages.HistoryRequest(id=0, channel=channel, before=before, after=after, limit=limit)
        asked = self._histories[key] = HistoryAsked(ticket, request)
        return [self._history(key, asked, now_s)] if self.state is State.CONNECTED else []

    def pause(self, channel: str, now_s: float) -> list[Action[T]]:
        """The application is behind on a channel: take nothing more of it. What comes meanwhile
        stays with the server, and ``proceed`` asks for it from where this left off."""
        inbox = self._inboxes.get(channel)
        if inbox is None or inbox.paused:
            return []
        inbox.paused = True
        self._retrying.pop(channel, None)
        return [self._leave(inbox, now_s)] if self.state is State.CONNECTED else []

    def proceed(self, channel: str, now_s: float) -> list[Action[T]]:
        """The application has caught up."""
        inbox = self._inboxes.get(channel)
        if inbox is None or not inbox.paused:
            return []
        inbox.paused = False
        return [self._subscribe(inbox, now_s)] if self.state is State.CONNECTED else []

    def end(self, error: ChatdError) -> list[Action[T]]:
        """Give up everything that is open, for good."""
        if self.ended is not None:
            return []
        self.ended, self.state = error, State.OVER
        actions: list[Action[T]] = [Done(ticket) for ticket in self._unsubscribes.values()]
        for channel, inbox in self._inboxes.items():
            if inbox.ticket is not None:
                actions.append(Failed(inbox.ticket, error))
            else:
                actions.append(StreamOver(channel, error))
        actions += [Failed(entry.ticket, error) for _, entry in self._publishes.drain()]
        actions += [Failed(asked.ticket, error) for asked in self._histories.values()]
        for table in (self._inboxes, self._histories, self._unsubscribes, self._requests, self._retrying):
            table.clear()
        return [*actions, Over(error)]

    # What the connection says ----------------------------------------------------------------------

    def opened(self, now_s: float) -> list[Action[T]]:
        """The socket is open, with subprotocol ``chatd.v1``."""
        if self.state is not State.DIALING:
            return []
        self.state, self._heard_s, self._last_id = State.OPEN, now_s, 0
        request = self._ask("connect", "", now_s)
        return [Send(messages.encode(messages.Connect(id=request, token=self.token, client=self.client)))]

    def renewed(self, token: str, now_s: float) -> list[Action[T]]:
        """A fresh token, as ``Renew`` asked for: for this connection, or else for the next."""
        self.token = token
        if self.state is not State.CONNECTED:
            return []
        return [Send(messages.encode(messages.Auth(id=self._ask("auth", "", now_s), token=token)))]

    def closed(
        self, now_s: float, *, code: int = ABNORMAL, reason: str = "", retry_after_s: float = 0.0
    ) -> list[Action[T]]:
        """The socket is gone, or could not be opened (``retry_after_s``: the server's refusal said so)."""
        if self.ended is not None:
            return []
        code, goodbye = self._dialer.code(code), self._dialer.goodbye
        if not may_return(code):
            why = reason or (goodbye.why if goodbye else "no reason given")
            return self.end(ClientEnded(f"the server closed for good with {code}: {why}", close_code=code))
        self._dialer.closed(code, now_s, self.rng, retry_after_s=retry_after_s)
        self.state = State.WAITING
        actions: list[Action[T]] = [Done(ticket) for ticket in self._unsubscribes.values()]
        self._unsubscribes.clear()
        self._requests.clear()
        self._retrying.clear()
        self._publishes.disconnected()
        for inbox in self._inboxes.values():
            inbox.disconnected()
        return actions

    def received(self, payload: messages.Buffer, now_s: float) -> list[Action[T]]:
        """One text frame arrived. Never raises on what a server sends."""
        if self.state not in (State.OPEN, State.CONNECTED):
            return []
        self._heard_s = now_s
        if payload == messages.PING:
            return [Send(messages.PING)]
        try:
            frame = messages.decode_reply(payload)
        except msgspec.DecodeError:
            self.wasted += 1  # if it mattered, a hole or a missing answer will tell
            return []
        return self._handle(frame, now_s)

    def tick(self, now_s: float) -> list[Action[T]]:
        """Time has passed; to be called at ``wake_s``, and harmless at any other time."""
        if self.state is State.WAITING and now_s >= self._dialer.due_s:
            self.state = State.DIALING
            return [Dial(self._dialer.url)]
        if self.state not in (State.OPEN, State.CONNECTED):
            return []
        if now_s >= self._heard_s + self._silence_s:
            return self._hang_up(f"nothing heard for {self._silence_s:g} s")
        if self._requests and now_s >= (oldest := next(iter(self._requests.values()))).sent_s + ANSWER_S:
            return self._hang_up(f"no answer to a {oldest.kind} for {ANSWER_S:g} s")
        if self.state is not State.CONNECTED:
            return []
        renew = [Renew()] if self._token.due(now_s) else []
        again = [channel for channel, when_s in self._retrying.items() if now_s >= when_s]
        return [*renew, *(self._subscribe(self._inboxes[c], now_s) for c in again), *self._flush(now_s)]

    @property
    def wake_s(self) -> float | None:
        """When ``tick`` has something to do; None: not before the next event."""
        if self.state is State.WAITING:
            return self._dialer.due_s
        if self.state not in (State.OPEN, State.CONNECTED):
            return None
        times = [self._heard_s + self._silence_s]
        if self._requests:
            times.append(next(iter(self._requests.values())).sent_s + ANSWER_S)
        if self.state is State.CONNECTED:
            times += self._retrying.values()
            times += [at_s for at_s in (self._publishes.wake_s, self._token.due_s) if at_s is not None]
        return min(times)

    # Frames ----------------------------------------------------------------------------------------

    def _handle(self, frame: messages.Reply, now_s: float) -> list[Action[T]]:
        match frame:
            case messages.Message():
                return self._push(frame, now_s, lambda inbox: inbox.message(frame, dense=self._dense))
            case messages.Ack():
                return self._acked(frame, now_s)
            case messages.Live():
                return self._push(frame, now_s, lambda inbox: inbox.reached(frame, dense=self._dense))
            case messages.Gap():
                return self._push(frame, now_s, lambda inbox: inbox.gap(frame))
            case messages.Reset():
                return self._push(frame, now_s, lambda inbox: inbox.reset(frame))
            case messages.Subscribed():
                return self._subscribed(frame)
            case messages.Unsubscribed():
                return self._unsubscribed(frame.id)
            case messages.HistoryPage():
                return self._history_page(frame)
            case messages.Error():
                return self._refused(frame, now_s)
            case messages.Connected():
                return self._connected(frame, now_s)
            case messages.Authorized():
                if self._answered(frame.id, "auth") is not None:
                    self._token.started(frame.token_s, now_s)
            case messages.Goodbye():
                self._dialer.goodbye = frame
            case messages.Presence() | messages.Typing() | messages.Receipt():
                pass
        return []

    def _connected(self, frame: messages.Connected, now_s: float) -> list[Action[T]]:
        if self._answered(frame.id, "connect") is None:
            return []
        self.state, self.server = State.CONNECTED, frame
        self._dialer.connected(frame.retry_ms, now_s)
        self._token.started(frame.token_s, now_s)
        actions: list[Action[T]] = [Up(frame)]
        # One `subscribe` a channel and not `connect.subscribe`: a refusal then names its request.
        actions += [self._subscribe(i, now_s) for i in self._inboxes.values() if not i.paused]
        actions += self._flush(now_s)
        actions += [self._history(key, asked, now_s) for key, asked in self._histories.items()]
        return actions

    def _push(
        self,
        frame: messages.Message | messages.Live | messages.Gap | messages.Reset,
        now_s: float,
        judge: Callable[[Inbox[T]], list[Item] | Sign],
    ) -> list[Action[T]]:
        inbox = self._inboxes.get(frame.channel)
        if inbox is None:
            return []
        outcome = judge(inbox)
        if outcome is not HOLE:
            assert isinstance(outcome, list)
            return [Deliver(frame.channel, item) for item in outcome]
        if inbox.repaired == inbox.cursor.position:
            return self._hang_up(f"{frame.channel!r} still has a hole after {inbox.repaired}")
        inbox.repaired = inbox.cursor.position
        return [self._subscribe(inbox, now_s)]

    def _subscribed(self, frame: messages.Subscribed) -> list[Action[T]]:
        asked = self._answered(frame.id, "subscribe")
        if asked is None:
            return []
        inbox = self._inboxes[asked.about]  # which takes its open request along when it goes
        actions: list[Action[T]] = []
        asked_from = inbox.cursor.position
        items = inbox.answered(frame)
        if inbox.ticket is not None:
            actions.append(Done(inbox.ticket, asked_from or inbox.cursor.position))
            inbox.ticket = None
        return [*actions, *(Deliver(inbox.channel, item) for item in items)]

    def _unsubscribed(self, request: int) -> list[Action[T]]:
        self._answered(request, "unsubscribe")
        ticket = self._unsubscribes.pop(request, None)
        return [] if ticket is None else [Done(ticket)]

    def _acked(self, frame: messages.Ack, now_s: float) -> list[Action[T]]:
        self._requests.pop(frame.id, None)
        entry = self._publishes.settle(frame.message)
        if entry is None:
            self.wasted += 1
            return []
        return [Done(entry.ticket, frame), *self._flush(now_s)]

    def _history_page(self, frame: messages.HistoryPage) -> list[Action[T]]:
        asked = self._answered(frame.id, "history")
        if asked is None or (history := self._histories.pop(asked.about, None)) is None:
            return []
        try:
            return [Done(history.ticket, read_history(frame))]
        except msgspec.DecodeError as bad:
            return [Failed(history.ticket, Internal(f"the server sent a history that is none: {bad}"))]

    def _refused(self, frame: messages.Error, now_s: float) -> list[Action[T]]:
        asked = self._requests.pop(frame.id, None) if frame.id is not None else None
        if frame.id is None and frame.code == TokenExpired.code:
            return [Renew()] if self.renews else []
        if asked is None:
            self.wasted += 1
            return []
        error = read_error(frame)
        match asked.kind:
            case "connect" if error.temporary or (self.renews and isinstance(error, TokenExpired)):
                self._dialer.hold_s = (error.after_ms or 0) / 1000
                return self._hang_up(f"connect was refused: {error.reason}")
            case "connect":
                return self.end(error)
            case "auth":
                return []  # the old token lasts as long as it lasts, and then the next connection has another
            case "publish":
                return self._publish_refused(asked.about, error, now_s)
            case "subscribe":
                return self._subscribe_refused(asked.about, error, now_s)
            case "unsubscribe":
                assert frame.id is not None
                return self._unsubscribed(frame.id)
            case "history":
                history = self._histories.pop(asked.about, None)
                return [] if history is None else [Failed(history.ticket, error)]

    def _publish_refused(self, message: str, error: ChatdError, now_s: float) -> list[Action[T]]:
        fate = self._publishes.refused(message, error, now_s, self.rng)
        if fate is Fate.STUCK:
            return self._hang_up(f"publish {message!r} stays out of order: {error.reason}")
        if fate is Fate.FINAL and (entry := self._publishes.settle(message)) is not None:
            return [Failed(entry.ticket, error), *self._flush(now_s)]
        return self._flush(now_s)

    def _subscribe_refused(self, channel: str, error: ChatdError, now_s: float) -> list[Action[T]]:
        inbox = self._inboxes[channel]
        inbox.request = None
        if error.temporary:
            wait_s = inbox.backoff.next_delay_s(now_s, self.rng)
            self._retrying[channel] = now_s + (wait_s if error.after_ms is None else error.after_ms / 1000)
            return []
        del self._inboxes[channel]
        return [StreamOver(channel, error) if inbox.ticket is None else Failed(inbox.ticket, error)]

    # Requests --------------------------------------------------------------------------------------

    def _ask(self, kind: Kind, about: str, now_s: float) -> int:
        self._last_id += 1
        self._requests[self._last_id] = Asked(kind, about, now_s)
        return self._last_id

    def _answered(self, request: int | None, kind: Kind) -> Asked | None:
        """Take back the open request that a frame answers; None: it answers none."""
        asked = self._requests.get(request) if request is not None else None
        if request is None or asked is None or asked.kind != kind:
            self.wasted += 1
            return None
        return self._requests.pop(request)

    def _subscribe(self, inbox: Inbox[T], now_s: float) -> Send:
        self._retrying.pop(inbox.channel, None)
        self._supersede(inbox)
        inbox.request = self._ask("subscribe", inbox.channel, now_s)
        return Send(
            messages.encode(messages.Subscribe(id=inbox.request, channel=inbox.channel, from_=inbox.ask))
        )

    def _leave(self, inbox: Inbox[T], now_s: float) -> Send:
        self._supersede(inbox)
        request = self._ask("unsubscribe", inbox.channel, now_s)
        return Send(messages.encode(messages.Unsubscribe(id=request, channel=inbox.channel)))

    def _supersede(self, inbox: Inbox[T]) -> None:
        """What was subscribed counts no more, and a subscribe under way may never be answered."""
        if inbox.request is not None:
            self._requests.pop(inbox.request, None)
        inbox.disconnected()

    def _history(self, key: str, asked: HistoryAsked[T], now_s: float) -> Send:
        request = self._ask("history", key, now_s)
        return Send(messages.encode(msgspec.structs.replace(asked.request, id=request)))

    def _publish(self, message: str, entry: Entry[T], now_s: float) -> list[Action[T]]:
        entry.request = self._ask("publish", message, now_s)
        frame = messages.encode(
            messages.Publish(id=entry.request, channel=entry.channel, message=message, data=entry.data)
        )
        if self.server is not None and len(frame) > self.server.limits.frame_bytes:
            # Sent, it could cost the connection, and would be sent again on the next one.
            del self._requests[entry.request]
            self._publishes.settle(message)
            limit = self.server.limits.frame_bytes
            return [Failed(entry.ticket, TooLarge(f"frame is {len(frame)} bytes: must be at most {limit}"))]
        return [Send(frame)]

    def _flush(self, now_s: float) -> list[Action[T]]:
        """Send the publishes that may go out now."""
        actions: list[Action[T]] = []
        while self.state is State.CONNECTED and (due := self._publishes.due(now_s)):
            for message, entry in due:
                actions += self._publish(message, entry, now_s)
        return actions

    # The connection --------------------------------------------------------------------------------

    @property
    def _dense(self) -> bool:
        """Whether the serials that arrive have no holes: not where own messages are left out."""
        return self.server is None or self.server.contract.echo

    @property
    def _silence_s(self) -> float:
        if self.state is State.OPEN or self.server is None:
            return HANDSHAKE_S
        return self.server.ping_s + self.server.pong_s

    def _hang_up(self, why: str) -> list[Action[T]]:
        self.state = State.HANGING_UP
        return [Hangup(why)]

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
from typing import Final, Generic, Literal, TypeVar

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
    Kind,
    Over,
    Renew,
    Requests,
    Send,
    State,
    StreamOver,
    Up,
    read_error,
)
from .client_company import Company
from .client_dialer import ABNORMAL, Dialer
from .client_inbox import HOLE, PLAIN, Inbox, Item, Sign, Wants
from .client_outbox import Entry, Fate, Publishes
from .client_reads import Question, Reads
from .client_token import TokenClock
from .protocol import messages
from .protocol.errors import AlreadySubscribed, ChatdError, TokenExpired, TooLarge, may_return
from .protocol.messages import From

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
    _prefix: str = ""
    _published: int = 0
    _requests: Requests = field(default_factory=Requests)  # of this connection
    _inboxes: dict[str, Inbox[T]] = field(default_factory=dict)
    _retrying: dict[str, float] = field(default_factory=dict)  # channel -> when to subscribe again
    _publishes: Publishes[T] = field(default_factory=Publishes)
    _reads: Reads[T] = field(default_factory=Reads)
    _company: Company = field(default_factory=Company)
    _unsubscribes: dict[int, T] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._dialer = Dialer(self.url, self.follow, self.retry_s)
        self._token = TokenClock(self.renews)
        self._prefix = f"{self.rng.getrandbits(64):016x}"
        if self.client is None:
            self.client = f"anon-{self._prefix}"

    # What the application asks ---------------------------------------------------------------------

    def subscribe(
        self, channel: str, from_: From, ticket: T, now_s: float, *, wants: Wants = PLAIN
    ) -> list[Action[T]]:
        """Follow a channel until ``unsubscribe``, across connections.

        Done: the ``Position`` that its stream starts after.
        """
        if self.ended is not None:
            return [Failed(ticket, self.ended)]
        if channel in self._inboxes:
            return [Failed(ticket, AlreadySubscribed(f"channel is {channel!r}: already subscribed"))]
        inbox = self._inboxes[channel] = Inbox(channel, from_, ticket, wants=wants)
        return [self._subscribe(inbox, now_s)] if self.state is State.CONNECTED else []

    def unsubscribe(self, channel: str, ticket: T, now_s: float) -> list[Action[T]]:
        """Forget a channel: nothing of it is delivered any more. Done: None."""
        inbox = self._inboxes.pop(channel, None)
        self._retrying.pop(channel, None)
        self._company.left(channel)
        if inbox is None or inbox.paused or self.state is not State.CONNECTED:
            return [Done(ticket)]
        send = self._leave(inbox, now_s)
        self._unsubscribes[self._requests.last_id] = ticket
        return [send]

    def publish(
        self, channel: str, data: msgspec.Raw, ticket: T, now_s: float, *, message: str | None = None
    ) -> list[Action[T]]:
        """Publish once, however often it has to be sent. Done: ``messages.Ack``."""
        return self.write(
            messages.Publish(id=0, channel=channel, message=message or "", data=data), ticket, now_s
        )

    def write(self, frame: messages.Write, ticket: T, now_s: float) -> list[Action[T]]:
        """Publish, react, edit or delete. A frame without a ``message`` id gets a fresh one."""
        if self.ended is not None:
            return [Failed(ticket, self.ended)]
        if not frame.message:
            self._published += 1
            frame = msgspec.structs.replace(frame, message=f"{self._prefix}:{self._published}")
        message, entry = frame.message, Entry(ticket, frame)
        if self._publishes.get(message) is not None:
            raise ValueError(f"message is {message!r}: a publish with this id is still open")
        if not self._publishes.add(message, entry) or self.state is not State.CONNECTED:
            return []
        return self._publish(message, entry, now_s)

    def read(self, question: Question, ticket: T, now_s: float) -> list[Action[T]]:
        """Read history, or ask for or enter the presence of a channel; again after a disconnect.

        Done: ``History`` or ``Present``.
        """
        if self.ended is not None:
            return [Failed(ticket, self.ended)]
        key = self._reads.add(ticket, question)
        return [self._read(key, now_s)] if self.state is State.CONNECTED else []

    def leave(self, channel: str, now_s: float) -> list[Action[T]]:
        """Be present in a channel no longer."""
        over = self._reads.leave(channel)
        return [*over, self._presence("leave", channel, now_s)] if self.state is State.CONNECTED else [*over]

    def tell(self, notice: messages.Notice) -> list[Action[T]]:
        """Say that the user types, or what he has read, in a channel that is subscribed."""
        inbox = self._inboxes.get(notice.channel)
        payload = None if inbox is None else self._company.tell(notice)
        return [] if inbox is None or payload is None or not inbox.subscribed else [Send(payload)]

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
        actions += [Failed(ticket, error) for ticket in self._reads.drain()]
        for table in (self._inboxes, self._unsubscribes, self._retrying):
            table.clear()
        self._requests.clear()
        return [*actions, Over(error)]

    # What the connection says ----------------------------------------------------------------------

    def opened(self, now_s: float) -> list[Action[T]]:
        """The socket is open, with subprotocol ``chatd.v1``."""
        if self.state is not State.DIALING:
            return []
        self.state, self._heard_s, self._requests = State.OPEN, now_s, Requests()
        request = self._requests.add("connect", "", now_s)
        return [Send(messages.encode(messages.Connect(id=request, token=self.token, client=self.client)))]

    def renewed(self, token: str, now_s: float) -> list[Action[T]]:
        """A fresh token, as ``Renew`` asked for: for this connection, or else for the next."""
        self.token = token
        if self.state is not State.CONNECTED:
            return []
        return [Send(messages.encode(messages.Auth(id=self._requests.add("auth", "", now_s), token=token)))]

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
        if (oldest := self._requests.oldest) is not None and now_s >= oldest.sent_s + ANSWER_S:
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
        if (oldest := self._requests.oldest) is not None:
            times.append(oldest.sent_s + ANSWER_S)
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
                done = self._push(frame, now_s, lambda inbox: inbox.reached(frame, dense=self._dense))
                return [*done, *map(Send, self._company.live(frame.channel))]
            case messages.Gap():
                return self._push(frame, now_s, lambda inbox: inbox.gap(frame))
            case messages.Reset():
                return self._push(frame, now_s, lambda inbox: inbox.reset(frame))
            case messages.Subscribed():
                return self._subscribed(frame)
            case messages.Unsubscribed():
                return self._unsubscribed(frame.id)
            case messages.HistoryPage() | messages.Presence() if frame.id is not None:
                asked = self._answered(frame.id, "read")
                return [] if asked is None else [*self._reads.answered(asked.about, frame)]
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
                return self._signal(frame)
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
        actions += [self._presence("enter", channel, now_s) for channel in self._reads.entered]
        actions += [self._read(key, now_s) for key in self._reads.keys()]
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

    def _unsubscribed(self, request: int | None) -> list[Action[T]]:
        self._answered(request, "unsubscribe")
        ticket = self._unsubscribes.pop(request or 0, None)
        return [] if ticket is None else [Done(ticket)]

    def _acked(self, frame: messages.Ack, now_s: float) -> list[Action[T]]:
        self._requests.pop(frame.id)
        entry = self._publishes.settle(frame.message)
        if entry is None:
            self.wasted += 1
            return []
        return [Done(entry.ticket, frame), *self._flush(now_s)]

    def _signal(self, frame: messages.Presence | messages.Typing | messages.Receipt) -> list[Action[T]]:
        inbox = self._inboxes.get(frame.channel)
        heard = [] if inbox is None or not inbox.hears(frame) else self._company.hear(frame)
        return [Deliver(frame.channel, signal) for signal in heard]

    def _refused(self, frame: messages.Error, now_s: float) -> list[Action[T]]:
        asked = self._requests.pop(frame.id)
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
                return self._unsubscribed(frame.id)
            case "read":
                return [*self._reads.refused(asked.about, error)]

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
        self._company.left(channel)
        return [StreamOver(channel, error) if inbox.ticket is None else Failed(inbox.ticket, error)]

    # Requests --------------------------------------------------------------------------------------

    def _answered(self, request: int | None, kind: Kind) -> Asked | None:
        """Take back the open request that a frame answers; None: it answers none."""
        asked = self._requests.pop(request, kind)
        self.wasted += asked is None
        return asked

    def _subscribe(self, inbox: Inbox[T], now_s: float) -> Send:
        self._retrying.pop(inbox.channel, None)
        self._supersede(inbox)
        return Send(inbox.payload(self._requests.add("subscribe", inbox.channel, now_s)))

    def _leave(self, inbox: Inbox[T], now_s: float) -> Send:
        self._supersede(inbox)
        request = self._requests.add("unsubscribe", inbox.channel, now_s)
        return Send(messages.encode(messages.Unsubscribe(id=request, channel=inbox.channel)))

    def _supersede(self, inbox: Inbox[T]) -> None:
        """What was subscribed counts no more, and a subscribe under way may never be answered."""
        self._requests.pop(inbox.request)
        inbox.disconnected()

    def _read(self, key: str, now_s: float) -> Send:
        return Send(self._reads.payload(key, self._requests.add("read", key, now_s)))

    def _presence(self, op: Literal["enter", "leave"], channel: str, now_s: float) -> Send:
        """Nobody waits for the answer."""
        return Send(self._reads.presence(op, channel, self._requests.add("read", "", now_s)))

    def _publish(self, message: str, entry: Entry[T], now_s: float) -> list[Action[T]]:
        request = self._requests.add("publish", message, now_s)
        frame = entry.payload(request)
        if self.server is not None and len(frame) > self.server.limits.frame_bytes:
            # Sent, it could cost the connection, and would be sent again on the next one.
            self._requests.pop(request)
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

"""One client's state machine: (frame, now) → effects. No I/O, no clock, no randomness.

The transport feeds payloads and the passing of time; the server carries out the
effects and feeds their outcomes back. Whatever a client sends, nothing here raises:
it is answered with an ``error``, or the connection is closed with a code
(PROTOCOL.md § Errors, § Close codes).

    NEW ── connect ──► OPEN ── goodbye ──► DRAINING ── close ──► CLOSED
     └── nothing within connect_s: 4502
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final

from .access import Access
from .checks import check_from, check_history, check_name, check_presence, check_serial
from .effects import (
    Close,
    Depart,
    Effects,
    Join,
    Leave,
    Ping,
    Read,
    Send,
    Share,
    Store,
    Subscription,
    Terms,
    error_frame,
)
from .limits import NO_QUOTA, Quota
from .namespaces import ACTIONS, Action
from .order import Order
from .protocol.errors import (
    AlreadySubscribed,
    BadRequest,
    ChatdError,
    CloseCode,
    OutOfOrder,
    RateLimited,
    TokenExpired,
    TooLarge,
    Unauthorized,
    Unavailable,
    Unknown,
)
from .protocol.messages import (
    PING,
    Abandon,
    Ack,
    Auth,
    Authorized,
    ChannelFrom,
    Connect,
    Delete,
    Edit,
    Goodbye,
    HistoryRequest,
    PresenceRequest,
    Publish,
    React,
    ReceiptNotice,
    Request,
    Subscribe,
    Subscribed,
    TypingNotice,
    Undecodable,
    Unsubscribe,
    Unsubscribed,
    Write,
    decode_request,
    encode,
    request_id,
)
from .rights import BITS, MODERATE, Right
from .store.base import Conflict, Duplicate, Head, Outcome, Refused
from .stream import locate
from .writes import refusal, to_append

READS: Final = 64  # history pages and repeated subscribes that may wait, beside one per channel
READ_AFTER_MS: Final = 100
_REFUSALS: Final = (Conflict, Refused)  # a union would be made anew for each publish
CONNECT_S: Final = 5.0  # from the upgrade to `connect`


class Phase(enum.Enum):
    NEW = "new"
    OPEN = "open"
    DRAINING = "draining"  # goodbye was said: answers still go out, requests are refused
    CLOSED = "closed"


class Session:
    """The server's side of one connection.

    Args:
        terms: what every client is told.
        now: seconds, monotonic, the time of the upgrade.
        user: the name of a client that gives none.
        first_ping_s: when the first ping is due after connect, in [0, ping_s): chosen at
            random by the caller, so that clients that came together are not pinged together.
        access: who may do what, by default everybody everything.
        quota: how often this client may publish, by default without limit.
    """

    def __init__(
        self,
        terms: Terms,
        now: float,
        *,
        user: str,
        first_ping_s: float,
        access: Access | None = None,
        quota: Quota = NO_QUOTA,
    ) -> None:
        self.phase = Phase.NEW
        self.user = user
        self.subscriptions: dict[str, Subscription] = {}
        self.present: set[str] = set()  # channels that were entered
        self.most_in_flight = terms.limits.in_flight
        self.in_flight = 0  # publishes with no answer yet
        self.reading = 0  # joins and history pages that are not done yet
        self._terms = terms
        self._first_ping_s = first_ping_s
        self._due = now + CONNECT_S  # the deadline of connect, then the next ping or the pong's deadline
        self._awaiting_pong = False
        self._last_id = -1
        self._access = access or Access()
        self._quota = quota
        self._order = Order()

    # Time -------------------------------------------------------------------------------------------

    @property
    def due(self) -> float:
        """When ``tick`` has something to do, if no frame comes before."""
        return min(self._due, self._access.due)

    def tick(self, now: float) -> Effects:
        if self.phase is Phase.CLOSED or now < self.due:
            return []
        if now >= self._access.due:
            return self._lapse(now)
        if self.phase is Phase.NEW:
            return self.close(CloseCode.NEVER_CONNECTED, f"no connect within {CONNECT_S:g} s")
        if self._awaiting_pong:
            return self.close(CloseCode.NO_PONG, f"no pong within {self._terms.pong_s:g} s")
        self._awaiting_pong = True
        self._due = now + self._terms.pong_s
        return [Ping()]

    def _lapse(self, now: float) -> Effects:
        reason = f"token has expired: send auth with another within {self._access.grace_s:g} s"
        if self._access.lapse(now):
            return self.close(CloseCode.TOKEN_EXPIRED, "token has expired")
        return [error_frame(TokenExpired(reason), None)]

    def excuse(self, now: float) -> None:
        """The ping waits behind what the client has still to read: its deadline is put off."""
        if self._awaiting_pong:
            self._due = max(self._due, now + self._terms.pong_s)

    def _pong(self, now: float) -> None:
        # An unasked pong changes nothing: a client that only sends `{}` is pinged all the same.
        if self._awaiting_pong:
            self._awaiting_pong = False
            self._due += self._terms.ping_s - self._terms.pong_s  # ping_s after the last ping
            self._due = max(self._due, now)

    # Frames -----------------------------------------------------------------------------------------

    def receive(self, payload: bytes, now: float) -> Effects:
        """Handle one text frame."""
        if self.phase is Phase.CLOSED:
            return []
        if payload == PING:
            self._pong(now)
            return []
        if len(payload) > self._terms.limits.frame_bytes:
            return self._too_large(payload)
        try:
            request = decode_request(payload)
        except Undecodable as bad:
            return self._undecodable(bad)
        if isinstance(request, Abandon):
            self._order.abandon(request.message)
            return []
        try:
            if request.id is not None:
                self._check_id(request.id)
            if self.phase is Phase.NEW:
                return self._connect(request, now)
            if self.phase is Phase.DRAINING:
                raise Unavailable("this node is going away", after_ms=self._terms.retry_ms[0])
            return self._handle(request, now)
        except ChatdError as error:
            return [error_frame(error, request.id)]

    def _undecodable(self, bad: Undecodable) -> Effects:
        if bad.unknown_type:
            return [error_frame(Unknown(bad.reason), bad.request_id)]
        error = error_frame(BadRequest(bad.reason), bad.request_id)
        if bad.request_id is not None:
            return [error]
        # Nothing that an answer could refer to: the peer speaks another protocol.
        return [error, *self.close(CloseCode.PROTOCOL, "not a chatd.v1 frame")]

    def _too_large(self, payload: bytes) -> Effects:
        asked, limit = request_id(payload), self._terms.limits.frame_bytes
        reason = f"frame has {len(payload)} bytes: must have {limit} or fewer"
        if asked is None:
            return self.close(1009, reason)
        self._last_id = max(self._last_id, asked)
        return [error_frame(TooLarge(reason), asked)]

    def _check_id(self, request_id: int) -> None:
        if request_id <= self._last_id:
            raise BadRequest(f"id is {request_id}: must be above {self._last_id}, the last one used")
        self._last_id = request_id

    def _handle(self, request: Request, now: float) -> Effects:
        if (action := ACTIONS.get(type(request))) is not None:
            self._check(action, request.channel)  # type: ignore[union-attr]  # those of ACTIONS have one
        match request:
            case Publish() | React() | Edit() | Delete():
                return self._write(request, now)
            case Subscribe():
                return self._subscribe(request)
            case Unsubscribe():
                return self._unsubscribe(request)
            case HistoryRequest():
                return self._history(request)
            case PresenceRequest():
                return self._presence(request)
            case TypingNotice() | ReceiptNotice():
                return self._notice(request)
            case Auth():
                return self._authorize(request, now)
            case Connect():
                raise BadRequest("connect was already answered on this connection")
            case Abandon():  # receive() has dealt with it
                return []

    def _connect(self, request: Request, now: float) -> Effects:
        if not isinstance(request, Connect):
            raise BadRequest("the first request must be connect")
        if request.client is not None:
            self.user = check_name("client", request.client)
        try:
            self._access.connect(request.token, now)
        except Unauthorized as error:
            return [error_frame(error, request.id), *self.close(CloseCode.BAD_TOKEN, "token is refused")]
        except TokenExpired as error:
            return [error_frame(error, request.id), *self.close(CloseCode.TOKEN_EXPIRED, error.reason)]
        self.user = self._access.user or self.user
        names = [check_name("channel", wish.channel) for wish in request.subscribe]
        if len(set(names)) < len(names):
            raise BadRequest("subscribe names a channel twice: name each once")
        self._check_room(len(names))
        for wish in request.subscribe:
            self._check_wish(wish)
        self.phase = Phase.OPEN
        self._due = now + self._first_ping_s
        connected = self._terms.connected(request.id, self.user, self._access.left_s(now))
        effects: Effects = [Send(encode(connected))]
        for wish in request.subscribe:
            effects.append(self._join(wish, None))
        return effects

    def _authorize(self, request: Auth, now: float) -> Effects:
        self._access.renew(request.token, now)
        answer = Authorized(id=request.id, user=self.user, token_s=self._access.left_s(now))
        effects: Effects = [Send(encode(answer))]
        may = self._access.rights.may
        if all(may(Right.SUBSCRIBE, name) for name in self.subscriptions):
            return effects
        # Come back, and learn from the answers which subscriptions the new token does not give.
        return [*effects, *self.close(CloseCode.RESYNC, "the new token gives fewer channels")]

    def _subscribe(self, request: Subscribe) -> Effects:
        name = check_name("channel", request.channel)
        if request.from_ is not None:
            check_from(request.from_)
        if request.presence:
            self._check("presence", name)
        self._check_reads()
        current = self.subscriptions.get(name)
        if current is not None:
            if request.from_ is None:
                raise AlreadySubscribed(f"channel {name!r} is already subscribed: give `from` to start again")
            current.active = False
        else:
            self._check_room(1)
        wish = ChannelFrom(
            channel=name, from_=request.from_ or "new", echo=request.echo, presence=request.presence
        )
        effects: Effects = [] if current is None else [Leave(name)]
        return [*effects, self._join(wish, request.id)]

    def _check(self, action: Action, channel: str) -> None:
        self._access.rights.check(BITS[action], channel)
        self._terms.namespaces.check(action, channel, self.user, self._moderates)

    def _check_wish(self, wish: ChannelFrom) -> None:
        self._check("subscribe", wish.channel)
        if wish.presence:
            self._check("presence", wish.channel)
        check_from(wish.from_)

    def _moderates(self, channel: str) -> bool:
        return self._access.rights.may(MODERATE, channel)

    def _check_room(self, more: int) -> None:
        limit = self._terms.limits.channels
        if len(self.subscriptions) + more > limit:
            raise BadRequest(f"channels would be {len(self.subscriptions) + more}: must be {limit} or fewer")

    def _join(self, wish: ChannelFrom, request_id: int | None) -> Join:
        subscription = Subscription(
            wish.channel,
            wish.from_,
            echo=wish.echo and self._terms.contract.echo,
            user=self.user,
            request_id=request_id,
            presence=wish.presence,
        )
        self.subscriptions[wish.channel] = subscription
        self.reading += 1
        return Join(subscription)

    def _unsubscribe(self, request: Unsubscribe) -> Effects:
        subscription = self.subscriptions.pop(request.channel, None)
        if subscription is None:
            raise Unknown(f"channel {request.channel!r} is not subscribed on this connection")
        subscription.active = False
        answer = Unsubscribed(id=request.id, channel=request.channel)
        return [Leave(request.channel), Send(encode(answer))]

    def _write(self, request: Write, now: float) -> Effects:
        append = to_append(request, self.user, self._moderates)
        if self._order.count:
            self._order.check(request.channel, request.message, request.id)
        try:
            self._quota.take(request.channel, now)
        except RateLimited as error:
            return self._blocks(request, error)
        self.in_flight += 1
        return [Store(request, append)]

    def _history(self, request: HistoryRequest) -> Effects:
        check_history(request)
        self._check_reads()
        self.reading += 1
        return [Read(request)]

    def _presence(self, request: PresenceRequest) -> Effects:
        channel, op = check_name("channel", request.channel), request.op
        if op in ("leave", "update") and channel not in self.present:
            raise Unknown(f"channel {channel!r} was not entered on this connection")
        if op in ("enter", "update"):
            check_presence(request.data)
            if channel not in self.present and len(self.present) >= self._terms.limits.channels:
                limit = self._terms.limits.channels
                raise BadRequest(f"channels entered would be {limit + 1}: must be {limit} or fewer")
            self.present.add(channel)
        elif op == "leave":
            self.present.discard(channel)
        return [Share(request)]

    def _notice(self, request: TypingNotice | ReceiptNotice) -> Effects:
        subscription = self.subscriptions.get(request.channel)
        if subscription is None or not subscription.answered:
            raise Unknown(f"channel {request.channel!r} is not subscribed on this connection")
        if isinstance(request, ReceiptNotice):
            check_serial("serial", request.serial)
        return [Share(request)]

    def _check_reads(self) -> None:
        if self.reading >= self._terms.limits.channels + READS:
            raise RateLimited(f"{self.reading} reads wait: let some finish", after_ms=READ_AFTER_MS)

    # Outcomes ---------------------------------------------------------------------------------------

    def subscribed(self, subscription: Subscription, head: Head) -> tuple[Effects, Subscribed]:
        """The channel's head is known: answer, and set where the replay begins."""
        start = locate(subscription.asked, head)
        subscription.cursor = start.serial
        subscription.answered = True
        asked = subscription.asked
        other_epoch = isinstance(asked, tuple) and asked[0] != head.epoch
        answer = Subscribed(
            id=subscription.request_id,
            channel=subscription.channel,
            position=(head.epoch, head.top),
            resumed=start.resumed,
            count=head.top - start.serial,
            floor=head.floor,
            start=start.serial,
            gap=start.gap,
            epochs=head.epochs if other_epoch else None,
        )
        return [Send(encode(answer))], answer

    def placed(self, request: Write, outcome: Outcome, epoch: str) -> Effects:
        """The log holds the message (or held it before, or holds another with its id).

        ``epoch``: of the store, for outcomes that do not say theirs.
        """
        self._answered(request)
        if isinstance(outcome, _REFUSALS):
            return [error_frame(refusal(request, outcome), request.id)]
        ack = Ack(
            id=request.id,
            message=request.message,
            position=(outcome.epoch or epoch, outcome.serial),
            duplicate=isinstance(outcome, Duplicate),
            durability=self._terms.contract.durability,
        )
        return [Send(encode(ack))]

    def failed(self, request: Write, error: ChatdError) -> Effects:
        """The publish failed. After a temporary failure, later ones of the channel must wait for it."""
        if error.temporary:
            self.in_flight -= 1
            return self._blocks(request, error)
        self._answered(request)
        return [error_frame(error, request.id)]

    def overtakes(self, request: Write) -> Effects | None:
        """Whether an accepted publish must not be stored after all, because one that was sent before it
        has failed meanwhile; then it is answered."""
        if not self._order.count:
            return None
        try:
            self._order.check(request.channel, request.message, request.id)
        except OutOfOrder as error:
            self.in_flight -= 1
            return [error_frame(error, request.id)]
        return None

    def _blocks(self, request: Write, error: ChatdError) -> Effects:
        self._order.failed(request.channel, request.message, request.id)
        answer = error_frame(error, request.id)
        if self._order.overfull:
            return [answer, *self.close(CloseCode.RATE, "too many publishes wait to be sent again")]
        return [answer]

    def _answered(self, request: Write) -> None:
        self.in_flight -= 1
        if self._order.count:
            self._order.settled(request.channel, request.message)

    def read_done(self) -> None:
        """A ``Join`` is live, or a ``Read`` was answered; or either came to nothing."""
        self.reading -= 1

    def refuse(self, request_id: int | None, error: ChatdError) -> Effects:
        """A request other than publish failed."""
        return [error_frame(error, request_id)]

    # The end ----------------------------------------------------------------------------------------

    def goodbye(self, code: int, why: str, after_ms: tuple[int, int], to: Sequence[str] = ()) -> Effects:
        """The server is about to close; requests are refused from here on, answers still go out.

        ``to``: where else to go, the best first.
        """
        if self.phase is not Phase.OPEN:
            return []
        self.phase = Phase.DRAINING
        return [Send(encode(Goodbye(code=code, why=why, after_ms=after_ms, to=list(to))))]

    def close(self, code: int, reason: str) -> Effects:
        if self.phase is Phase.CLOSED:
            return []
        return [*self.ended(), Close(code, reason)]

    def ended(self) -> Effects:
        """The connection is over, whoever ended it."""
        self.phase = Phase.CLOSED
        effects: Effects = []
        for name, subscription in self.subscriptions.items():
            subscription.active = False
            effects.append(Leave(name))
        self.subscriptions.clear()
        effects += map(Depart, sorted(self.present))
        self.present.clear()
        return effects

"""The publishing half of a virtual client: what it said, what was answered, what goes out again.

A publish without a final answer stays in the outbox of its lane, in order. After a
reconnect it is sent again under the same message id before anything newer on that channel.
After a refusal that may pass (overload, or an earlier publish that was refused) the lane is held until
everything in flight is answered, and then goes on in order. Nothing is ever given up, unless the
client's persona says so: ``outbox`` "resend" does not make what falls due while the client is down, and
"drop" gives up what was not answered besides. Both are counted.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Final, Protocol, cast

from chatd.protocol.cursor import Outbox
from reports.history import Flag, Kind

from .body import begun, completed, encode_body, identify, padding_of
from .drivers.base import ActingDriver, Buffer, Capability, Driver, Position
from .personas import EVERYBODY, Persona
from .reconnects import Reconnect
from .recorder import Recorder
from .tally import Tally
from .workload import channel_name, message_id

MAX_SERIAL: Final = 2**32 - 1  # what a record holds
_SEND: Final = int(Kind.SEND)
_RETRY: Final = int(Flag.RETRY)
RETRY_S: Final = 0.5  # after a refusal that names no wait

Delivery = tuple[str, int, int, int, int, int]  # channel, serial, publisher, pub_seq, scheduled_ns, flags


class Link(Protocol):
    """An open socket."""

    def send(self, frame: bytes) -> bool:
        """Write a text frame. False: the socket is closing, and nothing was written."""
        ...

    def close(self) -> None:
        """Say goodbye and close; ``Client.disconnected`` follows, soon and certainly."""
        ...

    def abort(self) -> None:
        """Drop the socket now."""
        ...

    def hold(self) -> None:
        """Read nothing more until ``release``."""
        ...

    def release(self) -> None:
        """Read on."""
        ...

    @property
    def cut(self) -> bool:
        """Whether the other side has closed, as far as can be known without reading."""
        ...


class Timer(Protocol):
    """Something that was put off and can still be called off."""

    def cancel(self) -> None: ...


class Shared:
    """What all clients of a worker share.

    Args:
        reconnect: policy of clients whose persona has none of its own.
        now_ns: CLOCK_MONOTONIC.
        later: calls a function after some seconds.
        channel_name: name of a channel on the wire, by id.
        token: what a client logs in with, by name; None: it need not.
    """

    def __init__(
        self,
        *,
        recorder: Recorder,
        driver: type[Driver],
        nonce: int,
        body_bytes: int,
        ack_timeout_s: float,
        reconnect: Reconnect = "server-hint",
        now_ns: Callable[[], int],
        later: Callable[[float, Callable[[], None]], Timer],
        rng: random.Random,
        channel_name: Callable[[int], str] = channel_name,
        token: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self.token = token
        self.channel_name = channel_name
        self.recorder, self.driver, self.nonce = recorder, driver, nonce
        self.padding, self.digest = padding_of(body_bytes)
        self.ack_timeout_ns = int(ack_timeout_s * 1e9)
        self.reconnect = reconnect
        self.now_ns, self.later, self.rng = now_ns, later, rng
        # All waits are equally long, so a queue keeps them in order.
        self.deadlines: deque[tuple[int, Publisher, Pending, int]] = deque()
        self.noticed: Capability | None = None  # for `take_notice`
        self.audience: Counter[str] = Counter()  # by channel, how many of the clients here are on it
        self.newest: dict[str, int] = {}  # by channel, the serial of a late message: what reactions are about
        self.tally = Tally()

    def delivered(self, channel: str, serial: int, body: Buffer, about: int) -> Delivery:
        """What a delivery says, whoever gets it; arguments as of ``Sink.message``."""
        publisher, pub_seq, scheduled_ns, flags = identify(body, self.nonce, self.padding, self.digest)
        if not about:
            self.newest[channel] = serial
        return channel, serial, publisher, pub_seq, scheduled_ns, flags

    def take_notice(self) -> Capability | None:
        """What the frame just read was, if it has no place in a stream; once."""
        noticed, self.noticed = self.noticed, None
        return noticed

    def expire(self, now_ns: int) -> None:
        """Deal with attempts that have waited for their answer until ``now_ns`` or longer."""
        while self.deadlines and self.deadlines[0][0] <= now_ns:
            _, publisher, pending, attempt = self.deadlines.popleft()
            if pending.open and pending.attempts == attempt:
                publisher.unanswered(pending)


class Pending:
    """A publish without a final answer."""

    __slots__ = (
        "about", "attempts", "body", "done", "lane", "message", "open", "pub_seq", "repeated", "scheduled_ns",
    )  # fmt: skip

    def __init__(
        self, lane: Lane, message: str, pub_seq: int, scheduled_ns: int, body: bytes, about: int
    ) -> None:
        self.lane, self.message, self.pub_seq = lane, message, pub_seq
        self.scheduled_ns, self.body = scheduled_ns, body
        self.about = about  # of a reaction, the serial that it is about; 0: a message
        self.repeated = False  # it was sent once more although it had been acked
        self.attempts = 0
        self.done = False  # one of its attempts was answered for good, whatever the others wait for
        self.open = 0  # attempts on this connection that are not answered yet


class Lane:
    """A client's side of one channel: its position as a subscriber, its queue as a publisher."""

    __slots__ = (
        "asked", "asked_ns", "channel", "digest", "digits", "epoch", "epoch_name", "floor", "held", "left",
        "live", "name", "outbox", "present", "retry_s", "returning", "serial", "subscribed", "timer",
    )  # fmt: skip

    def __init__(self, channel: int, name: str) -> None:
        self.channel, self.name = channel, name
        self.epoch_name: str | None = None  # None until the first subscription was answered
        self.epoch = 0  # the recorder's number of it
        self.serial = 0  # the highest received
        self.floor = 0
        self.asked: Position | None = None  # None: "new"
        self.asked_ns = 0
        self.subscribed = self.live = False
        self.left = False  # on this connection: unsubscribe was sent
        self.present = False  # on this connection: the last presence request was to enter
        self.returning = False  # to be subscribed to again as soon as that is answered
        self.outbox: Outbox[Pending] = Outbox()
        self.held = False  # a refusal is being waited out: nothing new is sent
        self.retry_s = RETRY_S
        self.timer: Timer | None = None
        self.digits, self.digest = b"", 0  # how the bodies of its messages begin; from the first one on


class Publisher:
    """Sends a client's publishes and keeps them until they are answered."""

    __slots__ = (
        "_alone", "_codec", "_deadlines", "_keeps", "_lanes", "_link", "_ordinal", "_persona", "_put",
        "_repeats", "_shared", "_under_way",
    )  # fmt: skip

    def __init__(self, ordinal: int, shared: Shared, persona: Persona = EVERYBODY) -> None:
        self._ordinal, self._shared, self._put = ordinal, shared, shared.recorder.put
        self._persona = persona
        self._deadlines = shared.deadlines
        self._keeps = persona.outbox == "queue"  # what falls due while there is no connection
        self._repeats = persona.repeat > 0
        self._link: Link | None = None  # None: not connected, or leaving
        self._codec: Driver | None = None
        self._alone = False  # a publish is sent when the one before it is answered
        self._under_way = False  # and one is
        self._lanes: tuple[Lane, ...] = ()

    def connected(self, link: Link, codec: Driver, lanes: Iterable[Lane]) -> None:
        """The connection is accepted: send what waited, in order."""
        self._link, self._codec, self._lanes = link, codec, tuple(lanes)
        self._alone, self._under_way = not codec.pipelines, False
        if self._alone:
            self._send_next()
        for lane in self._lanes:
            self._send_waiting(lane)

    def leaving(self) -> None:
        """Nothing more is sent on this connection."""
        self._link = None

    def disconnected(self, lanes: Iterable[Lane]) -> None:
        """What was in flight may or may not have been placed: it waits for the next connection."""
        self._link = None
        for lane in lanes:
            lane.held = False
            if lane.timer is not None:
                lane.timer.cancel()
                lane.timer = None
            for message, pending in lane.outbox.pending():
                pending.open = 0
                if self._persona.outbox == "drop":
                    lane.outbox.settle(message)
                    if pending.attempts:
                        self._shared.tally.given_up += 1
                    else:
                        self._shared.tally.dropped += 1

    def publish(self, lane: Lane, pub_seq: int, scheduled_ns: int, about: int = 0) -> None:
        """Say something, now or, while the connection or the lane is not there, as soon as it is.

        ``about``: of a reaction, the serial of the message that it is about.
        """
        shared = self._shared
        if self._link is None and not self._keeps:
            shared.tally.dropped += 1
            return
        if about:
            body = encode_body(
                nonce=shared.nonce,
                channel=lane.channel,
                publisher=self._ordinal,
                pub_seq=pub_seq,
                scheduled_ns=scheduled_ns,
                body_bytes=0,
            )
        else:
            if not lane.digits:
                lane.digits, lane.digest = begun(shared.nonce, lane.channel, self._ordinal, shared.digest)
            body = completed(lane.digits, lane.digest, pub_seq, scheduled_ns, shared.padding)
        message = message_id(self._ordinal, pub_seq)
        pending = Pending(lane, message, pub_seq, scheduled_ns, body, about)
        lane.outbox.add(message, pending)
        if not lane.held:
            self._send(pending)

    def unanswered(self, pending: Pending) -> None:
        """An attempt got no answer in time: unless another one had, it is sent again under the same id."""
        lane = pending.lane
        if self._alone and self._link is not None:
            self._link.abort()  # nothing can be sent behind it; on the next connection it comes first
        elif lane.held or self._link is None:
            pending.open = 0
            self._go_on(lane)
        elif pending.done:
            pending.open = 0
        else:
            self._send(pending)

    def placed(self, pending: Pending) -> None:
        """An attempt was acked: ``answered``, in fewer steps. Who repeats itself sends it again later."""
        lane = pending.lane
        if lane.held or self._alone:
            self.answered(pending, retry=False)
        else:
            if pending.open:
                pending.open -= 1
            deadlines = self._deadlines
            while deadlines and not deadlines[0][2].open:
                deadlines.popleft()
            pending.done = True
            lane.outbox.settle(pending.message)
        if self._repeats and not pending.repeated and self._shared.rng.random() < self._persona.repeat:
            pending.repeated = True
            self._shared.later(self._persona.repeat_after_s, lambda: self._repeat(pending))

    def answered(self, pending: Pending, *, retry: bool, after_s: float | None = None) -> None:
        """An attempt was answered, finally or (``retry``) with a refusal that may pass in ``after_s``."""
        lane = pending.lane
        if pending.open:
            pending.open -= 1
        # What is answered is let go of: a deadline would keep it for as long as an answer may take.
        deadlines = self._deadlines
        while deadlines and not deadlines[0][2].open:
            deadlines.popleft()
        if retry:
            lane.held, lane.retry_s = True, RETRY_S if after_s is None else after_s
        else:
            pending.done = True
            lane.outbox.settle(pending.message)
        if lane.held:
            self._go_on(lane)
        if self._alone:
            self._under_way = False
            self._send_next()

    def _send_next(self) -> None:
        """Of what waits on lanes that are not held, what was due first."""
        firsts = [
            first
            for lane in self._lanes
            if not lane.held and (first := next((p for _, p in lane.outbox.pending()), None)) is not None
        ]
        if firsts:
            self._send(min(firsts, key=lambda pending: pending.scheduled_ns))

    def _send(self, pending: Pending) -> None:
        link, codec, body = self._link, self._codec, pending.body
        if link is None or codec is None or self._under_way:
            return
        shared, lane, ordinal, attempts = self._shared, pending.lane, self._ordinal, pending.attempts
        if pending.about:
            acting = cast(ActingDriver, codec)
            frame = acting.react(lane.name, pending.about, pending.message, body, pending)
        else:
            frame = codec.publish(lane.name, pending.message, body, pending)
        # Stamped and recorded before the write: what is not on record was not sent.
        now_ns, channel, pub_seq, retry = shared.now_ns(), lane.channel, pending.pub_seq, 0
        if attempts:
            retry = _RETRY
        self._put(
            _SEND, now_ns, pending.scheduled_ns, ordinal, channel, ordinal, pub_seq, len(body), 0, retry
        )
        pending.attempts = attempts = attempts + 1
        if link.send(frame):
            pending.open += 1
            self._under_way = self._alone
            self._deadlines.append((now_ns + shared.ack_timeout_ns, self, pending, attempts))
        else:
            self._put(Kind.NACK, now_ns, 0, ordinal, channel, ordinal, pub_seq, 0, 0, Flag.DEFINITE)

    def _repeat(self, pending: Pending) -> None:
        if self._under_way:
            self._shared.later(self._persona.repeat_after_s, lambda: self._repeat(pending))
        elif self._link is not None and not pending.lane.held:
            self._shared.tally.repeats += 1
            self._send(pending)

    def _send_waiting(self, lane: Lane) -> None:
        for _, pending in lane.outbox.pending():
            if not pending.open:
                self._send(pending)

    def _go_on(self, lane: Lane) -> None:
        """A held lane goes on, in order, once every attempt is answered and the wait is over."""
        if (
            not lane.held
            or lane.timer is not None
            or any(pending.open for _, pending in lane.outbox.pending())
        ):
            return

        def go() -> None:
            lane.timer, lane.held = None, False
            self._send_waiting(lane)

        lane.timer = self._shared.later(lane.retry_s, go)

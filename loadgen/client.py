"""One virtual client: what it subscribes to, what it has published, and what it makes of frames.

It does no I/O: frames go out through a ``Link``, timers through ``Shared.later``, and
the clock is ``Shared.now_ns``. It is the ``Sink`` of its driver.

The client only observes. Every arrival is recorded as it came; a hole is not repaired and
a repeat is not dropped, because that would hide what is being measured. After a
disconnect it resumes from the highest serial that it received.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final, cast

from reports.history import CONN_OK, BadReason, Flag, Kind, Mark, Transport

from .actions import Action
from .drivers.base import (
    ActingDriver,
    Buffer,
    Capability,
    Driver,
    Hole,
    Position,
    Start,
    Subscribed,
    Want,
    Welcome,
)
from .personas import EVERYBODY, Persona, recovery
from .publisher import MAX_SERIAL, RETRY_S, Delivery, Lane, Link, Pending, Publisher, Shared
from .reconnects import comes_back, heeds, waits
from .workload import client_name, parse_message_id

log = logging.getLogger(__name__)

_RECV: Final = int(Kind.RECV)
_ACK: Final = int(Kind.ACK)
_DUPLICATE: Final = int(Flag.DUPLICATE)
_REPLAYED: Final = int(Flag.REPLAYED)
_OWN_ECHO: Final = int(Flag.OWN_ECHO)
_DOUBTFUL: Final = int(Flag.FOREIGN | Flag.BAD_DIGEST)
_KIND: Final = {action: action.name.lower() for action in Action}
ABNORMAL: Final = 1006  # the socket ended without a close frame
DEFAULT_SILENCE_S: Final = 33.0


class Client:
    """A virtual client; see the module. ``ordinal`` is its id in records, ``persona`` its ways."""

    __slots__ = (
        "_again", "_by_id", "_codec", "_goodbye", "_heeds", "_publisher", "_put", "_returns", "_shared",
        "_waits", "attempt", "deaf", "dialled_ns", "ended", "heard_ns", "lanes", "leaving", "link", "name",
        "ordinal", "over", "persona", "ready", "silence_ns", "slow", "welcome",
    )  # fmt: skip

    def __init__(
        self, ordinal: int, channels: Iterable[int], shared: Shared, persona: Persona = EVERYBODY
    ) -> None:
        self.ordinal, self.name, self.persona = ordinal, client_name(ordinal), persona
        self._by_id = {channel: Lane(channel, shared.channel_name(channel)) for channel in channels}
        self.lanes = {lane.name: lane for lane in self._by_id.values()}
        shared.audience.update(self.lanes.keys())
        self._shared, self._put = shared, shared.recorder.put
        self._publisher = Publisher(ordinal, shared, persona)
        self._codec: Driver = shared.driver()
        policy = persona.reconnect or shared.reconnect
        self._waits, self._heeds, self._returns = waits(policy), heeds(policy), comes_back(policy)
        self._again = recovery(persona, shared.driver.capabilities)
        self._goodbye: tuple[tuple[float, float], Sequence[str]] | None = None
        self.silence_ns = int(DEFAULT_SILENCE_S * 1e9)  # silence for longer than this is a dead peer
        self.link: Link | None = None
        self.over = Transport.WEBSOCKET  # by what it dials, or is connected
        self.welcome: Welcome | None = None  # the last one
        self.ready = False  # connected, in the server's words
        self.leaving = False  # we are closing on purpose
        self.slow = persona.read_per_s is not None  # until it has to catch up with the rest
        self.deaf = False  # the socket is open, and nothing is read or written
        self.ended = False  # it will not come back
        self.attempt = 0  # dials since the last success
        self.dialled_ns = 0
        self.heard_ns = 0  # when the frame at hand, or the last one, arrived

    # The socket's life -------------------------------------------------------------------------------

    def dialling(self, now_ns: int, over: Transport = Transport.WEBSOCKET) -> None:
        self.attempt += 1
        self.dialled_ns, self.over = now_ns, over

    def turned_away(self, status: int, now_ns: int) -> None:
        """Record a dial without a connection: the HTTP status, or CONN_ERRNO + errno."""
        self.abandoned()
        self._record_conn(status, 0, now_ns)

    def abandoned(self) -> None:
        """What was dialled will not become a connection."""
        self.link, self.leaving = None, False

    def dial_failed(self, status: int, now_ns: int, asked_s: float = 0.0) -> float:
        """Record a dial without a connection; returns how long to wait before the next, in seconds.

        Args:
            status: the HTTP status, or CONN_ERRNO + errno.
            asked_s: for how long the server asks to stay away.
        """
        self.turned_away(status, now_ns)
        wait_s = self._waits.next_delay_s(now_ns / 1e9, self._shared.rng)
        return max(wait_s, asked_s) if self._heeds else wait_s

    def opened(self, link: Link, now_ns: int, codec: Driver | None = None) -> None:
        """The socket is up: say who we are and ask for the subscriptions, each from its position.

        ``codec``: of this connection; None: a new one of the worker's driver.
        """
        self.link, self.heard_ns = link, now_ns
        self._codec = codec or self._shared.driver()
        wanted = [self._ask(lane, now_ns) for lane in self.lanes.values() if self._codec.connect_subscribes]
        link.send(self._codec.connect(self.name, wanted, self._shared.token(self.name)))

    def asking(self, positions: Mapping[str, Position], now_ns: int) -> None:
        """Over HTTP the subscriptions are asked for anew, from these positions, on the same connection."""
        for channel, position in positions.items():
            if (lane := self.lanes.get(channel)) is not None:
                lane.asked, lane.asked_ns = position, now_ns

    def disconnected(self, code: int, now_ns: int) -> float | None:
        """Record the end of the connection; returns the wait before the next dial, None for never."""
        if not self.ready:  # the upgrade was answered, the connect was not
            self._record_conn(CONN_OK, 0, now_ns)
        flags = Flag.ON_PURPOSE if self.leaving else 0
        self._put(Kind.CLOSE, now_ns, 0, self.ordinal, 0, 0, 0, code, 0, flags)
        self.link, self.ready, self.leaving = None, False, False
        for lane in self.lanes.values():
            lane.subscribed = lane.live = lane.left = lane.returning = lane.present = False
        self._publisher.disconnected(self.lanes.values())
        if flags:
            return 0.0
        if not self._shared.driver.may_return(code) or not self._returns:
            self.ended = True
            return None
        return self._wait_s(code, now_ns)

    def leave(self) -> None:
        """Close on purpose."""
        if self.link is not None and not self.leaving:
            self.leaving = True
            self._publisher.leaving()
            self.link.close()

    def lose(self) -> None:
        """The connection breaks without a word from either side."""
        if self.link is not None and not self.leaving:
            self.link.abort()

    def deafen(self) -> None:
        """Read, answer and send nothing more; the socket stays open."""
        if self.link is not None and not self.leaving and not self.deaf:
            self.deaf = True
            self._put(Kind.MARK, self._shared.now_ns(), 0, self.ordinal, 0, 0, 0, Mark.DEAF, 0, 0)
            self._publisher.leaving()
            self.link.hold()

    def hear(self) -> None:
        """Read on, send what waited."""
        if self.deaf:
            now_ns = self._shared.now_ns()
            self.deaf, self.heard_ns = False, now_ns
            self._put(Kind.MARK, now_ns, 0, self.ordinal, 0, 0, 0, Mark.HEARS, 0, 0)
            if self.link is not None:
                self.link.release()
                if self.ready and not self.leaving:
                    self._publisher.connected(self.link, self._codec, self.lanes.values())

    def unsubscribe(self, lanes: Iterable[Lane] | None = None) -> None:
        """Leave some channels, or all; the connection stays."""
        for lane in self.lanes.values() if lanes is None else lanes:
            known = lane.subscribed and not lane.left and not lane.returning
            if known and self.link is not None and not self.leaving:
                lane.left = True
                lane.asked_ns = self._shared.now_ns()
                self.link.send(self._codec.unsubscribe(lane.name))

    def subscribe_again(self, lanes: Iterable[Lane] | None = None) -> None:
        """Come back to those of the channels that it has left, to each where it was."""
        if (link := self.link) is not None:
            for lane in self.lanes.values() if lanes is None else lanes:
                if lane.left:
                    lane.left, lane.returning = False, lane.subscribed
                    self._subscribe_again(lane, link)

    @property
    def all_live(self) -> bool:
        return self.ready and all(lane.live for lane in self.lanes.values())

    @property
    def unacked(self) -> int:
        """Publishes without a final answer."""
        return sum([len(lane.outbox) for lane in self.lanes.values()])

    @property
    def unsent(self) -> int:
        """Publishes that wait and were never written."""
        return sum(
            not pending.attempts for lane in self.lanes.values() for _, pending in lane.outbox.pending()
        )

    def next_target(self) -> Sequence[str]:
        """Where the server said to go, once; empty for the usual target."""
        if self._goodbye is None:
            return ()
        _, to = self._goodbye
        self._goodbye = None
        return to

    def _wait_s(self, code: int, now_ns: int) -> float:
        """41xx come back at once, jittered as the goodbye says; all others back off.

        Source: PROTOCOL.md § Close codes.
        """
        if 4100 <= code <= 4199 and self._heeds:
            low_s, high_s = self._goodbye[0] if self._goodbye else (0.0, 0.0)
            return self._shared.rng.uniform(low_s, high_s)
        return self._waits.next_delay_s(now_ns / 1e9, self._shared.rng)

    def _record_conn(self, status: int, node: int, now_ns: int) -> None:
        identity = (self.ordinal, 0, node, self.attempt)
        self._put(Kind.CONN, now_ns, self.dialled_ns, *identity, status, 0, self.over)

    def publish(self, channel: int, pub_seq: int, scheduled_ns: int) -> None:
        """Say something on one of its channels, now or as soon as it is connected."""
        self._publisher.publish(self._by_id[channel], pub_seq, scheduled_ns)

    def react(self, channel: int, pub_seq: int, scheduled_ns: int) -> None:
        """React to a late message of one of its channels; where there is none, nothing is said."""
        lane = self._by_id[channel]
        if about := self._shared.newest.get(lane.name):
            self._publisher.publish(lane, pub_seq, scheduled_ns, about)
        else:
            self._shared.tally.skipped += 1

    def act(self, channel: int, action: Action) -> None:
        """Do something on one of its channels that leaves nothing in the log."""
        lane, tally = self._by_id[channel], self._shared.tally
        name = _KIND[action]
        if self.link is None or not self.ready or self.leaving or self.deaf or not lane.live:
            tally.missed[name] += 1
        elif action is Action.CHURN:
            tally.done[name] += 1
            self.unsubscribe((lane,))
            self._shared.later(self.persona.churn_away_s, lambda: self.subscribe_again((lane,)))
        elif (frame := self._acting(lane, action)) is not None:
            tally.done[name] += 1
            self.link.send(frame)
        else:
            tally.missed[name] += 1

    def _acting(self, lane: Lane, action: Action) -> bytes | None:
        """The frame of an action; None: there is nothing to act on."""
        codec = cast(ActingDriver, self._codec)
        if action is Action.TYPING:
            return codec.typing(lane.name)
        if action is Action.RECEIPT:
            return codec.receipt(lane.name, lane.serial) if lane.serial else None
        if action is Action.PRESENCE:
            lane.present = not lane.present
            return codec.presence(lane.name, lane.present)
        return codec.history(lane.name, self.persona.history_limit)

    # What the server says -----------------------------------------------------------------------------

    def feed(self, payload: Buffer, now_ns: int) -> None:
        """Read one text frame that arrived at ``now_ns``."""
        self.heard_ns = now_ns
        self._codec.feed(payload, self)

    def deliver(self, delivery: Delivery) -> None:
        """Record a delivery that arrived at ``heard_ns``. The hot path."""
        channel, serial, publisher, pub_seq, scheduled_ns, flags = delivery
        lane = self.lanes.get(channel)
        if lane is None:
            self.bad(BadReason.UNEXPECTED)
            return
        if serial > lane.serial:
            lane.serial = serial
        if not lane.live:
            flags |= _REPLAYED
        if publisher == self.ordinal and not flags & _DOUBTFUL:
            flags |= _OWN_ECHO
        self._put(
            _RECV, self.heard_ns, scheduled_ns, self.ordinal, lane.channel, publisher, pub_seq, serial,
            lane.epoch, flags,
        )  # fmt: skip

    def message(self, channel: str, serial: int, body: Buffer, about: int = 0) -> None:
        if not 0 <= serial <= MAX_SERIAL:
            self.bad(BadReason.SERIAL_RANGE)
            return
        self.deliver(self._shared.delivered(channel, serial, body, about))

    def connected(self, welcome: Welcome) -> None:
        if self.ready:
            self.bad(BadReason.UNEXPECTED)
            return
        self._record_conn(CONN_OK, node_id(welcome.node), self.heard_ns)
        self.ready, self.attempt, self._goodbye, self.welcome = True, 0, None, welcome
        self._waits.hinted(welcome.retry_s)
        self._waits.connected(self.heard_ns / 1e9)
        silence_s = welcome.ping_s + welcome.pong_s
        self.silence_ns = int(silence_s * 1e9) if silence_s else 2**63
        assert self.link is not None
        if not self.leaving:
            for lane in () if self._codec.connect_subscribes else self.lanes.values():
                self._subscribe_again(lane, self.link)
            self._publisher.connected(self.link, self._codec, self.lanes.values())

    def subscribed(self, answer: Subscribed) -> None:
        lane = self.lanes.get(answer.channel)
        if lane is None or not _fits(answer.start, answer.top, answer.floor):
            self.bad(BadReason.UNEXPECTED if lane is None else BadReason.SERIAL_RANGE)
            return
        self._lineage(lane, answer.epoch, answer.lineage)
        asked_epoch, asked_serial = lane.asked or (None, 0)
        # A resumed subscription goes on after the position that was asked, whatever `start` says.
        start = asked_serial if answer.resumed and lane.asked else answer.start
        lane.epoch_name, lane.epoch, lane.serial = answer.epoch, self._epoch(answer.epoch), start
        lane.floor, lane.subscribed, lane.live = answer.floor, True, False
        self._put(
            Kind.SUB,
            self.heard_ns,
            lane.asked_ns,
            self.ordinal,
            lane.channel,
            self._epoch(asked_epoch) if asked_epoch is not None else 0,
            asked_serial,
            start,
            lane.epoch,
            Flag.RESUMED if answer.resumed else 0,
        )
        if answer.hole is not None:
            self._record_gap(lane, answer.hole)

    def live(self, channel: str, epoch: str, serial: int) -> None:
        lane = self.lanes.get(channel)
        if lane is None or not lane.subscribed or not _fits(serial):
            self.bad(BadReason.UNEXPECTED)
            return
        lane.live = True
        number = self._epoch(epoch)
        identity = (self.ordinal, lane.channel, 0, lane.floor)
        self._put(Kind.LIVE, self.heard_ns, lane.asked_ns, *identity, serial, number, 0)

    def unsubscribed(self, channel: str) -> None:
        lane = self.lanes.get(channel)
        if lane is None:
            self.bad(BadReason.UNEXPECTED)
            return
        returning = lane.returning
        lane.subscribed = lane.live = lane.returning = False
        self._put(
            Kind.UNSUB, self.heard_ns, lane.asked_ns, self.ordinal, lane.channel, 0, 0, 0, lane.epoch, 0
        )
        if returning and self.link is not None:
            self._subscribe_again(lane, self.link)

    def gap(self, channel: str, hole: Hole) -> None:
        lane = self.lanes.get(channel)
        if lane is None:
            self.bad(BadReason.UNEXPECTED)
            return
        self._record_gap(lane, hole)
        epoch, serial = hole.to
        if epoch != lane.epoch_name:
            lane.epoch_name, lane.epoch, lane.serial = epoch, self._epoch(epoch), serial
        elif serial > lane.serial:
            lane.serial = serial

    def reset(self, channel: str, epoch: str, fork: int, lineage: Sequence[Position]) -> None:
        lane = self.lanes.get(channel)
        if lane is None or not _fits(fork):
            self.bad(BadReason.UNEXPECTED if lane is None else BadReason.SERIAL_RANGE)
            return
        self._record_epoch(lane, epoch, lane.epoch, fork)
        lane.epoch_name, lane.epoch = epoch, self._epoch(epoch)
        lane.serial = min(lane.serial, fork)

    def ack(self, tag: object | None, message: str, epoch: str, serial: int, duplicate: bool) -> None:
        if not 0 <= serial <= MAX_SERIAL:  # as `_fits`, without a call: one for each publish
            self.bad(BadReason.SERIAL_RANGE)
            return
        flags, ordinal = _DUPLICATE if duplicate else 0, self.ordinal
        if type(tag) is not Pending or tag.message != message:
            identity, number = (ordinal, 0, *parse_message_id(message)), self._epoch(epoch)
            self._put(_ACK, self.heard_ns, 0, *identity, serial, number, flags | Flag.NOT_OPEN)
            return
        lane = tag.lane
        number = lane.epoch if epoch == lane.epoch_name else self._epoch(epoch)
        said = tag.scheduled_ns, ordinal, lane.channel, ordinal, tag.pub_seq, serial, number, flags
        self._put(_ACK, self.heard_ns, *said)
        self._publisher.placed(tag)

    def nack(
        self, tag: object | None, code: int, *, temporary: bool, definite: bool, after_s: float | None
    ) -> None:
        flags = Flag.DEFINITE if definite else 0
        if not isinstance(tag, Pending):
            self._put(
                Kind.NACK, self.heard_ns, code, self.ordinal, 0, self.ordinal, 0, 0, 0, flags | Flag.NOT_OPEN
            )
            return
        lane = tag.lane
        identity = (self.ordinal, lane.channel, self.ordinal, tag.pub_seq)
        self._put(Kind.NACK, self.heard_ns, code, *identity, 0, 0, flags)
        self._publisher.answered(tag, retry=temporary, after_s=after_s)

    def refused(self, channel: str | None, code: int, reason: str, *, temporary: bool) -> None:
        log.warning("%s: %s refused with %d: %s", self.name, channel or "the connection", code, reason)
        lane = self.lanes.get(channel) if channel is not None else None
        if lane is not None and temporary and self.link is not None:
            link = self.link
            self._shared.later(RETRY_S, lambda: self._subscribe_again(lane, link))

    def noticed(self, what: Capability, answer: bool = False) -> None:
        self._shared.noticed = None if answer else what
        self._shared.tally.note(what)

    def failed(self, what: Capability, code: int) -> None:
        self._shared.tally.failed[what] += 1

    def goodbye(self, code: int, after_s: tuple[float, float], to: Sequence[str]) -> None:
        self._goodbye = (after_s, to)

    def ping(self) -> None:
        if self.link is not None:
            self.link.send(self._codec.pong())

    def bad(self, reason: BadReason) -> None:
        self._put(Kind.BAD, self.heard_ns, 0, self.ordinal, 0, 0, 0, reason, 0, 0)

    def _subscribe_again(self, lane: Lane, link: Link) -> None:
        """Ask for a subscription that is not open, so that nothing is repaired by it."""
        if self.link is link and self.ready and not self.leaving and not lane.subscribed:
            link.send(self._codec.subscribe(self._ask(lane, self._shared.now_ns())))

    def _ask(self, lane: Lane, now_ns: int) -> Want:
        start: Start = "new"
        lane.asked, lane.asked_ns = None, now_ns
        if lane.epoch_name is not None:  # it was here before
            if self._again == "resume":
                start = lane.asked = (lane.epoch_name, lane.serial)
            else:
                start = self._again
        return Want(lane.name, start, self.persona.watch_presence)

    def _epoch(self, name: str) -> int:
        return self._shared.recorder.epoch(name) if name else 0

    def _record_gap(self, lane: Lane, hole: Hole) -> None:
        (from_epoch, after), (to_epoch, to) = hole.after, hole.to
        if not _fits(after + 1, to):
            self.bad(BadReason.SERIAL_RANGE)
            return
        identity = (self.ordinal, lane.channel, self._epoch(from_epoch), after + 1)
        self._put(Kind.GAP, self.heard_ns, hole.why, *identity, to, self._epoch(to_epoch), 0)

    def _lineage(self, lane: Lane, epoch: str, lineage: Sequence[Position]) -> None:
        """Record what an answer in another epoch than the one asked says about where that came from."""
        asked = lane.asked[0] if lane.asked is not None else epoch
        if asked == epoch:
            return
        chain = lineage or [(epoch, 1)]
        if asked not in [name for name, _ in chain]:
            self._record_epoch(lane, chain[0][0], 0, 0)
        for (parent, _), (child, first) in pairwise(chain):
            self._record_epoch(lane, child, self._epoch(parent), first - 1)

    def _record_epoch(self, lane: Lane, epoch: str, parent: int, fork: int) -> None:
        if not _fits(fork):
            self.bad(BadReason.SERIAL_RANGE)
            return
        identity = (self.ordinal, lane.channel, parent, 0)
        self._put(Kind.EPOCH, self.heard_ns, 0, *identity, fork, self._epoch(epoch), 0)


def node_id(name: str) -> int:
    """Id of a node from its name, which ends in it ("n1"); 0 when it does not."""
    digits = name[len(name.rstrip("0123456789")) :]
    return int(digits) if digits and int(digits) <= MAX_SERIAL else 0


def _fits(*serials: int) -> bool:
    return all(0 <= serial <= MAX_SERIAL for serial in serials)

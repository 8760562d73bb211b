"""A load client: what it does, what it makes of frames, and what it records, as loadgen/client.py does.

It resumes from the highest serial that it received, repairs nothing, and sends what was not answered
again under the same identity, unless it gives up.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from reports.history import CONN_ERRNO, CONN_OK, Flag, GapReason, Kind
from tests.builders import MS, Message

from .hub import Asked, Hub
from .params import DETECT_S, END_NS, S
from .server import BODY_BYTES
from .world import Lineage, Link, World

REFUSED, TIMED_OUT = 111, 110  # errno of dials


@dataclass(slots=True, eq=False)
class Lane:
    """One channel as a subscriber sees it."""

    wanted: bool = False
    subscribed: bool = False
    live: bool = False
    asking: bool = False  # a subscribe waits for its answer
    epoch: int = 0  # 0: never subscribed
    serial: int = 0  # highest received
    floor: int = 0
    asked: tuple[int, int] | None = None
    asked_t: int = 0
    first: Asked = "new"  # how to begin


@dataclass(slots=True, eq=False)
class Pending:
    """A publish that is not answered for good."""

    channel: int
    due_t: int
    attempts: int = 0
    sent_t: int = 0
    open: bool = False  # an attempt on this connection waits for its answer
    must: bool = False  # it is never given up


class Client:
    """One load client."""

    def __init__(self, world: World, hub: Hub, ordinal: int) -> None:
        self.world, self.hub, self.ordinal = world, hub, ordinal
        self.lanes = {channel: Lane() for channel in hub.streams}
        last = world.params.channels - world.params.silent
        self.busy = list(range(1, last + 1))  # channels that are published to
        self.link: Link | None = None
        self.ready = False
        self.gone = False  # it does not come back
        self.blocked = False  # a fault keeps it from dialling
        self.attempt = 0
        self.count = 0  # publishes
        self.pending: dict[int, Pending] = {}
        self.settled: list[tuple[int, int]] = []  # (pub_seq, channel) of acked ones
        self._dialled_t = 0

    # ── connection ────────────────────────────────────────────────────────────────────────────

    def dial(self) -> None:
        if self.gone or self.link is not None:
            return
        world = self.world
        self.attempt += 1
        self._dialled_t = world.now
        if not self.hub.is_up or self.blocked:
            world.later(world.latency(), self._dial_failed, TIMED_OUT if self.blocked else REFUSED)
            return
        self.link = link = Link(self.ordinal, self)
        self.hub.dialled(link)
        world.up(link, self.hub.accept)

    def _dial_failed(self, error: int) -> None:
        self.world.saw("dial failed")
        self._conn(CONN_ERRNO + error)
        self.world.later(self.world.rng.randint(20 * MS, 300 * MS), self.dial)

    def _conn(self, status: int) -> None:
        self.world.put(
            Kind.CONN, self.ordinal, t2=self._dialled_t, serial=status, publisher=1, pub_seq=self.attempt
        )

    def welcome(self) -> None:
        self._conn(CONN_OK)
        self.ready, self.attempt = True, 0
        for channel, lane in self.lanes.items():
            if lane.wanted:
                self._ask(channel, (lane.epoch, lane.serial) if lane.epoch else lane.first)
        for pub_seq in list(self.pending):
            self._send(pub_seq)

    def closed(self) -> None:
        """The end of the connection is seen."""
        if not self.ready:
            self._conn(CONN_OK)
        self.world.put(Kind.CLOSE, self.ordinal, serial=1006)
        self._down()
        self.world.later(self.world.rng.randint(10 * MS, 400 * MS), self.dial)

    def leave(self, away_ns: int | None) -> None:
        """Close on purpose; ``away_ns``: until it dials again, None for never."""
        if self.link is None or not self.ready:
            return
        if away_ns is None and self.world.chance(0.6):  # its last publish is placed when it has long gone
            channel = self.world.rng.choice(self.busy)
            self.publish(channel)
            if self.pending[self.count].open:  # it was written
                t = self.world.rng.randint(self.world.now, END_NS)
                self.world.at(t, self.hub.place_late, channel, (self.ordinal, self.count))
        self.link.client_open = self.link.wire = False
        self.world.put(Kind.CLOSE, self.ordinal, serial=1000, flags=Flag.ON_PURPOSE)
        self.world.later(self.world.latency(), self.hub.dropped, self.link)
        self._down()
        if away_ns is None:
            self.gone = True
            self.world.saw("gone for good")
        else:
            self.world.saw("left and came back")
            self.world.later(away_ns, self.dial)

    def cut(self) -> None:
        if self.link is not None and self.link.wire:
            if any(pending.open for pending in self.pending.values()):
                self.world.saw("cut with a publish in flight")
            if any(lane.subscribed and not lane.live for lane in self.lanes.values()):
                self.world.saw("cut in a replay")
            self.hub.cut(self.link, within_ns=5 * self.world.params.latency_ns)

    def swallow(self) -> None:
        """A fault swallows all that this client's connection carries; the ping notices."""
        if self.link is None or not self.ready or not self.link.wire:
            return
        self.link.swallows = self.blocked = True
        self.world.saw("half open")
        for _ in range(2):
            self.publish(self.world.rng.choice(self.busy))
        self.world.later(int(self.world.rng.uniform(DETECT_S[0], sum(DETECT_S)) * S), self._notice, self.link)

    def _notice(self, link: Link) -> None:
        if link.client_open:
            self.world.later(self.world.latency(), self.hub.dropped, link)
            link.client_open = link.wire = False
            self.closed()

    def unblock(self) -> None:
        self.blocked = False

    def _down(self) -> None:
        self.link, self.ready = None, False
        for lane in self.lanes.values():
            lane.subscribed = lane.live = lane.asking = False
        for pub_seq, pending in list(self.pending.items()):
            pending.open = False
            if not pending.must and self.world.chance(self.world.params.gives_up):
                del self.pending[pub_seq]

    # ── subscriptions ─────────────────────────────────────────────────────────────────────────

    def want(self, channel: int, first: Asked) -> None:
        """Subscribe to a channel, now or when connected."""
        lane = self.lanes[channel]
        if lane.wanted:
            return
        lane.wanted, lane.first = True, first
        if self.ready:
            self._ask(channel, first)

    def forget(self, channel: int) -> None:
        """Unsubscribe."""
        lane = self.lanes[channel]
        if self.ready and self.link is not None and lane.subscribed and lane.wanted and not lane.asking:
            lane.wanted, lane.asked_t = False, self.world.now
            self.world.up(self.link, self.hub.unsubscribe, channel)

    def _ask(self, channel: int, asked: Asked) -> None:
        lane = self.lanes[channel]
        lane.asked = asked if isinstance(asked, tuple) else None
        lane.asked_t, lane.asking = self.world.now, True
        assert self.link is not None
        self.world.saw(f"subscribe: {asked if isinstance(asked, str) else type(asked).__name__}")
        self.world.up(self.link, self.hub.subscribe, channel, asked)

    def subscribed(
        self,
        channel: int,
        start: int,
        lineage: Lineage,
        resumed: bool,
        gap: GapReason | None,
        floor: int,
    ) -> None:
        lane, epoch = self.lanes[channel], lineage[-1][0]
        asked_epoch, asked_serial = lane.asked or (0, 0)
        if asked_epoch and asked_epoch != epoch:
            self._lineage(channel, asked_epoch, lineage)
        lane.epoch, lane.serial, lane.floor = epoch, start, floor
        lane.subscribed, lane.live, lane.asking = True, False, False
        self.world.put(
            Kind.SUB,
            self.ordinal,
            t2=lane.asked_t,
            channel=channel,
            publisher=asked_epoch,
            pub_seq=asked_serial,
            serial=start,
            epoch=epoch,
            flags=Flag.RESUMED if resumed else 0,
        )
        if gap is not None:
            self._gap(channel, asked_epoch, asked_serial + 1, start, gap)

    def _lineage(self, channel: int, asked: int, lineage: Lineage) -> None:
        if asked not in [epoch for epoch, _ in lineage]:
            self.world.put(Kind.EPOCH, self.ordinal, channel=channel, epoch=lineage[0][0])
        for (parent, _), (child, first) in pairwise(lineage):
            self._epoch(channel, child, parent, first - 1)

    def _epoch(self, channel: int, epoch: int, parent: int, fork: int) -> None:
        self.world.put(Kind.EPOCH, self.ordinal, channel=channel, epoch=epoch, publisher=parent, serial=fork)

    def live(self, channel: int, serial: int) -> None:
        lane = self.lanes[channel]
        lane.live = True
        self.world.put(
            Kind.LIVE,
            self.ordinal,
            t2=lane.asked_t,
            channel=channel,
            serial=serial,
            epoch=lane.epoch,
            pub_seq=lane.floor,
        )

    def received(self, channel: int, serial: int, message: Message) -> None:
        lane = self.lanes[channel]
        if serial > lane.serial:
            lane.serial = serial
        flags = (0 if lane.live else Flag.REPLAYED) | (Flag.OWN_ECHO if message[0] == self.ordinal else 0)
        self.world.put(
            Kind.RECV,
            self.ordinal,
            t2=self.world.now,
            channel=channel,
            publisher=message[0],
            pub_seq=message[1],
            serial=serial,
            epoch=lane.epoch,
            flags=flags,
        )

    def gap(self, channel: int, first: int, last: int, why: GapReason) -> None:
        lane = self.lanes[channel]
        lane.serial = max(lane.serial, last)
        self._gap(channel, lane.epoch, first, last, why)

    def _gap(self, channel: int, from_epoch: int, first: int, last: int, why: GapReason) -> None:
        self.world.put(
            Kind.GAP,
            self.ordinal,
            t2=int(why),
            channel=channel,
            publisher=from_epoch,
            pub_seq=first,
            serial=last,
            epoch=self.lanes[channel].epoch,
        )

    def reset(self, channel: int, epoch: int, fork: int) -> None:
        lane = self.lanes[channel]
        self._epoch(channel, epoch, lane.epoch, fork)
        lane.epoch, lane.serial = epoch, min(lane.serial, fork)

    def unsubscribed(self, channel: int) -> None:
        lane = self.lanes[channel]
        lane.subscribed = lane.live = False
        self.world.put(Kind.UNSUB, self.ordinal, t2=lane.asked_t, channel=channel, epoch=lane.epoch)

    # ── publishing ────────────────────────────────────────────────────────────────────────────

    def publish(self, channel: int, *, must: bool = False) -> None:
        self.count += 1
        self.pending[self.count] = Pending(channel, self.world.now, must=must)
        self._send(self.count)

    def _send(self, pub_seq: int, *, again: Pending | None = None) -> None:
        pending = again or self.pending.get(pub_seq)
        if pending is None or not self.ready or self.link is None or pending.open:
            return
        world, link = self.world, self.link
        same = {"channel": pending.channel, "publisher": self.ordinal, "pub_seq": pub_seq}
        flags = Flag.RETRY if pending.attempts else 0
        world.put(Kind.SEND, self.ordinal, t2=pending.due_t, serial=BODY_BYTES, flags=flags, **same)
        pending.attempts += 1
        if not link.wire and not link.swallows and world.chance(0.5):
            world.saw("never written")
            world.put(Kind.NACK, self.ordinal, flags=Flag.DEFINITE, **same)
            return
        pending.open, pending.sent_t = True, world.now
        world.up(link, self.hub.publish, pending.channel, (self.ordinal, pub_seq))
        world.later(world.params.ack_timeout_ns, self._timed_out, pub_seq, link, pending.attempts)

    def _timed_out(self, pub_seq: int, link: Link, attempt: int) -> None:
        pending = self.pending.get(pub_seq)
        if pending is not None and pending.open and pending.attempts == attempt and self.link is link:
            self.world.saw("sent again on the same connection")
            pending.open = False
            self._send(pub_seq)

    def send_again(self) -> None:
        """Repeat a publish that was acked, as one does who lost his memory of that."""
        if self.settled and self.ready:
            pub_seq, channel = self.world.rng.choice(self.settled)
            self._send(pub_seq, again=Pending(channel, self.world.now, attempts=1))

    def acked(self, channel: int, message: Message, epoch: int, serial: int, dup: bool) -> None:
        pending = self.pending.pop(message[1], None)
        self.settled.append((message[1], channel))
        self.world.put(
            Kind.ACK,
            self.ordinal,
            t2=pending.due_t if pending else 0,
            channel=channel,
            publisher=message[0],
            pub_seq=message[1],
            serial=serial,
            epoch=epoch,
            flags=Flag.DUPLICATE if dup else 0,
        )

    def nacked(self, channel: int, message: Message, code: int, definite: bool) -> None:
        self.world.put(
            Kind.NACK,
            self.ordinal,
            t2=code,
            channel=channel,
            publisher=message[0],
            pub_seq=message[1],
            flags=Flag.DEFINITE if definite else 0,
        )
        pending = self.pending.get(message[1])
        if pending is None:
            return
        pending.open = False
        if not pending.must and self.world.chance(0.3 + self.world.params.gives_up):
            del self.pending[message[1]]
        else:
            self.world.later(self.world.rng.randint(10 * MS, 300 * MS), self._send, message[1])

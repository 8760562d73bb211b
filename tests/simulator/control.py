"""Client 0: marks, one sentinel a channel, and two final reads of each, as scenarios/control.py does."""

from __future__ import annotations

from reports.history import CONN_OK, Flag, GapReason, Kind, Mark
from tests.builders import MS, Message

from .hub import Hub
from .params import DRAIN_NS, END_NS, HEAL_NS, READS_NS, SECOND_READ_NS, SENTINEL_NS
from .server import BODY_BYTES
from .world import Lineage, Link, World


class Control:
    """It is connected all the time, directly, and records its own log."""

    def __init__(self, world: World, hub: Hub) -> None:
        self.world, self.hub = world, hub
        self.reads = 0  # complete ones
        self._link: Link | None = None
        self._asked_t: dict[int, int] = {}
        self._at: dict[int, tuple[int, int]] = {}  # epoch and floor, by channel
        for t, mark in ((HEAL_NS, Mark.HEAL), (DRAIN_NS, Mark.DRAIN), (READS_NS, Mark.FINAL_READS)):
            world.at(t, self._mark, mark)
        world.at(DRAIN_NS, self._connect)
        for channel in hub.streams:
            world.at(SENTINEL_NS + channel * MS, self._sentinel, channel)
            world.at(READS_NS + channel * MS, self._read, channel)
            world.at(SECOND_READ_NS + channel * MS, self._read, channel)
        world.at(END_NS, self._mark, Mark.END)

    def _mark(self, mark: Mark, channel: int = 0, pub_seq: int = 0) -> None:
        self.world.put(Kind.MARK, 0, serial=mark, channel=channel, pub_seq=pub_seq)

    def silent(self, channel: int) -> None:
        """Nobody is meant to publish to a channel."""
        self._mark(Mark.SILENT, channel)

    def _connect(self) -> None:
        self._link = Link(0, self)
        self.hub.dialled(self._link)
        self.world.up(self._link, self.hub.accept)

    def welcome(self) -> None:
        self.world.put(Kind.CONN, 0, t2=self.world.now, serial=CONN_OK, publisher=1, pub_seq=1)

    def _sentinel(self, channel: int) -> None:
        assert self._link is not None
        self._mark(Mark.SENTINEL, channel, channel)
        self.world.put(Kind.SEND, 0, t2=self.world.now, channel=channel, pub_seq=channel, serial=BODY_BYTES)
        self.world.up(self._link, self.hub.publish, channel, (0, channel))

    def _read(self, channel: int) -> None:
        assert self._link is not None
        self._asked_t[channel] = self.world.now
        self.world.up(self._link, self.hub.subscribe, channel, "first")

    def subscribed(
        self,
        channel: int,
        start: int,
        lineage: Lineage,
        resumed: bool,
        gap: GapReason | None,
        floor: int,
    ) -> None:
        epoch = lineage[-1][0]
        self._at[channel] = epoch, floor
        asked_t = self._asked_t[channel]
        self.world.put(Kind.SUB, 0, t2=asked_t, channel=channel, serial=start, epoch=epoch)

    def live(self, channel: int, serial: int) -> None:
        epoch, floor = self._at[channel]
        asked_t = self._asked_t[channel]
        self.world.put(Kind.LIVE, 0, t2=asked_t, channel=channel, serial=serial, epoch=epoch, pub_seq=floor)
        self.reads += 1
        assert self._link is not None
        self._link.cursors.pop(channel, None)  # it closes before anything else comes

    def received(self, channel: int, serial: int, message: Message) -> None:
        self.world.put(
            Kind.READ,
            0,
            t2=self.world.now,
            channel=channel,
            publisher=message[0],
            pub_seq=message[1],
            serial=serial,
            epoch=self._at[channel][0],
            flags=Flag.REPLAYED,
        )

    def gap(self, channel: int, first: int, last: int, why: GapReason) -> None:
        epoch, _ = self._at[channel]
        self.world.saw("trimmed during a final read")
        self.world.put(
            Kind.GAP,
            0,
            t2=int(why),
            channel=channel,
            publisher=epoch,
            pub_seq=first,
            serial=last,
            epoch=epoch,
        )

    def acked(self, channel: int, message: Message, epoch: int, serial: int, dup: bool) -> None:
        self.world.put(Kind.ACK, 0, channel=channel, pub_seq=message[1], serial=serial, epoch=epoch)

    def nacked(self, channel: int, message: Message, code: int, definite: bool) -> None:
        raise AssertionError("client 0 is never refused")

    def unsubscribed(self, channel: int) -> None:
        raise AssertionError("client 0 never unsubscribes")

    def reset(self, channel: int, epoch: int, fork: int) -> None:
        raise AssertionError("no life begins after healing")

    def closed(self) -> None:
        raise AssertionError("client 0 is never cut")

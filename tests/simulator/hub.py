"""The correct server as its clients meet it: requests in, frames out, over the links of a ``World``."""

from __future__ import annotations

from reports.history import GapReason
from tests.builders import MS, Message, exit_line, start_line

from .server import Stream
from .world import Cursor, Link, World

_WHY = {
    "trimmed": GapReason.TRIMMED,
    "epoch": GapReason.EPOCH,
    "fork": GapReason.FORK,
    "ahead": GapReason.AHEAD,
}
Asked = tuple[int, int] | str | int  # a position, "new", "first", or the last so many


class Hub:
    """All streams, and who listens to them."""

    def __init__(self, world: World) -> None:
        self.world, self.params = world, world.params
        self.is_up = True
        self.links: list[Link] = []
        self._epochs = 0
        first = self._new_epoch()
        self.streams = {
            channel: Stream([(first if self.params.shared_epochs or channel == 1 else self._new_epoch(), 1)])
            for channel in range(1, self.params.channels + 1)
        }

    def _new_epoch(self) -> int:
        self._epochs += 1
        return self._epochs

    # ── connections ───────────────────────────────────────────────────────────────────────────

    def dialled(self, link: Link) -> None:
        """A connection begins; nothing has come over it yet."""
        self.links.append(link)

    def accept(self, link: Link) -> None:
        """A new connection of a client ends its others: what they still carry must not overtake."""
        for other in [other for other in self.links if other.client == link.client and other is not link]:
            self.dropped(other)
            self.world.later(self.world.latency(), self._close, other)
        self.world.down(link, link.peer.welcome)

    def dropped(self, link: Link) -> None:
        link.server_open = link.wire = False
        if link in self.links:
            self.links.remove(link)

    def cut(self, link: Link, *, within_ns: int) -> None:
        """The connection breaks now; both ends hear of it in their time."""
        link.wire = False
        world = self.world
        world.later(int(world.rng.random() * within_ns), self.dropped, link)
        world.later(world.latency(), self._close, link)

    def _close(self, link: Link) -> None:
        if link.client_open:
            link.client_open = False
            link.peer.closed()

    # ── requests ──────────────────────────────────────────────────────────────────────────────

    def publish(self, link: Link, channel: int, message: Message) -> None:
        world, params, peer = self.world, self.params, link.peer
        if link.client and world.chance(params.nack):
            world.saw("refused for certain")
            world.down(link, peer.nacked, channel, message, 429, True)
            return
        stream = self.streams[channel]
        serial, before = stream.placed.get(message), True
        doubtful = bool(link.client) and world.chance(params.doubt)
        if serial is None:
            if doubtful and world.chance(0.5):
                world.saw("an error, and not placed")
                world.down(link, peer.nacked, channel, message, 500, False)
                return
            serial, before = stream.append(message, world.now), False
            if stream.evict(world.now, params.retention, self._may_evict):
                world.saw("evicted")
        else:
            world.saw("had it already")
        if doubtful:
            world.saw("an error, and placed")
            world.down(link, peer.nacked, channel, message, 500, False)
        else:
            epoch = stream.epoch_of(serial) if params.old_names else stream.epoch
            world.down(link, peer.acked, channel, message, epoch, serial, before)
        if not before:
            self._fan_out(channel)

    def place_late(self, channel: int, message: Message) -> None:
        """A request that nobody waits for any more has its turn."""
        stream = self.streams[channel]
        if self.is_up and message not in stream.placed:
            self.world.saw("placed when its publisher had gone")
            stream.append(message, self.world.now)
            self._fan_out(channel)

    def _may_evict(self) -> bool:
        return not self.world.chance(self.params.lazy)

    def subscribe(self, link: Link, channel: int, asked: Asked) -> None:
        world, stream, peer = self.world, self.streams[channel], link.peer
        stream.evict(world.now, self.params.retention, self._may_evict)
        start, resumed, why = stream.head, False, None
        if asked == "first":
            start = stream.floor - 1
        elif isinstance(asked, int):
            start = max(stream.head - asked, stream.floor - 1)
        elif isinstance(asked, tuple):
            found = stream.locate(asked)
            start, resumed, why = found.serial, found.resumed, _WHY.get(found.gap)
            world.saw(f"resume: {found.gap or 'true'}")
            if resumed and len(stream.lineage) > 1 and asked[0] != stream.epoch:
                world.saw("resume: true, over a fork")
        link.cursors[channel] = Cursor(start + 1)
        world.down(link, peer.subscribed, channel, start, tuple(stream.lineage), resumed, why, stream.floor)
        self.pump(link, channel)

    def unsubscribe(self, link: Link, channel: int) -> None:
        link.cursors.pop(channel, None)
        self.world.down(link, link.peer.unsubscribed, channel)

    # ── frames ────────────────────────────────────────────────────────────────────────────────

    def _fan_out(self, channel: int) -> None:
        for link in list(self.links):
            if channel in link.cursors:
                self.pump(link, channel)

    def pump(self, link: Link, channel: int) -> None:
        """Send what the subscriber has not got, unless it is too slow for it."""
        cursor = link.cursors.get(channel)
        if cursor is None or link.stalled or not link.server_open:
            return
        world, stream, peer = self.world, self.streams[channel], link.peer
        while cursor.next <= stream.head:
            if cursor.next < stream.floor:
                why = GapReason.LAG if cursor.live else GapReason.TRIMMED
                world.saw("gap: lag" if cursor.live else "gap: trimmed in a replay")
                world.down(link, peer.gap, channel, cursor.next, stream.floor - 1, why)
                cursor.next = stream.floor
                continue
            entry = stream.log[cursor.next - 1]
            another = self.params.shared.echo or (not link.client and self.params.reads_as_another)
            if another or entry.message[0] != link.client:
                world.down(link, peer.received, channel, cursor.next, entry.message)
            cursor.next += 1
            if not cursor.live and world.rng.random() < 0.15:
                world.saw("a replay pauses")
                link.stalled = True
                world.later(int(world.rng.random() * (250 if link.client else 30) * MS), self.unstall, link)
                return
        if not cursor.live:
            cursor.live = True
            world.down(link, peer.live, channel, stream.head)

    def unstall(self, link: Link) -> None:
        link.stalled = False
        for channel in list(link.cursors):
            self.pump(link, channel)

    # ── what befalls it ───────────────────────────────────────────────────────────────────────

    def housekeeping(self) -> None:
        """Evict by age, some of the time."""
        for stream in self.streams.values():
            if stream.evict(self.world.now, self.params.retention, self._may_evict):
                self.world.saw("evicted")

    def crash(self, process: int) -> None:
        """The process is killed and comes back after a while: with its log, a part of it, or without."""
        world = self.world
        if not self.is_up:
            return
        self.is_up = False
        world.faults.append(exit_line(planned=True, t=world.now) | {"id": f"kill-{process}"})
        for link in list(self.links):
            self.dropped(link)
            world.later(int(world.rng.random() * 4 * self.params.latency_ns), self._close, link)
        how = world.rng.choice(["keep", "keep", "lose", "fork"])
        world.saw(f"restart: {how}")
        self._change(how)
        world.later(world.rng.randint(100 * MS, 900 * MS), self._start)

    def _start(self) -> None:
        self.is_up = True
        self.world.faults.append(start_line(t=self.world.now))

    def _change(self, how: str) -> None:
        if how == "keep":
            return
        epoch = self._new_epoch()
        for channel, stream in self.streams.items():
            if not self.params.shared_epochs and channel > 1:
                if self.world.chance(0.5):
                    continue
                epoch = self._new_epoch()
            if how == "lose":
                stream.begin_again(epoch)
            else:
                stream.fork(epoch, self._fork_of(stream))

    def _fork_of(self, stream: Stream) -> int:
        lost = self.world.rng.choice([0, 0, 1, 2])
        return max(stream.head - lost, stream.floor - 1)

    def fail_over(self, process: int) -> None:
        """One node of several is killed, and its streams go on at another: nobody is disconnected."""
        world = self.world
        if not self.is_up:
            return
        world.faults.append(exit_line(planned=True, t=world.now) | {"id": f"kill-{process}"})
        world.faults.append(start_line(t=world.now + 1))
        world.saw("reset")
        old = {channel: stream.epoch for channel, stream in self.streams.items()}
        self._change("fork")
        for channel, stream in self.streams.items():
            if stream.epoch == old[channel]:
                continue
            fork = stream.lineage[-1][1] - 1
            for link in list(self.links):
                if (cursor := link.cursors.get(channel)) is not None:
                    world.down(link, link.peer.reset, channel, stream.epoch, fork)
                    cursor.next = min(cursor.next, fork + 1)

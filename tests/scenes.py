"""Stories with a correct server in them.

Clients join, publish, are cut and come back, and everybody gets what the server owes them;
``finish`` drains and reads. What a test wants wrong it says: ``skip`` a subscriber, ``forget``
an acked message, or put a record down itself, as in any ``Story``.

    scene = Scene(clients=2)
    scene.join(1), scene.join(2)
    scene.publish(1, skip=[2])  # client 2 never gets it
    scene.publish(1)
    scene.finish()
    run_checks(scene.history()).classes["D1"].count  # 1
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from reports.history import Flag, GapReason, Mark
from tests.builders import Message, Story


@dataclass
class Scene(Story):
    """A story with a correct server in it."""

    log: dict[int, list[Message | None]] = field(
        default_factory=dict
    )  # entries by channel; index = serial - 1
    floor: dict[int, int] = field(default_factory=dict)  # oldest serial retained
    life: dict[int, int] = field(default_factory=dict)  # epoch of each channel
    stands: dict[tuple[int, int], tuple[int, int]] = field(
        default_factory=dict
    )  # (epoch, serial) of a subscriber
    open: set[tuple[int, int]] = field(default_factory=set)
    counts: dict[int, int] = field(default_factory=dict)  # pub_seq of each publisher

    def __post_init__(self) -> None:
        super().__post_init__()
        for channel in range(1, self.channels + 1):
            self.log[channel], self.floor[channel], self.life[channel] = [], 1, 1

    def top(self, channel: int = 1) -> int:
        return len(self.log[channel])

    def join(self, client: int, *channels: int) -> None:
        """Connect and subscribe from now on."""
        channels = channels or (1,)
        self.conn(client)
        self.subscriptions[client] = tuple(sorted({*self.subscriptions.get(client, ()), *channels}))
        for channel in channels:
            self.subscribe(client, channel)

    def subscribe(self, client: int, channel: int = 1) -> None:
        epoch, top = self.life[channel], self.top(channel)
        self.sub(client, channel, top, epoch=epoch)
        self.live(client, channel, top, epoch=epoch, floor=self.floor[channel])
        self.stands[client, channel] = epoch, top
        self.open.add((client, channel))

    def leave(self, client: int, channel: int = 1) -> None:
        self.unsub(client, channel)
        self.open.discard((client, channel))

    def next_message(self, client: int) -> Message:
        self.counts[client] = self.counts.get(client, 0) + 1
        return client, self.counts[client]

    def publish(
        self,
        client: int,
        channel: int = 1,
        *,
        acked: bool = True,
        skip: Collection[int] = (),
        commit: bool = True,
    ) -> Message:
        """Send, commit, ack, deliver to everybody subscribed but ``skip``."""
        message = self.next_message(client)
        self.send(client, message[1], channel)
        if commit:
            self.commit(message, channel, acked=acked, skip=skip)
        return message

    def commit(
        self, message: Message, channel: int = 1, *, acked: bool = True, skip: Collection[int] = ()
    ) -> int:
        """The server places a message, answers and delivers."""
        self.log[channel].append(message)
        serial = self.top(channel)
        if acked:
            self.ack(message[0], message[1], serial, channel, epoch=self.life[channel])
        self.deliver(channel, serial, skip=skip)
        return serial

    def deliver(self, channel: int, serial: int, *, skip: Collection[int] = ()) -> None:
        message = self.log[channel][serial - 1]
        for client, subscribed in sorted(self.open):
            if subscribed == channel and client not in skip and message is not None:
                if message[0] == client and not self.echo:
                    self.stands[client, channel] = self.life[channel], serial
                    continue
                self.give(client, channel, serial)

    def give(self, client: int, channel: int, serial: int, *, flags: int = 0) -> None:
        """One delivery, as the log has it."""
        message = self.log[channel][serial - 1]
        assert message is not None
        self.recv(client, serial, message, channel, epoch=self.life[channel], flags=flags)
        self.stands[client, channel] = self.life[channel], max(serial, self.stands[client, channel][1])

    def cut(self, client: int, code: int = 1006, *, on_purpose: bool = False) -> None:
        self.close(client, code, on_purpose=on_purpose)
        self.open = {(c, channel) for c, channel in self.open if c != client}

    def back(self, client: int, *, skip: Collection[int] = (), live: bool = True) -> None:
        """Connect again and resume every channel; ``skip``: serials that the replay leaves out."""
        self.conn(client)
        for channel in self.subscriptions[client]:
            self.resume(client, channel, skip=skip, live=live)

    def resume(
        self,
        client: int,
        channel: int = 1,
        *,
        skip: Collection[int] = (),
        live: bool = True,
        upto: int | None = None,
    ) -> None:
        epoch, stood = self.stands[client, channel]
        if epoch != self.life[channel]:
            self._start_again(client, channel)
            return
        top, lost = self.top(channel), self.floor[channel] - 1
        start = max(stood, lost)
        self.sub(client, channel, start, epoch=epoch, asked=(epoch, stood), resumed=start == stood)
        if start > stood:
            self.gap(client, stood + 1, start, channel, epoch=epoch, from_epoch=epoch)
        self.stands[client, channel] = epoch, start
        self.open.add((client, channel))
        for serial in range(start + 1, (top if upto is None else upto) + 1):
            message = self.log[channel][serial - 1]
            if serial not in skip and message is not None and (self.echo or message[0] != client):
                self.give(client, channel, serial, flags=Flag.REPLAYED)
        if live:
            self.live(client, channel, top, epoch=epoch, floor=self.floor[channel])
            self.stands[client, channel] = epoch, max(self.stands[client, channel][1], start)

    def _start_again(self, client: int, channel: int) -> None:
        """A resume after the stream began a new life: a declared gap, then everything there is."""
        epoch, stood = self.stands[client, channel]
        life, top = self.life[channel], self.top(channel)
        self.epoch(client, life, channel)
        self.sub(client, channel, top, epoch=life, asked=(epoch, stood))
        self.gap(client, stood + 1, top, channel, epoch=life, from_epoch=epoch, why=GapReason.EPOCH)
        self.live(client, channel, top, epoch=life)
        self.stands[client, channel] = life, top
        self.open.add((client, channel))

    def new_life(self, channel: int = 1) -> None:
        """The server lost the stream: a fresh epoch, serials from 1."""
        self.life[channel] += 1
        self.log[channel], self.floor[channel] = [], 1

    def trim(self, channel: int, floor: int) -> None:
        self.floor[channel] = floor

    def retry(self, message: Message, channel: int = 1) -> None:
        """Send again what is in the log: a duplicate ack with the original position."""
        self.send(message[0], message[1], channel, retry=True)
        serial = self.log[channel].index(message) + 1
        self.ack(message[0], message[1], serial, channel, epoch=self.life[channel], flags=Flag.DUPLICATE)

    # ── the end of a run ──────────────────────────────────────────────────────────────────

    def finish(
        self,
        *,
        behind: Collection[int] = (),
        lost: Collection[int] = (),
        forget: Iterable[tuple[int, int]] = (),
        reads: int = 2,
    ) -> None:
        """Drain, sentinels, final reads, end.

        Args:
            behind: clients that get nothing more until they are forced to reconnect.
            lost: of them, those that resume then and still get nothing.
            forget: (channel, serial) that the final reads do not show.
        """
        self.drain(behind=behind)
        if behind:
            self.mark(Mark.FORCED_RECONNECT)
            for client in sorted(behind):
                self.cut(client, 1000, on_purpose=True)
            for client in sorted(behind):
                self.conn(client)
                for channel in self.subscriptions[client]:
                    stood = self.stands[client, channel][1]
                    self.resume(
                        client, channel, live=client not in lost, upto=stood if client in lost else None
                    )
        self.final_reads(forget=forget, reads=reads)
        self.mark(Mark.END)
        for client in sorted({client for client, _ in self.open}):
            self.cut(client, 1000, on_purpose=True)

    def drain(self, *, behind: Collection[int] = ()) -> None:
        self.mark(Mark.HEAL)
        self.mark(Mark.DRAIN)
        for channel in self.log:
            message = self.publish(0, channel, skip=behind)
            self.mark(Mark.SENTINEL, channel=channel, of=message)

    def final_reads(self, *, forget: Iterable[tuple[int, int]] = (), reads: int = 2) -> None:
        self.mark(Mark.FINAL_READS)
        forgotten = set(forget)
        for _ in range(reads):
            for channel in self.log:
                self.read_channel(channel, forget=[s for c, s in forgotten if c == channel])

    def read_channel(self, channel: int, *, forget: Collection[int] = ()) -> None:
        """One complete final read."""
        epoch, floor = self.life[channel], self.floor[channel]
        self.sub(0, channel, floor - 1, epoch=epoch)
        for serial in range(floor, self.top(channel) + 1):
            message = self.log[channel][serial - 1]
            if serial not in forget and message is not None:
                self.read(serial, message, channel, epoch=epoch)
        self.live(0, channel, self.top(channel), epoch=epoch, floor=floor)

"""Which channels' tails can be trusted, and how the log makes them whole again. No I/O.

Where several nodes share a log, each hears over the bus what is placed (chatd/store/bus.py), and an
event may be lost. A channel is *in doubt* from the moment that something may have gone unheard until the log
was read from the tail's top to its end. A channel in doubt delivers only what the log says; what is
heard meanwhile waits, in bounded memory, and goes on where the log ends.

    trusted ── a serial that does not follow, another epoch, a break of the bus, a pause of
      ▲        the process, a top above the tail's, a client that has seen more ──► in doubt
      └────────── a page of the log that reaches its end, and what was heard ───────────┘
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal

import msgspec

from .hub import JOIN_TAIL, Channel, Hub
from .store.base import Entry, Head
from .store.bus import Placing

Why = Literal["opening", "serial", "epoch", "bus", "pause", "tail check", "client"]

RUN: Final = JOIN_TAIL  # what is heard of a channel in doubt: at most so much waits


class Doubt:
    """What is known of a channel that is not trusted."""

    __slots__ = ("again", "heard", "run", "run_bytes", "run_epoch", "suspected", "why")

    def __init__(self, why: Why) -> None:
        self.why = why
        self.again = True  # a read that begins from now on is needed
        self.suspected = 0  # the top that the look at the tops found
        self.heard: tuple[str, int] | None = None  # the last event since the read began
        self.run: list[Entry] = []  # the newest events, without a hole
        self.run_epoch = ""
        self.run_bytes = 0

    def keep(self, placing: Placing) -> None:
        entry = placing.entry
        self.heard = placing.epoch, entry.serial
        follows = self.run and self.run_epoch == placing.epoch and entry.serial == self.run[-1].serial + 1
        if not follows or len(self.run) >= RUN.n or self.run_bytes >= RUN.bytes:
            self.run, self.run_epoch, self.run_bytes = [], placing.epoch, 0
        self.run.append(entry)
        self.run_bytes += len(entry.data)

    def take(self, channel: Channel) -> list[Entry]:
        """What was heard and follows the tail."""
        assert channel.tail is not None
        top = channel.tail.top
        if not self.run or self.run_epoch != channel.epoch or self.run[0].serial > top + 1:
            return []
        found = [entry for entry in self.run if entry.serial > top]
        self.run, self.run_bytes = [], 0
        return found

    def over(self, channel: Channel, head: Head) -> bool:
        """The read was new enough, and nothing is known that the tail does not have."""
        assert channel.tail is not None
        top = channel.tail.top
        if self.again or head.top > top:
            return False
        if self.heard is None:
            return True
        epoch, serial = self.heard
        if epoch == channel.epoch:
            return serial <= top
        return epoch in dict(head.epochs)  # else it is of an epoch that the read has not seen


class Suspicion(msgspec.Struct, frozen=True):
    """The log may have more than a channel that is trusted, unless it is still on its way over the bus."""

    channel: Channel
    head: Head


class Repairs:
    """All channels that are in doubt.

    Args:
        wanted: called when there is something to read.
    """

    def __init__(self, hub: Hub, wanted: Callable[[], None], wall_ms: Callable[[], int]) -> None:
        self._hub = hub
        self._metrics = hub.metrics
        self._wanted = wanted
        self._wall_ms = wall_ms
        self._doubts: dict[str, Doubt] = {}

    def hear(self, placing: Placing) -> None:
        """A message was placed. The hot path: it follows the tail of a channel that is trusted."""
        name, entry = placing.channel, placing.entry
        self._metrics.heard += 1
        if (doubt := self._doubts.get(name)) is not None:
            doubt.keep(placing)
            return
        channel = self._hub.channel(name)
        if channel is None or channel.tail is None:
            return  # nobody listens, or whoever does is yet to read the log
        if placing.epoch != channel.epoch:
            self.doubt(name, "epoch").keep(placing)
        elif entry.serial == channel.tail.top + 1:
            self._hub.committed(name, (entry,))
        elif entry.serial > channel.tail.top:
            self.doubt(name, "serial").keep(placing)

    # Doubts -----------------------------------------------------------------------------------------

    def doubt(self, name: str, why: Why) -> Doubt:
        """Nothing heard of this channel is delivered before the log was read, from now on."""
        doubt = self._doubts.get(name)
        if doubt is None:
            doubt = self._doubts[name] = Doubt(why)
            self._metrics.doubts += why != "opening"
        doubt.again = True
        self._wanted()
        return doubt

    def doubt_all(self, why: Why) -> None:
        for name in self._hub.names:
            self.doubt(name, why)

    def doubts(self, channel: Channel) -> bool:
        """Whether it is still in doubt, and somebody's."""
        return channel.name in self._doubts and self._hub.channel(channel.name) is channel

    def due(self) -> list[Channel]:
        """What is to be read now; whoever opens a channel reads it himself."""
        found = []
        for name in list(self._doubts):
            channel = self._hub.channel(name)
            if channel is None:
                del self._doubts[name]
            elif channel.open:
                found.append(channel)
        return found

    def begin(self, channel: Channel) -> None:
        """A read of the log begins. That for a channel which everybody has left answers no doubt of the one
        that has its name since."""
        doubt = self._doubts.get(channel.name)
        if doubt is not None and self._hub.channel(channel.name) is channel:
            doubt.again, doubt.heard = False, None

    def learn(self, channel: Channel, head: Head, entries: Sequence[Entry] = ()) -> None:
        """The read has its result: deliver what follows the tail. ``entries``: after what was its top."""
        name, doubt, hub = channel.name, self._doubts.get(channel.name), self._hub
        if doubt is None or hub.channel(name) is not channel or channel.tail is None or not channel.open:
            return
        if head.epoch != channel.epoch:
            hub.reset(channel, head)
        if head.floor > channel.tail.top + 1:
            hub.skip(channel, head.floor)
        hub.trimmed({name: head.floor})
        fresh = [entry for entry in entries if entry.serial > channel.tail.top]
        if fresh and fresh[0].serial == channel.tail.top + 1:
            self._found(doubt, fresh)
            hub.committed(name, fresh)
        if heard := doubt.take(channel):
            hub.committed(name, heard)
        if doubt.over(channel, head):
            del self._doubts[name]
        else:
            self._wanted()

    def _found(self, doubt: Doubt, entries: Sequence[Entry]) -> None:
        """Only the look at the tops has found what it suspected."""
        now_ms = self._wall_ms()
        for entry in entries:
            if entry.serial <= doubt.suspected:
                self._metrics.tail_found += 1
                self._metrics.tail_found_s.observe(max(0, now_ms - entry.time) / 1000)

    # The look at the tops ---------------------------------------------------------------------------

    def trusted(self) -> list[Channel]:
        """The channels whose tops are to be looked at."""
        channels = map(self._hub.channel, self._hub.names)
        return [one for one in channels if one is not None and one.open and one.name not in self._doubts]

    def suspect(self, channels: Sequence[Channel], heads: Sequence[Head]) -> list[Suspicion]:
        """Which of them the log seems to have more of. It may be on its way: ``confirm`` a little later."""
        self._hub.trimmed(
            {
                one.name: min(head.floor, one.head.top + 1)
                for one, head in zip(channels, heads, strict=True)
                if one.epoch == head.epoch
            }
        )
        pairs = map(Suspicion, channels, heads)
        return [pair for pair in pairs if _behind(pair)]

    def confirm(self, suspicions: Sequence[Suspicion]) -> None:
        for one in suspicions:
            name = one.channel.name
            if self._hub.channel(name) is one.channel and name not in self._doubts and _behind(one):
                self.doubt(name, "tail check").suspected = one.head.top


def _behind(pair: Suspicion) -> bool:
    mine, log = pair.channel.head, pair.head
    if mine.epoch != log.epoch:
        return log.epoch not in dict(mine.epochs)  # else the answer is older than what was learnt since
    return log.top > mine.top

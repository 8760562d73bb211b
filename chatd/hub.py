"""Who listens to what on this node, and the fan-out to them. No sockets, no store.

A message is encoded once, and its frame is shared by all subscribers. Each channel
that somebody listens to keeps its newest few frames (its *tail*). A subscriber joins by
replaying up to the tail, from the store if need be, and then takes the rest of the
tail and its place among the live ones in one step; since everything here happens on one
thread, nothing is skipped or repeated between replay and live, and no subscriber needs a
buffer of its own. PROTOCOL.md § Resume. A subscriber whose socket is full is moved back
among those that replay (``suspend``), and comes back the same way.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ClassVar, Final

import msgspec

from .effects import Subscription
from .flush import PIECE_BYTES, Audience, Flusher, Outlet, Place
from .framing import text_frame
from .protocol.messages import Gap, GapWhy, Live, Message, Reset, encode
from .store.base import Entry, Head, Lineage, Page, Retention
from .stream import Stream, shared

# The tail serves resumes after a short cut without a read.
TAIL: Final = Retention(n=64, s=math.inf, bytes=64 * 1024)
# While a page is read from the store, the tail must reach back to what was read.
JOIN_TAIL: Final = Retention(n=8192, s=math.inf, bytes=4 * 1024 * 1024)


class Push(msgspec.Struct, frozen=True, gc=False):
    """A message as a frame, ready to be written to any subscriber."""

    serial: int
    user: str
    frame: bytes


def push(channel: str, entry: Entry) -> Push:
    return Push(entry.serial, entry.user, text_frame(message_payload(channel, entry)))


def message_payload(channel: str, entry: Entry) -> bytes:
    """The one encoding of a message: the same bytes live, replayed and in a history page."""
    return encode(
        Message(
            channel=channel,
            serial=entry.serial,
            message=entry.message,
            user=entry.user,
            time=entry.time,
            data=msgspec.Raw(entry.data),
            to=entry.to or None,
            kind=sys.intern(entry.kind),  # the encoder leaves a default out only if it is the same object
        )
    )


class Channel(Audience):
    """One channel with at least one subscriber on this node.

    ``head`` is known once ``begin`` has been given the newest page of the log. Messages
    that are committed before that wait in the tail, so none falls between.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.epoch = ""
        self.lineage: Lineage = ()
        self.floor = 1
        self.open = False
        self.tail: Stream[Push] | None = None
        self.quiet: dict[Outlet, str] = {}  # live, without the messages of this user
        self.joining: dict[Outlet, Subscription] = {}
        self.reading = 0  # pages of the log that are on their way to one of `joining`
        self._live_frame = (("", -1), b"")  # at which position, and the frame

    @property
    def head(self) -> Head:
        assert self.tail is not None
        return Head(self.epoch, self.tail.top, self.floor, self.lineage)

    def live_frame(self) -> bytes:
        """``live`` at the top: the same for all who join there, as after a restart thousands do."""
        assert self.tail is not None
        position = (self.epoch, self.tail.top)
        if self._live_frame[0] != position:
            self._live_frame = position, text_frame(encode(Live(channel=self.name, position=position)))
        return self._live_frame[1]

    def begin(self, page: Page) -> bool:
        """Take the newest messages of the log. False: it is already too old, read again."""
        early, first = self.tail, page.entries[0].serial if page.entries else page.top + 1
        tail = Stream[Push](JOIN_TAIL, top=first - 1)
        for entry in page.entries:
            self._keep(tail, push(self.name, entry))
        if early is not None:
            if early.floor > tail.top + 1:
                return False
            for item in early.after(tail.top, JOIN_TAIL.n, JOIN_TAIL.bytes):
                self._keep(tail, item)
        if tail.top < page.top:
            return False
        tail.trim(0)
        self.epoch, self.lineage = page.epoch, page.lineage
        self.floor, self.tail, self.open = page.floor, tail, True
        return True

    def take(self, pushes: Sequence[Push]) -> Sequence[Push]:
        """Append committed messages to the tail; returns those that it did not have yet.

        The read of ``begin`` may have seen a commit before its result came here.
        """
        if self.tail is None:
            self.tail = Stream(JOIN_TAIL, top=pushes[0].serial - 1)
        tail = self.tail
        if pushes[0].serial <= tail.top:
            pushes = [item for item in pushes if item.serial > tail.top]
        for item in pushes:
            self._keep(tail, item)
        tail.retention = JOIN_TAIL if self.reading or not self.open else TAIL
        tail.trim(0)
        return pushes

    @staticmethod
    def _keep(tail: Stream[Push], item: Push) -> None:
        if item.serial != tail.top + 1:
            raise RuntimeError(f"serial {item.serial} follows {tail.top}: the store left a hole")
        tail.append(item, len(item.frame), 0)

    @property
    def empty(self) -> bool:
        return not (self.live or self.quiet or self.joining)


def _nobody_asks(channel: Channel, subscription: Subscription, outlet: Outlet) -> None:
    pass


class Hub:
    """The channels of this node."""

    channel_type: ClassVar[type[Channel]] = Channel

    def __init__(self, flusher: Flusher) -> None:
        self.flusher = flusher
        self.metrics = flusher.metrics
        self.joined: Callable[[Channel, Subscription, Outlet], None] = _nobody_asks  # after each `live`
        self._channels: dict[str, Channel] = {}

    def channel(self, name: str) -> Channel | None:
        return self._channels.get(name)

    @property
    def names(self) -> Iterable[str]:
        """Of the channels that somebody listens to."""
        return self._channels.keys()

    def enlist(self, subscription: Subscription, outlet: Outlet) -> Channel:
        """Somebody wants to join. The caller sees to it that the channel gets its ``begin``."""
        channel = self._channels.get(subscription.channel)
        if channel is None:
            channel = self._channels[subscription.channel] = self.channel_type(subscription.channel)
            self.metrics.channels += 1
        self._settle(channel)
        channel.live.pop(outlet, None)
        channel.quiet.pop(outlet, None)
        channel.joining[outlet] = subscription
        return channel

    def suspend(self, subscription: Subscription, outlet: Outlet, before: int | None) -> Channel | None:
        """Take a live subscriber off the list, its cursor at what was sent last: ``before``, or
        the top. None: it was not live."""
        channel = self._channels.get(subscription.channel)
        if channel is None or channel.tail is None:
            return None
        self._settle(channel)
        if outlet in channel.live:
            del channel.live[outlet]
        elif outlet in channel.quiet:
            del channel.quiet[outlet]
        else:
            return None
        subscription.cursor = channel.tail.top if before is None else before
        channel.joining[outlet] = subscription
        return channel

    def advance(self, channel: Channel, subscription: Subscription, outlet: Outlet) -> bool:
        """Go live, if the tail holds everything after the cursor and the socket takes it.
        False: read a page, or wait for the socket, first."""
        tail = channel.tail
        assert tail is not None
        if subscription.cursor >= tail.top:
            if not outlet.free:
                return False
        elif subscription.cursor + 1 < tail.floor:
            return False
        else:
            rest = tail.after(subscription.cursor, tail.top - subscription.cursor, tail.bytes)
            if not self._replay(subscription, outlet, rest):
                return False
        if not subscription.told_live:
            subscription.told_live = True
            outlet.send(channel.live_frame())
        del channel.joining[outlet]
        self._settle(channel)
        if subscription.echo:
            channel.live[outlet] = outlet.write
        else:
            channel.quiet[outlet] = subscription.user
        self.joined(channel, subscription, outlet)
        return True

    def listeners(self, channel: Channel) -> list[Outlet]:
        """Those that are live."""
        return [*channel.live, *channel.quiet]

    def replay(self, channel: Channel, subscription: Subscription, outlet: Outlet, page: Page) -> None:
        """Send a page of the log that follows the cursor, up to what the tail has seen, for as long
        as the socket takes it."""
        assert channel.tail is not None
        channel.floor = max(channel.floor, page.floor)
        if page.floor > subscription.cursor + 1:
            # Trimmed meanwhile: what is lost is said in its place in the stream.
            late = subscription.told_live
            outlet.send(gap_frame(channel, "lag" if late else "trimmed", subscription.cursor, page.floor - 1))
            self.metrics.gaps += 1
            self.metrics.lag_gaps += late
            subscription.cursor = page.floor - 1
        top = channel.tail.top
        self._replay(
            subscription, outlet, (push(channel.name, entry) for entry in page.entries if entry.serial <= top)
        )

    def _replay(self, subscription: Subscription, outlet: Outlet, pushes: Iterable[Push]) -> bool:
        """Send piece by piece; the cursor says how far it got. False: the socket is full."""
        room = outlet.free
        for piece in _pieces(pushes) if room else ():
            frames = [item.frame for item in piece if subscription.echo or item.user != subscription.user]
            subscription.cursor = piece[-1].serial
            self.metrics.deliveries += len(frames)
            self.metrics.replayed += len(frames)
            if frames and not outlet.send_replayed(b"".join(frames)):
                room = False
                break
        return room

    def leave(self, name: str, outlet: Outlet) -> None:
        channel = self._channels.get(name)
        if channel is None:
            return
        self._settle(channel)
        channel.live.pop(outlet, None)
        channel.quiet.pop(outlet, None)
        channel.joining.pop(outlet, None)
        if channel.empty:
            del self._channels[name]
            self.metrics.channels -= 1

    def _settle(self, channel: Channel) -> None:
        """Before somebody comes or goes: who is live now gets what was delivered until now."""
        if channel.fresh:
            self.flusher.spread()

    def committed(self, name: str, entries: Iterable[Entry]) -> None:
        """Messages of one channel are durable, in serial order: deliver them to whoever listens."""
        channel = self._channels.get(name)
        if channel is None:
            return
        fresh = channel.take([push(name, entry) for entry in entries])
        if channel.open and fresh:
            self.deliver(channel, fresh)

    def deliver(self, channel: Channel, pushes: Sequence[Push]) -> None:
        """The hot path: one list append, however many messages and live subscribers there are."""
        frames = [item.frame for item in pushes]
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        if len(data) <= PIECE_BYTES or len(frames) == 1:
            self._deliver(channel, pushes, data)
            return
        for piece in _pieces(pushes):
            self._deliver(channel, piece, b"".join([item.frame for item in piece]))

    def _deliver(self, channel: Channel, pushes: Sequence[Push], data: bytes) -> None:
        before, flusher = pushes[0].serial - 1, self.flusher
        if channel.live:
            flusher.push(channel, data, Place(channel.name, before, len(pushes)))
            self.metrics.deliveries += len(pushes) * len(channel.live)
        for outlet, user in channel.quiet.items():
            others = [item.frame for item in pushes if item.user != user]
            if others:
                data = b"".join(others)
                flusher.places[data] = Place(channel.name, before, len(others))
                outlet.send(data)
                self.metrics.deliveries += len(others)

    def reset(self, channel: Channel, head: Head) -> None:
        """The stream goes on in another epoch, ``head``'s: all who were answered are told, and
        what came after the fork is forgotten. PROTOCOL.md § Resume."""
        assert channel.tail is not None
        self._settle(channel)
        fork = shared(tuple(channel.head.epochs), tuple(head.epochs))
        reset = Reset(
            channel=channel.name,
            position=(head.epoch, head.top),
            fork=fork,
            epochs=head.epochs,
            why="failover" if fork else "the log was lost",
        )
        self.tell_reset(channel, text_frame(encode(reset)))
        for subscription in channel.joining.values():
            if subscription.answered:
                subscription.cursor = min(subscription.cursor, fork)
        self.metrics.resets += 1
        channel.tail.cut(fork)
        channel.epoch, channel.lineage, channel.floor = head.epoch, head.lineage, head.floor

    def tell_reset(self, channel: Channel, frame: bytes) -> None:
        """Those who were answered, whether they are live or not."""
        answered = [outlet for outlet, joining in channel.joining.items() if joining.answered]
        for outlet in (*self.listeners(channel), *answered):
            outlet.send(frame)

    def skip(self, channel: Channel, floor: int) -> None:
        """The log forgot what follows the tail before it came here: the stream goes on at ``floor``."""
        assert channel.tail is not None
        self._settle(channel)
        frame = gap_frame(channel, "trimmed", channel.tail.top, floor - 1)
        outlets = self.listeners(channel)
        for outlet in outlets:
            outlet.send(frame)
        self.metrics.gaps += len(outlets)
        channel.floor, channel.tail = floor, Stream(channel.tail.retention, top=floor - 1)

    def trimmed(self, floors: dict[str, int]) -> None:
        for name, floor in floors.items():
            if (channel := self._channels.get(name)) is not None:
                channel.floor = max(channel.floor, floor)


def gap_frame(channel: Channel, why: GapWhy, after: int, to: int) -> bytes:
    """``after`` + 1 … ``to`` are gone."""
    lost_from, lost_to = (channel.epoch, after), (channel.epoch, to)
    return text_frame(encode(Gap(channel=channel.name, why=why, from_=lost_from, to=lost_to)))


def _pieces(pushes: Iterable[Push]) -> Iterator[list[Push]]:
    """Runs of about ``PIECE_BYTES``, made as they are asked for."""
    piece: list[Push] = []
    size = 0
    for item in pushes:
        piece.append(item)
        size += len(item.frame)
        if size >= PIECE_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece

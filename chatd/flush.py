"""What waits to be written to each connection, and when it is written. No sockets.

A push to a channel costs an append to one list; the system call is paid once per connection and
flush, for everything that is pending. The flush comes at the end of the loop's tick when the
daemon is idle. Under load it waits for as long as the last one took, at most
``MAX_CORK_S``, so that at least half of the time is left for reading and more frames
share one write.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from .metrics import Metrics

MAX_CORK_S: Final = 0.005
SLICE: Final = 2000  # connections written to before the loop gets its turn again
SLOW_BYTES: Final = 64 * 1024  # in user space for one connection, before it is a slow consumer
PIECE_BYTES: Final = 16 * 1024  # written at a time; only a single frame may be larger
HELD_LIMIT: Final = 512 * 1024  # of answers that wait for a full socket; no push is among them

Piece = tuple[bytes, int]


class Place(NamedTuple):
    """Where the messages of some queued bytes are in their stream."""

    channel: str
    before: int  # the serial before the first of them
    messages: int


class Audience:
    """Those who are live on one channel, and what all of them are to get with the next flush.

    Nobody comes or goes while there is something ``fresh``: ``Flusher.spread`` is called first.
    ``live``: each outlet's ``write``; none of them is blocked or closed.
    """

    def __init__(self) -> None:
        self.live: dict[Outlet, Callable[[bytes], None]] = {}
        self.fresh: list[tuple[bytes, Place]] = []


class Outlet:
    """The way out to one connection.

    ``write`` takes whole WebSocket frames. Between ``block`` and ``unblock`` (the socket
    is full) what is flushed is held here, at most ``Flusher.held_limit`` bytes: answers and
    the like, for a blocked connection gets no pushes. ``slow``: it gets none
    until it has caught up from the log either.
    """

    __slots__ = (
        "blocked_since",
        "closed",
        "flusher",
        "held",
        "held_bytes",
        "pending",
        "replayed_bytes",
        "slow",
        "write",
    )

    def __init__(self, flusher: Flusher, write: Callable[[bytes], None]) -> None:
        self.flusher = flusher
        self.write = write
        self.pending: list[bytes] = []
        self.held: deque[bytes] = deque()
        self.held_bytes = 0
        self.replayed_bytes = 0  # of replays, since the last ``flush``
        self.blocked_since: float | None = None
        self.slow = False
        self.closed = False

    def send(self, frame: bytes) -> None:
        """Queue a frame after all others, to be written with the next flush."""
        if self.closed:
            return
        if not self.pending:
            self.flusher.dirty.append(self)
            self.flusher.wake()
        self.pending.append(frame)

    def offer(self, frame: bytes) -> bool:
        """Queue a frame that nobody needs late. A connection that is behind does not get it: False."""
        if self.slow or not self.free or self.flusher.drop_ephemeral:
            self.flusher.metrics.dropped += 1
            return False
        self.send(frame)
        return True

    def send_replayed(self, frames: bytes) -> bool:
        """Queue a piece of a replay; says whether there is room for another one."""
        self.send(frames)
        self.replayed_bytes += len(frames)
        if self.replayed_bytes >= PIECE_BYTES:
            self.flush()
        return self.free

    def flush(self) -> None:
        """Write what is pending now, ahead of the tick's flush."""
        self.replayed_bytes = 0
        if self.pending and not self.closed:
            frames, self.pending = self.pending, []
            self.flusher.put(self, frames, cut(frames))

    def retract(self) -> list[Place]:
        """Take back the live pushes at the end of what is pending, newest first."""
        self.flusher.spread()
        places, taken = self.flusher.places, []
        while self.pending and (place := places.get(self.pending[-1])) is not None:
            self.pending.pop()
            taken.append(place)
        return taken

    def finish(self, last: bytes) -> None:
        """Write what is pending and ``last``, then nothing more. A connection that does not
        drain gets only ``last``: what is held would take too long."""
        if not self.closed:
            data = last if self.held else b"".join((*self.pending, last))
            self.close()
            self.flusher.metrics.sent_bytes += len(data)
            self.write(data)

    def block(self, now: float) -> None:
        if self.blocked_since is None:
            self.blocked_since = now

    def unblock(self) -> None:
        """The socket takes data again: hand over what was held, until it is full once more."""
        self.blocked_since = None
        while self.held and self.blocked_since is None and not self.closed:
            self._hand_over()

    def _hand_over(self) -> None:
        batch, size = [], 0
        while self.held and size < PIECE_BYTES:
            batch.append(self.held.popleft())
            size += len(batch[-1])
        self._drop_count(size)
        self.write(b"".join(batch))

    def hold(self, data: bytes) -> None:
        self.held.append(data)
        self.held_bytes += len(data)
        self.flusher.metrics.held_bytes += len(data)

    def close(self) -> None:
        """Nothing more goes out; what waits is dropped."""
        self.closed = True
        self.pending = []
        self.held.clear()
        self._drop_count(self.held_bytes)

    def _drop_count(self, size: int) -> None:
        self.held_bytes -= size
        self.flusher.metrics.held_bytes -= size

    @property
    def free(self) -> bool:
        """Nothing waits for the socket to drain: room for more of a replay."""
        return self.blocked_since is None and not self.held


class Flusher:
    """Writes what is pending, all connections of a tick in one go.

    Args:
        schedule: calls a function after a delay in seconds (0: at the end of this tick).
        clock: seconds, monotonic.
        overflow: called with an outlet that holds more than ``held_limit`` bytes.

    ``places`` knows the live pushes that may still be pending; ``cork_s`` and ``drop_ephemeral``
    are turned by chatd/overload.py.
    """

    def __init__(
        self,
        schedule: Callable[[float, Callable[[], None]], object],
        clock: Callable[[], float],
        overflow: Callable[[Outlet], None],
        metrics: Metrics,
        *,
        held_limit: int = HELD_LIMIT,
    ) -> None:
        self.dirty: list[Outlet] = []  # whose `pending` went from empty to not empty
        self.fresh: list[Audience] = []  # whose `fresh` is not empty
        self.places: dict[bytes, Place] = {}
        self.metrics = metrics
        self.held_limit = held_limit
        self.cork_s = MAX_CORK_S
        self.drop_ephemeral = False
        self.flushed: Callable[[], None] | None = None  # called after each flush
        self._schedule = schedule
        self._clock = clock
        self._overflow = overflow
        self._scheduled = False
        self._not_before = 0.0

    def wake(self) -> None:
        """Something became dirty: make sure that a flush comes."""
        if not self._scheduled:
            self._scheduled = True
            self._schedule(max(0.0, self._not_before - self._clock()), self.flush)

    def push(self, audience: Audience, data: bytes, place: Place) -> None:
        """Queue messages of a channel for all who are live on it."""
        if not audience.fresh:
            self.fresh.append(audience)
            self.wake()
        audience.fresh.append((data, place))

    def spread(self) -> None:
        """Put what is fresh behind whatever else is pending for each outlet."""
        audiences, self.fresh = self.fresh, []
        dirty = self.dirty
        for audience in audiences:
            for data, place in _joined(audience):
                self.places[data] = place
                for outlet in audience.live:
                    pending = outlet.pending
                    if not pending:
                        dirty.append(outlet)
                    pending.append(data)
            audience.fresh = []

    def _write_through(self) -> None:
        """Messages of one channel only: write them, without a list for each connection."""
        audience = self.fresh[0]
        live = audience.live
        if len(self.fresh) > 1 or len(live) > SLICE:
            return
        ((data, place), *more) = _joined(audience)
        if more or len(data) > PIECE_BYTES:
            return
        self.fresh, audience.fresh = [], []
        writes = list(live.values())  # a copy: those whose sockets are full now leave
        busy = {outlet for outlet in self.dirty if outlet.pending and outlet in live}
        if busy:  # something else comes first for them
            self.places[data] = place
            for outlet in busy:
                outlet.pending.append(data)
            writes = [write for outlet, write in live.items() if not outlet.pending]
        for write in writes:
            write(data)
        self.metrics.sent_bytes += len(data) * len(writes)
        self.metrics.writes += len(writes)

    def flush(self) -> None:
        self._scheduled = False
        started = self._clock()
        if self.fresh:
            self._write_through()
        if self.fresh:
            self.spread()
        batch, self.dirty = self.dirty[:SLICE], self.dirty[SLICE:]
        joined: dict[tuple[bytes, ...], bytes] = {}
        cuts: dict[tuple[bytes, ...], list[Piece]] = {}
        sent = 0
        for outlet in batch:  # the hot path: one write per connection
            frames = outlet.pending
            if not frames or outlet.closed:
                continue
            outlet.pending = []
            if len(frames) == 1:
                data = frames[0]
            else:
                # Subscribers of the same channels have the same list: join it once.
                key = tuple(frames)
                data = joined.get(key) or joined.setdefault(key, b"".join(frames))
            if outlet.blocked_since is not None:
                self.put(outlet, frames, ())
            elif len(data) > PIECE_BYTES:
                key = tuple(frames)
                self.put(outlet, frames, cuts.get(key) or cuts.setdefault(key, cut(frames)))
            else:
                sent += len(data)
                outlet.write(data)
        self.metrics.sent_bytes += sent
        self.metrics.writes += len(batch)
        if self.flushed is not None:
            self.flushed()
        ended = self._clock()
        self._not_before = ended if self.dirty else ended + min(ended - started, self.cork_s)
        if self.dirty:
            self.wake()
        else:
            self.places.clear()

    def put(self, outlet: Outlet, frames: list[bytes], pieces: Sequence[Piece]) -> None:
        """Write piece by piece for as long as the socket takes it; hold the rest.

        Meanwhile the rest is ``outlet.pending``: who is told that the socket is full
        can take back what need not wait for it.
        """
        outlet.pending = frames
        for data, count in pieces:
            if outlet.blocked_since is not None or outlet.closed:
                break
            del frames[:count]
            self.metrics.sent_bytes += len(data)
            outlet.write(data)
        rest, outlet.pending = outlet.pending, []
        if rest and not outlet.closed:
            data = b"".join(rest)
            self.metrics.sent_bytes += len(data)
            outlet.hold(data)
            if outlet.held_bytes > self.held_limit:
                self._overflow(outlet)


def _joined(audience: Audience) -> Sequence[tuple[bytes, Place]]:
    """What is fresh, as one piece if it is small enough for one write."""
    fresh = audience.fresh
    if len(fresh) == 1 or sum([len(data) for data, _ in fresh]) > PIECE_BYTES:
        return fresh
    first = fresh[0][1]
    place = Place(first.channel, first.before, sum([place.messages for _, place in fresh]))
    return [(b"".join([data for data, _ in fresh]), place)]


def cut(frames: Sequence[bytes]) -> list[Piece]:
    """Join frames into pieces of at most ``PIECE_BYTES``, or of one, with how many are in each."""
    pieces: list[Piece] = []
    first, size = 0, 0
    for end, frame in enumerate(frames):
        if size and size + len(frame) > PIECE_BYTES:
            pieces.append((b"".join(frames[first:end]), end - first))
            first, size = end, 0
        size += len(frame)
    if size:
        pieces.append((b"".join(frames[first:]), len(frames) - first))
    return pieces

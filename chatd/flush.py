"""What waits to be written to each connection, and when it is written. No sockets.

A push costs an append to a list; the system call is paid once per connection and
flush, for everything that is pending. The flush comes at the end of the loop's tick when the
daemon is idle. Under load it waits for as long as the last one took, at most
``MAX_CORK_S``, so that at least half of the time is left for reading and more frames
share one write.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from .metrics import Metrics

MAX_CORK_S: Final = 0.005
SLICE: Final = 2000  # connections written to before the loop gets its turn again
RESUME_BYTES: Final = 64 * 1024  # handed over at a time to a connection that drains


class Outlet:
    """The way out to one connection.

    ``write`` takes whole WebSocket frames. Between ``block`` and ``unblock`` (the socket
    is full) what is flushed is held here, at most ``Flusher.held_limit`` bytes.
    """

    __slots__ = ("blocked_since", "closed", "flusher", "held", "held_bytes", "pending", "write")

    def __init__(self, flusher: Flusher, write: Callable[[bytes], None]) -> None:
        self.flusher = flusher
        self.write = write
        self.pending: list[bytes] = []
        self.held: deque[bytes] = deque()
        self.held_bytes = 0
        self.blocked_since: float | None = None
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
        if not self.free:
            self.flusher.metrics.dropped += 1
            return False
        self.send(frame)
        return True

    def flush(self) -> None:
        """Write what is pending now, ahead of the tick's flush: for a replay's large pages."""
        if self.pending and not self.closed:
            data = b"".join(self.pending)
            self.pending = []
            self.flusher.put(self, data)

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
        while self.held and size < RESUME_BYTES:
            batch.append(self.held.popleft())
            size += len(batch[-1])
        self._drop_count(size)
        self.write(b"".join(batch))

    def hold(self, data: bytes) -> None:
        self.held.append(data)
        self.held_bytes += len(data)
        self.flusher.metrics.queue_bytes += len(data)

    def close(self) -> None:
        """Nothing more goes out; what waits is dropped."""
        self.closed = True
        self.pending = []
        self.held.clear()
        self._drop_count(self.held_bytes)

    def _drop_count(self, size: int) -> None:
        self.held_bytes -= size
        self.flusher.metrics.queue_bytes -= size

    @property
    def free(self) -> bool:
        """Nothing waits in user space: room for more of a replay."""
        return self.blocked_since is None and not self.held


class Flusher:
    """Writes what is pending, all connections of a tick in one go.

    Args:
        schedule: calls a function after a delay in seconds (0: at the end of this tick).
        clock: seconds, monotonic.
        overflow: called with an outlet that holds more than ``held_limit`` bytes.
    """

    def __init__(
        self,
        schedule: Callable[[float, Callable[[], None]], object],
        clock: Callable[[], float],
        overflow: Callable[[Outlet], None],
        metrics: Metrics,
        *,
        held_limit: int = 8 * 1024 * 1024,
    ) -> None:
        self.dirty: list[Outlet] = []  # whose `pending` went from empty to not empty
        self.metrics = metrics
        self.held_limit = held_limit
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

    def flush(self) -> None:
        self._scheduled = False
        started = self._clock()
        batch, self.dirty = self.dirty[:SLICE], self.dirty[SLICE:]
        joined: dict[tuple[bytes, ...], bytes] = {}
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
            if outlet.blocked_since is None:
                sent += len(data)
                outlet.write(data)
            else:
                self.put(outlet, data)
        self.metrics.sent_bytes += sent
        self.metrics.writes += len(batch)
        ended = self._clock()
        self._not_before = ended if self.dirty else ended + min(ended - started, MAX_CORK_S)
        if self.dirty:
            self.wake()

    def put(self, outlet: Outlet, data: bytes) -> None:
        """Write, or hold what the socket does not take."""
        self.metrics.sent_bytes += len(data)
        if outlet.blocked_since is None:
            outlet.write(data)
            return
        outlet.hold(data)
        if outlet.held_bytes > self.held_limit:
            self._overflow(outlet)

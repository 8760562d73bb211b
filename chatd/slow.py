"""Readers that do not keep up: fed from the log, at their own pace, in bounded memory.

A connection whose socket is full, with about 64 KiB waiting in user space, goes into *cursor
mode*: its subscriptions leave the live lists, and all that is kept of each is the serial
that was sent last. When the socket drains, the joins feed it pages of the log, and each
subscription is live again once it has caught up, in order, with nothing skipped or
repeated. What retention has let go of meanwhile is declared as a ``gap`` (why ``lag``). A socket
that takes nothing for ``stuck_s`` is given up. PROTOCOL.md § Slow consumers.
"""

from __future__ import annotations

from collections.abc import Iterator

from .connection import Connection
from .hub import Hub
from .joins import Joins


class Stall:
    """Whether a full socket still takes anything, seen by looking at its buffer now and then."""

    __slots__ = ("buffered", "since")

    def __init__(self, now: float, buffered: int) -> None:
        self.since = now
        self.buffered = buffered

    def lasts_s(self, now: float, buffered: int) -> float:
        """For how long nothing has gone, given the bytes that wait now."""
        if buffered != self.buffered:
            self.since, self.buffered = now, buffered
        return now - self.since


class SlowConsumers:
    """Who is in cursor mode, and who is stuck.

    Args:
        stuck_s: how long a full socket may take nothing.
    """

    def __init__(self, hub: Hub, stuck_s: float) -> None:
        self.stuck_s = stuck_s
        self._hub = hub
        self._metrics = hub.metrics
        self._stalls: dict[Connection, Stall] = {}

    def blocked(self, connection: Connection, joins: Joins, now: float) -> None:
        """The socket is full: from live to cursor, from what was written last."""
        self._stalls[connection] = Stall(now, connection.link.buffered)
        outlet = connection.outlet
        before: dict[str, int] = {}
        for place in outlet.retract():  # newest first: what stays is the oldest
            before[place.channel] = place.before
            self._metrics.deliveries -= place.messages
        for name, subscription in connection.session.subscriptions.items():
            channel = self._hub.suspend(subscription, outlet, before.get(name))
            if channel is None:
                continue
            if not outlet.slow:
                outlet.slow = True
                self._metrics.slow_entered += 1
                self._metrics.slow += 1
            joins.feed(connection, channel, subscription)

    def unblocked(self, connection: Connection) -> None:
        self._stalls.pop(connection, None)

    def caught_up(self, connection: Connection) -> None:
        """Everything is live again, or the connection is over."""
        if connection.outlet.slow:
            connection.outlet.slow = False
            self._metrics.slow -= 1
            self._metrics.slow_left += 1

    def waiting_bytes(self) -> int:
        """What waits in user space for full sockets."""
        return self._metrics.held_bytes + sum(connection.link.buffered for connection in self._stalls)

    def stuck(self, now: float) -> Iterator[Connection]:
        """Those to be given up. Asked about once a second."""
        for connection, stall in list(self._stalls.items()):
            if stall.lasts_s(now, connection.link.buffered) > self.stuck_s:
                del self._stalls[connection]
                self._metrics.stuck += 1
                yield connection

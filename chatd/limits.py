"""How often somebody may publish: token buckets. No I/O, no clock; ``now`` is in seconds."""

from __future__ import annotations

import math
from typing import Final

from .protocol.errors import RateLimited

SWEEP: Final = 1024  # channels whose buckets are kept before the full ones are forgotten


class Rate:
    """At most ``per_s`` a second for ever, ``burst`` at once. ``per_s`` 0: no limit.

    The bucket is one number, the time at which it is full again.

    Source: the virtual scheduling form of the Generic Cell Rate Algorithm, ITU-T I.371 (2004), § A.2.

    >>> rate = Rate(per_s=2, burst=3)
    >>> full = 0.0
    >>> for _ in range(3):
    ...     wait_s, full = rate.take(full, now=10.0)
    >>> rate.take(full, now=10.0)[0], rate.take(full, now=10.5)[0]
    (0.5, 0.0)
    """

    __slots__ = ("_interval_s", "_slack_s", "burst", "per_s")

    def __init__(self, per_s: float, burst: int) -> None:
        self.per_s = per_s
        self.burst = burst
        self._interval_s = 1 / per_s if per_s else 0.0
        # A millionth of an interval forgives rounding: after exactly the wait that was told, one is there.
        self._slack_s = self._interval_s * (burst - 1 + 1e-6)

    def take(self, full_at: float, now: float) -> tuple[float, float]:
        """Take one from the bucket that is full at ``full_at``.

        Returns:
            (0.0, when it is full again), or (seconds to wait, ``full_at``) and nothing was taken.
        """
        wait_s = full_at - now - self._slack_s
        if wait_s > 0:
            return wait_s, full_at
        return 0.0, max(full_at, now) + self._interval_s


class ChannelRates:
    """One bucket per channel, shared by all connections."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._full_at: dict[str, float] = {}
        self._sweep_at = SWEEP

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, channel: str, now: float) -> float:
        """Seconds to wait; 0.0: taken."""
        wait_s, full_at = self.rate.take(self._full_at.get(channel, 0.0), now)
        if not wait_s:
            self._full_at[channel] = full_at
            if len(self._full_at) > self._sweep_at:
                self._full_at = {name: when for name, when in self._full_at.items() if when > now}
                self._sweep_at = max(SWEEP, 2 * len(self._full_at))
        return wait_s


class Quota:
    """What one connection may publish: its own bucket, and those of the channels."""

    __slots__ = ("_channels", "_full_at", "_rate")

    def __init__(self, rate: Rate, channels: ChannelRates) -> None:
        self._rate = rate
        self._channels = channels
        self._full_at = 0.0

    def take(self, channel: str, now: float) -> None:
        """Count one publish. Raises ``RateLimited``, which says how long to wait."""
        if self._rate.per_s:
            wait_s, self._full_at = self._rate.take(self._full_at, now)
            if wait_s:
                raise _limited("this connection", self._rate, wait_s)
        if self._channels.rate.per_s and (wait_s := self._channels.take(channel, now)):
            raise _limited(f"channel {channel!r}", self._channels.rate, wait_s)


def _limited(what: str, rate: Rate, wait_s: float) -> RateLimited:
    return RateLimited(
        f"{what} may take {rate.per_s:g} publishes a second, {rate.burst} at once",
        after_ms=math.ceil(wait_s * 1000),
    )


NO_QUOTA: Final = Quota(Rate(0, 1), ChannelRates(Rate(0, 1)))
"""Counts nothing, so that it can be shared."""

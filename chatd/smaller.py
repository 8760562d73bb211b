"""A node as small as it is told to be, so that scaling strategies can be compared on one machine.

A daemon is one thread: what its deliveries cost is time in which it does nothing else, and a node that
has more to deliver than it can is late with everything. So that is what is emulated: for each delivery the
loop stands still for 1 / ``slowed_to_per_s`` of a second, asleep, which leaves the processor to the other
nodes. Lag, latency, the overload ladder and what clients see follow by themselves. A report of such a run
says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from .metrics import Metrics

NAP_S: Final = 0.001  # what is owed is slept off in pieces of at least this: the system cannot sleep for less


class Smaller:
    """Sleeps for what was delivered, in the event loop, on purpose.

    Args:
        metrics: counts the deliveries.
        clock: seconds, monotonic.
        sleep: stands still for so many seconds, or a little longer.
    """

    def __init__(
        self,
        deliveries_per_s: float,
        metrics: Metrics,
        clock: Callable[[], float],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._each_s = 1 / deliveries_per_s
        self._metrics = metrics
        self._clock = clock
        self._sleep = sleep
        self._counted = metrics.deliveries
        self._debt_s = 0.0

    def stand_still(self) -> None:
        """Pay for what was delivered since the last time. Sleeping too long is taken off the next nap."""
        self._debt_s += (self._metrics.deliveries - self._counted) * self._each_s
        self._counted = self._metrics.deliveries
        if self._debt_s >= NAP_S:
            began = self._clock()
            self._sleep(self._debt_s)
            self._debt_s -= self._clock() - began

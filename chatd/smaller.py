"""A node as small as it is told to be, so that scaling strategies can be compared on one machine.

A daemon is one thread: what its deliveries cost is time in which it does nothing else, and a node that
has more to deliver than it can is late with everything. So that is what is emulated: for each delivery the
loop stands still for 1 / ``capacity`` of a second, asleep, which leaves the processor to the other nodes.
Lag, latency, the overload ladder and what clients see follow by themselves. A report of such a run says so.
"""

from __future__ import annotations

from typing import Final

NAP_S: Final = 0.001  # what is owed is slept off in pieces of at least this: the system cannot sleep for less


class Smaller:
    """How long to sleep for what was delivered. No clock: the caller sleeps, and says for how long it did.

    >>> node = Smaller(deliveries_per_s=1000)
    >>> node.owed_s(5), node.owed_s(5)
    (0.005, 0.005)
    >>> node.slept(0.0052); node.owed_s(6), node.owed_s(7)
    (0.0, 0.0018)
    """

    def __init__(self, deliveries_per_s: float) -> None:
        self._each_s = 1 / deliveries_per_s
        self._counted = 0
        self._debt_s = 0.0

    def owed_s(self, deliveries: int) -> float:
        """How long to stand still now; 0 while too little is owed to sleep for.

        Args:
            deliveries: of this node since its start.
        """
        self._debt_s += (deliveries - self._counted) * self._each_s
        self._counted = deliveries
        return round(self._debt_s, 9) if self._debt_s >= NAP_S else 0.0

    def slept(self, slept_s: float) -> None:
        """What was slept too long is taken off what comes next."""
        self._debt_s -= slept_s

"""How far the clock of a worker on another host is from the master's, and within what bound.

The master asks over the channel that it has with the worker; the answer carries the worker's
CLOCK_MONOTONIC. That clock was read at some time between the question and the answer, so half the round
trip bounds the error, whatever share of it each direction took. Of many exchanges the one with the
shortest round trip is kept, and another is kept every few seconds, so that drift is seen and not assumed.
What is made of the readings: ``reports.clock``.

Source: RFC 5905 § 8 (NTP's on-wire protocol, with one time stamp at the far end) and § 10 (clock filter).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

BURST: Final = 16  # exchanges of the first reading, and of the last
BURST_S: Final = 0.02  # between them
PROBE_S: Final = 0.25  # between those of the rest of the run
WINDOW_NS: Final = 5_000_000_000  # one reading is kept of so long


@dataclass(frozen=True, slots=True)
class Reading:
    """At ``worker_ns`` of the worker's clock, the master's was ahead by ``offset_ns``, ± ``bound_ns``."""

    worker_ns: int
    offset_ns: int
    bound_ns: int


def read(*, asked_ns: int, worker_ns: int, answered_ns: int) -> Reading:
    """What one exchange tells. ``asked_ns`` and ``answered_ns`` are of the master's clock.

    Raises:
        ValueError: answered before it was asked.
    """
    if answered_ns < asked_ns:
        raise ValueError(f"answered_ns is {answered_ns}: must not be before asked_ns, {asked_ns}")
    trip_ns = answered_ns - asked_ns
    # Rounded up, so that the odd nanosecond is inside the bound.
    return Reading(worker_ns, asked_ns + trip_ns // 2 - worker_ns, -(-trip_ns // 2))


class Watch:
    """Keeps the best exchange of each window of one worker's."""

    def __init__(self) -> None:
        self.readings: list[Reading] = []
        self._best: Reading | None = None
        self._count = 0  # exchanges of the window at hand
        self._since_ns = 0

    def add(self, reading: Reading) -> Reading | None:
        """Take in an exchange; returns the best of its window when that is over.

        The first window is over after ``BURST`` exchanges, every other one after ``WINDOW_NS``.
        """
        if self._best is None:
            self._since_ns = reading.worker_ns
        if self._best is None or reading.bound_ns < self._best.bound_ns:
            self._best = reading
        self._count += 1
        over = self._count >= BURST and (not self.readings or reading.worker_ns - self._since_ns >= WINDOW_NS)
        return self.close() if over else None

    def close(self) -> Reading | None:
        """End the window at hand; None: it has no exchange, or none later than the last reading."""
        best, self._best, self._count = self._best, None, 0
        if best is None or (self.readings and best.worker_ns <= self.readings[-1].worker_ns):
            return None
        self.readings.append(best)
        return best

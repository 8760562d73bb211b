"""Counts of what clients do without a record of its own: ephemerals, and publishes that were not made."""

from __future__ import annotations

from collections import Counter

from .drivers.base import Capability


class Tally:
    """Since the start, of one worker. ``heard``, ``done`` and ``failed`` are by capability."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()  # requests and notices that were written
        self.heard: Counter[str] = Counter()  # pushes and answers that came
        self.failed: Counter[str] = Counter()  # requests that were refused
        self.missed: Counter[str] = Counter()  # fell due while there was no connection, or nothing to act on
        self.dropped = 0  # publishes that fell due while the client was down, and were not made
        self.given_up = 0  # publishes that were sent, not answered, and not sent again
        self.skipped = 0  # reactions for which there was no message yet
        self.repeats = 0  # publishes that were sent once more although they were acked

    def totals(self) -> dict[str, int]:
        """All counts, flat; those by capability only where there is any."""
        found = {
            "dropped": self.dropped,
            "given_up": self.given_up,
            "skipped": self.skipped,
            "repeats": self.repeats,
        }
        for name in ("done", "heard", "failed", "missed"):
            counts: Counter[str] = getattr(self, name)
            found |= {f"{kind}_{name}": count for kind, count in sorted(counts.items())}
        return found

    def note(self, what: Capability) -> None:
        """Something that has no place in a stream arrived."""
        self.heard[what] += 1

"""Places that nothing showed, and that a subscriber's stream went over all the same: holes of the log.

A hole of a segment that no ack, delivery or read ever showed, and that no gap declared. Where echo is off, a
publisher's own stream proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from .continuity import Continuity
from .messages import Places
from .owed import Ledger
from .result import Range, Reference
from .rows import Bool, Index, Int, Rows, member
from .windows import Windows

Hole = tuple[int, int, int]  # stream (see messages.Places), first and last serial


class Over(NamedTuple):
    """The arrival after a hole; of several the earliest tells."""

    t: int
    record: Reference
    client: int
    serial: int


Passed = dict[Hole, Over]


def passed_over(
    windows: Windows,
    continuity: Continuity,
    ledger: Ledger,
    places: Places,
    *,
    arrivals: Rows,
    shown: Int,
    published: Int | None,
) -> Passed:
    """Ranges that nothing showed and some stream went over, with the arrival after each.

    Args:
        shown: sorted places that anything showed.
        published: sorted (channel, client) of publishers, whose streams prove nothing; None: all do.
    """
    found: Passed = {}
    last_window = _last_windows(windows, continuity)
    for i in np.flatnonzero(_unshown(windows, continuity, places, shown)).tolist():
        w = int(last_window[i])
        channel, pair = int(windows.channel[w]), int(windows.channel[w]) << 32 | int(windows.client[w])
        if published is not None and member(np.array([pair]), published)[0]:
            continue
        segment, first, last, after = (
            int(c[i])
            for c in (
                continuity.hole_segment,
                continuity.hole_first,
                continuity.hole_last,
                continuity.hole_after,
            )
        )
        known = [*ledger.declared(segment), *ledger.showed(w, first, last)]
        over = Over(
            int(arrivals.t[after]),
            arrivals.reference(after),
            int(arrivals.client[after]),
            int(arrivals.serial[after]),
        )
        for begin, end in cut([(first, last)], known):
            for hole in places.streams(channel, int(windows.epoch[w]), begin, end):
                found[hole] = min(found.get(hole, over), over)
    return found


def cut(ranges: Iterable[Range], away: Iterable[Range]) -> list[Range]:
    """Ranges without what lies in others."""
    left = list(ranges)
    for first, last in away:
        pieces = []
        for begin, end in left:
            if last < begin or first > end:
                pieces.append((begin, end))
                continue
            pieces += [(a, b) for a, b in ((begin, first - 1), (last + 1, end)) if a <= b]
        left = pieces
    return left


def _last_windows(windows: Windows, continuity: Continuity) -> Index:
    """Of the segment of each hole: its epoch is the newest, and has all that the others had."""
    return np.searchsorted(windows.segment, continuity.hole_segment, side="right") - 1


def _unshown(windows: Windows, continuity: Continuity, places: Places, shown: Int) -> Bool:
    """Holes of segments that cannot be all shown: all are looked at once, few are left."""
    if not len(continuity.hole_segment):
        return np.zeros(0, np.bool_)
    w = _last_windows(windows, continuity)
    first = places.of(windows.channel[w], windows.epoch[w], continuity.hole_first)
    last = places.of(windows.channel[w], windows.epoch[w], continuity.hole_last)
    known = np.searchsorted(shown, last, side="right") - np.searchsorted(shown, first)
    simple = (first >= 0) & (first >> 32 == last >> 32)
    return np.asarray(~simple | (known < continuity.hole_last - continuity.hole_first + 1))

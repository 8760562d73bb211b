"""Obligations: which serials a subscriber was owed and never got.

A hole is owed where an ack, a delivery or a read showed its serial (an unseen serial is the
log's hole, not the delivery's), less what a GAP in the same segment declared, less what
arrived damaged, less one's own messages where echo is off.

Each missing serial has one cause. It is the *resume's* when it lies in what a resumed window
promised to replay: after the position asked for, up to its LIVE, or, where the replay was cut,
up to where the client stood then. Otherwise it is the *delivery's*. So D1 and D2 never count
one serial of one subscriber twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from .continuity import Continuity
from .facts import ranges_of
from .lineage import Lineage
from .messages import Places, serial_of
from .result import Range
from .rows import Int, distinct, member, pack
from .windows import Windows


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Serials that one subscriber was owed in one window and never got."""

    window: int
    places: Int  # sorted
    by_resume: bool
    before: int = -1  # the arrival next below; -1: none, it begins where the window began
    after: int = -1  # the arrival next above; -1: none, it is owed because of the sentinel or the LIVE

    @property
    def ranges(self) -> tuple[Range, ...]:
        serials = np.asarray(serial_of(self.places))
        cuts = np.flatnonzero(np.diff(serials) != 1) + 1
        firsts, lasts = np.append([0], cuts), np.append(cuts - 1, [len(serials) - 1])
        return tuple(zip(serials[firsts].tolist(), serials[lasts].tolist(), strict=True))


class Ledger:
    """What could be owed: every place that anything showed, and what excuses a subscriber from it."""

    def __init__(
        self,
        *,
        windows: Windows,
        continuity: Continuity,
        places: Places,
        shown: Int,
        lineage: Lineage,
        own: Mapping[int, Int],
    ) -> None:
        """
        Args:
            shown: sorted places that an ack, a delivery or a read showed.
            own: sorted places of the messages that a client does not get, being its own.
        """
        self._windows, self._places, self._shown = windows, places, shown
        self._witnessed, self._lineage = continuity.witnessed, lineage
        self._own = own
        self._gaps: dict[int, list[Range]] = {}
        for window, first, last in zip(
            windows.gap_window.tolist(),
            windows.gaps.pub_seq.tolist(),
            windows.gaps.serial.tolist(),
            strict=True,
        ):
            self._gaps.setdefault(int(windows.segment[window]), []).append((first, last))

    def declared(self, segment: int) -> list[Range]:
        """What gaps in a segment said is missing."""
        return self._gaps.get(segment, [])

    def showed(self, window: int, first: int, last: int) -> list[Range]:
        """Serials of a range that something showed, or that arrived damaged in the window's segment."""
        windows = self._windows
        spans = self._places.spans(int(windows.channel[window]), int(windows.epoch[window]), first, last)
        parts = [
            self._shown[np.searchsorted(self._shown, begin) : np.searchsorted(self._shown, end, side="right")]
            for begin, end in spans
        ]
        base = int(windows.segment[window]) << 32
        lo, hi = np.searchsorted(self._witnessed, [base | first, base | last + 1])
        known = distinct(np.concatenate([*parts, self._witnessed[lo:hi]]) & 0xFFFF_FFFF)
        return list(ranges_of(known.tolist()))

    def owed(self, window: int, first: int, last: int) -> Int:
        """Places in a range of serials that the window's subscriber was owed and did not get."""
        windows = self._windows
        channel, segment = int(windows.channel[window]), int(windows.segment[window])
        spans = self._places.spans(channel, int(windows.epoch[window]), first, last)
        parts = [
            self._shown[np.searchsorted(self._shown, begin) : np.searchsorted(self._shown, end, side="right")]
            for begin, end in spans
        ]
        found = np.concatenate(parts) if parts else np.empty(0, np.int64)
        serials = np.asarray(serial_of(found))
        excused = member(pack(np.full(len(found), segment), serials), self._witnessed)
        for begin, end in self._gaps.get(segment, ()):
            excused |= (serials >= begin) & (serials <= end)
        if (own := self._own.get(int(windows.client[window]))) is not None:
            excused |= member(found, own)
        return np.asarray(found[~excused])


def holes(windows: Windows, continuity: Continuity, ledger: Ledger) -> list[Missing]:
    """All that is missing before the last received of each segment, and in truncated replays."""
    found: list[Missing] = []
    for segment, first, last, *around in zip(
        continuity.hole_segment.tolist(),
        continuity.hole_first.tolist(),
        continuity.hole_last.tolist(),
        continuity.hole_before.tolist(),
        continuity.hole_after.tolist(),
        strict=True,
    ):
        for missing in _split(windows, ledger, segment, first, last):
            found.append(replace(missing, before=around[0], after=around[1]))
    for window in np.flatnonzero(windows.resumed & (windows.live > windows.top)).tolist():
        top, live = int(windows.top[window]), int(windows.live[window])
        found += missing_in(ledger, window, top + 1, live, by_resume=True)
    return found


def missing_in(ledger: Ledger, window: int, first: int, last: int, *, by_resume: bool) -> list[Missing]:
    """The owed part of a range, if any."""
    places = ledger.owed(window, first, last) if first <= last else np.empty(0, np.int64)
    return [Missing(window=window, places=places, by_resume=by_resume)] if len(places) else []


def _split(windows: Windows, ledger: Ledger, segment: int, first: int, last: int) -> list[Missing]:
    """A hole of a segment, by the windows in which it should have arrived and by cause."""
    begin, end = np.searchsorted(windows.segment, [segment, segment + 1]).tolist()
    window = begin + int(np.searchsorted(windows.top[begin:end], first))
    found: list[Missing] = []
    while window < end and int(windows.start[window]) < last:
        lo, hi = max(first, int(windows.start[window]) + 1), min(last, int(windows.top[window]))
        promised = _promised(windows, window)
        found += missing_in(ledger, window, lo, min(hi, promised), by_resume=True)
        found += missing_in(ledger, window, max(lo, promised + 1), hi, by_resume=False)
        window += 1
    return found


def _promised(windows: Windows, window: int) -> int:
    """Up to which serial a window's ``resumed`` promised a replay."""
    if not windows.resumed[window]:
        return 0
    live = int(windows.live[window])
    return live if live >= 0 else int(windows.top[window])


def lineage_serves(windows: Windows, lineage: Lineage, window: int, epoch: int, serial: int) -> bool:
    """Whether a position of some epoch is on the stream that a window serves."""
    channel, own = int(windows.channel[window]), int(windows.epoch[window])
    return lineage.same(channel, own, epoch, serial) or lineage.goes_on(
        channel, own, epoch, int(windows.start[window])
    )

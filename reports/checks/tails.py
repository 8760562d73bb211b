"""The tail: what every subscriber owes up to its channel's sentinel.

After healing, and after publishers stop, client 0 publishes one sentinel per channel. A
segment that was open before it and is open at the drain deadline owes everything up to it.
Who is behind then is *stalled* (V1). One forced reconnect follows: if the rest arrives, it stays
V1; if the subscription was resumed and the rest still does not come, it is lost as well (D1).
Without a forced reconnect, nobody can tell stalled from lost, so only V1 is said.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .facts import Marks, Owners
from .lineage import Lineage
from .messages import Messages
from .owed import Ledger, Missing, lineage_serves, missing_in
from .rows import Int, Rows, distinct, member
from .windows import Windows


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentinel:
    """A channel's sentinel and where its ack placed it."""

    channel: int
    message: int
    epoch: int
    serial: int
    sent_t: int
    record: tuple[int, int]  # its ACK


@dataclass(frozen=True, slots=True, kw_only=True)
class Stalled:
    """A subscription that had not its channel's sentinel at the drain deadline."""

    window: int  # the one open at the deadline
    stood: int  # highest serial that the client had
    sentinel: Sentinel
    recovered: bool  # the rest arrived after a forced reconnect
    lost: tuple[Missing, ...] = ()


def sentinels(marks: Marks, channels: Iterable[int], acks: Rows, messages: Messages) -> dict[int, Sentinel]:
    """The last acked sentinel of each channel."""
    wanted = set(channels)
    marked = [(channel, message) for channel, message in marks.sentinels if channel in wanted]
    first_ack = _first_of(acks.message, distinct(np.array([message for _, message in marked], np.int64)))
    found: dict[int, Sentinel] = {}
    for channel, message in marked:
        sent = messages.find(message)
        if message not in first_ack or sent < 0 or int(messages.channel[sent]) != channel:
            continue
        first = first_ack[message]
        if not acks.epoch[first] and not acks.serial[first]:
            continue  # nobody said where it stands, and nobody saw it
        found[channel] = Sentinel(
            channel=channel,
            message=message,
            epoch=int(acks.epoch[first]),
            serial=int(acks.serial[first]),
            sent_t=int(messages.sent(sent)[0]),
            record=acks.reference(first),
        )
    return found


def _first_of(values: Int, wanted: Int) -> dict[int, int]:
    """Where each of some values, given sorted, first stands; those that are nowhere are left out."""
    at = np.flatnonzero(member(values, wanted))[::-1]
    return dict(zip(values[at].tolist(), at.tolist(), strict=True))


def stalled(
    *,
    windows: Windows,
    arrivals: Rows,
    by_channel: dict[int, Sentinel],
    marks: Marks,
    lineage: Lineage,
    ledger: Ledger,
    owners: Owners,
) -> list[Stalled]:
    """Subscriptions behind their sentinel at the deadline, by window."""
    deadline_t = marks.deadline_t
    if deadline_t is None or not len(windows) or not by_channel:
        return []
    stood = _stood_at(windows, arrivals, deadline_t)
    opened_t = windows.t[windows.first_of(windows.segment)]
    is_open = (windows.t <= deadline_t) & (windows.end_t > deadline_t) & ~owners.broken(windows.client)
    found: list[Stalled] = []
    for channel, sentinel in by_channel.items():
        lo, hi = np.searchsorted(windows.channel, [channel, channel + 1])
        mine = np.arange(lo, hi)
        mine = mine[is_open[mine] & (opened_t[mine] < sentinel.sent_t)]
        other_epoch = windows.epoch[mine] != sentinel.epoch
        for window in mine[(stood[mine] < sentinel.serial) | other_epoch].tolist():
            serves = lineage_serves(windows, lineage, window, sentinel.epoch, sentinel.serial)
            if not serves or stood[window] < sentinel.serial:
                found.append(_stalled(windows, marks, ledger, window, int(stood[window]), sentinel, serves))
    return found


def _stood_at(windows: Windows, arrivals: Rows, t: int) -> Int:
    """Where each window's client stood at a time."""
    stood = windows.start.astype(np.int64)
    declared = windows.gaps.t <= t
    np.maximum.at(stood, windows.gap_window[declared], windows.gaps.serial[declared].astype(np.int64))
    filled = np.flatnonzero(windows.hi > windows.lo)
    if len(filled):
        serials = np.where(windows.sequel & (arrivals.t <= t), arrivals.serial, 0).astype(np.int64)
        bounds = np.stack([windows.lo[filled], windows.hi[filled]], axis=1).ravel()
        stood[filled] = np.maximum(stood[filled], np.maximum.reduceat(np.append(serials, 0), bounds)[::2])
    return stood


def _stalled(
    windows: Windows, marks: Marks, ledger: Ledger, window: int, stood: int, sentinel: Sentinel, serves: bool
) -> Stalled:
    last = int(np.searchsorted(windows.segment, windows.segment[window], side="right")) - 1
    recovered = serves and int(windows.top[last]) >= sentinel.serial
    lost: list[Missing] = []
    if marks.forced_t is not None and serves and not recovered and _came_back(windows, marks, window, last):
        after = max(int(windows.top[last]), int(windows.live[last]) if windows.resumed[last] else 0)
        lost = missing_in(ledger, last, after + 1, sentinel.serial, by_resume=False)
    return Stalled(window=window, stood=stood, sentinel=sentinel, recovered=recovered, lost=tuple(lost))


def _came_back(windows: Windows, marks: Marks, window: int, last: int) -> bool:
    """Whether the segment was resumed after the deadline and stayed open until waiting was over."""
    over_t = marks.drained_t
    return (
        over_t is not None
        and last > window
        and bool(windows.resumed[last])
        and int(windows.t[last]) <= over_t < int(windows.end_t[last])
    )

"""Recovery: after a fault is undone, how long until everybody it cut off is back, and all is as it was.

A client was cut off when a connection of it ended, not on purpose, while the fault was in force or
shortly after; where a fault that cuts began inside of another, the end is the inner one's doing.
A client is back when each subscription that ended then is live again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import polars as pl

from reports.by_phase import Span
from reports.effects import SLOWING, affected, grace_end
from reports.history import Flag, Kind
from reports.nodes import windows as windows_of
from reports.periods import NS, FaultWindow, fault_windows, start_ns
from reports.recovery_stages import NOT_MEASURED, Stage, backlog, backlog_back, latency_back
from reports.sessions import closes, stays

if TYPE_CHECKING:
    from reports.history import History


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What a fault left behind and how it was mended.

    ``all_back_s``: revert to the last subscription live again; 0 when all were back before the
    revert; None when nobody was cut off, or somebody never came back (``never_back`` > 0).
    ``replayed``: replayed deliveries between its start and the moment when all were back.
    """

    fault: str
    cut_off: int  # clients
    subscriptions: int  # that ended with them
    never_back: int  # of those subscriptions
    all_back_s: float | None
    replayed: int
    slo: Stage = NOT_MEASURED  # p99 of a second within the objective again
    backlog: Stage = NOT_MEASURED  # no more publishes in flight than before the fault


def recoveries(history: History, closed: pl.DataFrame, stayed: pl.DataFrame) -> list[Recovery]:
    """One for each fault that was applied, in the order of planning.

    Args:
        closed: of ``sessions.closes``.
        stayed: of ``sessions.stays``.
    """
    windows = windows_of(history)
    last = _last_ns(history)
    return [
        _recovery(history, window, [w for w in windows if w is not window], closed, stayed, last)
        for window in windows
        if window.applied_ns is not None
    ]


def spans(history: History) -> dict[str, Span]:
    """From the start of each applied fault to its revert, or until all whom it cut off were back; by id."""
    windows = windows_of(history)
    applied = [window for window in windows if window.applied_ns is not None]
    if not applied:
        return {}
    closed, stayed, last = closes(history), stays(history), _last_ns(history)
    found = {}
    for window in applied:
        cut = _cut_off(window, [w for w in windows if w is not window], closed, last)
        ended, back = _ended_and_back(cut, stayed)
        latest: Any = back["back_ns"].max() or 0
        until = last if back.height < ended.height else max(window.until(last), latest)
        found[window.id] = (window.applied_ns or 0, until)
    return found


def staged(
    history: History, found: Sequence[Recovery], intervals: pl.DataFrame, objective_ms: float | None
) -> list[Recovery]:
    """Recoveries with the stages that ``reports.recovery_stages`` measures.

    Args:
        intervals: of ``timeline``.
        objective_ms: for p99 of delivery; None: the run has none.
    """
    if not found:
        return []
    windows, in_flight, zero = fault_windows(history.faults), backlog(history), start_ns(history.run)
    by_id = {window.id: window for window in windows}
    told = []
    for recovery in found:
        window = by_id[recovery.fault]
        others = [w for w in windows if w is not window]
        slo = latency_back(window, others, intervals, objective_ms=objective_ms, zero_ns=zero)
        told.append(replace(recovery, slo=slo, backlog=backlog_back(window, others, in_flight)))
    return told


def recoveries_among(history: History, clients: Sequence[int]) -> list[Recovery]:
    """The same, as if a run had no other clients than these."""
    theirs = pl.col("client").is_in(clients)
    return recoveries(history, closes(history).filter(theirs), stays(history).filter(theirs))


def aways_ms(history: History, fault: str | None = None) -> list[float]:
    """From the end of each subscription that a fault cut to the next moment in which it was live, ms.

    Args:
        fault: id of one; None: of all faults.
    Returns:
        inf for a subscription that never came back.
    """
    windows, closed, stayed = windows_of(history), closes(history), stays(history)
    found: list[float] = []
    for window in windows:
        if window.applied_ns is not None and fault in (None, window.id):
            others = [w for w in windows if w is not window]
            cut = _cut_off(window, others, closed, _last_ns(history))
            ended, back = _ended_and_back(cut, stayed)
            took = back.join(ended, on=["client", "channel"]).select(
                (pl.col("back_ns") - pl.col("ended_ns")) / 1e6
            )
            found += took.to_series().to_list()
            found += [math.inf] * (ended.height - back.height)
    return found


def _recovery(
    history: History,
    window: FaultWindow,
    others: list[FaultWindow],
    closed: pl.DataFrame,
    stayed: pl.DataFrame,
    last_ns: int,
) -> Recovery:
    begin, end = window.applied_ns or 0, window.until(last_ns)
    cut = _cut_off(window, others, closed, last_ns)
    ended, back = _ended_and_back(cut, stayed)
    never = ended.height - back.height
    latest: Any = back["back_ns"].max()
    whole = ended.height > 0 and never == 0
    until = latest if whole else last_ns
    return Recovery(
        fault=window.id,
        cut_off=cut["client"].n_unique(),
        subscriptions=ended.height,
        never_back=never,
        all_back_s=round(max(0, latest - end) / NS, 6) if whole else None,
        replayed=_replayed(history, begin, until) if cut.height else 0,
    )


def _cut_off(
    window: FaultWindow, others: list[FaultWindow], closed: pl.DataFrame, last_ns: int
) -> pl.DataFrame:
    """Connections that a fault ended: client, end_ns."""
    begin = window.applied_ns or 0
    last = grace_end(window.until(last_ns), others)
    span = pl.col("t").is_between(begin, last)
    theirs = [
        affected(other) & pl.col("t").is_between(other.applied_ns, other.until(last_ns))
        for other in others
        if other.kind not in SLOWING and other.applied_ns is not None and begin < other.applied_ns <= last
    ]
    mine = closed.filter(
        affected(window) & ~pl.col("on_purpose") & span & ~pl.any_horizontal(pl.lit(False), *theirs)
    )
    return mine.select("client", end_ns="t").unique()


def _ended_and_back(cut: pl.DataFrame, stayed: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The subscriptions that ended with these connections: client, channel, ended_ns; and of those that came
    back: client, channel, back_ns."""
    ended = (
        stayed.join(cut, on=["client", "end_ns"], how="semi")
        .group_by("client", "channel")
        .agg(ended_ns=pl.col("end_ns").max())
    )
    back = (
        ended.join(stayed, on=["client", "channel"])
        .filter(pl.col("live_ns") > pl.col("ended_ns"))
        .group_by("client", "channel")
        .agg(back_ns=pl.col("live_ns").min())
    )
    return ended, back


def _last_ns(history: History) -> int:
    return int(history.scan().select(pl.col("t").max()).collect().item() or 0)


def _replayed(history: History, begin_ns: int, end_ns: int) -> int:
    rows = history.scan().filter(
        (pl.col("kind") == Kind.RECV)
        & (pl.col("client") != 0)
        & (pl.col("flags") & int(Flag.REPLAYED) != 0)
        & pl.col("t").is_between(begin_ns, end_ns)
    )
    return int(rows.select(pl.len()).collect().item())

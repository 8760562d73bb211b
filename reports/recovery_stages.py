"""How far the system is back after a fault: the latency as promised, the backlog as before.

Both count from the revert and stop where another fault was in force, or no more load was due: what is not
over by then has no figure but a reason. That all clients are back is ``reports.recovery``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from reports.history import Kind
from reports.periods import NS, FaultWindow

if TYPE_CHECKING:
    from reports.history import History

IN_A_ROW: Final = 5  # seconds with p99 within the objective that make it a recovery
BEFORE_NS: Final = 5 * NS  # before a fault, in which the backlog is looked at
NO_OBJECTIVE: Final = "no gate sets an upper limit on p(99) of all deliveries"
NO_REVERT: Final = "it was never reverted"
NO_LOAD: Final = "the load ended first"


@dataclass(frozen=True, slots=True)
class Stage:
    """Seconds from the revert, 0: at once; or why that is not known."""

    after_s: float | None
    why: str = ""


NOT_MEASURED: Final = Stage(None)


@dataclass(frozen=True, slots=True)
class Backlog:
    """Publishes that were due and not yet acked, of those that were acked at some time.

    ``count[i]`` holds from ``at_ns[i]`` to the next. ``last_due_ns``: of the last message; None: of none.
    """

    at_ns: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]
    last_due_ns: int | None


def backlog(history: History) -> Backlog:
    """The backlog of a run. Grows with messages, not with deliveries."""
    rows = history.scan().filter(pl.col("publisher") != 0)
    key = ["publisher", "pub_seq"]
    due = rows.filter(pl.col("kind") == Kind.SEND).group_by(key).agg(due=pl.col("t2").min())
    acked = rows.filter(pl.col("kind") == Kind.ACK).group_by(key).agg(acked=pl.col("t").min())
    times = due.join(acked, on=key).select("due", "acked").collect(engine="streaming")
    begin, end = times["due"].to_numpy(), times["acked"].to_numpy()
    at = np.concatenate([begin, np.maximum(begin, end)])
    step = np.concatenate([np.ones(len(begin), np.int64), -np.ones(len(end), np.int64)])
    order = np.argsort(at, kind="stable")
    at, count = at[order], np.cumsum(step[order])
    last_of_each = np.append(at[1:] != at[:-1], True) if len(at) else np.zeros(0, np.bool_)
    return Backlog(at[last_of_each], count[last_of_each], int(begin.max()) if len(begin) else None)


def latency_back(
    window: FaultWindow,
    others: Sequence[FaultWindow],
    intervals: pl.DataFrame,
    *,
    objective_ms: float | None,
    zero_ns: int,
) -> Stage:
    """Until the first of IN_A_ROW successive seconds whose p99 of delivery is within the objective.

    A message counts in the second in which it was due. Seconds in which none was due are passed over; one in
    which some were and none arrived is not within it.

    Args:
        intervals: of ``timeline``.
    """
    if objective_ms is None:
        return Stage(None, NO_OBJECTIVE)
    if window.reverted_ns is None:
        return Stage(None, NO_REVERT)
    blocked_ns, why = _blocked(window.reverted_ns, others)
    first = max(0, (window.reverted_ns - zero_ns) // NS)
    rows = intervals.filter(pl.col("second") >= first).select("second", "scheduled", "p99_ms")
    began_s, held = 0, 0
    for second, scheduled, p99_ms in rows.iter_rows():
        if zero_ns + (second + 1) * NS > blocked_ns:
            return Stage(None, why)
        if p99_ms is None and not scheduled:
            continue
        within = p99_ms is not None and p99_ms <= objective_ms
        began_s, held = (began_s if held else second, held + 1) if within else (0, 0)
        if held == IN_A_ROW:
            return _after(zero_ns + began_s * NS, window.reverted_ns)
    return Stage(None, NO_LOAD)


def backlog_back(window: FaultWindow, others: Sequence[FaultWindow], seen: Backlog) -> Stage:
    """Until no more publishes are in flight than at most in the BEFORE_NS before the fault, as far as no
    other one was in force then."""
    if window.reverted_ns is None or window.applied_ns is None:
        return Stage(None, NO_REVERT)
    over_ns, running = _over_by(window.applied_ns, others)
    if running:
        return Stage(None, f"{running} was in force when it began")
    since_ns = max(window.applied_ns - BEFORE_NS, over_ns)
    before = seen.count[slice(*_steps(seen, since_ns, window.applied_ns))]
    if not len(before) or seen.last_due_ns is None:
        return Stage(None, "nothing was published before it")
    blocked_ns, why = _blocked(window.reverted_ns, others)
    begin, end = _steps(seen, window.reverted_ns, max(seen.last_due_ns, window.reverted_ns) + 1)
    low = np.flatnonzero(seen.count[begin:end] <= before.max())
    if not len(low) or window.reverted_ns > seen.last_due_ns:
        return Stage(None, why if blocked_ns < seen.last_due_ns else NO_LOAD)
    back_ns = int(seen.at_ns[begin + low[0]])
    return _after(back_ns, window.reverted_ns) if back_ns <= blocked_ns else Stage(None, why)


def _steps(seen: Backlog, from_ns: int, to_ns: int) -> tuple[int, int]:
    """Which steps held at some time from ``from_ns`` to before ``to_ns``."""
    begin = int(np.searchsorted(seen.at_ns, from_ns, side="right")) - 1
    return max(0, begin), int(np.searchsorted(seen.at_ns, to_ns))


def _over_by(applied_ns: int, others: Sequence[FaultWindow]) -> tuple[int, str]:
    """When the last of the earlier faults was over, and which of them was not."""
    earlier = [w for w in others if w.applied_ns is not None and w.applied_ns <= applied_ns]
    running = [w.id for w in earlier if w.reverted_ns is None or w.reverted_ns > applied_ns]
    return max((w.reverted_ns or 0 for w in earlier), default=0), min(running, default="")


def _blocked(reverted_ns: int, others: Sequence[FaultWindow]) -> tuple[float, str]:
    """From when on another fault was in force, and how one says so."""
    found = [
        (max(w.applied_ns, reverted_ns), w.id, w.applied_ns <= reverted_ns)
        for w in others
        if w.applied_ns is not None and (w.reverted_ns is None or w.reverted_ns > reverted_ns)
    ]
    if not found:
        return math.inf, NO_LOAD
    at, ident, already = min(found)
    return at, f"{ident} was still in force" if already else f"{ident} began first"


def _after(at_ns: int, reverted_ns: int) -> Stage:
    return Stage(round(max(0, at_ns - reverted_ns) / NS, 6))

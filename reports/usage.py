"""What the processes of a run spent: CPU a delivery, and memory. From metrics/processes.parquet.

CPU time is what a machine shared with others tells most steadily, so it is what a regression gate
asks for first. It is counted over the phases that are no warm-up, between the first and the last sample of
each, and set against the live deliveries of the same time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from reports.periods import NS, Phase

SCHEMA: Final = {
    "t": pl.Int64, "process": pl.String, "pid": pl.Int64, "rss_bytes": pl.Int64, "cpu_s": pl.Float64,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One process, restarts included. ``cpu_us_per_delivery``: None when nothing was delivered."""

    process: str
    target: bool  # of the system under test, not of the harness
    cpu_s: float
    cpu_us_per_delivery: float | None
    rss_max_bytes: int
    rss_before_bytes: int | None = None  # at the last sample before the schedule began


def targets(faults: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Names of the processes of the system under test, from lines of faults.jsonl."""
    return frozenset(str(line["process"]) for line in faults if line.get("role") == "target")


def usage(
    samples: pl.DataFrame | None,
    intervals: pl.DataFrame,
    phases: Sequence[Phase],
    *,
    zero_ns: int,
    targets: frozenset[str],
) -> list[Usage]:
    """Every process by name; [] without samples, or with samples of another shape.

    Args:
        samples: of metrics/processes.parquet.
        intervals: of ``timeline``: live deliveries by second since ``zero_ns``.
    """
    if samples is None or any(samples.schema.get(c) != kind for c, kind in SCHEMA.items()):
        return []
    frame = samples.select(list(SCHEMA)).drop_nulls().sort("t")
    measured = [p for p in phases if not p.warmup]
    used: dict[str, float] = dict.fromkeys(frame["process"].unique().sort(), 0.0)
    delivered = 0.0
    for phase in measured:
        within = frame.filter(pl.col("t").is_between(phase.start_ns, phase.end_ns))
        if within["t"].n_unique() < 2:
            continue
        first, *_, last = within["t"].to_list()  # in order of time, as the whole frame is
        delivered += _delivered(intervals, (first - zero_ns) / NS, (last - zero_ns) / NS)
        for process, cpu_s in spent(within, first).items():
            used[process] += cpu_s
    largest = dict(frame.group_by("process").agg(pl.col("rss_bytes").max()).iter_rows())
    early = frame.filter(pl.col("t") <= zero_ns).group_by("process").agg(pl.col("rss_bytes").last())
    before = dict(early.iter_rows())
    return [
        Usage(
            process=process,
            target=process in targets,
            cpu_s=round(cpu_s, 3),
            cpu_us_per_delivery=round(cpu_s / delivered * 1e6, 3) if delivered else None,
            rss_max_bytes=int(largest[process]),
            rss_before_bytes=before.get(process),
        )
        for process, cpu_s in used.items()
    ]


def target_cpu_us_per_delivery(found: Iterable[Usage]) -> float | None:
    """Of the whole system under test; None when it was not sampled or nothing was delivered."""
    own = [u.cpu_us_per_delivery for u in found if u.target and u.cpu_us_per_delivery is not None]
    return sum(own) if own else None


def target_rss_bytes(found: Iterable[Usage]) -> int | None:
    """Largest resident memory of each process under test, added up; None when none was sampled."""
    own = [u.rss_max_bytes for u in found if u.target]
    return sum(own) if own else None


def target_rss_growth_bytes(found: Iterable[Usage]) -> int | None:
    """By how much the processes under test grew from before the schedule to their largest, added up.

    None when one of them was not sampled before the schedule began.
    """
    grown = [
        None if u.rss_before_bytes is None else u.rss_max_bytes - u.rss_before_bytes
        for u in found
        if u.target
    ]
    known = [grew for grew in grown if grew is not None]
    return sum(known) if known and len(known) == len(grown) else None


def spent(samples: pl.DataFrame, first_ns: int, *, column: str = "cpu_s") -> dict[str, float]:
    """CPU seconds of each process, or another count that begins at 0 with it. A pid that comes later spent
    all of its count in this time.

    Args:
        samples: in order of time, the first at ``first_ns``.
    """
    by_pid = samples.group_by("process", "pid").agg(
        pl.col(column).last()
        - pl.when(pl.col("t").first() == first_ns).then(pl.col(column).first()).otherwise(0.0)
    )
    return dict(by_pid.group_by("process").agg(pl.col(column).sum()).iter_rows())


def _delivered(intervals: pl.DataFrame, from_s: float, to_s: float) -> float:
    """Live deliveries between two times, a second's own spread evenly over it."""
    if not intervals.height:
        return 0.0
    ends = np.concatenate(([0.0], intervals["second"].to_numpy() + 1.0))
    counts = np.concatenate(([0.0], np.cumsum(intervals["delivered"].to_numpy())))
    return float(np.interp(to_s, ends, counts) - np.interp(from_s, ends, counts))

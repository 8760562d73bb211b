"""Runs of one scenario over time: figures of each, where they changed, and whether that is new and worse.

One figure a run is the unit, as in ``reports.regression``. Two nights differ by chance, and a slow creep
passes every comparison of two; a row of nights shows both for what they are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any, Final, Literal

from reports.change_points import LEAST_RUNS, MOST_VALUES, SIGNIFICANCE, change_points
from reports.compare import Better
from reports.verdict import Exit

Unit = Literal["ms", "us", "bytes", "/s", ""]
Summary = Mapping[str, Any]
MIN_CHANGE: Final = 0.05
RECENT: Final = 10


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure that every judged run has. ``promise``: it counts broken promises, so it is known of a run
    that broke some; all other figures of such a run mean nothing."""

    title: str
    unit: Unit
    better: Better
    of: Callable[[Summary], float | None]
    promise: bool = False


def _targets(summary: Summary, key: str) -> float | None:
    """Of all processes of the server together; None where one of them was not sampled."""
    own = [used[key] for used in summary.get("processes", ()) if used.get("target")]
    return float(sum(own)) if own and None not in own else None


def _rss_bytes(summary: Summary) -> float | None:
    size, clients = _targets(summary, "rss_max_bytes"), summary["load"]["clients"]
    return size / clients if size is not None and clients else None


def _latency(kind: str, point: str) -> Callable[[Summary], float | None]:
    return lambda summary: summary["latency_ms"][kind].get(point)


def _anomalies(name: str) -> Callable[[Summary], float | None]:
    return lambda summary: summary["anomalies"][name]


METRICS: Final[dict[str, Metric]] = {
    "delivery_p50": Metric("Delivery, p50", "ms", "lower", _latency("delivery", "p50")),
    "delivery_p99": Metric("Delivery, p99", "ms", "lower", _latency("delivery", "p99")),
    "ack_p99": Metric("Ack, p99", "ms", "lower", _latency("ack", "p99")),
    "cpu_per_delivery": Metric(
        "CPU per delivery", "us", "lower", lambda s: _targets(s, "cpu_us_per_delivery")
    ),
    "rss_per_connection": Metric("Memory per connection", "bytes", "lower", _rss_bytes),
    "deliveries_per_s": Metric("Deliveries", "/s", "higher", lambda s: s["load"]["deliveries_per_s"]),
    "lost": Metric("Lost", "", "lower", _anomalies("lost"), promise=True),
    "duplicated": Metric("Duplicated", "", "lower", _anomalies("duplicated"), promise=True),
    "reordered": Metric("Reordered", "", "lower", _anomalies("reordered"), promise=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendRun:
    """One run as a trend knows it, and a line of its file.

    ``series``: the same of all runs for which the same was planned. ``started_utc``: ISO 8601. ``label``:
    what it was made of, such as a commit; "" where nobody said. ``figures``: by name of METRICS, without
    those that the run does not have. ``settings``: of its plan, by dotted key; empty for a run from a file.
    """

    run_id: str
    scenario: str
    series: str
    started_utc: str
    label: str = ""
    host: str = ""
    version: str = ""
    figures: Mapping[str, float]
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def told(self) -> str:
        """What people know it by."""
        when = self.started_utc[:16].replace("T", " ")
        return f"{when} {self.label}".strip()


@dataclass(frozen=True, slots=True)
class Left:
    """A run that is no part of the trend, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """``min_change``: ratio; a smaller change is not told. ``recent``: runs in which a change is new."""

    min_change: float = MIN_CHANGE
    significance: float = SIGNIFICANCE
    least_runs: int = LEAST_RUNS
    recent: int = RECENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The level of a figure changed between two runs, ``last`` of the old level and ``first`` of the new one.

    Both are indexes in the trend's runs; between them are only runs that do not have the figure. ``change``:
    ratio, None where the level was 0. ``also``: what else is not the same in the two runs.
    """

    last: int
    first: int
    before: float
    after: float
    change: float | None
    p: float
    worse: bool
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One figure over the runs. ``values``: None where a run does not have it. ``levels``: medians between
    changes.

    ``shift``: of the newest level against the one that was in force before the newest ``recent`` runs; None
    where that was 0 or is the same. ``new``: that is worse, by more than the smallest change that is told.
    """

    name: str
    metric: Metric
    values: tuple[float | None, ...]
    changes: tuple[Change, ...]
    levels: tuple[float, ...]
    shift: float | None
    new: bool

    @property
    def known(self) -> int:
        """Runs that have it."""
        return sum(value is not None for value in self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """``runs``: in order of their start. ``left``: runs that are not in it."""

    scenario: str
    series: str
    runs: tuple[TrendRun, ...]
    lines: tuple[Line, ...]
    left: tuple[Left, ...]
    limits: Limits

    @property
    def worse(self) -> tuple[Line, ...]:
        return tuple(line for line in self.lines if line.new)

    @property
    def exit(self) -> Exit:
        return Exit.GATE if self.worse else Exit.PASS

    @property
    def enough(self) -> bool:
        """Whether there are runs enough for any change to be seen."""
        return any(line.known >= 2 * self.limits.least_runs for line in self.lines)


class NoTrend(Exception):
    """There is no run to show. ``left``: those that were given, and why each is of no use."""

    def __init__(self, why: str, left: Sequence[Left] = ()) -> None:
        super().__init__(why)
        self.left = tuple(left)


def trend(
    runs: Iterable[TrendRun],
    limits: Limits,
    *,
    scenario: str | None = None,
    series: str | None = None,
    metrics: Sequence[str] = tuple(METRICS),
    left: Sequence[Left] = (),
) -> Trend:
    """The trend of the newest run's series.

    Args:
        runs: of any scenario, in any order; the same one twice counts once.
        scenario, series: look at the newest run of this one.
        left: runs that could not be used, to be told with those of other series.
    Raises:
        NoTrend: no run is left.
    """
    ordered = sorted(
        {run.run_id: run for run in runs}.values(), key=lambda run: (run.started_utc, run.run_id)
    )
    named = [run for run in ordered if scenario in (None, run.scenario) and series in (None, run.series)]
    if not named:
        raise NoTrend(_nothing(ordered, scenario, series), left)
    newest = named[-1]
    own = [run for run in ordered if run.series == newest.series and run.scenario == newest.scenario]
    others = [Left(run.run_id, _other(run, newest)) for run in ordered if run not in own]
    older = own[:-MOST_VALUES]
    others += [Left(run.run_id, f"older than the newest {MOST_VALUES:,} runs") for run in older]
    kept = tuple(own[-MOST_VALUES:])
    lines = tuple(line(name, kept, limits) for name in metrics)
    return Trend(
        scenario=newest.scenario,
        series=newest.series,
        runs=kept,
        lines=tuple(each for each in lines if each.known),
        left=(*left, *others),
        limits=limits,
    )


def _nothing(runs: Sequence[TrendRun], scenario: str | None, series: str | None) -> str:
    if not runs:
        return "no run can be used"
    there = sorted({f"{run.scenario}, series {run.series}" for run in runs})
    asked = [f"{what} {name}" for what, name in (("scenario", scenario), ("series", series)) if name]
    return f"no run is of {' and '.join(asked)}: there are runs of {'; '.join(there)}"


def _other(run: TrendRun, newest: TrendRun) -> str:
    """Why a run is of another series."""
    if run.scenario != newest.scenario:
        return f"is of scenario {run.scenario}"
    keys = dict.fromkeys([*run.settings, *newest.settings])
    differs = [
        f"{key} {run.settings.get(key, 'not set')} in place of {newest.settings.get(key, 'not set')}"
        for key in keys
        if run.settings.get(key) != newest.settings.get(key)
    ]
    if not run.settings or not newest.settings or not differs:
        return f"something else was planned: series {run.series}, not {newest.series}"
    more = f" and {len(differs) - 2} more" if len(differs) > 2 else ""
    return f"something else was planned: {', '.join(differs[:2])}{more}"


def line(name: str, runs: Sequence[TrendRun], limits: Limits) -> Line:
    """One figure over the runs, with its changes."""
    metric = METRICS[name]
    values = tuple(run.figures.get(name) for run in runs)
    at = [n for n, value in enumerate(values) if value is not None]
    known = [value for value in values if value is not None]
    splits = {
        split.at: split.p
        for split in change_points(known, significance=limits.significance, least_runs=limits.least_runs)
    }
    places = _large_enough(known, sorted(splits), limits.min_change)
    levels = _levels(known, places)
    changes = tuple(
        Change(
            last=at[place - 1],
            first=at[place],
            before=before,
            after=after,
            change=ratio(before, after),
            p=splits[place],
            worse=_worse(metric, before, after),
            also=_also(runs[at[place - 1]], runs[at[place]]),
        )
        for place, (before, after) in zip(places, pairwise(levels), strict=True)
    )
    shift, new = _lately(metric, changes, len(runs), limits)
    return Line(
        name=name, metric=metric, values=values, changes=changes, levels=tuple(levels), shift=shift, new=new
    )


def _levels(known: Sequence[float], places: Sequence[int]) -> list[float]:
    return [median(known[a:b]) for a, b in pairwise([0, *places, len(known)])] if known else []


def _large_enough(known: Sequence[float], places: Sequence[int], min_change: float) -> list[int]:
    """Places without those where the level changed by less, the smallest given up first."""
    kept = list(places)
    while kept:
        sizes = [_size(before, after) for before, after in pairwise(_levels(known, kept))]
        smallest = min(range(len(kept)), key=lambda n: (sizes[n], n))
        if sizes[smallest] >= min_change and sizes[smallest] > 0:
            break
        del kept[smallest]
    return kept


def ratio(before: float, after: float) -> float | None:
    """0.1 is a tenth more; None from 0."""
    return after / before - 1 if before else None


def _size(before: float, after: float) -> float:
    change = ratio(before, after)
    return abs(change) if change is not None else math.inf if after else 0.0


def _worse(metric: Metric, before: float, after: float) -> bool:
    return after < before if metric.better == "higher" else after > before


def _lately(
    metric: Metric, changes: Sequence[Change], count: int, limits: Limits
) -> tuple[float | None, bool]:
    """The newest level against that before the newest runs: a change that was taken back since is none."""
    recent = [change for change in changes if change.first >= count - limits.recent]
    if not recent:
        return None, False
    before, after = recent[0].before, recent[-1].after
    large = _size(before, after) >= limits.min_change and before != after
    return ratio(before, after), large and _worse(metric, before, after)


def _also(a: TrendRun, b: TrendRun) -> tuple[str, ...]:
    """What the old and the new run do not share besides their figures."""
    pairs = (("host", a.host, b.host), ("chatproof", a.version, b.version))
    return tuple(f"{what} {old} → {new}" for what, old, new in pairs if old and new and old != new)


def counted(left: Iterable[Left]) -> list[tuple[str, int]]:
    """Reasons and how many runs each left out, the most frequent first."""
    return Counter(each.why for each in left).most_common()

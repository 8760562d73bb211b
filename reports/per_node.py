"""Each of several nodes: when it ran, who was on it, what it delivered and what that cost.

Connections are counted by the clients' own records, exactly. Deliveries and the bus are counted by the nodes
and sampled once a second, so what a node did between its last sample and its death is in no figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from reports.charts import Point, thin
from reports.nodes import Life, lives, several, stints
from reports.periods import NS, Phase, phases, start_ns
from reports.usage import SCHEMA, Usage, spent

if TYPE_CHECKING:
    from reports.history import History

MOST_NODES: Final = 64  # in the table; a run directory may claim any number
DELIVERIES: Final = "chatd_deliveries_total"
BUS: Final = {  # what a node counts of the bus between the nodes, by the name that a reader sees
    "doubts": "chatd_bus_doubts_total",
    "repairs": "chatd_tail_found_total",
    "resets": "chatd_resets_total",
}
_POINTS: Final = 400  # of a line in the chart
_MOMENT_S: Final = 0.001
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node, or all of them together (``number`` 0). None: not known, or not metered.

    ``p50``, ``p50_share``: medians over the seconds of the schedule in which it ran, of its connections and
    of their ratio to all. ``peak_share``: at the moment of ``peak``. ``deliveries``: live and replayed, over
    all of its lives. ``cpu_us``: a delivery of its own, outside of warm-ups; being started again is in it.
    ``bus``: counts by the names of BUS.
    ``line``: (seconds, connections), broken while it did not run.
    """

    number: int
    name: str
    lives: tuple[Life, ...] = ()
    p50: float | None = None
    p50_share: float | None = None
    peak: int = 0
    peak_share: float | None = None
    deliveries: float | None = None
    cpu_us: float | None = None
    rss_bytes: int | None = None
    bus: Mapping[str, float] = field(default_factory=dict)
    line: tuple[Point, ...] = ()


@dataclass(frozen=True, slots=True)
class _Course:
    """Connections after each change: ``at_ns`` ascending, and ``counts``."""

    at_ns: Array
    counts: Array

    @classmethod
    def of(cls, served: pl.DataFrame) -> _Course:
        begun = served.select(t="from_ns", by=pl.lit(1, pl.Int64))
        ended = served.filter(pl.col("until_ns").is_not_null()).select(t="until_ns", by=pl.lit(-1, pl.Int64))
        changes = pl.concat([begun, ended]).group_by("t").agg(pl.col("by").sum()).sort("t")
        return cls(changes["t"].to_numpy(), changes["by"].cum_sum().to_numpy())

    def at(self, t_ns: Array) -> Array:
        """Counts at each of some moments."""
        place = np.searchsorted(self.at_ns, t_ns, side="right")
        return np.concatenate(([0], self.counts))[place]


def per_node(
    history: History, samples: Mapping[str, pl.DataFrame], used: Iterable[Usage], *, length_s: int
) -> tuple[Node, ...]:
    """Every node by number, and last all together; () where the run had one.

    Args:
        samples: metrics/*.parquet by name.
        used: of ``usage``.
        length_s: of the schedule.
    """
    if not several(history):
        return ()
    zero, served, lived = start_ns(history.run), stints(history), lives(history.faults)
    numbers = sorted({*lived, *served["node"].unique()})[:MOST_NODES]
    ends = zero + np.arange(1, length_s + 1, dtype=np.int64) * NS
    metered, memory = _metered(samples), {each.process: each.rss_max_bytes for each in used}
    costs = _costs(metered, samples.get("processes"), phases(history.run))
    every = _Course.of(served)
    found = []
    for number in numbers:
        name = f"chatd-{number}" if number in lived else _name(history, number)
        own = metered.filter(pl.col("process") == name)
        node = _connected(number, name, served, every, lived.get(number, ()), ends, zero)
        counted = {key: _over_lives(own, column, node.lives) for key, column in _columns(own).items()}
        deliveries = counted.pop("", None)
        found.append(
            replace(
                node,
                deliveries=deliveries,
                cpu_us=_each(costs, [name]),
                rss_bytes=memory.get(name),
                bus={key: value for key, value in counted.items() if value is not None},
            )
        )
    return (*found, _together(found, served, every, ends, zero, costs)) if found else ()


def _name(history: History, number: int) -> str:
    known = history.names.nodes[number] if number < len(history.names.nodes) else None
    return known or f"node {number}"


def _connected(
    number: int, name: str, served: pl.DataFrame, every: _Course, own: Sequence[Life], ends: Array, zero: int
) -> Node:
    """Who was on a node; ``number`` 0: on any."""
    course = _Course.of(served.filter(pl.col("node") == number)) if number else every
    running = _running(own, ends)
    counts, totals = course.at(ends), every.at(ends)
    peopled = running & (totals > 0)
    last_ns = int(ends[-1]) if len(ends) else zero
    inside = course.counts[course.at_ns <= last_ns]
    top = int(inside.argmax()) if len(inside) else None
    total = every.at(course.at_ns[top : top + 1])[0] if top is not None else 0
    return Node(
        number=number,
        name=name,
        lives=tuple(own),
        p50=float(np.median(counts[running])) if running.any() else None,
        p50_share=float(np.median(counts[peopled] / totals[peopled])) if peopled.any() else None,
        peak=int(inside[top]) if top is not None else 0,
        peak_share=float(inside[top] / total) if top is not None and total else None,
        line=_line(course, own, zero, last_ns) if number else (),
    )


def _running(own: Sequence[Life], at_ns: Array) -> npt.NDArray[np.bool_]:
    """Whether it ran at each moment; a node whose process is not ours always does."""
    if not own:
        return np.ones(len(at_ns), dtype=bool)
    ran = np.zeros(len(at_ns), dtype=bool)
    for life in own:
        ran |= (at_ns >= life.begin_ns) & (at_ns < (life.end_ns or np.iinfo(np.int64).max))
    return ran


def _line(course: _Course, own: Sequence[Life], zero: int, last_ns: int) -> tuple[Point, ...]:
    """One stretch a life, thinned by itself, so that the holes between them stay."""
    stretches = [(life.begin_ns, life.end_ns or last_ns) for life in own] or [(zero, last_ns)]
    shown = [(max(a, zero), min(b, last_ns)) for a, b in stretches if a < last_ns and b > zero][:MOST_NODES]
    points: list[Point] = []
    for begin, end in shown:
        within = (course.at_ns > begin) & (course.at_ns < end)
        first, final = course.at(np.array([begin, end - 1]))
        changes = zip((course.at_ns[within] - zero) / NS, course.counts[within], strict=True)
        stretch: list[Point] = [
            ((begin - zero) / NS, float(first)),
            *((float(t), float(n)) for t, n in changes),
        ]
        points += thin([*stretch, ((end - zero) / NS, float(final))], max(4, _POINTS // len(shown)))
        if end < last_ns:
            points.append(((end - zero) / NS + _MOMENT_S, None))
    return tuple(points)


def _metered(samples: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """metrics/chatd.parquet as far as it is of use here; without rows when it has another shape."""
    frame = samples.get("chatd")
    base = {"t": pl.Int64, "process": pl.String}
    if frame is None or any(frame.schema.get(name) != kind for name, kind in base.items()):
        return pl.DataFrame(schema=base)
    wanted = [c for c in (DELIVERIES, *BUS.values()) if c in frame.columns and frame.schema[c].is_numeric()]
    return frame.select(*base, *(pl.col(c).cast(pl.Float64) for c in wanted)).sort("t")


def _columns(frame: pl.DataFrame) -> dict[str, str]:
    """What is counted, by name; "": deliveries."""
    return {key: column for key, column in {"": DELIVERIES, **BUS}.items() if column in frame.columns}


def _over_lives(frame: pl.DataFrame, column: str, own: Sequence[Life]) -> float | None:
    """What a counter that begins at 0 in each life came to; None: it was never sampled."""
    values = frame.select("t", column).drop_nulls().filter(pl.col(column).is_finite())
    if not values.height:
        return None
    if not own:
        told = values[column].to_list()
        return float(sum(a for a, b in pairwise(told) if b < a) + told[-1])
    total = 0.0
    for life in own:
        end = life.end_ns or np.iinfo(np.int64).max
        within = values.filter((pl.col("t") >= life.begin_ns) & (pl.col("t") < end))
        total += float(within[column][-1]) if within.height else 0.0
    return total


def _costs(
    metered: pl.DataFrame, processes: pl.DataFrame | None, known: Sequence[Phase]
) -> dict[str, tuple[float, float]]:
    """CPU seconds and deliveries of each process, over the same samples of the phases that are no warm-up."""
    if processes is None or any(processes.schema.get(c) != kind for c, kind in SCHEMA.items()):
        return {}
    if DELIVERIES not in metered.columns:
        return {}
    both = processes.select(list(SCHEMA)).join(
        metered.select("t", "process", DELIVERIES), on=["t", "process"]
    )
    both = both.drop_nulls().filter(pl.col(DELIVERIES).is_finite()).sort("t")
    found: dict[str, tuple[float, float]] = {}
    for phase in known:
        within = both.filter(pl.col("t").is_between(phase.start_ns, phase.end_ns))
        if phase.warmup or within["t"].n_unique() < 2:
            continue
        first = int(within["t"][0])
        cpu_s, deliveries = (spent(within, first, column=c) for c in ("cpu_s", DELIVERIES))
        for name in cpu_s:
            before = found.get(name, (0.0, 0.0))
            found[name] = before[0] + cpu_s[name], before[1] + deliveries[name]
    return found


def _each(costs: Mapping[str, tuple[float, float]], names: Iterable[str]) -> float | None:
    """CPU of a delivery in µs, of some processes together."""
    known = [costs[name] for name in names if name in costs]
    deliveries = sum(n for _, n in known)
    return sum(s for s, _ in known) / deliveries * 1e6 if deliveries > 0 else None


def _together(
    found: Sequence[Node],
    served: pl.DataFrame,
    every: _Course,
    ends: Array,
    zero: int,
    costs: Mapping[str, tuple[float, float]],
) -> Node:
    counted = [node.deliveries for node in found if node.deliveries is not None]
    sizes = [node.rss_bytes for node in found if node.rss_bytes is not None]
    kinds = dict.fromkeys(key for node in found for key in node.bus)
    return replace(
        _connected(0, "all", served, every, (), ends, zero),
        deliveries=sum(counted) if counted else None,
        cpu_us=_each(costs, [node.name for node in found]),
        rss_bytes=sum(sizes) if sizes else None,
        bus={key: sum(node.bus.get(key, 0.0) for node in found) for key in kinds},
    )

"""Which charts a report shows: from an ``Analysis`` to ``Chart`` values.

Every chart over time has the same x axis, seconds since the start of the schedule, with the same
faults as bands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import nlargest
from typing import Final

import numpy as np
import polars as pl

from reports import wording
from reports.analysis import Analysis
from reports.charts import (
    MAX_POINTS,
    Axis,
    AxisKind,
    Band,
    Chart,
    Panel,
    Point,
    Series,
    bins,
    log_bins,
    merged,
    thin,
)
from reports.exposure import exposures, quiet
from reports.heat import column_s, heat
from reports.histogram import UPPER_US, Histogram
from reports.lanes import lanes
from reports.periods import fault_windows, phases, seconds, start_ns
from reports.tails import LEAST, Tail, p99_9

SLOTS: Final = {  # colour and dash of each thing that is drawn, the same in every chart
    "delivery": 0,
    "service": 1,
    "ack": 2,
    "replayed": 3,
    "connect": 4,
    "resume": 5,
    "scheduled": 3,
    "sent": 4,
    "acked": 2,
    "delivered": 0,
    "connected": 0,
    "live": 4,
    "p50": 2,
    "p90": 3,
    "p99": 0,
    "p99.9": 1,
    "max": 5,
    "baseline": 5,
}
_TIME: Final = Axis("time since the start of the schedule", "s")
MOST_FAULTS: Final = 5  # in the chart of latency by fault: the slots but one
MOST_LINES: Final = len(set(SLOTS.values()))  # more cannot be told apart
MAX_BANDS: Final = 40  # of faults in a chart: more are a texture, and a page of any run stays small
_LOG_ABOVE: Final = 40.0  # ratio of largest to smallest latency above which a linear axis hides the small


def charts(analysis: Analysis) -> dict[str, Chart]:
    """All charts of a report by name; those with nothing to draw are left out."""
    made = [
        timeline(analysis),
        percentiles(analysis),
        latency_by_fault(analysis),
        latency_over_time(analysis),
        latency_heat(analysis),
        p99_per_interval(analysis),
        p99_per_channel(analysis),
        throughput(analysis),
        fault_lanes(analysis),
        presence(analysis),
        connections_by_node(analysis),
        processes(analysis),
    ]
    return {chart.name: chart for chart in made if not chart.empty}


def bands(analysis: Analysis) -> tuple[Band, ...]:
    """Warm-ups, then faults in the order of planning, in seconds; clipped to the time axis."""
    zero = start_ns(analysis.run)
    end = _end_s(analysis)
    warm = [
        Band((p.start_ns - zero) / 1e9, (p.end_ns - zero) / 1e9, "warm-up", "warmup")
        for p in phases(analysis.run)
        if p.warmup
    ]
    faults = [
        Band(seconds(w.applied_ns, zero) or 0.0, min(end, seconds(w.reverted_ns, zero) or end), w.id)
        for w in fault_windows(analysis.history.faults)
        if w.applied_ns is not None
    ]
    shown = [band for band in faults if band.end > band.start and band.start < end]
    return (*(band for band in warm if band.end > band.start), *merged(shown, MAX_BANDS))


def timeline(analysis: Analysis) -> Chart:
    rates = [
        Panel(Axis("connections", whole=True), (_presence(analysis, "connected"),)),
        Panel(Axis("sent", "/s"), (_over_time(analysis, "sent"),)),
        Panel(Axis("deliveries", "/s"), (_over_time(analysis, "delivered"),)),
        Panel(
            Axis("p99", "ms", axis_kind(_values(analysis, "p99_ms"))),
            (_over_time(analysis, "p99_ms", name="p99"),),
        ),
    ]
    return _timed(
        analysis,
        "timeline",
        "Timeline",
        tuple(rates),
        "Connections, messages sent and delivered per second, and p99 of delivery latency, second by second, "
        "with the faults as bands.",
    )


def percentiles(analysis: Analysis) -> Chart:
    drawn = [name for name in ("delivery", "service", "ack") if analysis.latency[name].count]
    series = tuple(Series(_NAMED[name], _curve(analysis.latency[name]), SLOTS[name]) for name in drawn)
    told = f"p99 of delivery is {wording.ms(analysis.latency['delivery'].quantile_ms(0.99))}"
    if series and (other := analysis.baseline) is not None and other.curve:
        series += (Series("baseline, delivery", thin(other.curve, 400), SLOTS["baseline"]),)
        told += f"; in the baseline it was {wording.ms(other.delivery['p99'])}"
    values = [y for s in series for _, y in s.points if y]
    return Chart(
        "latency-percentiles",
        "Latency by percentile",
        Axis("percentile", "%", "quantile"),
        (Panel(Axis("latency", "ms", axis_kind(values)), series),),
        f"Latency at each percentile. {told}.",
    )


_NAMED: Final = {
    "delivery": "delivery, from scheduled",
    "service": "service, from sent",
    "ack": "ack, from scheduled",
}


def _curve(histogram: Histogram) -> tuple[Point, ...]:
    """Value over quantile, at each bucket in use."""
    used = histogram.used()
    upto = np.cumsum(histogram.counts[used]) / histogram.count
    points: list[Point] = [(0.0, (histogram.min_ms or 0.0))]
    for q, value in zip(upto[:-1], UPPER_US[used[:-1]], strict=True):
        points.append((float(q), float(value) / 1000))
    # The last bucket ends at quantile 1, which the axis cannot show: it stands at 1 - 1/n.
    last = max(1 - 1 / histogram.count, points[-1][0])
    points.append((last, histogram.max_ms))
    return thin(points, 400)


def latency_by_fault(analysis: Analysis) -> Chart:
    """Percentile curves with no fault in force, and during the faults with the highest p99, one slot each."""
    found = exposures(
        analysis.seconds, analysis.intervals, fault_windows(analysis.history.faults), start_ns(analysis.run)
    )
    worst = nlargest(
        MOST_FAULTS, (e for e in found if e.during.count), key=lambda e: e.during.quantile_ms(0.99) or 0.0
    )
    calm = quiet(analysis.seconds, analysis.intervals)
    drawn = [("no fault in force", calm), *((e.fault, e.during) for e in worst)] if worst else []
    series = tuple(
        Series(name, _curve(histogram), slot)
        for slot, (name, histogram) in enumerate(drawn)
        if histogram.count
    )
    return Chart(
        "latency-by-fault",
        "Delivery latency with and without faults",
        Axis("percentile", "%", "quantile"),
        (Panel(Axis("latency", "ms", axis_kind([y for s in series for _, y in s.points if y])), series),),
        "Delivery latency at each percentile, of messages that were due in seconds with no fault in force "
        f"and in seconds of each fault; of more than {MOST_FAULTS} faults, those with the highest p99.",
        filed=False,
    )


def latency_over_time(analysis: Analysis) -> Chart:
    tail = p99_9(analysis.seconds, analysis.intervals.height)
    series = [_over_time(analysis, f"{q}_ms", name=q) for q in ("p50", "p90", "p99", "max")]
    if tail.each_s is not None:
        steps: list[Point] = [(float(start), value) for start, value in tail.points]
        steps.append((_end_s(analysis), steps[-1][1]))
        name = "p99.9" if tail.each_s == 1 else f"p99.9 of {tail.each_s} s"
        series.insert(3, Series(name, thin(steps), SLOTS["p99.9"], "step"))
    values = [y for s in series for _, y in s.points if y]
    return _timed(
        analysis,
        "latency-over-time",
        "Delivery latency over time",
        (Panel(Axis("latency", "ms", axis_kind(values)), tuple(series)),),
        "Median, p90, p99 and maximum of delivery latency of the messages that were due in each second. "
        + _tail_told(tail),
    )


def _tail_told(tail: Tail) -> str:
    least = f"{wording.count(LEAST)} deliveries"
    if tail.each_s is None:
        return f"No p99.9: it takes {least}, and too few stretches of up to a minute have as many."
    each = "a second" if tail.each_s == 1 else f"{tail.each_s} s"
    lacking = wording.plural(tail.lacking, "stretch has", "stretches have")
    return f"p99.9 is of {each} each, with {least} or more" + (
        f"; {lacking} fewer, and no p99.9." if tail.lacking else "."
    )


def latency_heat(analysis: Analysis) -> Chart:
    """How many deliveries took how long, by when they were due."""
    length_s = analysis.intervals.height
    cells = heat(analysis.seconds, length_s)
    each = column_s(length_s)
    return _timed(
        analysis,
        "latency-heat",
        "Delivery latency as a heat map",
        (Panel(Axis("latency", "ms", "log"), cells=cells),),
        f"How many deliveries of messages due in each {'second' if each == 1 else f'{each} s'} took "
        "how long, warm-ups included. What was never delivered is not in it.",
        filed=False,
    )


def fault_lanes(analysis: Analysis) -> Chart:
    """When each fault was planned, applied and reverted."""
    labels = [band.label for band in bands(analysis) if band.kind == "fault"]
    numbers = {label: str(number) for number, label in enumerate(labels, start=1)}
    drawn = lanes(analysis.effects, numbers)
    each = (
        "lane of its own"
        if len(drawn) == len(analysis.effects)
        else "mark in the lane of its kind and target"
    )
    return _timed(
        analysis,
        "fault-lanes",
        "Faults over time",
        (Panel(Axis("faults"), lanes=drawn),),
        f"{wording.plural(len(analysis.effects), 'fault')}, each with a {each}: when it was planned, when "
        "applied and how much later that was, and when it was reverted.",
        filed=False,
    )


def p99_per_interval(analysis: Analysis) -> Chart:
    values = analysis.steady["p99_ms"].drop_nulls().to_list() if analysis.steady.height else []
    return _histogram(
        "latency-p99-histogram",
        "p99 of each second",
        values,
        "seconds",
        f"How many seconds had which p99, over {wording.plural(len(values), 'second')} outside of warm-ups.",
    )


def p99_per_channel(analysis: Analysis) -> Chart:
    values = analysis.channels["p99_ms"].drop_nulls().to_list()
    return _histogram(
        "latency-p99-channels",
        "p99 of each channel",
        values,
        "channels",
        f"How many channels had which p99, over {wording.plural(len(values), 'channel')}.",
    )


def throughput(analysis: Analysis) -> Chart:
    publish = tuple(
        _over_time(analysis, c, name=n)
        for c, n in (("scheduled", "scheduled"), ("sent", "sent"), ("acked", "acked"))
    )
    deliver = (
        _over_time(analysis, "delivered", name="live"),
        _over_time(analysis, "replayed", name="replayed"),
    )
    return _timed(
        analysis,
        "throughput",
        "Rates and backlog",
        (
            Panel(Axis("messages", "/s"), publish, "Publishing"),
            Panel(Axis("deliveries", "/s"), deliver, "Delivering"),
            Panel(
                Axis("unacked", "messages", whole=True),
                (_backlog(analysis),),
                "Backlog: due and not yet acked",
            ),
        ),
        "Messages due, sent and acked per second; deliveries per second, live and replayed; and how many "
        "messages were due and not yet acked.",
        filed=False,
    )


def presence(analysis: Analysis) -> Chart:
    return _timed(
        analysis,
        "presence",
        "Who was there",
        (
            Panel(Axis("connections", whole=True), (_presence(analysis, "connected"),), "Connections"),
            Panel(Axis("subscriptions", whole=True), (_presence(analysis, "live"),), "Live subscriptions"),
        ),
        "Clients connected and subscriptions live, at each change.",
        filed=False,
    )


def connections_by_node(analysis: Analysis) -> Chart:
    """Who was on which of several nodes; nothing where there was one."""
    nodes = [node for node in analysis.nodes if node.number]
    shown = sorted(nlargest(MOST_LINES, nodes, key=lambda node: node.peak), key=lambda node: node.number)
    lines = tuple(Series(node.name, node.line, slot, "step") for slot, node in enumerate(shown))
    more = (
        f" Of {len(nodes)} nodes, the {len(shown)} with the highest peaks." if len(nodes) > len(shown) else ""
    )
    return _timed(
        analysis,
        "nodes",
        "Connections by node",
        (Panel(Axis("connections", whole=True), lines),),
        f"Connections on each node, at each change; no line while a node did not run.{more}",
        filed=False,
    )


def processes(analysis: Analysis) -> Chart:
    """CPU and memory of each process of the run, by its samples; at most six, the busiest."""
    frame = analysis.samples.get("processes")
    wanted = {"t": pl.Int64, "process": pl.String, "cpu": pl.Float64, "rss_bytes": pl.Int64}
    if frame is None or any(frame.schema.get(c) != kind for c, kind in wanted.items()):
        frame = pl.DataFrame(schema=wanted)
    busy = (
        frame.group_by("process").agg(pl.col("cpu").mean()).sort("cpu", "process", descending=[True, False])
    )
    shown = sorted(str(name) for name in busy["process"].drop_nulls().head(MOST_LINES))
    return _timed(
        analysis,
        "processes",
        "Processes",
        (
            Panel(Axis("of one core", "%"), _sampled(analysis, frame, shown, "cpu", 100.0), "CPU"),
            Panel(Axis("resident", "MiB"), _sampled(analysis, frame, shown, "rss_bytes", 2.0**-20), "Memory"),
        ),
        "CPU and resident memory of each process, one sample a second; no line while a process did not run.",
        filed=False,
    )


def _sampled(
    analysis: Analysis, frame: pl.DataFrame, shown: list[str], column: str, scale: float
) -> tuple[Series, ...]:
    zero, end = start_ns(analysis.run), _end_s(analysis)
    within = frame.filter(pl.col("t").is_between(zero, zero + round(end * 1e9)))
    sweeps = [int(t) for t in within["t"].unique().sort()]
    made = []
    for slot, name in enumerate(shown):
        own = within.filter(pl.col("process") == name).sort("t")
        pids = own["pid"] if "pid" in own.columns else [0] * own.height
        ran = {int(t): (pid, value) for t, pid, value in zip(own["t"], pids, own[column], strict=True)}
        lives = [
            [((t - zero) / 1e9, None if y is None or y != y else float(y) * scale) for t, y in life]
            for life in _lives(sweeps, ran)
        ]
        made.append(Series(name, _apart(lives), slot))
    return tuple(made)


def _lives(
    sweeps: list[int], ran: Mapping[int, tuple[int, float | None]]
) -> list[list[tuple[int, float | None]]]:
    """Samples of a process, those of each of its lives apart: it was not there in a sweep, or came back with
    another pid.

    Args:
        sweeps: when samples were taken, of whatever process, in order.
        ran: pid and value by sweep, of those in which it ran.
    """
    found: list[list[tuple[int, float | None]]] = []
    before: int | None = None
    for t in sweeps:
        pid, value = ran.get(t, (None, None))
        if pid is not None:
            if pid != before:
                found.append([])
            found[-1].append((t, value))
        before = pid
    return found


def _apart(lives: Sequence[Sequence[Point]]) -> tuple[Point, ...]:
    """One line with a hole between each two lives, however much it is thinned."""
    if len(lives) > MAX_POINTS // 4:  # no hole of so many could be seen
        return thin([point for life in lives for point in life])
    points: list[Point] = []
    for life in lives:
        if points:
            points.append(((points[-1][0] + life[0][0]) / 2, None))
        points += thin(life, max(4, MAX_POINTS // len(lives)))
    return tuple(points)


def _backlog(analysis: Analysis) -> Series:
    frame = analysis.intervals
    behind = (frame["scheduled"].cum_sum() - frame["acked"].cum_sum()).clip(lower_bound=0)
    points = [(float(s), float(b)) for s, b in zip(frame["second"], behind, strict=True)]
    return Series("backlog", thin(points), 5, "step")


def _timed(
    analysis: Analysis, name: str, title: str, panels: tuple[Panel, ...], says: str, *, filed: bool = True
) -> Chart:
    return Chart(
        name,
        title,
        _TIME,
        panels,
        says,
        bands=bands(analysis),
        filed=filed,
        x_range=(0.0, _end_s(analysis)),
    )


def _end_s(analysis: Analysis) -> float:
    return float(max(1, analysis.intervals.height))


def _presence(analysis: Analysis, what: str) -> Series:
    """How many were there, at each change."""
    frame = analysis.presence.filter(analysis.presence["what"] == what)
    points: list[Point] = [(float(t), float(n)) for t, n in zip(frame["at_s"], frame["count"], strict=True)]
    if points:
        points = [(0.0, 0.0), *points, (max(points[-1][0], _end_s(analysis)), points[-1][1])]
    return Series(what, thin(points), SLOTS[what], "step")


def _over_time(analysis: Analysis, column: str, *, name: str = "") -> Series:
    frame = analysis.intervals
    points = [
        # A figure of a second stands in its middle.
        (float(second) + 0.5, None if value is None else float(value))
        for second, value in zip(frame["second"], frame[column], strict=True)
    ]
    slot = SLOTS.get(column, SLOTS.get(name, 0))
    return Series(name or column, thin(points), slot)


def _values(analysis: Analysis, column: str) -> list[float]:
    return [float(v) for v in analysis.intervals[column].drop_nulls()]


def axis_kind(values: Iterable[float]) -> AxisKind:
    """ "log" where a linear axis would hide the small values."""
    positive = [v for v in values if v > 0]
    return "log" if positive and max(positive) / min(positive) > _LOG_ABOVE else "linear"


def _histogram(name: str, title: str, values: list[float], unit: str, says: str) -> Chart:
    kind = axis_kind(values)
    points, widths = log_bins(values) if kind == "log" else bins(values)
    bars = Series("p99", points, SLOTS["p99"], "bars", widths)
    reach = (points[0][0], points[-1][0] + widths[-1]) if points else None
    return Chart(
        name,
        title,
        Axis("p99 of delivery latency", "ms", kind),
        (Panel(Axis(unit, whole=True), (bars,)),),
        says,
        filed=name == "latency-p99-histogram",
        x_range=reach,
    )

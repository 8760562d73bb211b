"""Gates against a run: threshold, actual, margin, verdict. What gates mean: ``reports.gates``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from reports.catch_up import MIN_SAMPLES, Groups, Return
from reports.creep import HOUR_S, Creep
from reports.fan_out import spreads
from reports.gates import Expr, Gate
from reports.histogram import Histogram, rank
from reports.latency import Selection, SelectionError, clients_of, measure
from reports.metrics import (
    CATCH_UP_METRICS,
    COMBINED,
    COVERAGE_METRICS,
    LATENCY_METRICS,
    METRICS,
    NODE_METRICS,
    RECORD_METRICS,
    Unit,
    counted,
)
from reports.node_figures import node_figures, record_count
from reports.noticing import Noticings
from reports.periods import NS, FaultWindow, fault_windows, phases, start_ns
from reports.reconnecting import dials_per_client, refused_resumes
from reports.recovery import Recovery, aways_ms, recoveries_among
from reports.usage import Usage, target_cpu_us_per_delivery, target_rss_bytes, target_rss_growth_bytes

if TYPE_CHECKING:
    from reports.history import History


class GateVerdict(StrEnum):
    """Of one gate. ``UNKNOWN``: what was counted allows the gate to hold, but not all could be checked."""

    PASS = "pass"
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """One gate judged. Threshold, actual and margin are in ``unit``: "ms", "/s", or "" for a count."""

    id: str
    kind: str
    metric: str
    condition: str  # as written: "p(99) < 50ms"
    phase: str
    where: dict[str, str]
    verdict: GateVerdict
    threshold: float
    actual: float | None
    margin: float | None
    unit: str
    why: str = ""  # of a verdict that the figures do not explain

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"verdict": str(self.verdict)}


@dataclass(frozen=True, slots=True)
class ClassCount:
    """What the checks say of one anomaly class."""

    count: int
    unknown: bool = False
    promised: bool = True  # else it was not judged, and the count is none


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """All that gates are judged by.

    ``intervals``: of ``timeline``. ``coverage``: what the run exercised, as in summary.json.
    ``workers``: the counters of each load worker. ``returns``: of clients that were away on purpose, with
    ``others``, of ``catch_up``. ``noticed``: of ``noticing``. ``usage``: of ``usage``.
    ``creep``: of ``creep``.
    """

    history: History
    classes: Mapping[str, ClassCount]
    recoveries: Sequence[Recovery] = ()
    intervals: pl.DataFrame
    coverage: Mapping[str, int] = field(default_factory=dict)
    workers: Sequence[Mapping[str, Any]] = ()
    returns: Sequence[Return] = ()
    others: Groups | None = None
    noticed: Noticings = field(default_factory=Noticings)
    usage: Sequence[Usage] = ()
    creep: Creep = field(default_factory=Creep)
    seen: dict[tuple[str, Selection], Histogram] = field(default_factory=dict)  # measured once each

    def histogram(self, name: str, selection: Selection) -> Histogram:
        key = (name, selection)
        if key not in self.seen:
            windows = until_all_back(fault_windows(self.history.faults), self.recoveries)
            if name == "fan_out":
                self.seen[key] = spreads(self.history, selection, windows=windows)
            else:
                self.seen[key] = measure(self.history, name, selection, windows=windows)
        return self.seen[key]


def until_all_back(windows: Iterable[FaultWindow], found: Iterable[Recovery]) -> list[FaultWindow]:
    """Windows that last until everybody whom the fault cut off was back: what waits for a client
    that is still reconnecting waits because of the fault."""
    back = {r.fault: r.all_back_s for r in found}
    return [
        replace(w, reverted_ns=w.reverted_ns + round((back.get(w.id) or 0.0) * NS))
        if w.reverted_ns is not None
        else w
        for w in windows
    ]


class _Missing(Exception):
    """The run has no such figure; the text says why."""


class _Unpromised(Exception):
    """The server does not promise what was asked for; the text says what."""


class _Failed(Exception):
    """The gate fails without a figure to show; the text says why."""


def evaluate(gates: Iterable[Gate], measures: Measures) -> list[GateResult]:
    """Judge every gate, in order."""
    return [_result(gate, measures) for gate in gates]


def _result(gate: Gate, measures: Measures) -> GateResult:
    expr, metric = gate.parsed, METRICS[gate.metric]
    actual: float | None = None
    why, unknown = "", False
    try:
        actual, unknown = _actual(gate, expr, measures)
        verdict = GateVerdict.PASS if expr.holds(actual) else GateVerdict.FAIL
        if unknown and verdict is GateVerdict.PASS:
            verdict, why = GateVerdict.UNKNOWN, "the checks could not decide this class for all clients"
        if (lacking := _unpromised(gate.metric, measures)) and verdict is GateVerdict.PASS:
            verdict, why = GateVerdict.UNKNOWN, lacking
    except _Unpromised as fault:
        verdict, why = GateVerdict.UNKNOWN, str(fault)
    except SelectionError as fault:
        verdict, why = GateVerdict.FAIL, str(fault)
    except _Missing as fault:
        verdict, why = GateVerdict.FAIL, f"{fault}: a missing metric fails its gate"
    except _Failed as fault:
        verdict, why = GateVerdict.FAIL, str(fault)
    return GateResult(
        id=gate.id,
        kind=gate.kind,
        metric=gate.metric,
        condition=gate.written,
        phase=gate.phase,
        where=gate.where.model_dump(exclude_none=True),
        verdict=verdict,
        threshold=expr.threshold,
        actual=actual,
        margin=None if actual is None else _rounded(expr.margin(actual)),
        unit=str(Unit.COUNT if expr.stat == "count" else metric.unit),
        why=why,
    )


def _rounded(margin: float | None) -> float | None:
    return None if margin is None else round(margin, 6)


def _actual(gate: Gate, expr: Expr, measures: Measures) -> tuple[float, bool]:
    """The figure that a gate asks for, and whether it may be too low for want of evidence."""
    name = gate.metric
    if name in COMBINED or METRICS[name].kinds == "integrity":
        return _anomalies(name, measures)
    selection = Selection(
        phase=None if gate.phase == "all" else gate.phase,
        fault=gate.where.fault,
        channel=gate.where.channel,
        persona=gate.where.persona,
        transport=gate.where.transport,
    )
    if name in (*LATENCY_METRICS, "resumes", "fan_out"):
        histogram = measures.histogram("resume" if name == "resumes" else name, selection)
        return _of_histogram(histogram, expr), False
    if name in ("delivery.ratio", "delivery.excess"):
        return _of_personas(name, gate, selection, measures), False
    if name in ("dials_per_client", "resumes.refused"):
        return _of_reconnecting(name, selection, measures), False
    if name in NODE_METRICS:
        rows = whole_seconds(node_figures(measures.history)[name], measures.history, gate.phase)
        missing = "the run had one node, or nobody was connected"
        return _of_values([float(ratio) for ratio in rows["ratio"]], expr, missing), False
    if name in RECORD_METRICS:
        return float(record_count(measures.history, name, selection)), False
    if name in ("memory", "memory.per_channel"):
        return _of_memory(name, measures), False
    if name in ("memory.creep", "delivery.creep"):
        return _of_creep(name, expr, measures.creep), False
    if name in COVERAGE_METRICS:
        if name not in measures.coverage:
            raise _Missing("the coverage of this run was not counted")
        return float(measures.coverage[name]), False
    if name.startswith("noticed."):
        kept = {"noticed.client": measures.noticed.client_ms, "noticed.server": measures.noticed.server_ms}
        side = name.removeprefix("noticed.")
        return _of_values(list(kept[name]), expr, f"no fault left a {side} in the dark"), False
    if name in CATCH_UP_METRICS:
        return _of_catch_ups(name, measures, expr), False
    if name.startswith("recovery."):
        return _of_recovery(name, gate, measures), False
    if name == "cpu_per_delivery":
        if (spent_us := target_cpu_us_per_delivery(measures.usage)) is None:
            raise _Missing("the processes under test were not sampled, or nothing was delivered")
        return spent_us / 1000, False
    if name in ("ephemerals.heard", "ephemerals.refused"):
        return _of_ephemerals(name, measures.workers), False
    if name in ("lag", "hiccup"):
        return _of_workers(f"{name}_{_HARNESS_STATS[expr.name]}_ms", measures.workers), False
    column = {"deliveries_per_s": "delivered", "sends_per_s": "sent"}[name]
    rates = whole_seconds(measures.intervals, measures.history, gate.phase)[column]
    return _of_values([float(r) for r in rates], expr, "no whole second of such a phase was recorded"), False


_HARNESS_STATS: Final = {"p(50)": "p50", "p(99)": "p99", "max": "max"}


def _anomalies(metric: str, measures: Measures) -> tuple[float, bool]:
    found = [measures.classes[name] for name in counted(metric) if name in measures.classes]
    if not found:
        raise _Missing("this class was not checked")
    known = [c for c in found if c.promised]
    if not known:
        raise _Unpromised(_unpromised(metric, measures))
    return float(sum(c.count for c in known)), any(c.unknown for c in known)


def _unpromised(metric: str, measures: Measures) -> str:
    """Which classes that a metric counts were not judged, and why; "" if all were."""
    lacking = [
        name for name in counted(metric) if name in measures.classes and not measures.classes[name].promised
    ]
    return f"{' and '.join(lacking)} not judged: this server does not promise it" if lacking else ""


def _of_histogram(histogram: Histogram, expr: Expr) -> float:
    if expr.stat == "count":
        return float(histogram.count)
    figure = {
        "p": histogram.quantile_ms(expr.quantile / 100),
        "min": histogram.min_ms,
        "max": histogram.max_ms,
        "mean": histogram.mean_ms,
    }[expr.stat]
    if figure is None:
        raise _Missing("no sample was recorded")
    return figure


def _of_values(values: list[float], expr: Expr, missing: str) -> float:
    if expr.stat == "count":
        return float(len(values))
    if not values:
        raise _Missing(missing)
    ordered = sorted(values)
    if expr.stat == "p":
        return ordered[rank(expr.quantile / 100, len(ordered)) - 1]
    return {"min": ordered[0], "max": ordered[-1], "mean": sum(ordered) / len(ordered)}[expr.stat]


def _of_catch_ups(name: str, measures: Measures, expr: Expr) -> float:
    if name in ("catch_up.others_ratio", "catch_up.others_excess"):
        affected, control = _of_groups(measures.others, expr)
        return affected / control if name == "catch_up.others_ratio" else affected - control
    if cut := sum(back.took_ns is None for back in measures.returns):
        raise _Failed(f"clients that came back and were cut off before they had caught up: {cut}")
    if name == "catch_up":
        took = [back.took_ns / 1e6 for back in measures.returns if back.took_ns is not None]
        return _of_values(took, expr, "nobody went offline on purpose and came back")
    rates = [rate for back in measures.returns if (rate := back.replayed_per_s) is not None]
    return _of_values(rates, expr, "nothing was replayed to anybody who had been offline on purpose")


def _of_groups(groups: Groups | None, expr: Expr) -> tuple[float, float]:
    """A statistic of the affected and of the control group, both in milliseconds."""
    if groups is None:
        raise _Missing("nobody went offline on purpose and came back")
    for name, histogram in (("affected", groups.affected), ("control", groups.control)):
        if histogram.count < MIN_SAMPLES:
            raise _Missing(
                f"the {name} group got {histogram.count} deliveries during a catch-up, "
                f"of {MIN_SAMPLES} that a comparison needs"
            )
    return _of_histogram(groups.affected, expr), _of_histogram(groups.control, expr)


def _of_personas(name: str, gate: Gate, selection: Selection, measures: Measures) -> float:
    """The statistic of one persona's deliveries against the same of another's."""
    figures = []
    for persona in (gate.where.persona, gate.where.against):
        histogram = measures.histogram("delivery", replace(selection, persona=persona))
        if histogram.count < MIN_SAMPLES:
            raise _Missing(
                f"persona {persona} got {histogram.count} deliveries, "
                f"of {MIN_SAMPLES} that a comparison needs"
            )
        figures.append(_of_histogram(histogram, gate.parsed))
    affected, control = figures
    return affected / control if name == "delivery.ratio" else affected - control


def _of_reconnecting(name: str, selection: Selection, measures: Measures) -> float:
    if name == "dials_per_client":
        figure, missing = dials_per_client(measures.history, selection), "nobody dialled"
    else:
        figure, missing = (
            refused_resumes(measures.history, selection),
            "nobody asked to go on from a position",
        )
    if figure is None:
        raise _Missing(missing)
    return figure


def _of_memory(name: str, measures: Measures) -> float:
    """In MiB."""
    if name == "memory":
        size = target_rss_bytes(measures.usage)
        if size is None:
            raise _Missing("the processes under test were not sampled")
        return size / _MIB
    grown = target_rss_growth_bytes(measures.usage)
    channels = len(measures.history.names.channels) - 1
    if grown is None or not channels:
        raise _Missing("the processes under test were not sampled before the load, or there is no channel")
    return grown / channels / _MIB


_MIB: Final = 1024**2


def _of_creep(name: str, expr: Expr, found: Creep) -> float:
    """In MiB or ms an hour."""
    line, unit = (found.rss_bytes_per_s, _MIB) if name == "memory.creep" else (found.p99_ms_per_s, 1.0)
    if line is None:
        raise _Missing("fewer than three seconds of steady load were sampled")
    per_s = {"min": line.low, "mean": line.per_unit, "max": line.high}[expr.name]
    return per_s * HOUR_S / unit


def _of_ephemerals(name: str, workers: Sequence[Mapping[str, Any]]) -> float:
    """What clients got of typing, receipts and presence, or what was refused to them; all workers."""
    suffix = {"ephemerals.heard": "heard", "ephemerals.refused": "failed"}[name]
    if not workers:
        raise _Missing("no worker left its counters")
    keys = [f"{kind}_{suffix}" for kind in ("typing", "receipt", "presence")]
    return float(sum(int(worker.get(key, 0)) for worker in workers for key in keys))


def _of_recovery(name: str, gate: Gate, measures: Measures) -> float:
    """In milliseconds."""
    if name == "recovery.away":
        values = aways_ms(measures.history, gate.where.fault)
        if lost := sum(map(math.isinf, values)):
            raise _Failed(f"subscriptions that never came back: {lost}")
        return _of_values(values, gate.parsed, "no fault cut anybody off")
    if name in ("recovery.slo", "recovery.backlog"):
        return _of_stages(name, gate, measures.recoveries)
    found = measures.recoveries
    if gate.where.persona is not None:
        found = recoveries_among(measures.history, clients_of(measures.history.names, gate.where.persona))
    return _of_values(_all_back_ms(found), gate.parsed, "no fault cut anybody off")


def _of_stages(name: str, gate: Gate, recoveries: Iterable[Recovery]) -> float:
    """A statistic over all faults: one of which it is not known leaves the figure missing."""
    chosen = [r for r in recoveries if gate.where.fault in (None, r.fault)]
    stages = [(r.fault, r.slo if name == "recovery.slo" else r.backlog) for r in chosen]
    unknown = [f"{fault} ({stage.why})" for fault, stage in stages if stage.after_s is None]
    if unknown:
        raise _Missing(f"not seen after {', '.join(unknown)}")
    values = [stage.after_s * 1000 for _, stage in stages if stage.after_s is not None]
    return _of_values(values, gate.parsed, "no such fault was applied")


def _all_back_ms(found: Iterable[Recovery]) -> list[float]:
    cut = [r for r in found if r.subscriptions]
    lost = [r for r in cut if r.never_back]
    if lost:
        told = "; ".join(f"{r.never_back} after {r.fault}" for r in lost)
        raise _Failed(f"subscriptions that never came back: {told}")
    return [r.all_back_s * 1000 for r in cut if r.all_back_s is not None]


def _of_workers(key: str, workers: Iterable[Mapping[str, Any]]) -> float:
    values = [float(w[key]) for w in workers if isinstance(w.get(key), int | float)]
    if not values:
        raise _Missing("no worker left this figure in its counters")
    return max(values)


def whole_seconds(intervals: pl.DataFrame, history: History, phase: str = "all") -> pl.DataFrame:
    """Intervals that lie wholly inside one phase: the named one, or any but warm-ups for ``"all"``.

    Raises:
        SelectionError: the run has no such phase.
    """
    zero, known = start_ns(history.run), phases(history.run)
    chosen = [p for p in known if (p.name == phase if phase != "all" else not p.warmup)]
    if phase != "all" and not chosen:
        has = ", ".join(p.name for p in known) or "none"
        raise SelectionError(f"phase is {phase!r}: the run's phases are {has}")
    begin = pl.col("second") * NS + zero
    inside = [(begin >= p.start_ns) & (begin + NS <= p.end_ns) for p in chosen]
    return intervals.filter(pl.any_horizontal(pl.lit(False), *inside))

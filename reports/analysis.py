"""Everything that was measured and judged of one run: what every section of a report reads.

Also ``summary.json``, the part of it that programs read (schemas/summary.schema.json).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import polars as pl

from reports.baseline import Baseline
from reports.by_phase import shares
from reports.checks.result import Integrity
from reports.effects import FaultEffect
from reports.evaluate import ClassCount, GateResult, whole_seconds
from reports.gates import Gate
from reports.histogram import Histogram
from reports.history import History
from reports.metrics import COMBINED
from reports.per_node import Node
from reports.periods import phases
from reports.prediction import Held
from reports.recovery import Recovery
from reports.steady import Probes, counted
from reports.stories import Story
from reports.usage import Usage
from reports.verdict import Judgement, clock_uncertainty_ms, lag_limit_ms

SUMMARY_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """One run, analysed.

    ``latency``: a histogram a class. ``seconds``, ``channels``: of ``latency.by_second`` and
    ``by_channel``. ``intervals``: of ``timeline``. ``presence``: of ``sessions.presence``.
    ``phase_latency``: of ``latency.by_phase``.
    ``workers``: each load worker's counters. ``samples``: metrics/*.parquet by name.
    ``predicted``: figures beside their prediction, of ``prediction.held``.
    ``stories``: timelines of the messages in examples. ``baseline``: another run to be shown beside it.
    """

    history: History
    integrity: Integrity
    latency: Mapping[str, Histogram]
    seconds: pl.DataFrame
    channels: pl.DataFrame
    intervals: pl.DataFrame
    presence: pl.DataFrame
    effects: Sequence[FaultEffect]
    recoveries: Sequence[Recovery]
    gates: Sequence[Gate]
    results: Sequence[GateResult]
    workers: Sequence[Mapping[str, Any]]
    judgement: Judgement
    predicted: Sequence[Held] = ()
    samples: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    steadiness: Probes = ()  # of reports.steady
    stories: Mapping[str, Story] = field(default_factory=dict)
    excerpts: Mapping[str, str] = field(default_factory=dict)  # sentence -> folder of its excerpt
    usage: Sequence[Usage] = ()
    probed: Sequence[GateResult] = ()
    nodes: Sequence[Node] = ()  # of reports.per_node
    baseline: Baseline | None = None
    phase_latency: Mapping[str, Histogram] = field(default_factory=dict)

    @property
    def run(self) -> dict[str, Any]:
        return self.history.run

    @property
    def steady(self) -> pl.DataFrame:
        """Intervals that lie wholly inside phases that are no warm-up."""
        return whole_seconds(self.intervals, self.history)

    def combined(self, name: str) -> ClassCount:
        """Count of "lost", "duplicated" or "reordered", over its classes that are checked."""
        known = [self.integrity.classes[cls] for cls in self.checked(name)]
        return ClassCount(sum(c.count for c in known), not known or any(c.unknown for c in known))

    def promised(self, name: str) -> bool:
        """Whether all classes behind "lost", "duplicated" or "reordered" may be held against the server."""
        return promised(self.integrity, name)

    def in_recovery(self, name: str, fault: str) -> int | None:
        """Of "lost", "duplicated" or "reordered", how many may have happened from the start of a fault until
        all whom it cut off were back; None: not judged."""
        return self.integrity.in_span(fault, COMBINED[name])

    def checked(self, name: str) -> list[str]:
        """The classes behind "lost", "duplicated" or "reordered" that were judged."""
        classes = self.integrity.classes
        return [cls for cls in COMBINED[name] if cls in classes and classes[cls].promised]

    def deliveries_per_s(self) -> float | None:
        """Mean rate of live deliveries over ``steady``; None when no whole second was recorded."""
        mean = self.steady["delivered"].mean() if self.steady.height else None
        return None if mean is None else round(float(mean), 3)  # type: ignore[arg-type]

    def worst(self, key: str) -> float | None:
        """Highest value of a counter among the load workers."""
        values = [float(w[key]) for w in self.workers if isinstance(w.get(key), int | float)]
        return max(values, default=None)

    def total(self, column: str) -> int:
        """Sum of a column of the intervals, warm-ups included."""
        return int(self.intervals[column].sum())


def promised(integrity: Integrity, name: str) -> bool:
    """See ``Analysis.promised``."""
    known = integrity.classes
    return all(known[cls].promised for cls in COMBINED[name] if cls in known)


def _combined(analysis: Analysis, name: str) -> int | None:
    """None, not 0, where part of it was not judged and the rest found nothing."""
    count = analysis.combined(name).count
    return count if count or analysis.promised(name) else None


def coverage(analysis: Analysis) -> dict[str, Any]:
    return asdict(analysis.integrity.coverage)


def summary(analysis: Analysis) -> dict[str, Any]:
    """The content of ``summary.json``: plain values, every key always there."""
    run, judgement = analysis.run, analysis.judgement
    known = phases(run)
    return {
        "schema_version": SUMMARY_VERSION,
        "run_id": run.get("run_id"),
        "scenario": run.get("scenario"),
        "seed": run.get("seed"),
        "via": run.get("via"),
        "interactive": bool(run.get("interactive")),
        "status": run.get("status"),
        "started_utc": run.get("started_utc"),
        "duration_s": run.get("duration_s"),
        "outcome": judgement.word,
        "sentence": judgement.sentence,
        "verdict": judgement.verdict,
        "void": list(judgement.void),
        "reasons": list(judgement.reasons),
        "exit": int(judgement.exit),
        "anomalies": {name: _combined(analysis, name) for name in COMBINED},
        "classes": {
            name: {
                "title": c.title,
                "count": c.count if c.promised else None,
                "gated": c.gated,
                "unknown": c.unknown,
                "lacks": list(c.lacks),
                "by_phase": [
                    {"where": str(s.stretch.where), "phase": s.stretch.phase or None}
                    | {"count": s.count, "in_fault": s.in_fault}
                    for s in shares(c.spread, known)
                    if s.count
                ],
            }
            for name, c in analysis.integrity.classes.items()
        },
        "coverage": coverage(analysis),
        "latency_ms": {name: histogram.summary() for name, histogram in analysis.latency.items()},
        "load": {
            "clients": (run.get("load") or {}).get("clients"),
            "scheduled": analysis.total("scheduled"),
            "sent": analysis.total("sent"),
            "acked": analysis.total("acked"),
            "delivered": analysis.total("delivered"),
            "replayed": analysis.total("replayed"),
            "deliveries_per_s": analysis.deliveries_per_s(),
            "lag_p99_ms": analysis.worst("lag_p99_ms"),
            "lag_limit_ms": lag_limit_ms(analysis.gates),
            "clock_uncertainty_ms": clock_uncertainty_ms(run),
        },
        "processes": [asdict(used) for used in analysis.usage],
        "faults": [_fault(analysis, effect) for effect in analysis.effects],
        "gates": [
            {"id": r.id, "kind": r.kind, "verdict": str(r.verdict), "actual": r.actual, "unit": r.unit}
            for r in analysis.results
        ],
        "steady": counted(analysis.steadiness),
        "versions": run.get("versions") or {},
    }


def _recovery(analysis: Analysis, recovery: Recovery) -> dict[str, Any]:
    told = asdict(recovery)
    for stage in ("slo", "backlog"):
        told |= {f"{stage}_s": told[stage]["after_s"], f"{stage}_why": told.pop(stage)["why"]}
    return told | {name: analysis.in_recovery(name, recovery.fault) for name in COMBINED}


def _fault(analysis: Analysis, effect: FaultEffect) -> dict[str, Any]:
    recovery = next((r for r in analysis.recoveries if r.fault == effect.id), None)
    told = asdict(effect)
    told["errors"] = list(effect.errors)
    told["recovery"] = None if recovery is None else _recovery(analysis, recovery)
    return told

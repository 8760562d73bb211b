"""metrics.txt: what a run came to, for a monitoring system, in OpenMetrics text (``reports.exposition``).

A run is over when this is written, so every count is a gauge: it belongs to this run and does not go on.
Times are in seconds, sizes in bytes. A figure that was not measured has no sample: 0 would be a claim.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from reports.analysis import Analysis, summary
from reports.by_phase import shares
from reports.evaluate import GateResult, GateVerdict, whole_seconds
from reports.exposition import Family, Sample, Type, document
from reports.histogram import Histogram
from reports.metrics import Unit
from reports.periods import phases

QUANTILES: Final = (0.5, 0.9, 0.99, 0.999, 1.0)
VERDICTS: Final = ("valid", "invalid", "unknown")
# A gate's unit: what its families' names end with, their unit, and what it is multiplied by.
_UNITS: Final = {
    Unit.TIME: ("_seconds", "seconds", 1e-3),
    Unit.SIZE: ("_bytes", "bytes", 1024.0**2),
    Unit.RATIO: ("_ratio", "ratio", 1.0),
    Unit.RATE: ("_per_second", "", 1.0),
    Unit.COUNT: ("", "", 1.0),
}
_RATES: Final = {"deliveries": "delivered", "acks": "acked", "publishes": "sent"}  # column of the intervals


def metrics_text(analysis: Analysis) -> str:
    """The content of metrics.txt."""
    found = summary(analysis)
    common = {"scenario": str(found["scenario"] or ""), "run": str(found["run_id"] or "")}
    families = [
        *_of_run(found),
        *_counts(analysis, found),
        *_latency(analysis),
        *_load(analysis, found),
        *_processes(found["processes"]),
        *_faults(found["faults"]),
        *_gates(analysis.results),
    ]
    return document(families, common)


def _of_run(found: Mapping[str, Any]) -> Iterator[Family]:
    facts = ("seed", "status", "outcome", "via", "started_utc")
    about = {name: str(found[name]) for name in facts if found[name] is not None}
    version = {"version": str(found["versions"].get("chatproof", ""))}
    yield Family("chatproof_run_info", "What this run is; always 1.", [Sample(about | version, 1)])
    yield _one("chatproof_run_exit_status", "Exit status of the run; 0 is a pass.", found["exit"])
    yield _one("chatproof_run_void", "Whether the run itself cannot be believed.", bool(found["void"]))
    yield Family(
        "chatproof_history_verdict",
        "Verdict on what the clients saw: 1 at the one that it is.",
        [Sample({"verdict": verdict}, found["verdict"] == verdict) for verdict in VERDICTS],
    )
    took, begun = found["duration_s"], _unix_s(found["started_utc"])
    yield _one("chatproof_run_duration_seconds", "How long the run took.", took, "seconds")
    yield _one("chatproof_run_start_time_seconds", "When it began, since 1970.", begun, "seconds")


def _counts(analysis: Analysis, found: Mapping[str, Any]) -> Iterator[Family]:
    covered, known = found["coverage"], phases(analysis.run)
    outcomes = ("acked", "failed", "recovered", "unresolved")
    yield _each("chatproof_messages", "Messages by outcome of their publish.", "outcome", covered, outcomes)
    live = {"live": covered["delivered"] - covered["replayed"], "replayed": covered["replayed"]}
    yield _each("chatproof_deliveries", "Deliveries to clients of the load.", "arrival", live)
    again = {"new": covered["subscriptions"] - covered["resumed"], "resumed": covered["resumed"]}
    yield _each("chatproof_subscriptions", "Subscriptions that were answered.", "kind", again)
    yield _one("chatproof_gap_notices", "Holes that the server declared.", covered["gaps"])
    yield _each(
        "chatproof_anomalies", "Deliveries or messages against the contract.", "kind", found["anomalies"]
    )
    classes = analysis.integrity.classes
    labels = {
        name: {"class": name, "title": c.title, "gated": _yes(c.gated)}
        for name, c in classes.items()
        if c.promised
    }
    yield Family(
        "chatproof_class_anomalies",
        "Anomalies by class of those that the server promises not to have.",
        [Sample(told, classes[name].count) for name, told in labels.items()],
    )
    yield Family(
        "chatproof_class_undecided",
        "Whether there may be more of a class than were counted.",
        [Sample(told, classes[name].unknown) for name, told in labels.items()],
    )
    yield Family(
        "chatproof_phase_class_anomalies",
        "Anomalies by class and when they fell, where there were any.",
        [
            Sample(told | {"where": str(share.stretch.where), "phase": share.stretch.phase}, share.count)
            for name, told in labels.items()
            for share in shares(classes[name].spread, known)
            if share.count
        ],
    )


def _latency(analysis: Analysis) -> Iterator[Family]:
    classes = [({"class": name}, histogram) for name, histogram in analysis.latency.items()]
    yield _summary("chatproof_latency_seconds", "Latency by class, warm-ups left out.", classes)
    warmup = {phase.name: phase.warmup for phase in phases(analysis.run)}
    by_phase = [
        ({"phase": name, "warmup": _yes(warmup[name])}, histogram)
        for name, histogram in analysis.phase_latency.items()
    ]
    yield _summary(
        "chatproof_phase_delivery_latency_seconds",
        "From when a message was due until a subscriber had it, by phase in which it was due.",
        by_phase,
    )


def _summary(name: str, told: str, parts: Iterable[tuple[dict[str, str], Histogram]]) -> Family:
    samples: list[Sample] = []
    for labels, histogram in parts:
        for q in QUANTILES:
            if (value_ms := histogram.quantile_ms(q)) is not None:
                samples.append(Sample(labels | {"quantile": str(q)}, value_ms / 1000))
        total_s = (histogram.mean_ms or 0.0) * histogram.count / 1000
        samples += [Sample(labels, histogram.count, "_count"), Sample(labels, total_s, "_sum")]
    return Family(name, told, samples, "seconds", Type.SUMMARY)


def _load(analysis: Analysis, found: Mapping[str, Any]) -> Iterator[Family]:
    load = found["load"]
    yield _one("chatproof_load_clients", "Clients of the load.", load["clients"])
    yield _one(
        "chatproof_deliveries_per_second",
        "Live deliveries a second, in phases that are no warm-up.",
        load["deliveries_per_s"],
    )
    samples = []
    for name in dict.fromkeys(phase.name for phase in phases(analysis.run)):
        seconds = whole_seconds(analysis.intervals, analysis.history, name)
        for what, column in _RATES.items():
            if seconds.height:
                rate = float(seconds[column].sum()) / seconds.height
                samples.append(Sample({"phase": name, "what": what}, rate))
    yield Family("chatproof_phase_rate_per_second", "Mean rate over the whole seconds of a phase.", samples)
    lag, limit = _seconds(load["lag_p99_ms"]), _seconds(load["lag_limit_ms"])
    yield _one("chatproof_load_lag_p99_seconds", "Lateness of the load's worst worker.", lag, "seconds")
    yield _one("chatproof_load_lag_limit_seconds", "Lateness above which a run is void.", limit, "seconds")


def _processes(used: Iterable[Mapping[str, Any]]) -> Iterator[Family]:
    labelled = [({"process": str(u["process"]), "target": _yes(u["target"])}, u) for u in used]

    def each(name: str, told: str, key: str, unit: str, times: float = 1.0) -> Family:
        known = [(labels, u[key]) for labels, u in labelled if u[key] is not None]
        return Family(name, told, [Sample(labels, value * times) for labels, value in known], unit)

    yield each("chatproof_process_cpu_seconds", "CPU time, warm-ups left out.", "cpu_s", "seconds")
    yield each(
        "chatproof_process_cpu_per_delivery_seconds",
        "CPU time a live delivery.",
        "cpu_us_per_delivery",
        "seconds",
        1e-6,
    )
    yield each("chatproof_process_resident_memory_max_bytes", "Largest memory.", "rss_max_bytes", "bytes")


def _faults(found: Iterable[Mapping[str, Any]]) -> Iterator[Family]:
    faults = [({"fault": str(f["id"]), "kind": str(f["kind"]), "target": str(f["target"])}, f) for f in found]
    yield Family(
        "chatproof_fault_had_effect",
        "Whether the clients' records show what the fault did.",
        [Sample(labels, fault["had_effect"]) for labels, fault in faults],
    )
    mended = [(labels, fault["recovery"]) for labels, fault in faults if fault["recovery"]]
    stages = {"all_back": "all_back_s", "slo": "slo_s", "backlog": "backlog_s"}
    yield Family(
        "chatproof_fault_recovery_seconds",
        "From the revert until all clients are back, p99 is as promised, the backlog is as before.",
        [
            Sample(labels | {"stage": stage}, recovery[key])
            for labels, recovery in mended
            for stage, key in stages.items()
            if recovery[key] is not None
        ],
        "seconds",
    )
    yield Family(
        "chatproof_fault_never_back",
        "Subscriptions that it cut off and that were never live again.",
        [Sample(labels, recovery["never_back"]) for labels, recovery in mended],
    )
    yield Family(
        "chatproof_fault_anomalies",
        "Anomalies that may have to do with it.",
        [
            Sample(labels | {"anomaly": name}, recovery[name])
            for labels, recovery in mended
            for name in ("lost", "duplicated", "reordered")
            if recovery[name] is not None
        ],
    )


def _gates(results: Iterable[GateResult]) -> Iterator[Family]:
    labelled = [({"gate": r.id, "kind": r.kind, "metric": r.metric}, r) for r in results]
    counts = {str(v): sum(r.verdict is v for _, r in labelled) for v in GateVerdict}
    yield _each("chatproof_gates", "Gates by verdict.", "verdict", counts)
    yield Family(
        "chatproof_gate_verdict",
        "Verdict of each gate: 1 at the one that it is.",
        [Sample(labels | {"verdict": str(v)}, r.verdict is v) for labels, r in labelled for v in GateVerdict],
    )
    for unit, (suffix, base, times) in _UNITS.items():
        own = [(labels, r) for labels, r in labelled if r.unit == unit]
        actual = [Sample(labels, r.actual * times) for labels, r in own if r.actual is not None]
        limit = [Sample(labels, r.threshold * times) for labels, r in own]
        yield Family(f"chatproof_gate_actual{suffix}", "What a gate found.", actual, base)
        yield Family(f"chatproof_gate_limit{suffix}", "What a gate compares with.", limit, base)


def _one(name: str, told: str, value: float | None, unit: str = "") -> Family:
    return Family(name, told, [] if value is None else [Sample({}, value)], unit)


def _each(
    name: str, told: str, label: str, values: Mapping[str, float | None], keys: Iterable[str] | None = None
) -> Family:
    shown = values if keys is None else keys
    known = [(key, value) for key in shown if (value := values[key]) is not None]
    return Family(name, told, [Sample({label: key}, value) for key, value in known])


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else ms / 1000


def _yes(held: bool) -> str:
    return "true" if held else "false"


def _unix_s(utc: object) -> float | None:
    try:
        told = datetime.fromisoformat(str(utc))
    except ValueError:
        return None
    return None if told.tzinfo is None else told.timestamp()

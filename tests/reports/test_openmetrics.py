"""metrics.txt: read by Prometheus' own parsers, of both formats, and held against summary.json."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from prometheus_client import parser
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics

from reports.analysis import Analysis, summary
from reports.checks import run_checks
from reports.exposition import Family, Sample, Type, document, number
from reports.gates import parse_gates
from reports.history import Kind
from reports.latency import Selection, measure
from reports.openmetrics import metrics_text
from reports.pipeline import analyse
from reports.recovery import spans
from tests.reports.synthetic import Cut, Slow, Synthetic, fault_lines, in_memory, small

HOSTILE = 'a\\b"c\n# EOF\r\x1b[2J\u202e{x="y"} 1'
GATES = parse_gates(
    {
        "gate": [
            {"id": "lost", "kind": "integrity", "metric": "lost", "max": 0},
            {"id": "soon", "kind": "threshold", "metric": "delivery", "expr": "p(99) < 1ms"},
            {"id": "many", "kind": "threshold", "metric": "deliveries_per_s", "expr": "mean > 1/s"},
            {"id": "none", "kind": "threshold", "metric": "recovery.away", "expr": "max < 1s"},
        ]
    },
    source="t",
)


def clean() -> Synthetic:
    return small()


def lossy() -> Synthetic:
    """Nobody lost their connection, and client 3 has one message less, and another one twice."""
    made = small()
    records = made.records()[1]
    live = np.flatnonzero((records["kind"] == Kind.RECV) & (records["flags"] == 0) & (records["client"] == 3))
    made._rows[1].remove(tuple(records[live[5]].tolist()))
    made._rows[1].append(tuple(records[live[9]].tolist()))
    return made


RUNS: dict[str, Callable[[], Synthetic]] = {
    "clean": clean,
    "lossy": lossy,
    "under faults": lambda: small(
        cuts=[Cut(4, 5, 1)],
        slows=[Slow(7, 8, 30)],
        faults=[*fault_lines("cut", "down", 4, 5, target="b"), *fault_lines("idle", "latency", 7, 8)],
    ),
    "aborted": lambda: small(
        run={"status": "aborted", "duration_s": None}, faults=fault_lines("f", "down", 8, 9)[:1]
    ),
    "empty": lambda: Synthetic(bare=True, clients=2, channels=1),
    "no manifest": lambda: Synthetic(
        bare=True,
        run=dict.fromkeys(
            "scenario phases t0_ns contract host load versions via why expect started_utc run_id".split()
        ),
    ),
    "poor server": lambda: small(
        run={"contract": {"profile": "effectively-once", "capabilities": ["ack", "ack-position"]}}
    ),
    "hostile": lambda: small(
        scenario=HOSTILE,
        run={"via": HOSTILE, "run_id": HOSTILE, "versions": {"chatproof": HOSTILE}},
        faults=fault_lines(HOSTILE, "down", 4, 5),
    ),
}


def analysed(made: Synthetic) -> Analysis:
    history = in_memory(made)
    return analyse(
        history, run_checks(history, spans=spans(history)), GATES, workers=[{"worker": 1, "lag_p99_ms": 1.5}]
    )


@pytest.fixture(scope="module", params=RUNS)
def analysis(request: pytest.FixtureRequest) -> Analysis:
    return analysed(RUNS[request.param]())


def values(families: Iterable[Metric]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for family in families
        for s in family.samples
    }  # fmt: skip


def read(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return values(openmetrics.text_string_to_metric_families(text))


class Read:
    """Samples of a text without the labels that all have."""

    def __init__(self, text: str) -> None:
        self.samples: dict[str, list[tuple[dict[str, str], float]]] = {}
        for (name, labels), value in read(text).items():
            own = {k: v for k, v in labels if k not in ("scenario", "run")}
            self.samples.setdefault(name, []).append((own, value))

    def of(self, name: str, **labels: str) -> float | None:
        found = [v for own, v in self.samples.get(name, []) if labels.items() <= own.items()]
        assert len(found) < 2, found
        return found[0] if found else None


def test_both_of_prometheus_parsers_read_the_same_from_every_kind_of_run(analysis: Analysis) -> None:
    text = metrics_text(analysis)
    assert text.endswith("# EOF\n")
    assert read(text) == values(parser.text_string_to_metric_families(text))
    for family in openmetrics.text_string_to_metric_families(text):
        assert family.type in ("gauge", "summary")  # a reader of the older format refuses any newer type
        assert family.documentation.endswith(".")
        assert family.samples
        assert family.name.startswith("chatproof_")
        assert any(family.name.endswith(f"_{unit}") for unit in ("seconds", "bytes", "ratio")) == bool(
            family.unit
        )
        for sample in family.samples:
            assert sample.timestamp is None
            assert {"scenario", "run"} <= set(sample.labels)
    assert metrics_text(analysis) == text


def test_the_figures_are_those_of_the_summary(analysis: Analysis) -> None:
    found, told = summary(analysis), Read(metrics_text(analysis))
    assert told.of("chatproof_run_exit_status") == found["exit"]
    assert told.of("chatproof_run_void") == bool(found["void"])
    assert told.of("chatproof_history_verdict", verdict=found["verdict"]) == 1
    assert sum(v for _, v in told.samples["chatproof_history_verdict"]) == 1
    assert told.of("chatproof_messages", outcome="acked") == found["coverage"]["acked"]
    arrivals = [told.of("chatproof_deliveries", arrival=kind) for kind in ("live", "replayed")]
    assert sum(n or 0 for n in arrivals) == found["coverage"]["delivered"]
    for kind, count in found["anomalies"].items():
        assert told.of("chatproof_anomalies", kind=kind) == count
    for name, latency in found["latency_ms"].items():
        assert told.of("chatproof_latency_seconds_count", **{"class": name}) == latency["count"]
        for q, key in (("0.5", "p50"), ("0.99", "p99"), ("0.999", "p99_9"), ("1.0", "max")):
            value = told.of("chatproof_latency_seconds", **{"class": name}, quantile=q)
            assert value == (None if latency[key] is None else pytest.approx(latency[key] / 1000))
    for name, result in found["classes"].items():
        assert told.of("chatproof_class_anomalies", **{"class": name}) == result["count"]
    for gate in found["gates"]:
        assert told.of("chatproof_gate_verdict", gate=gate["id"], verdict=gate["verdict"]) == 1
    counts = {v: told.of("chatproof_gates", verdict=v) for v in ("pass", "fail", "unknown")}
    assert counts == {v: sum(g["verdict"] == v for g in found["gates"]) for v in counts}


def test_a_loss_shows_with_its_class_and_phase() -> None:
    told = Read(metrics_text(analysed(lossy())))
    assert told.of("chatproof_anomalies", kind="lost") == 1
    assert told.of("chatproof_anomalies", kind="duplicated") == 1
    assert told.of("chatproof_class_anomalies", **{"class": "D1"}, gated="true") == 1
    by_phase = [v for own, v in told.samples["chatproof_phase_class_anomalies"] if own["class"] == "D1"]
    assert by_phase == [1]
    assert told.of("chatproof_history_verdict", verdict="invalid") == 1


def test_units_are_base_units() -> None:
    run = analysed(RUNS["under faults"]())
    told = Read(metrics_text(run))
    (soon, many) = (next(r for r in run.results if r.id == name) for name in ("soon", "many"))
    assert told.of("chatproof_gate_limit_seconds", gate="soon") == 0.001
    assert told.of("chatproof_gate_actual_seconds", gate="soon") == pytest.approx((soon.actual or 0) / 1000)
    assert told.of("chatproof_gate_actual_per_second", gate="many") == pytest.approx(many.actual)
    assert told.of("chatproof_load_lag_p99_seconds") == 0.0015
    back = next(r.all_back_s for r in run.recoveries if r.fault == "cut")
    assert told.of("chatproof_fault_recovery_seconds", fault="cut", stage="all_back") == pytest.approx(back)
    assert told.of("chatproof_fault_had_effect", fault="cut", kind="down") == 1
    assert told.of("chatproof_run_start_time_seconds") == 1_714_564_800


def test_latency_by_phase_is_that_of_a_gate_on_the_phase() -> None:
    run = analysed(clean())
    told = Read(metrics_text(run))
    for phase in ("warm-up", "steady"):
        alone = measure(run.history, "delivery", Selection(phase=phase))
        assert run.phase_latency[phase] == alone
        assert told.of("chatproof_phase_delivery_latency_seconds_count", phase=phase) == alone.count
        total = told.of("chatproof_phase_delivery_latency_seconds_sum", phase=phase)
        assert total == pytest.approx((alone.mean_ms or 0) * alone.count / 1000)
    assert told.of("chatproof_phase_delivery_latency_seconds_count", warmup="true")
    rate = told.of("chatproof_phase_rate_per_second", phase="steady", what="deliveries")
    assert rate == pytest.approx(run.deliveries_per_s(), abs=0.001)


def test_names_stay_inside_their_quotes() -> None:
    text = metrics_text(analysed(RUNS["hostile"]()))
    assert not [c for c in text if ord(c) < 32 and c != "\n"]
    shown = 'a\\b"c\n# EOF\\x0d\\x1b[2J\\u202e{x="y"} 1'
    labels = [dict(found) for _, found in read(text)]
    assert all(found["scenario"] == shown for found in labels)
    assert shown in [found.get("fault") for found in labels]
    assert text.count("\n# EOF\n") == 1


def test_of_two_samples_with_the_same_labels_the_first_counts() -> None:
    twice = Family("chatproof_x", "Twice.", [Sample({"a": "1"}, 1), Sample({"a": "1"}, 2)])
    assert document([twice], {}).count("chatproof_x{") == 1
    assert read(document([twice], {"run": "r"})) == {("chatproof_x", (("a", "1"), ("run", "r"))): 1}


def test_what_is_no_number_and_a_family_without_a_sample_are_left_out() -> None:
    nothing = Family("chatproof_x_seconds", "Nothing.", [Sample({}, float("nan"))], "seconds", Type.SUMMARY)
    assert document([nothing], {}) == "# EOF\n"


@pytest.mark.parametrize(
    ("value", "told"),
    [(True, "1"), (3.0, "3"), (0.1 + 0.2, "0.3"), (123456789.125, "123456789"), (1.5e-7, "1.5e-07")],
)
def test_numbers(value: Any, told: str) -> None:
    assert number(value) == told

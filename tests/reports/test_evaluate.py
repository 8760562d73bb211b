"""Every kind of gate, and every metric, seen passing and failing against a run."""

from __future__ import annotations

from typing import Any

import pytest

from reports.evaluate import ClassCount, GateResult, GateVerdict, Measures, evaluate, until_all_back
from reports.gates import parse_gates
from reports.history import History
from reports.latency import by_second
from reports.periods import NS, fault_windows
from reports.recovery import Recovery, recoveries
from reports.sessions import closes, presence, stays
from reports.timeline import timeline
from tests.reports.synthetic import Cut, Slow, Synthetic, fault_lines, in_memory, small

CLEAN = dict.fromkeys(("L2", "L3", "L10", "D1", "D5", "D6"), ClassCount(0))
WORKERS = [
    {"worker": 1, "lag_p50_ms": 0.2, "lag_p99_ms": 1.5, "lag_max_ms": 9.0, "hiccup_p99_ms": 1.0},
    {"worker": 2, "lag_p50_ms": 0.3, "lag_p99_ms": 2.5, "lag_max_ms": 4.0, "hiccup_max_ms": 7.0},
]


@pytest.fixture(scope="module")
def history() -> History:
    return in_memory(
        small(
            cuts=[Cut(4, 5, 1)],
            slows=[Slow(6, 8, 40)],
            faults=[
                *fault_lines("cut-b", "down", 4, 5, target="b"),
                *fault_lines("slow", "latency", 6, 8),
            ],
        )
    )


def measures(history: History, **more: Any) -> Measures:
    stayed = stays(history)
    known: dict[str, Any] = {
        "history": history,
        "classes": CLEAN,
        "recoveries": recoveries(history, closes(history), stayed),
        "intervals": timeline(history, by_second(history), presence(history, stayed)),
        "coverage": {"duplicate_acks": 0, "gaps": 3, "recovered": 2},
        "workers": WORKERS,
    }
    return Measures(**(known | more))


def judged(history: History, *, given: dict[str, Any] | None = None, **gate: Any) -> GateResult:
    (parsed,) = parse_gates({"gate": [{"id": "g"} | gate]}, source="test")
    (result,) = evaluate([parsed], measures(history, **(given or {})))
    return result


CASES = [
    # metric, kind, an expression that holds, one that does not
    ("lost", "integrity", "count == 0", "count > 0"),
    ("duplicated", "integrity", "count <= 0", "count == 1"),
    ("reordered", "integrity", "count < 1", "count >= 1"),
    ("D1", "integrity", "count == 0", "count != 0"),
    ("delivery", "threshold", "p(50) < 20ms", "p(99) < 5ms"),
    ("service", "threshold", "p(50) < 20ms", "max < 20ms"),
    ("replayed", "threshold", "count > 5", "min < 1us"),
    ("ack", "threshold", "mean < 1s", "p(99) < 1ms"),
    ("connect", "threshold", "max < 10ms", "min > 1s"),
    ("resume", "threshold", "count == 8", "count == 0"),
    ("recovery.all_back", "threshold", "max < 1s", "max < 10ms"),
    ("lag", "validity", "p(99) < 5ms", "p(99) < 2ms"),
    ("hiccup", "validity", "max < 10ms", "max < 5ms"),
    ("deliveries_per_s", "threshold", "mean > 100/s", "min > 400/s"),
    ("sends_per_s", "validity", "p(50) > 30/s", "max < 10/s"),
    ("resumes", "validity", "count >= 8", "count > 8"),
    ("duplicate_acks", "validity", "count == 0", "count > 0"),
    ("gaps", "threshold", "count < 4", "count == 0"),
    ("recovered", "validity", "count == 2", "count > 2"),
]


@pytest.mark.parametrize(("metric", "kind", "holds", "fails"), CASES, ids=[case[0] for case in CASES])
def test_a_gate_passes_and_fails(history: History, metric: str, kind: str, holds: str, fails: str) -> None:
    assert judged(history, metric=metric, kind=kind, expr=holds).verdict is GateVerdict.PASS
    failed = judged(history, metric=metric, kind=kind, expr=fails)
    assert failed.verdict is GateVerdict.FAIL
    assert failed.actual is not None


def test_a_result_says_threshold_actual_margin_and_unit(history: History) -> None:
    found = judged(history, metric="lag", kind="validity", expr="p(99) < 5ms")
    assert (found.threshold, found.actual, found.margin, found.unit) == (5.0, 2.5, 2.5, "ms")


def test_lost_counts_in_the_log_and_at_subscribers(history: History) -> None:
    classes = CLEAN | {"L3": ClassCount(2), "D1": ClassCount(3)}
    found = judged(history, metric="lost", kind="integrity", max=4, given={"classes": classes})
    assert (found.actual, found.verdict) == (5, GateVerdict.FAIL)


def test_a_class_that_could_not_be_decided_leaves_its_gate_unknown(history: History) -> None:
    classes = CLEAN | {"D1": ClassCount(0, unknown=True)}
    assert (
        judged(history, metric="lost", kind="integrity", max=0, given={"classes": classes}).verdict
        is GateVerdict.UNKNOWN
    )


def test_but_what_was_found_fails_it_all_the_same(history: History) -> None:
    classes = CLEAN | {"D1": ClassCount(1, unknown=True)}
    assert (
        judged(history, metric="lost", kind="integrity", max=0, given={"classes": classes}).verdict
        is GateVerdict.FAIL
    )


@pytest.mark.parametrize(
    ("metric", "repeats", "verdict", "actual"),
    [
        pytest.param("duplicated", 0, GateVerdict.UNKNOWN, 0, id="what was judged holds"),
        pytest.param("duplicated", 1, GateVerdict.FAIL, 1, id="what was judged does not"),
        pytest.param("L2", 0, GateVerdict.UNKNOWN, None, id="nothing of it was judged"),
    ],
)
def test_a_gate_does_not_hold_for_what_is_not_promised(
    history: History, metric: str, repeats: int, verdict: GateVerdict, actual: float | None
) -> None:
    classes = CLEAN | {"L2": ClassCount(0, promised=False), "D5": ClassCount(repeats)}
    found = judged(history, metric=metric, kind="integrity", max=0, given={"classes": classes})
    assert (found.verdict, found.actual) == (verdict, actual)
    if verdict is GateVerdict.UNKNOWN:
        assert found.why == "L2 not judged: this server does not promise it"


def test_a_class_that_is_not_checked_fails_its_gate(history: History) -> None:
    found = judged(history, metric="L11", kind="integrity", max=0)
    assert (found.verdict, found.actual) == (GateVerdict.FAIL, None)
    assert found.why == "this class was not checked: a missing metric fails its gate"


MISSING = [
    ("delivery", "p(99) < 50ms"),
    ("resume", "max < 5s"),
    ("recovery.all_back", "max < 5s"),
    ("deliveries_per_s", "mean < 5/s"),
    ("lag", "p(99) < 5ms"),
    ("gaps", "count == 0"),
]


@pytest.mark.parametrize(("metric", "expr"), MISSING, ids=[metric for metric, _ in MISSING])
def test_a_metric_without_a_sample_fails_its_gate(metric: str, expr: str) -> None:
    empty = in_memory(Synthetic(bare=True))
    found = judged(empty, metric=metric, kind="threshold", expr=expr, given={"workers": [], "coverage": {}})
    assert found.verdict is GateVerdict.FAIL
    assert "a missing metric fails its gate" in found.why


def test_but_a_count_of_samples_may_be_zero() -> None:
    empty = in_memory(Synthetic(bare=True))
    assert judged(empty, metric="resumes", kind="threshold", expr="count == 0").verdict is GateVerdict.PASS


def test_a_phase_narrows_a_latency_and_a_rate(history: History) -> None:
    whole = judged(history, metric="delivery", kind="threshold", expr="count > 0")
    warm = judged(history, metric="delivery", kind="threshold", expr="count > 0", phase="warm-up")
    assert whole.actual is not None
    assert warm.actual is not None
    assert 0 < warm.actual < whole.actual
    rate = judged(history, metric="sends_per_s", kind="threshold", expr="mean > 0/s", phase="warm-up")
    assert rate.actual is not None


@pytest.mark.parametrize("metric", ["delivery", "deliveries_per_s"])
def test_a_phase_that_the_run_lacks_fails_the_gate(history: History, metric: str) -> None:
    unit = "ms" if metric == "delivery" else "/s"
    found = judged(history, metric=metric, kind="threshold", expr=f"max < 1{unit}", phase="peak")
    assert found.verdict is GateVerdict.FAIL
    assert "phase is 'peak': the run's phases are warm-up, steady" in found.why


def test_deliveries_outside_of_all_faults_are_faster_than_those_inside(history: History) -> None:
    calm = judged(history, metric="delivery", kind="threshold", expr="p(50) < 15ms", where={"fault": "none"})
    slow = judged(history, metric="delivery", kind="threshold", expr="p(50) < 15ms", where={"fault": "slow"})
    assert (calm.verdict, slow.verdict) == (GateVerdict.PASS, GateVerdict.FAIL)


def test_a_fault_lasts_until_those_whom_it_cut_off_are_back(history: History) -> None:
    cut = next(r for r in measures(history).recoveries if r.fault == "cut-b")
    plain = {w.id: w for w in fault_windows(history.faults)}
    longer = {w.id: w for w in until_all_back(plain.values(), [cut])}
    assert cut.all_back_s
    assert longer["cut-b"].reverted_ns == plain["cut-b"].reverted_ns + round(cut.all_back_s * NS)  # type: ignore[operator]
    assert longer["slow"] == plain["slow"]
    calm = judged(history, metric="delivery", kind="threshold", expr="max < 65ms", where={"fault": "none"})
    assert calm.verdict is GateVerdict.PASS, calm  # though publishers came back up to a second later


def test_who_never_came_back_fails_a_recovery_gate_without_a_figure(history: History) -> None:
    lost = Recovery(fault="cut", cut_off=2, subscriptions=4, never_back=1, all_back_s=None, replayed=0)
    found = judged(
        history, metric="recovery.all_back", kind="threshold", expr="max < 5s", given={"recoveries": [lost]}
    )
    assert (found.verdict, found.actual) == (GateVerdict.FAIL, None)
    assert found.why == "subscriptions that never came back: 1 after cut"

"""The verdict: what makes a history invalid or unknown, a run void, and which exit counts."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from reports.effects import FaultEffect
from reports.evaluate import GateResult, GateVerdict
from reports.gates import parse_gates
from reports.verdict import (
    PRECEDENCE,
    ClassVerdict,
    Exit,
    Judgement,
    idle_faults,
    judge,
    lag_limit_ms,
    void_reasons,
    worst,
)
from tests.reports.synthetic import exit_line


def result(kind: str = "threshold", verdict: GateVerdict = GateVerdict.PASS, **more: Any) -> GateResult:
    known: dict[str, Any] = {
        "id": "p99",
        "kind": kind,
        "metric": "delivery",
        "condition": "p(99) < 50ms",
        "phase": "all",
        "where": {},
        "verdict": verdict,
        "threshold": 50.0,
        "actual": 72.5,
        "margin": -22.5,
        "unit": "ms",
    }
    return GateResult(**(known | more))


FAILED = result(verdict=GateVerdict.FAIL)
GAP = ClassVerdict(name="D1", title="delivery-gap", count=3, gated=True)


def decide(**more: Any) -> Judgement:
    known: dict[str, Any] = {
        "checked": "valid",
        "check_reasons": [],
        "classes": [],
        "idle": [],
        "results": [],
        "void": [],
        "deliveries": 12_000,
        "acked": 3_000,
    }
    return judge(**(known | more))


@pytest.mark.parametrize(
    ("given", "verdict", "code", "word"),
    [
        pytest.param({}, "valid", Exit.PASS, "pass", id="nothing wrong"),
        pytest.param({"classes": [GAP]}, "invalid", Exit.INTEGRITY, "invalid", id="a gated class"),
        pytest.param({"checked": "invalid"}, "invalid", Exit.INTEGRITY, "invalid", id="the checks say so"),
        pytest.param(
            {"classes": [ClassVerdict(name="D5", title="x", count=3, gated=False)]},
            "valid",
            Exit.PASS,
            "pass",
            id="a class that is not gated",
        ),
        pytest.param(
            {"results": [result("integrity", GateVerdict.FAIL)]},
            "valid",
            Exit.INTEGRITY,
            "integrity gate failed",
            id="an integrity gate",
        ),
        pytest.param({"results": [FAILED]}, "valid", Exit.GATE, "gate failed", id="a threshold gate"),
        pytest.param(
            {"results": [result("validity", GateVerdict.FAIL)]},
            "valid",
            Exit.VOID,
            "void",
            id="a validity gate",
        ),
        pytest.param({"void": ["worker 1 was late"]}, "valid", Exit.VOID, "void", id="void"),
        pytest.param({"idle": ["fault f did nothing"]}, "unknown", Exit.UNKNOWN, "unknown", id="idle fault"),
        pytest.param({"checked": "unknown"}, "unknown", Exit.UNKNOWN, "unknown", id="the checks do not know"),
        pytest.param(
            {"results": [result("integrity", GateVerdict.UNKNOWN, why="not decided")]},
            "valid",
            Exit.UNKNOWN,
            "unknown",
            id="a gate is undecided",
        ),
        pytest.param(
            {"classes": [GAP], "void": ["late"], "results": [FAILED], "idle": ["f"]},
            "invalid",
            Exit.INTEGRITY,
            "invalid",
            id="all at once: integrity",
        ),
        pytest.param(
            {"void": ["late"], "results": [FAILED], "idle": ["f"]},
            "unknown",
            Exit.VOID,
            "void",
            id="void before a gate",
        ),
        pytest.param(
            {"results": [FAILED], "idle": ["f"]},
            "unknown",
            Exit.GATE,
            "gate failed",
            id="a gate before unknown",
        ),
    ],
)
def test_the_verdict(given: dict[str, Any], verdict: str, code: Exit, word: str) -> None:
    found = decide(**given)
    assert (found.verdict, found.exit, found.word) == (verdict, code, word)
    assert found.sentence.endswith(".")
    assert "\n" not in found.sentence


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        pytest.param(
            {"results": [result(), result()]},
            "All 3,000 acknowledged messages and 12,000 deliveries are accounted for: "
            "none lost, duplicated or reordered; all 2 gates hold.",
            id="pass",
        ),
        pytest.param(
            {"unjudged": ["duplicated"]},
            "All 3,000 acknowledged messages and 12,000 deliveries are accounted for: "
            "none lost or reordered; this server does not promise that none is duplicated; no gate was set.",
            id="pass, where not all is promised",
        ),
        pytest.param({"classes": [GAP]}, "The contract was broken: D1 delivery-gap × 3.", id="invalid"),
        pytest.param(
            {"results": [FAILED, result()]},
            "1 of 2 gates failed: p99: delivery p(99) is 72.5 ms, must be < 50.0 ms.",
            id="gate",
        ),
        pytest.param(
            {"void": ["worker 1 ran late", "another"]},
            "Worker 1 ran late; and 1 more reason.",
            id="void",
        ),
        pytest.param(
            {"void": ["ws://h:1/ws could not be reached", "another"]},
            "ws://h:1/ws could not be reached; and 1 more reason.",
            id="an address stays as it is",
        ),
        pytest.param({"idle": ["fault f did nothing"]}, "Fault f did nothing.", id="unknown"),
    ],
)
def test_one_sentence_says_why(given: dict[str, Any], sentence: str) -> None:
    assert decide(**given).sentence.replace("\u00a0", " ") == sentence


def test_of_any_two_exits_the_one_that_comes_first_counts() -> None:
    assert [int(e) for e in PRECEDENCE] == [70, 2, 3, 5, 1, 4, 0]
    for first, second in combinations(PRECEDENCE, 2):
        assert worst([second, first]) is first
    assert worst([]) is Exit.PASS


# ── void ──────────────────────────────────────────────────────────────────────────────────


def voided(**more: Any) -> list[str]:
    known: dict[str, Any] = {
        "run": {"status": "complete"},
        "log_faults": [],
        "lost_records": 0,
        "workers": [{"worker": 1, "lag_p99_ms": 4.9}],
        "faults": [],
        "gates": [],
    }
    run = known.pop("run") | more.pop("run", {})
    return [r.replace("\u00a0", " ") for r in void_reasons(run, **(known | more))]


def test_a_run_with_a_harness_as_it_should_be_is_not_void() -> None:
    assert voided() == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        pytest.param({"run": {"void": ["the host slept"]}}, "the host slept", id="the run says so"),
        pytest.param(
            {"run": {"void": True, "problems": ["worker 2 lost"]}}, "worker 2 lost", id="with its problems"
        ),
        pytest.param(
            {"run": {"status": "aborted"}}, "the run was aborted: what it shows is partial", id="aborted"
        ),
        pytest.param({"run": {"status": "running"}}, "it never came to its end", id="never ended"),
        pytest.param({"log_faults": ["worker 2 left no log"]}, "worker 2 left no log", id="missing log"),
        pytest.param({"lost_records": 7}, "7 records could not be written", id="LOST_LOG"),
        pytest.param({"workers": [{"worker": 3, "lag_p99_ms": 5.1}]}, "worker 3 ran late", id="lag"),
        pytest.param(
            {"run": {"clock": {"workers": {"1": {"readings": [[0, 7, 5_100_000]]}}}}},
            "the clocks of the load's hosts are known to ± 5.10 ms only, of 5.00 ms that are allowed",
            id="clocks",
        ),
        pytest.param(
            {"faults": [exit_line("", 4, process="proxy", role="harness", planned=False)]},
            "proxy, a process of the harness, ended by itself (SIGKILL)",
            id="a harness process died",
        ),
    ],
)
def test_a_run_is_void_when(given: dict[str, Any], told: str) -> None:
    (reason,) = voided(**given)
    assert told in reason


def test_clocks_that_are_known_well_enough_void_nothing() -> None:
    assert voided(run={"clock": {"workers": {"1": {"readings": [[0, 7, 4_900_000]]}}}}) == []


def test_problems_alone_do_not_make_a_run_void() -> None:
    assert voided(run={"problems": ["settling took the whole deadline"]}) == []


def test_an_exit_of_the_target_or_a_planned_one_does_not_make_a_run_void() -> None:
    lines = [
        exit_line("", 4, role="target", planned=False),
        exit_line("", 4, process="proxy", role="harness", planned=True),
    ]
    assert voided(faults=lines) == []


def test_the_lag_that_is_allowed_follows_the_tightest_latency_gate() -> None:
    table = {"id": "g", "kind": "threshold", "metric": "delivery", "expr": "p(99) < 200ms"}
    gates = parse_gates({"gate": [table]}, source="s")
    assert lag_limit_ms([]) == 5
    assert lag_limit_ms(gates) == 20
    assert voided(gates=gates, workers=[{"worker": 1, "lag_p99_ms": 19.0}]) == []


# ── idle faults ───────────────────────────────────────────────────────────────────────────


def fault(*, had: bool, applied: float | None = 4.0) -> FaultEffect:
    return FaultEffect(
        id="f",
        kind="down",
        target="b",
        planned_s=4.0,
        applied_s=applied,
        reverted_s=None,
        had_effect=had,
        why_not="" if had else "nothing closed",
    )


def test_a_fault_without_an_effect_is_a_reason() -> None:
    assert idle_faults([fault(had=True)], aborted=False) == []
    assert idle_faults([fault(had=False)], aborted=False) == [
        "fault f (down) had no measured effect: nothing closed"
    ]


def test_after_an_abort_faults_that_never_came_to_be_are_no_reason() -> None:
    assert idle_faults([fault(had=False, applied=None)], aborted=True) == []
    assert len(idle_faults([fault(had=False)], aborted=True)) == 1

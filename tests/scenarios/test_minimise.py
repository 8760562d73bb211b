"""Minimising a failed run, with runs that are answered at once: what is rerun, counted, written and said."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from reports.pipeline import Outcome
from scenarios.minimise import (
    Failed,
    Minimised,
    NothingToMinimise,
    Trial,
    closing,
    minimise,
    read_failed,
    write,
)
from scenarios.model import Scenario, load
from scenarios.run import Ran

TABLES: dict[str, Any] = {
    "version": 1,
    "why": "Which of these faults does it take?",
    "workload": {
        "clients": 4,
        "channels": 2,
        "phase": [{"name": "p", "duration_s": 30.0, "publish_per_s": 5.0}],
    },
    "fault": [
        {"id": f"f{n}", "kind": "down", "target": "a", "at_s": 2.0 * n, "duration_s": 2.0} for n in range(5)
    ],
    "gate": [{"id": "g", "kind": "threshold", "metric": "delivery", "expr": "p(99) < 1s",
              "where": {"fault": "f4"}}],
}  # fmt: skip
FAILED = Failed("planted", TABLES, ("L2",))
Seen = Callable[[set[str], float], bool]


def trial(seen: Seen, *, budget: int = 50, repeat: int = 1, interrupt_at: int = 0) -> Trial:
    runs = iter(range(1, 1000))

    def run(scenario: Scenario) -> Ran:
        faults = {spec.common.id: spec.common.duration_s for spec in scenario.faults.faults}
        count = int(seen(set(faults), min(faults.values(), default=0.0)))
        summary = {"classes": {"L2": {"count": count}, "D1": {"count": 0}}}
        outcome = Outcome(verdict="", void=[], exit=0, summary=summary, sentence="", report=Path())
        return Ran(Path(), outcome, interrupted=next(runs) == interrupt_at)

    return Trial(FAILED, run, lambda text: None, budget, repeat)


def both(ids: set[str], shortest_s: float) -> bool:
    return ids >= {"f1", "f3"} and shortest_s >= 0.6


def test_two_of_five_faults_are_left_with_the_shortest_leases_that_still_show_it():
    asked = trial(both)
    found = minimise(FAILED, asked)
    assert found is not None
    assert [(fault["id"], fault["duration_s"]) for fault in found.faults] == [("f1", 1.0), ("f3", 1.0)]
    assert found.whole
    assert (found.shown, found.tried) == (2, 2)
    assert found.runs == asked.runs < 25
    assert "2 of 5 faults show L2" in closing(FAILED, found, asked)
    assert "showed it in 2 of 2 runs" in closing(FAILED, found, asked)


def test_what_needs_no_fault_says_so():
    asked = trial(lambda ids, shortest_s: True)
    found = minimise(FAILED, asked)
    assert found is not None
    assert (found.faults, found.whole) == ((), True)
    assert "L2 is shown without any fault" in closing(FAILED, found, asked)


def test_a_budget_ends_the_search_with_the_smallest_so_far_and_says_that_it_is_not_over():
    asked = trial(both, budget=7)
    found = minimise(FAILED, asked)
    assert found is not None
    assert {fault["id"] for fault in found.faults} >= {"f1", "f3"}
    assert (found.whole, asked.runs) == (False, 7)
    assert "not over after 7 runs: try a higher --budget" in closing(FAILED, found, asked)


def test_a_failure_that_does_not_come_again_is_no_result():
    asked = trial(lambda ids, shortest_s: False, repeat=3)
    assert minimise(FAILED, asked) is None
    assert asked.runs == 3
    assert "was not shown again in 3 runs of the whole plan" in closing(FAILED, None, asked)


def test_a_flaky_failure_is_asked_for_as_often_as_told_and_is_called_flaky():
    turns = iter([True, *[False, True] * 500])

    def every_other(ids: set[str], shortest_s: float) -> bool:
        return both(ids, shortest_s) and next(turns)

    asked = trial(every_other, repeat=2, budget=200)
    found = minimise(FAILED, asked)
    assert found is not None
    assert {fault["id"] for fault in found.faults} == {"f1", "f3"}
    assert 0 < found.shown < found.tried
    assert "so it is flaky" in closing(FAILED, found, asked)


def test_a_signal_ends_the_search():
    asked = trial(both, interrupt_at=4)
    found = minimise(FAILED, asked)
    assert found is not None
    assert (asked.runs, asked.interrupted, found.whole) == (4, True, False)


def test_the_smallest_plan_is_a_scenario_that_can_be_run(tmp_path: Path):
    found = Minimised(FAILED.faults[1:2], True, 9, 2, 2)
    write(FAILED, found, tmp_path / "minimal.toml")
    scenario = load(tmp_path / "minimal.toml")
    assert [spec.common.id for spec in scenario.faults.faults] == ["f1"]
    assert scenario.gates == ()  # one of them asked for a fault that is gone
    assert "chatproof run" in closing(FAILED, found, trial(both))


def run_dir(tmp_path: Path, **classes: tuple[int, bool]) -> Path:
    (tmp_path / "analysis").mkdir()
    (tmp_path / "config").mkdir()
    told = {name: {"count": count, "gated": gated} for name, (count, gated) in classes.items()}
    (tmp_path / "analysis/summary.json").write_text(json.dumps({"scenario": "planted", "classes": told}))
    (tmp_path / "config/scenario.toml").write_text(tomli_w.dumps(TABLES))
    return tmp_path


def test_the_classes_that_are_looked_for_are_those_of_the_run_that_are_gated(tmp_path: Path):
    path = run_dir(tmp_path, L2=(3, True), L2x=(1, False), D1=(0, True))
    failed = read_failed(path)
    assert (failed.name, failed.classes) == ("planted", ("L2",))
    assert failed.tables == tomllib.loads(tomli_w.dumps(TABLES))
    assert read_failed(path, classes=["L2x"]).classes == ("L2x",)


@pytest.mark.parametrize(
    ("classes", "why"),
    [
        pytest.param((), "did not show an anomaly of a class that is gated", id="nothing wrong"),
        pytest.param(("D1",), "did not show D1", id="a class that was not shown"),
        pytest.param(("Z9",), "class is Z9: must be of L1, ", id="a class that is none"),
    ],
)
def test_a_run_that_has_nothing_to_look_for_is_refused(tmp_path: Path, classes: tuple[str, ...], why: str):
    with pytest.raises(NothingToMinimise, match=why):
        read_failed(run_dir(tmp_path, D1=(0, True), L2x=(1, False)), classes=classes)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(NothingToMinimise, match="no run that was judged"):
        read_failed(tmp_path)

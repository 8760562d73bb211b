"""Every gate of every bundled scenario is seen to fail, alone, and to hold.

A gate that never failed proves nothing. To add a gate to a bundled scenario, add its run to
``SPOILED`` of ``tests.scenarios.gate_runs`` or of one of those beside it.
"""

from __future__ import annotations

import pytest

from reports.checks import run_checks
from reports.evaluate import GateVerdict
from reports.pipeline import analyse
from scenarios.model import bundled_files, find, load
from tests.scenarios import gate_runs, load_runs, node_runs, size_runs
from tests.scenarios.gate_runs import Run

WORKER = {"worker": 1, "lag_p99_ms": 1.0, "lag_p50_ms": 0.2, "hiccup_p99_ms": 1.0, "hiccup_max_ms": 2.0}
BASES = {**gate_runs.BASES, **load_runs.BASES, **node_runs.BASES, **size_runs.BASES}
SPOILED = {**gate_runs.SPOILED, **load_runs.SPOILED, **node_runs.SPOILED, **size_runs.SPOILED}
GATES = [(path.stem, gate.id) for path in bundled_files() for gate in load(path).gates]


def failing(scenario: str, run: Run) -> dict[str, str]:
    """Gates of a scenario that do not hold in a run, and why."""
    history = run.history()
    analysis = analyse(
        history,
        run_checks(history),
        load(find(scenario)).gates,
        workers=[WORKER | run.counters],
        samples=run.samples,
    )
    return {
        result.id: f"{result.condition}: {result.actual} {result.unit} {result.why}"
        for result in analysis.results
        if result.verdict is not GateVerdict.PASS
    }


@pytest.mark.parametrize("scenario", [path.stem for path in bundled_files()])
def test_all_gates_of_a_scenario_can_hold_together(scenario: str) -> None:
    assert scenario in BASES, f"add a run of {scenario} to tests/scenarios/gate_runs.py"
    assert failing(scenario, BASES[scenario]()) == {}


@pytest.mark.parametrize(("scenario", "gate"), GATES, ids=[f"{name}-{gate}" for name, gate in GATES])
def test_every_gate_has_a_run_in_which_it_fails_and_no_other_does(scenario: str, gate: str) -> None:
    assert (scenario, gate) in SPOILED, f"add a run that fails {gate!r} to tests/scenarios/gate_runs.py"
    assert failing(scenario, SPOILED[scenario, gate]()).keys() == {gate}


def test_no_run_is_kept_for_a_gate_that_is_gone() -> None:
    assert set(SPOILED) == set(GATES)
    assert set(BASES) == {path.stem for path in bundled_files()}

"""A soak: a run for each seed, what is told of it, and what all come to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reports.pipeline import Outcome
from reports.verdict import Exit
from scenarios.model import Scenario, ScenarioError
from scenarios.run import Ran
from scenarios.soak import Row, closing, line, soak, status, write


def ran(scenario: Scenario, *, exit: Exit = Exit.PASS, interrupted: bool = False) -> Ran:
    faults = [
        {"id": spec.common.id, "kind": spec.common.kind, "planned_s": spec.common.at_s}
        for spec in reversed(scenario.faults.faults)
    ]
    summary: dict[str, Any] = {
        "faults": faults, "outcome": exit.name.lower(), "exit": int(exit),
        "coverage": {"acked": 1000 + scenario.seed, "delivered": 12_000, "resumed": 60},
    }  # fmt: skip
    outcome = Outcome(
        verdict="valid",
        void=[],
        exit=int(exit),
        summary=summary,
        sentence="Worker 1 ran late.",
        report=Path(),
    )
    return Ran(Path(f"runs/{scenario.seed}"), outcome, interrupted)


def test_each_seed_is_a_run_of_its_own_with_its_own_faults():
    told: list[str] = []
    rows, interrupted = soak("swarm", range(1, 4), ran, told.append)
    assert [row.seed for row in rows] == [1, 2, 3]
    assert len({row.kinds for row in rows}) == 3
    assert all(row.passed for row in rows)
    assert not interrupted
    assert len(told) == 4  # a head, and a line each as it is done


def test_any_scenario_can_be_soaked_with_drawn_faults():
    rows, _ = soak("reconnect_storm", [5], ran, lambda text: None)
    assert rows[0].kinds != ("latency", "down", "down", "kill")


def test_a_signal_ends_it_with_what_there_is():
    def run(scenario: Scenario) -> Ran:
        return ran(scenario, interrupted=scenario.seed == 2)

    rows, interrupted = soak("swarm", range(1, 9), run, lambda text: None)
    assert ([row.seed for row in rows], interrupted) == ([1], True)


def test_an_unknown_scenario_is_refused_before_anything_runs():
    with pytest.raises(ScenarioError):
        soak("swram", [1], ran, lambda text: None)


def row(seed: int, exit: Exit, *kinds: str) -> Row:
    return Row(
        seed=seed, kinds=kinds, outcome="void" if exit is Exit.VOID else "pass", exit=exit, acked=1000,
        delivered=12_000, resumed=60, took_s=30.5, sentence="Worker 1 ran late.", run="runs/x",
    )  # fmt: skip


def test_a_void_run_is_told_with_its_reason_and_is_no_pass():
    rows = [row(1, Exit.PASS, "kill", "latency"), row(2, Exit.VOID, "kill")]
    assert line(rows[0]).endswith("30.5 s  kill, latency")
    assert "Worker 1 ran late." in line(rows[1])
    assert "runs/x" in line(rows[1])
    end = closing(rows)
    assert "1 of 2 seeds pass: 1 pass, 1 void" in end
    assert "2,000 messages acked, 24,000 deliveries, 120 resumes" in end
    assert "latency 1" in end
    assert "kill 2" in end
    assert "never drawn: bandwidth" in end
    assert status(rows) is Exit.VOID


def test_the_worst_seed_decides():
    assert status([row(1, Exit.PASS), row(2, Exit.VOID), row(3, Exit.INTEGRITY)]) is Exit.INTEGRITY
    assert status([row(1, Exit.PASS)]) is Exit.PASS


def test_rows_are_kept(tmp_path: Path):
    path = write(tmp_path, [row(1, Exit.PASS, "kill")])
    assert json.loads(path.read_text())[0]["kinds"] == ["kill"]

"""The oracle shares nothing with the checker, and a disagreement is really told."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from reports.history import Kind
from tests.oracle import agreement
from tests.oracle.agreement import disagreements
from tests.oracle.fuzz import case, compare
from tests.oracle.judge import judge
from tests.reports.checks.twins import TWINS
from tests.simulator.simulate import simulate

COMPARING = {"agreement.py", "fuzz.py"}  # they ask both
MODULES = [
    path
    for path in sorted(Path(__file__).parent.glob("*.py"))
    if path.name not in COMPARING and not path.name.startswith("test_")
]


def imported(path: Path) -> set[str]:
    """All modules that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import hides what it imports"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", MODULES, ids=[path.stem for path in MODULES])
def test_the_oracle_shares_no_code_with_the_checker(path: Path) -> None:
    ours = {name for name in imported(path) if name.split(".")[0] in ("reports", "chatd", "loadgen", "chaos")}
    assert ours <= {"reports.history"}
    assert not imported(path) & {"numpy", "polars"}


def test_the_modules_of_the_oracle_are_the_ones_looked_at() -> None:
    assert {"log", "epochs", "delivery", "owed", "windows", "outcomes", "liveness", "judge"} <= {
        path.stem for path in MODULES
    }


def test_a_disagreement_is_told_with_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "judge", lambda history: judge(history) | {"D5": 3})
    (told,) = compare(iter([case(simulate(3), 0)]))
    assert told.startswith("seed 3, edit 0: D5: checker 0, oracle 3")
    assert "--replay 3 0" in told


def test_a_check_that_breaks_is_no_agreement(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("reports.checks.delivery_order.earliest_of", broken)
    assert disagreements(TWINS["D5"].bad().history())["D5"] == (-1, 1)


def test_damage_leaves_the_story_as_it_is_and_times_in_order() -> None:
    simulated = simulate(11)
    before = {worker: list(log) for worker, log in simulated.story.logs.items()}
    changed = 0
    for edit in range(1, 60):
        damaged = case(simulated, edit)
        changed += damaged.story.logs != before
        assert damaged.story.logs == case(simulated, edit).story.logs
        for log in damaged.story.logs.values():
            assert [row[0] for row in log] == sorted(row[0] for row in log)
            for row in log:
                assert row[8] not in (Kind.SEND,) or row[2] == row[4]
    assert simulated.story.logs == before
    assert changed > 40

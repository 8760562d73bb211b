"""The checker and the oracle agree: on twins, on Hypothesis' histories, on simulated and on damaged ones."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from tests.oracle.agreement import disagreements
from tests.oracle.fuzz import case, cases, compare
from tests.oracle.judge import judge
from tests.reports.checks.twins import TWINS
from tests.scenes import Scene
from tests.simulator.simulate import simulate
from tests.strategies import PLANTS, Stage, clean_scenes, finished, stages

FEW = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@pytest.mark.parametrize("cls", TWINS)
def test_the_oracle_tells_a_bad_history_from_its_legal_twin(cls: str) -> None:
    twin = TWINS[cls]
    bad = {name: count for name, count in judge(twin.bad().history()).items() if count}
    assert bad.pop(cls) == twin.count
    assert bad.keys() <= twin.also
    legal = {name for name, count in judge(twin.legal().history()).items() if count}
    assert legal == set()


@pytest.mark.parametrize("cls", TWINS)
def test_they_agree_on_the_golden_twins(cls: str) -> None:
    assert disagreements(TWINS[cls].bad().history()) == {}
    assert disagreements(TWINS[cls].legal().history()) == {}


@settings(FEW, max_examples=100)
@given(clean_scenes())
def test_they_agree_on_clean_scenes(scene: Scene) -> None:
    assert disagreements(scene.history()) == {}


@pytest.mark.parametrize("name", PLANTS)
def test_they_agree_on_planted_faults(name: str) -> None:
    cls, plant = PLANTS[name]

    @FEW
    @given(stages(plant=plant))
    def agree(stage: Stage) -> None:
        history = finished(stage).history()
        assert judge(history)[cls] > 0
        assert disagreements(history) == {}

    agree()


@pytest.mark.parametrize(
    "first", [pytest.param(n, id=f"seeds {n} to {n + 199}") for n in range(0, 1000, 200)]
)
def test_they_agree_on_simulated_histories(first: int) -> None:
    assert compare(case(simulate(seed), 0) for seed in range(first, first + 200)) == []


@pytest.mark.parametrize(
    "first", [pytest.param(n, id=f"seeds {n} to {n + 29}") for n in range(5000, 5120, 30)]
)
def test_they_agree_on_histories_damaged_at_random(first: int) -> None:
    assert compare(cases(first, first + 30, edits=4)) == []

"""The search for a limit on systems whose limit is known, and what is read off it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.capacity import (
    BRACKET,
    Ending,
    Held,
    Search,
    Trial,
    bracket,
    critical_rate,
    ladder,
    slope,
)

PER_LOAD = 1000.0  # deliveries/s at load 1


def trial(load: float, held: Held = Held.YES, *, p99_ms: float = 1.0) -> Trial:
    return Trial(load=load, held=held, deliveries_per_s=load * PER_LOAD, connections=100, p99_ms=p99_ms)


def searched(holds: Callable[[float], Held], **how: float) -> Search:
    search = Search(**how)  # type: ignore[arg-type]
    while (load := search.next_load()) is not None:
        search.tell(trial(load, holds(load)))
    return search


@given(st.floats(1.0, 60.0))
def test_a_limit_is_bracketed_to_five_percent_wherever_it_is(limit: float) -> None:
    search = searched(lambda load: Held.YES if load <= limit else Held.NO)
    assert search.ending is Ending.BRACKETED
    low, high = search.highest, search.lowest_failed
    assert low is not None
    assert high is not None
    assert low <= limit < high <= low * (1 + BRACKET)
    found = bracket(search)
    assert (found.holds_at, found.fails_at) == (low * PER_LOAD, high * PER_LOAD)
    assert found.width == pytest.approx(high / low - 1)


@given(st.floats(1.0, 60.0), st.integers(0, 2**16))
def test_one_wrong_trial_in_ten_moves_the_limit_but_little(limit: float, seed: int) -> None:
    rng = np.random.default_rng(seed)

    def flaky(load: float) -> Held:
        right = load <= limit
        return Held.YES if right == (rng.random() > 0.1) else Held.NO

    search = searched(flaky)
    assert search.ending in (Ending.BRACKETED, Ending.NEVER_HELD, Ending.BUDGET, Ending.NEVER_FAILED)
    assert len(search.trials) <= search.budget


def test_a_system_without_a_limit_is_not_given_one() -> None:
    search = searched(lambda _: Held.YES, cap=10.0)
    assert search.ending is Ending.NEVER_FAILED
    assert search.highest == 10.0
    assert bracket(search).fails_at is None
    assert bracket(search).width is None


def test_a_limit_of_the_generator_is_not_called_one_of_the_system() -> None:
    search = searched(lambda load: Held.YES if load < 5 else Held.GENERATOR)
    assert search.ending is Ending.GENERATOR
    assert searched(lambda _: Held.GENERATOR).ending is Ending.GENERATOR


def test_a_load_that_never_held_ends_the_search_at_once() -> None:
    search = searched(lambda _: Held.NO)
    assert search.ending is Ending.NEVER_HELD
    assert len(search.trials) == 2
    assert bracket(search).holds_at is None


def test_the_budget_ends_it() -> None:
    search = searched(lambda load: Held.YES if load < 50 else Held.NO, budget=5)
    assert search.ending is Ending.BUDGET
    assert len(search.trials) == 5


def test_two_of_three_trials_decide() -> None:
    search = Search()
    for held in (Held.NO, Held.YES):
        assert search.next_load() == 1.0
        search.tell(trial(1.0, held))
    assert search.decided(1.0) is None
    search.tell(trial(1.0, Held.YES))
    assert search.decided(1.0) is Held.YES
    assert search.next_load() == 1.5


def test_three_trials_that_all_differ_do_not_hold() -> None:
    search = Search()
    for held in Held:
        search.tell(trial(1.0, held))
    assert search.decided(1.0) is Held.NO


# What is read off ----------------------------------------------------------------------------------------


def test_each_limit_of_the_ladder_has_its_bracket() -> None:
    made = [trial(load, p99_ms=load * 10) for load in (1, 2, 3, 6, 8, 12)]
    steps = ladder(made)
    assert {limit: (step.holds_at, step.fails_at) for limit, step in steps.items()} == {
        10.0: (1000, 2000), 25.0: (2000, 3000), 50.0: (3000, 6000), 75.0: (6000, 8000), 100.0: (8000, 12000),
    }  # fmt: skip
    assert critical_rate(steps) == pytest.approx(np.prod([1, 2, 3, 6, 8]) ** (1 / 5) * 1000)


def test_a_rate_above_one_that_failed_does_not_hold_a_limit() -> None:
    steps = ladder([trial(1, p99_ms=5), trial(2, p99_ms=30), trial(3, p99_ms=5)])
    assert steps[10.0].holds_at == 1000


def test_a_void_trial_is_no_step_of_the_ladder() -> None:
    assert ladder([trial(1, Held.GENERATOR, p99_ms=500)])[100.0].fails_at is None


def test_there_is_no_critical_rate_where_a_limit_was_never_held() -> None:
    assert critical_rate(ladder([trial(1, p99_ms=20)])) is None


def test_a_slope_is_found_under_an_outlier_and_its_interval_holds_it() -> None:
    points = [(x * 1000.0, 0.1 + x * 0.02) for x in range(1, 9)] + [(4500.0, 3.0)]
    found = slope(points)
    assert found is not None
    assert found.per_unit == pytest.approx(2e-5, rel=0.05)
    assert found.low <= 2e-5 <= found.high
    assert found.at(8000) == pytest.approx(0.26, rel=0.1)


@pytest.mark.parametrize("odd", [5.0, 9.0])
def test_a_resource_that_hardly_moves_has_an_interval_all_the_same(odd: float) -> None:
    found = slope([(float(x), 5.0) for x in range(30)] + [(30.0, odd)])
    assert found is not None
    assert (found.per_unit, found.at_zero) == (0.0, 5.0)
    assert found.low <= 0.0 <= found.high


def test_nothing_is_said_far_above_what_was_measured() -> None:
    found = slope([(1000, 1.0), (2000, 2.0), (3000, 3.0)])
    assert found is not None
    assert found.at(4500) == pytest.approx(4.5)
    with pytest.raises(ValueError, match=r"more than 1\.5 times the highest measured load, 3,000"):
        found.at(4600)


@pytest.mark.parametrize(
    "points", [[], [(1, 1.0)], [(1, 1.0), (2, None), (3, None)], [(1, 1.0), (1, 2.0), (2, 3.0)]]
)
def test_too_few_loads_have_no_slope(points: list[tuple[float, float | None]]) -> None:
    assert slope(points) is None

"""The regression test itself, tested: false alarms, power, and the rules at their edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from reports.regression import Limits, Outcome, compare, permutation_p

TENTH = Limits(max_increase=0.10)
figures = st.lists(st.integers(50, 200).map(lambda hundredths: hundredths / 100), min_size=3, max_size=5)

integers = st.lists(st.integers(-9, 9), min_size=3, max_size=5)


def noisy(rng: np.random.Generator, centre: float, pairs: int, sd: float = 0.05) -> list[float]:
    """Figures of runs whose logarithms have that standard deviation."""
    return [float(x) for x in centre * np.exp(rng.normal(0, sd, pairs))]


def test_equal_sides_are_called_worse_in_less_than_two_percent_of_cases() -> None:
    rng = np.random.default_rng(1)
    alarms = sum(
        compare(noisy(rng, 2.0, 5), noisy(rng, 2.0, 5), Limits(max_increase=0.0)).outcome is Outcome.FAIL
        for _ in range(1000)
    )
    assert 0 < alarms < 20  # it can alarm at all, and seldom does


def test_twenty_percent_is_caught_in_more_than_ninety_percent_of_cases() -> None:
    rng = np.random.default_rng(2)
    found = [compare(noisy(rng, 2.0, 5), noisy(rng, 2.4, 5), TENTH).outcome for _ in range(300)]
    assert found.count(Outcome.FAIL) > 270
    assert found.count(Outcome.PASS) == 0


def test_the_detectable_change_is_one_that_is_detected() -> None:
    rng = np.random.default_rng(3)
    typical = float(
        np.median([compare(noisy(rng, 1, 5), noisy(rng, 1, 5), TENTH).detectable for _ in range(99)])
    )
    caught = sum(
        compare(noisy(rng, 1, 5), noisy(rng, 1 + typical, 5), Limits(max_increase=0.0)).outcome
        is Outcome.FAIL
        for _ in range(300)
    )
    assert 0.75 < caught / 300 <= 1.0


@given(figures, figures)
def test_the_interval_is_scipys(a: list[float], b: list[float]) -> None:
    log_a, log_b = np.log(a), np.log(b)
    found = compare(a, b, TENTH)
    if min(log_a.var(), log_b.var()) > 1e-6:  # scipy warns of sides without spread
        reference = stats.ttest_ind(log_b, log_a, equal_var=False, alternative="greater")
        low = reference.confidence_interval(0.99).low
        assert found.low == pytest.approx(math.expm1(low), rel=1e-6, abs=1e-9)


@given(integers, integers)
def test_the_permutation_is_scipys(a: list[int], b: list[int]) -> None:
    def surplus(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        return (
            x.sum(axis=axis) * y.shape[axis] - y.sum(axis=axis) * x.shape[axis]
        )  # of the means, in whole numbers

    reference = stats.permutation_test(
        (np.array(b), np.array(a)[: len(b)]),
        surplus,
        vectorized=True,
        n_resamples=np.inf,
        alternative="greater",
    )
    sides = [float(x) for x in a[: len(b)]], [float(x) for x in b]
    assert permutation_p(*sides) == pytest.approx(reference.pvalue)


@given(figures, figures)
def test_a_rate_that_falls_is_a_time_that_grows(a: list[float], b: list[float]) -> None:
    times = compare(a, b, TENTH)
    rates = compare([1 / x for x in a], [1 / x for x in b], TENTH, better="higher")
    assert rates.change == pytest.approx(times.change)
    assert rates.outcome is times.outcome


@given(figures, st.floats(0.1, 100))
def test_the_unit_of_a_figure_does_not_matter(a: list[float], scale: float) -> None:
    b = [x * 1.3 for x in reversed(a)]
    assert compare([x * scale for x in a], [x * scale for x in b], TENTH).change == pytest.approx(
        compare(a, b, TENTH).change
    )


STEADY = [10.0, 10.1, 9.9, 10.0, 10.05]
ROWS = {
    "worse than allowed": (STEADY, [12.0, 12.1, 12.2, 12.0, 12.1], TENTH, Outcome.FAIL),
    "as before": (STEADY, [10.0, 10.1, 9.9, 10.02, 10.0], TENTH, Outcome.PASS),
    "better": ([12.0, 12.1, 12.2, 12.0, 12.1], STEADY, TENTH, Outcome.PASS),
    "surely worse, but allowed": (
        STEADY, [10.5, 10.6, 10.5, 10.5, 10.6], TENTH, Outcome.PASS,
    ),
    "worse by less than min_delta": (
        [0.10, 0.101, 0.099, 0.1, 0.1], [0.14, 0.141, 0.139, 0.14, 0.14],
        Limits(max_increase=0.1, min_delta=1.0), Outcome.PASS,
    ),
    "noise hides it": ([10, 14, 8, 12, 9], [12, 17, 9, 14, 11], TENTH, Outcome.INCONCLUSIVE),
    "one run a side": ([10.0], [20.0], TENTH, Outcome.INCONCLUSIVE),
    "three runs a side cannot convince the permutation": (
        [10.0, 10.01, 9.99], [20.0, 20.01, 19.99], TENTH, Outcome.INCONCLUSIVE,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("a", "b", "limits", "outcome"), ROWS.values(), ids=ROWS)
def test_the_rules(a: list[float], b: list[float], limits: Limits, outcome: Outcome) -> None:
    found = compare(a, b, limits)
    assert found.outcome is outcome, found
    assert found.why


def test_sides_without_any_spread_are_compared_all_the_same() -> None:
    assert compare([5.0] * 5, [5.0] * 5, TENTH).outcome is Outcome.PASS
    assert compare([5.0] * 5, [6.0] * 5, TENTH).outcome is Outcome.FAIL


def test_the_permutation_counts_the_way_the_runs_went() -> None:
    assert permutation_p([1, 2, 3], [4, 5, 6]) == 1 / 20
    assert permutation_p([1.0, 1.0], [1.0, 1.0]) == 1.0


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_a_figure_without_a_logarithm_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="positive number"):
        compare([1.0, bad], [1.0, 1.0], TENTH)

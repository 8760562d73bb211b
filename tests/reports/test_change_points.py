"""Change points: found where they are, not found where none is.

With more rows than there is time for here: 0.9 % of 2,100 rows without a change are said to have one, and
97 % of 1,400 with a step of a fifth are caught.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reports.change_points import MOST_VALUES, change_points

SPREAD = 0.1  # standard deviation of the logarithms: what p99 does from night to night on a fair machine
STEP = math.log(1.2)


def nights(draw: np.random.Generator, *levels: tuple[int, float]) -> NDArray[np.float64]:
    """Figures of so many nights at each level, which is a logarithm."""
    logs = np.concatenate([np.full(count, level) for count, level in levels])
    return np.exp(logs + draw.normal(0, SPREAD, len(logs)))


def test_fewer_than_two_in_a_hundred_rows_without_a_change_are_said_to_have_one() -> None:
    draw = np.random.default_rng(1)
    alarms = sum(bool(change_points(nights(draw, (100, 0.0)))) for _ in range(150))
    assert alarms / 150 < 0.02


def test_a_fifth_more_is_caught_from_twenty_nights_a_side() -> None:
    draw = np.random.default_rng(2)
    caught = [change_points(nights(draw, (20, 0.0), (20, STEP))) for _ in range(120)]
    assert sum(bool(found) for found in caught) / 120 > 0.95
    assert sum(abs(split.at - 20) <= 3 for found in caught for split in found) / 120 > 0.85


def test_what_got_worse_and_was_mended_has_both_ends() -> None:
    draw = np.random.default_rng(3)
    rows = [change_points(nights(draw, (40, 0.0), (15, STEP), (45, 0.0))) for _ in range(10)]
    both = [found for found in rows if len(found) == 2]
    assert len(both) >= 9
    assert sum(abs(found[0].at - 40) <= 5 and abs(found[1].at - 55) <= 5 for found in both) >= 8


def test_a_slow_creep_is_a_stair() -> None:
    draw = np.random.default_rng(4)
    row = np.exp(np.linspace(0, 0.5, 120) + draw.normal(0, SPREAD, 120))
    found = [split.at for split in change_points(row)]
    assert len(found) >= 2
    levels = [float(np.median(part)) for part in np.split(row, found)]
    assert levels == sorted(levels)


@pytest.mark.parametrize("night", range(40))
def test_one_terrible_night_is_no_change_and_hides_none(night: int) -> None:
    row = nights(np.random.default_rng(5), (20, 0.0), (20, 3 * STEP))
    row[night] *= 50
    (split,) = change_points(row)
    assert split.at == (night if 17 <= night < 20 else 20)  # just before a change it looks like its beginning
    row[20:] /= math.exp(3 * STEP)
    assert change_points(row) == ()


def test_six_nights_a_side_are_enough_where_they_do_not_overlap() -> None:
    row = [10, 11, 12, 10.5, 11.5, 10.2, 15, 16, 15.5, 16.5, 15.2, 15.8]
    (split,) = change_points(row)
    assert split.at == 6
    assert 0 < split.p <= 0.01
    assert change_points(row, significance=0.001) == ()


def test_the_new_level_needs_the_least_number_of_runs() -> None:
    row = [10 + n % 7 / 10 for n in range(60)]
    assert change_points([*row, 20, 20.1, 20.2]) == ()
    assert [split.at for split in change_points([*row, 20, 20.1, 20.2, 20.3])] == [60]
    assert [split.at for split in change_points([*row, 20, 20.1, 20.2], least_runs=3)] == [60]


@pytest.mark.parametrize("row", [[], [1.0], [1.0] * 7, [0.0] * 100, [980.0] * 50])
def test_too_few_or_equal_values_have_no_change(row: list[float]) -> None:
    assert change_points(row) == ()


def test_counts_that_are_nearly_all_equal_have_a_change_where_they_begin_to_differ() -> None:
    assert [split.at for split in change_points([0.0] * 20 + [3, 1, 4, 2, 5, 3])] == [20]
    assert change_points([0.0] * 20 + [1] + [0.0] * 20) == ()


def test_the_same_values_give_the_same_answer_and_only_their_order_by_size_counts() -> None:
    row = nights(np.random.default_rng(6), (30, 0.0), (30, STEP))
    assert change_points(row) == change_points(row)
    assert change_points(np.log(row) - 9) == change_points(row)


def test_the_longest_row_is_looked_at_whole() -> None:
    row = nights(np.random.default_rng(7), (1_500, 0.0), (40, 3 * STEP), (MOST_VALUES - 1_540, 0.0))
    places = [split.at for split in change_points(row)]
    assert places == [1_500, 1_540]


@pytest.mark.parametrize(
    ("values", "limits"),
    [
        ([1.0, float("nan")], {}),
        ([1.0, float("inf")], {}),
        ([1.0] * (MOST_VALUES + 1), {}),
        ([1.0], {"significance": 0.0001}),
        ([1.0], {"significance": 1.0}),
        ([1.0], {"least_runs": 1}),
    ],
)
def test_what_cannot_be_looked_at_is_refused(values: list[float], limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"finite|at most|cannot be"):
        change_points(values, **limits)

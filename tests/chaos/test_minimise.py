"""Delta debugging as a pure search: what it finds, what it asks for, that it can be stopped."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.minimise import ddmin, drive, shorten


class Asked:
    """A test of parts that remembers what it was asked."""

    def __init__(self, fails: Callable[[frozenset[int]], bool], most: int | None = None) -> None:
        self._fails, self._most = fails, most
        self.parts: list[tuple[int, ...]] = []

    def __call__(self, part: tuple[int, ...]) -> bool | None:
        if self._most is not None and len(self.parts) == self._most:
            return None
        self.parts.append(part)
        return self._fails(frozenset(part))


def test_two_of_five_that_fail_only_together_are_found():
    asked = Asked(lambda part: part >= {1, 3})
    found = drive(ddmin(range(5)), range(5), asked)
    assert (found.smallest, found.whole) == ((1, 3), True)
    assert found.asked == len(asked.parts) < 20


def test_what_fails_without_any_item_needs_no_further_question():
    asked = Asked(lambda part: True)
    found = drive(ddmin(range(5)), range(5), asked)
    assert (found.smallest, asked.parts) == ((), [()])


def test_one_item_that_fails_alone_is_kept():
    assert drive(ddmin([7]), [7], Asked(lambda part: part >= {7})).smallest == (7,)


@given(
    st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), min_size=1)))
)
def test_of_a_monotone_test_exactly_the_needed_items_are_left(case):
    n, needed = case
    asked = Asked(lambda part: part >= needed)
    assert set(drive(ddmin(range(n)), range(n), asked).smallest) == needed
    assert len(asked.parts) == len(set(asked.parts))  # nothing is asked for twice


@given(st.integers(1, 8), st.randoms(use_true_random=False))
def test_of_any_test_the_result_failed_and_no_item_of_it_can_be_left_out(n, rnd):
    verdicts: dict[frozenset[int], bool] = {frozenset(range(n)): True}

    def fails(part: frozenset[int]) -> bool:
        return verdicts.setdefault(part, rnd.random() < 0.4)

    smallest = frozenset(drive(ddmin(range(n)), range(n), Asked(fails)).smallest)
    assert verdicts[smallest]
    assert not any(verdicts.get(smallest - {item}, True) for item in smallest)


@given(st.integers(0, 12))
def test_a_search_that_is_stopped_has_the_smallest_part_that_failed_so_far(most):
    found = drive(ddmin(range(8)), range(8), Asked(lambda part: part >= {2, 5}, most))
    assert found.whole is (found.smallest == (2, 5) and found.asked < most)
    assert set(found.smallest) >= {2, 5}
    assert found.asked <= most


@pytest.mark.parametrize(
    ("least", "expected"),
    [
        pytest.param({0: 3, 1: 8}, (4, 8), id="each as far as it goes"),
        pytest.param({0: 0, 1: 0}, (1, 1), id="down to the shortest"),
        pytest.param({0: 8, 1: 8}, (8, 8), id="not at all"),
    ],
)
def test_items_are_made_shorter_while_all_together_still_fail(least, expected):
    def fails(part: tuple[int, ...]) -> bool:
        return all(part[index] >= needed for index, needed in least.items())

    found = drive(shorten((8, 8), lambda item: item // 2 if item > 1 else None), (8, 8), fails)
    assert (found.smallest, found.whole) == (expected, True)

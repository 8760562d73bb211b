"""A node that is made smaller: what it owes for its deliveries, whatever the sleeps come to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.smaller import NAP_S, Smaller


@given(
    st.floats(100, 1e6),
    st.lists(st.tuples(st.integers(0, 5000), st.floats(0.0, 0.004)), min_size=1, max_size=200),
)
def test_in_the_long_run_each_delivery_costs_its_part_of_a_second(
    rate: float, ticks: list[tuple[int, float]]
) -> None:
    smaller, delivered, slept_s = Smaller(rate), 0, 0.0
    for more, oversleep_s in ticks:
        delivered += more
        if (owed_s := smaller.owed_s(delivered)) > 0:
            assert owed_s >= NAP_S
            smaller.slept(owed_s + oversleep_s)
            slept_s += owed_s + oversleep_s
    longest_s = max(oversleep_s for _, oversleep_s in ticks)
    assert slept_s <= delivered / rate + longest_s + 1e-6
    assert slept_s >= delivered / rate - NAP_S - 1e-6


def test_nothing_is_owed_for_nothing() -> None:
    smaller = Smaller(10)
    assert [smaller.owed_s(0), smaller.owed_s(0)] == [0, 0]
    assert smaller.owed_s(3) == pytest.approx(0.3)

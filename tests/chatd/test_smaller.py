"""A node that is made smaller: what it pays for its deliveries, whatever the sleeps come to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.metrics import Metrics
from chatd.smaller import NAP_S, Smaller


class Bed:
    """A clock that only sleeps move."""

    def __init__(self, oversleeps_s: list[float]) -> None:
        self.now = 0.0
        self.naps: list[float] = []
        self._oversleeps_s = oversleeps_s

    def sleep(self, asked_s: float) -> None:
        self.naps.append(asked_s)
        self.now += asked_s + self._oversleeps_s[len(self.naps) % len(self._oversleeps_s)]


@given(
    st.floats(100, 1e6),
    st.lists(st.integers(0, 5000), min_size=1, max_size=200),
    st.lists(st.floats(0.0, 0.004), min_size=1, max_size=9),
)
def test_in_the_long_run_each_delivery_costs_its_part_of_a_second(
    rate: float, ticks: list[int], oversleeps_s: list[float]
) -> None:
    bed, metrics = Bed(oversleeps_s), Metrics()
    smaller = Smaller(rate, metrics, lambda: bed.now, bed.sleep)
    for more in ticks:
        metrics.deliveries += more
        smaller.stand_still()
    assert all(nap >= NAP_S for nap in bed.naps)
    assert bed.now <= sum(ticks) / rate + max(oversleeps_s) + 1e-6
    assert bed.now >= sum(ticks) / rate - NAP_S - 1e-6


def test_nothing_is_paid_for_nothing() -> None:
    bed, metrics = Bed([0.0]), Metrics()
    smaller = Smaller(10, metrics, lambda: bed.now, bed.sleep)
    smaller.stand_still()
    assert bed.naps == []
    metrics.deliveries = 3
    smaller.stand_still()
    assert bed.naps == [pytest.approx(0.3)]

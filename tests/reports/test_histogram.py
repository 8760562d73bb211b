"""Vectors over the HdrHistogram layout: equal to the library's own, whatever the values."""

from __future__ import annotations

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from reports.histogram import DIGITS, HIGHEST_US, LOWEST_US, SIZE, Histogram, bucket_index, rank


def native(values: list[int]) -> HdrHistogram:
    made = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
    for value in values:
        assert made.record_value(value)
    return made


EDGES = [*range(5000), *(2**n for n in range(32)), *(2**n - 1 for n in range(1, 32)), HIGHEST_US]


def test_counts_equal_those_of_a_histogram_built_value_by_value() -> None:
    values = [v for v in EDGES if v <= HIGHEST_US]
    values += np.random.default_rng(1).integers(0, HIGHEST_US, 2000).tolist()
    theirs = native(values)
    assert theirs.counts_len == SIZE
    assert Histogram.of_us(values).counts.tolist() == [theirs.counts[i] for i in range(SIZE)]


@given(st.lists(st.integers(0, HIGHEST_US), min_size=1, max_size=60))
def test_percentiles_at_exact_ranks_equal_the_librarys(values: list[int]) -> None:
    # Its rank rounds to the nearest, ours up, as the Java original's: at whole ranks they agree.
    ours, theirs = Histogram.of_us(values), native(values)
    for place in (1, (len(values) + 1) // 2, len(values)):
        q = place / len(values)
        assert ours.quantile_us(q) == theirs.get_value_at_percentile(q * 100)
    assert ours.max_ms == theirs.get_max_value() / 1000


@given(st.lists(st.integers(0, HIGHEST_US), min_size=1, max_size=200), st.floats(0, 1))
def test_a_quantile_is_within_a_thousandth_of_the_value_at_its_rank(values: list[int], q: float) -> None:
    exact = sorted(values)[rank(q, len(values)) - 1]
    found = Histogram.of_us(values).quantile_us(q)
    assert found is not None
    assert exact <= found <= exact * 1.001


@given(st.lists(st.integers(0, 10_000_000)), st.lists(st.integers(0, 10_000_000)))
def test_merging_is_adding(some: list[int], others: list[int]) -> None:
    assert Histogram.of_us(some) + Histogram.of_us(others) == Histogram.of_us(some + others)
    assert Histogram.merged([Histogram.of_us(some), Histogram.of_us(others)]) == Histogram.of_us(
        some + others
    )


def test_pairs_of_bucket_and_count_give_the_same_vector() -> None:
    values = [3, 3, 70_000, 1]
    assert Histogram.of_buckets(bucket_index(values), [1, 1, 1, 1]) == Histogram.of_us(values)


def test_values_outside_of_the_range_stay_in_its_end_buckets() -> None:
    found = Histogram.of_us([-5, 2 * HIGHEST_US])
    assert found.count == 2
    assert found.min_ms == 0


@pytest.mark.parametrize(
    ("q", "count", "place"),
    [
        pytest.param(0.5, 4, 2, id="half of an even number"),
        pytest.param(0.5, 5, 3, id="half of an odd number rounds up"),
        pytest.param(0.07, 100, 7, id="a binary fraction above its decimal"),
        pytest.param(0.999, 1000, 999, id="three nines"),
        pytest.param(0.99, 7, 7, id="too few values for the percentile"),
        pytest.param(0.0, 9, 1, id="zero is the first"),
        pytest.param(1.0, 9, 9, id="one is the last"),
    ],
)
def test_rank_is_rounded_up(q: float, count: int, place: int) -> None:
    assert rank(q, count) == place


def test_nothing_measured_has_no_percentile() -> None:
    empty = Histogram.empty()
    assert empty.summary() == {"count": 0, "p50": None, "p90": None, "p99": None, "p99_9": None, "max": None}
    assert empty.mean_ms is None
    assert empty.min_ms is None


def test_a_quantile_outside_of_zero_to_one_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Histogram.of_us([1]).quantile_us(99)


def test_mean_is_that_of_the_values() -> None:
    assert Histogram.of_us([1000, 2000, 3000]).mean_ms == pytest.approx(2.0, rel=1e-3)

"""Histograms: the buckets of HdrHistogram, without a call per value."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from loadgen.meters import Histogram

durations = st.lists(st.integers(0, 3_600_000_000_000), min_size=1, max_size=200)


def folded(values_ns: list[int]) -> Histogram:
    histogram = Histogram()
    histogram.add(np.array(values_ns, np.int64))
    return histogram


@given(value_ns=st.integers(0, 3_600_000_000_000))
def test_buckets_are_those_of_hdrhistogram(value_ns: int) -> None:
    reference = HdrHistogram(1, 2**42, 3)
    reference.record_value(value_ns // 1000)
    merged = Histogram()  # knows its values by their buckets alone
    merged.merge(folded([value_ns]).sparse())
    assert merged.quantile_ms(1.0) * 1000 == pytest.approx(reference.get_value_at_percentile(100), abs=1e-6)


@given(values_ns=durations, q=st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]))
def test_quantiles_are_measured_values_within_a_thousandth(values_ns: list[int], q: float) -> None:
    nearest_rank = sorted(values_ns)[math.ceil(q * len(values_ns)) - 1]
    assert folded(values_ns).quantile_ms(q) == pytest.approx(nearest_rank / 1e6, rel=1e-3, abs=0.001)


@given(parts=st.lists(durations, min_size=1, max_size=4))
def test_histograms_of_workers_add_up(parts: list[list[int]]) -> None:
    merged = Histogram()
    for part in parts:
        merged.merge(folded(part).sparse())
    whole = folded([value for part in parts for value in part])
    assert merged.sparse() == whole.sparse()
    assert merged.quantile_ms(0.5) == pytest.approx(whole.quantile_ms(0.5), rel=1e-3, abs=0.001)


def test_nothing_measured_is_zero() -> None:
    assert Histogram().quantiles() == (0.0, 0.0, 0.0)


def test_a_clock_that_stepped_back_counts_as_no_time() -> None:
    assert folded([-5, -1_000_000]).quantiles() == (0.0, 0.0, 0.0)


def test_a_cleared_histogram_is_empty() -> None:
    histogram = folded([5_000_000])
    histogram.clear()
    assert (histogram.count, histogram.sparse(), histogram.quantile_ms(0.5)) == (0, [], 0.0)

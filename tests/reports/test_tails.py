"""p99.9 over time: of stretches that have a thousand samples, and of no other."""

from __future__ import annotations

import polars as pl
import pytest

from reports.histogram import bucket_index
from reports.tails import LEAST, Tail, p99_9


def counted(*rows: tuple[int, float, int]) -> pl.DataFrame:
    second, took, n = zip(*rows, strict=True)
    buckets = bucket_index([round(ms * 1000) for ms in took])
    return pl.DataFrame({"second": list(second), "bucket": buckets, "n": pl.Series(n, dtype=pl.UInt32)})


def test_a_second_with_a_thousand_samples_has_a_figure_that_is_not_its_maximum() -> None:
    found = p99_9(counted((0, 1.0, 998), (0, 2.0, 1), (0, 9.0, 1), (1, 3.0, LEAST - 1)), 3)
    assert found == Tail(1, ((0, pytest.approx(2.0, rel=1e-3)), (1, None), (2, None)), lacking=1)


def test_seconds_with_fewer_are_taken_together() -> None:
    rows = [(second, 1.0 + second, 300) for second in range(20)]
    found = p99_9(counted(*rows), 20)
    assert found.each_s == 5
    assert [start for start, _ in found.points] == [0, 5, 10, 15]
    assert [value for _, value in found.points] == pytest.approx([5.0, 10.0, 15.0, 20.0], rel=1e-3)
    assert found.lacking == 0


def test_where_stretches_of_a_minute_have_too_few_there_is_no_figure() -> None:
    assert p99_9(counted(*((second, 1.0, 16) for second in range(600))), 600) == Tail()
    assert p99_9(counted(*((second, 1.0, 17) for second in range(600))), 600).each_s == 60


def test_the_stretches_of_a_long_run_are_few_enough_to_be_seen() -> None:
    for seconds, each in ((120, 1), (121, 2), (600, 5), (3600, 30), (90_000, 60)):
        assert (
            p99_9(counted(*((second, 1.0, 2 * LEAST) for second in range(seconds))), seconds).each_s == each
        )


def test_one_stretch_is_not_over_time_and_nothing_has_no_figure() -> None:
    assert p99_9(counted(*((second, 1.0, 200) for second in range(5))), 5) == Tail()
    assert p99_9(counted((0, 1.0, 1)).clear(), 10) == Tail()

"""latency.hlog and .hgrm, read back by HdrHistogram's own reader."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

from reports.hdrlog import encoded, log, percentile_distribution
from reports.histogram import DIGITS, HIGHEST_US, LOWEST_US, Histogram

START = 1_714_564_800.25


def read(path: Path) -> list[HdrHistogram]:
    reader = HistogramLogReader(str(path), HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS))
    found = []
    try:
        while (interval := reader.get_next_interval_histogram()) is not None:
            found.append(interval)
    finally:
        reader.input_file.close()
    return found


def sample(seed: int, n: int = 500) -> Histogram:
    return Histogram.of_us(np.random.default_rng(seed).lognormal(8, 1, n).astype(np.int64))


def test_a_blob_holds_the_vector() -> None:
    made = sample(1)
    theirs = HdrHistogram.decode(encoded(made))
    assert theirs.get_total_count() == made.count
    assert theirs.get_value_at_percentile(100) == made.quantile_us(1.0)
    assert theirs.get_value_at_percentile(50) == made.quantile_us(0.5)


def test_the_reader_finds_every_interval_with_its_times_and_tags(tmp_path: Path) -> None:
    parts = [sample(n) for n in range(3)]
    whole = Histogram.merged(parts)
    path = tmp_path / "latency.hlog"
    intervals = [(float(n), 1.0, part) for n, part in enumerate(parts)]
    path.write_text(
        log(START, 3.0, intervals, {"delivery": whole, "ack": sample(9), "resume": Histogram.empty()})
    )
    found = read(path)
    assert [h.get_tag() for h in found] == [None, None, None, "delivery", "ack"]
    assert [h.get_total_count() for h in found[:4]] == [500, 500, 500, 1500]
    assert found[1].get_start_time_stamp() == pytest.approx((START + 1) * 1000)
    assert found[1].get_end_time_stamp() == pytest.approx((START + 2) * 1000)


def test_the_intervals_add_up_to_the_class(tmp_path: Path) -> None:
    parts = [sample(n) for n in range(4)]
    path = tmp_path / "latency.hlog"
    path.write_text(
        log(
            START,
            4.0,
            [(float(n), 1.0, p) for n, p in enumerate(parts)],
            {"delivery": Histogram.merged(parts)},
        )
    )
    *pieces, whole = read(path)
    total = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
    for piece in pieces:
        total.add(piece)
    assert [total.get_value_at_percentile(q) for q in (50, 99, 100)] == [
        whole.get_value_at_percentile(q) for q in (50, 99, 100)
    ]


def test_the_log_of_nothing_is_a_header(tmp_path: Path) -> None:
    path = tmp_path / "latency.hlog"
    path.write_text(log(0.0, 0.0, [], {"delivery": Histogram.empty()}))
    assert read(path) == []
    assert path.read_text().splitlines()[1] == "#[Histogram log format version 1.2]"


def rows(text: str) -> list[list[float]]:
    return [[float(x) for x in line.split()] for line in text.splitlines()[2:] if not line.startswith("#")]


def test_the_distribution_has_the_value_at_each_of_its_percentiles() -> None:
    made = sample(5)
    for value, q, count, *_ in rows(percentile_distribution(made)):
        exact = made.quantile_ms(q)
        assert exact is not None
        assert value >= exact
        assert made.counts[: int(np.searchsorted(np.cumsum(made.counts), count)) + 1].sum() == count


def test_the_distribution_agrees_with_the_librarys_at_the_steps_that_they_share() -> None:
    made = sample(6, 2000)
    theirs = io.BytesIO()
    HdrHistogram.decode(encoded(made)).output_percentile_distribution(theirs, 1000)
    mine = {q: (value, count) for value, q, count, *_ in rows(percentile_distribution(made))}
    other = {q: (value, count) for value, q, count, *_ in rows(theirs.getvalue().decode())}
    # Its steps grow without rounding to whole halvings, unlike the Java original's, so most differ.
    shared = mine.keys() & other.keys()
    assert shared >= {0.0, 0.1, 1.0}
    assert {q: mine[q] for q in shared} == {q: other[q] for q in shared}


def test_the_distribution_of_nothing_is_a_header_and_a_footer() -> None:
    text = percentile_distribution(Histogram.empty())
    assert rows(text) == []
    assert "Total count    =            0" in text

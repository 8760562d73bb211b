"""latency.hlog and latency.hgrm: the latency vectors in the formats that HdrHistogram's own tools read.

The blobs are encoded by ``hdrhistogram`` (V2, compressed); the lines around them are
written here, because its log writer fails on the start time and never writes a tag. Values
are microseconds; times are seconds, absolute where the run's clock is known.

Source: HdrHistogram, ``HistogramLogWriter`` (format version 1.2) and
``outputPercentileDistribution``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

import numpy as np
from hdrh.histogram import HdrHistogram

from reports.histogram import (
    BUCKETS,
    DIGITS,
    HIGHEST_US,
    LOWER_US,
    LOWEST_US,
    SUB_BUCKETS,
    UPPER_US,
    Histogram,
)

MAX_LINES: Final = 600  # of intervals: a log of a day has longer ones
_US_PER_MS: Final = 1000.0
_STEPS_PER_HALF: Final = 5


def encoded(histogram: Histogram) -> str:
    """The vector as a base64 V2 blob."""
    return str(_native(histogram).encode().decode("ascii"))


def _native(histogram: Histogram) -> HdrHistogram:
    native = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
    used = histogram.used()
    if len(used):  # its layout is ours: at once, for `record_value` takes 5 µs a bucket
        np.frombuffer(native.counts, np.uint64)[:] = histogram.counts
        native.set_internal_tacking_values(int(used[0]), int(used[-1]), histogram.count)
    return native


def log(
    start_unix_s: float,
    duration_s: float,
    intervals: Iterable[tuple[float, float, Histogram]],
    totals: Mapping[str, Histogram],
) -> str:
    """The text of a histogram log.

    Args:
        start_unix_s: start of the schedule.
        duration_s: of the run, for the lines of ``totals``.
        intervals: (start, length, histogram) of delivery, in seconds since the start: lines without a tag.
        totals: whole-run histograms by class: lines tagged with the class, after the intervals.
    """
    began = datetime.fromtimestamp(start_unix_s, UTC).isoformat(timespec="milliseconds")
    lines = [
        "#[chatproof: delivery latency by interval, then each class over the run; microseconds]",
        "#[Histogram log format version 1.2]",
        f"#[BaseTime: {start_unix_s:.3f} (seconds since epoch)]",
        f"#[StartTime: {start_unix_s:.3f} (seconds since epoch), {began}]",
        '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"',
    ]
    lines += [_line("", start, length, histogram) for start, length, histogram in intervals]
    lines += [
        _line(f"Tag={name},", 0.0, duration_s, histogram)
        for name, histogram in totals.items()
        if histogram.count
    ]
    return "\n".join(lines) + "\n"


def _line(tag: str, start_s: float, length_s: float, histogram: Histogram) -> str:
    longest = histogram.max_ms or 0.0
    return f"{tag}{start_s:.3f},{length_s:.3f},{longest:.3f},{encoded(histogram)}"


def percentile_distribution(histogram: Histogram) -> str:
    """The .hgrm text: value in milliseconds, percentile, total count, 1/(1-percentile).

    Five steps to each halving of the distance to 100 %, as HdrHistogram's plotter expects.
    """
    lines = [f"{'Value':>12} {'Percentile':>14} {'TotalCount':>10} {'1/(1-Percentile)':>14}", ""]
    used = histogram.used()
    upto = np.cumsum(histogram.counts[used])
    total, level = histogram.count, 0.0
    while total:
        place = int(np.searchsorted(upto * 100.0 / total, level))
        value = f"{int(UPPER_US[used[place]]) / _US_PER_MS:12.3f}"
        lines.append(f"{value} {level / 100:2.12f} {upto[place]:10d} {1 / (1 - level / 100):14.2f}")
        if upto[place] == total:
            lines.append(f"{value} {1:2.12f} {total:10d}")
            break
        halvings = int(math.log2(100 / (100 - level))) + 1
        level += 100 / (_STEPS_PER_HALF * 2**halvings)
    lines += [
        f"#[Mean    = {histogram.mean_ms or 0:12.3f}, StdDeviation   = {_deviation_ms(histogram):12.3f}]",
        f"#[Max     = {histogram.max_ms or 0:12.3f}, Total count    = {total:12d}]",
        f"#[Buckets = {BUCKETS:12d}, SubBuckets     = {SUB_BUCKETS:12d}]",
    ]
    return "\n".join(lines) + "\n"


def _deviation_ms(histogram: Histogram) -> float:
    used = histogram.used()
    if not len(used):
        return 0.0
    middles = (LOWER_US[used] + UPPER_US[used]) / 2 / _US_PER_MS
    away = middles - (histogram.mean_ms or 0.0)
    return float(np.sqrt((away**2 * histogram.counts[used]).sum() / histogram.count))

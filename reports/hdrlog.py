"""latency.hlog and latency.hgrm: the latency vectors in the formats that HdrHistogram's own tools read.

The blobs are encoded by ``hdrhistogram`` (V2, compressed); the lines around them are
written here, because its log writer fails on the start time and never writes a tag. Values
are microseconds; times are seconds, absolute where the run's clock is known.

Source: HdrHistogram, ``HistogramLogWriter`` (format version 1.2) and
``outputPercentileDistribution``.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from hdrh.histogram import HdrHistogram

from reports.histogram import DIGITS, HIGHEST_US, LOWER_US, LOWEST_US, Histogram

MAX_LINES: Final = 600  # of intervals: a log of a day has longer ones
_MS_PER_US: Final = 1000.0


def encoded(histogram: Histogram) -> str:
    """The vector as a base64 V2 blob."""
    return str(_native(histogram).encode().decode("ascii"))


def _native(histogram: Histogram) -> HdrHistogram:
    native = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
    for index in histogram.used():
        native.record_value(int(LOWER_US[index]), int(histogram.counts[index]))
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
    """The .hgrm text: value in milliseconds, percentile, total count, 1/(1-percentile)."""
    text = io.BytesIO()
    _native(histogram).output_percentile_distribution(text, _MS_PER_US)
    return text.getvalue().decode("ascii")

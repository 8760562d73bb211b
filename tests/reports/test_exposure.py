"""Latency around faults: which seconds are before, during and after, and what is left out."""

from __future__ import annotations

import polars as pl
import pytest

from reports.exposure import SPAN_S, exposures, quiet
from reports.histogram import bucket_index
from reports.periods import FaultWindow

S = 10**9


def counted(by_second: dict[int, float]) -> pl.DataFrame:
    """One delivery in each second, with a latency in ms."""
    buckets = bucket_index([round(ms * 1000) for ms in by_second.values()])
    return pl.DataFrame({"second": list(by_second), "bucket": buckets, "n": [1] * len(by_second)})


def intervals(end: int, faults: dict[str, tuple[int, int]], *, warmup: int = 0) -> pl.DataFrame:
    inside = [",".join(n for n, (a, b) in faults.items() if a <= s < b) for s in range(end)]
    return pl.DataFrame({"second": range(end), "faults": inside, "warmup": [s < warmup for s in range(end)]})


def window(name: str, begin: float | None, end: float | None) -> FaultWindow:
    at = [None if t is None else round(t * S) for t in (begin, end)]
    return FaultWindow(
        id=name, kind="latency", target="all", planned_ns=at[0], applied_ns=at[0], reverted_ns=at[1]
    )


def test_a_second_is_before_during_or_after_by_when_its_messages_were_due() -> None:
    latency = (
        {s: 10.0 for s in range(20)} | {s: 1000.0 for s in range(20, 25)} | {s: 20.0 for s in range(25, 60)}
    )
    (found,) = exposures(counted(latency), intervals(60, {"slow": (20, 25)}), [window("slow", 20.2, 24.8)], 0)
    assert (found.before.count, found.during.count, found.after.count) == (SPAN_S, 5, SPAN_S)
    assert found.before.max_ms == pytest.approx(10, rel=0.001)
    assert found.during.quantile_ms(0.5) == pytest.approx(1000, rel=0.001)
    assert found.after.max_ms == pytest.approx(20, rel=0.001)


def test_warm_ups_and_other_faults_are_neither_before_nor_after() -> None:
    table = intervals(30, {"a": (10, 15), "b": (17, 19)}, warmup=6)
    found = exposures(
        counted(dict.fromkeys(range(30), 1.0)), table, [window("a", 10, 15), window("b", 17, 19)], 0
    )
    assert [(e.before.count, e.after.count) for e in found] == [(4, 8), (5, 10)]
    assert quiet(counted(dict.fromkeys(range(30), 1.0)), table).count == 24 - 7


def test_a_fault_at_the_start_has_nothing_before_and_one_without_a_revert_nothing_after() -> None:
    (found,) = exposures(counted({0: 5.0, 1: 5.0}), intervals(2, {"f": (0, 2)}), [window("f", 0, None)], 0)
    assert (found.before.count, found.during.count, found.after.count) == (0, 2, 0)
    assert found.before.quantile_ms(0.99) is None


def test_a_fault_that_was_never_applied_is_left_out() -> None:
    assert not list(exposures(counted({0: 5.0}), intervals(1, {}), [window("f", None, None)], 0))

"""What moves while the load stands still, from seconds and samples whose slopes are known."""

from __future__ import annotations

import polars as pl
import pytest

from reports.capacity import Slope
from reports.creep import HOUR_S, MOST_POINTS, Creep, creep
from reports.evaluate import GateResult, GateVerdict, Measures, evaluate
from reports.gates import parse_gates
from tests.reports.synthetic import Synthetic, in_memory

NS = 1_000_000_000
ZERO = 7_000 * NS


def seconds(count: int, p99_ms: float = 5.0, rise_ms: float = 0.0) -> pl.DataFrame:
    """One row a second; the first two are warm-up, and slow."""
    return pl.DataFrame(
        {
            "second": list(range(count)),
            "phase": ["warm-up"] * 2 + ["steady"] * (count - 2),
            "warmup": [True] * 2 + [False] * (count - 2),
            "p99_ms": [900.0] * 2 + [p99_ms + rise_ms * n for n in range(count - 2)],
        }
    )


def samples(count: int, *, growth_bytes: int = 0, process: str = "chatd-1") -> pl.DataFrame:
    return pl.DataFrame(
        {
            "t": [ZERO + n * NS for n in range(count)],
            "process": [process] * count,
            "rss_bytes": [50_000_000 + growth_bytes * n for n in range(count)],
        }
    )


def test_a_flat_run_does_not_creep() -> None:
    found = creep(seconds(40), samples(40), ["chatd-1"], zero_ns=ZERO)
    assert found.rss_bytes_per_s is not None
    assert found.p99_ms_per_s is not None
    assert (found.rss_bytes_per_s.per_unit, found.p99_ms_per_s.per_unit) == (0, 0)


def test_a_leak_and_a_latency_that_rises_are_slopes_with_their_intervals() -> None:
    found = creep(seconds(40, rise_ms=0.25), samples(40, growth_bytes=2048), ["chatd-1"], zero_ns=ZERO)
    assert found.rss_bytes_per_s is not None
    assert found.p99_ms_per_s is not None
    assert found.rss_bytes_per_s.per_unit == pytest.approx(2048)
    assert found.rss_bytes_per_s.low <= 2048 <= found.rss_bytes_per_s.high
    assert found.p99_ms_per_s.per_unit * HOUR_S == pytest.approx(900)


def test_the_memory_of_several_nodes_is_added_up_and_that_of_the_harness_is_not() -> None:
    both = pl.concat(
        [
            samples(40, growth_bytes=1000),
            samples(40, growth_bytes=500, process="chatd-2"),
            samples(40, growth_bytes=90_000, process="worker-1"),
        ]
    )
    found = creep(seconds(40), both, ["chatd-1", "chatd-2"], zero_ns=ZERO)
    assert found.rss_bytes_per_s is not None
    assert found.rss_bytes_per_s.per_unit == pytest.approx(1500)


def test_what_came_before_the_steady_load_and_after_it_is_left_out() -> None:
    early = samples(60).with_columns(
        rss_bytes=pl.when(pl.col("t") < ZERO + 2 * NS).then(1).otherwise(pl.col("rss_bytes"))
    )
    late = early.with_columns(
        rss_bytes=pl.when(pl.col("t") > ZERO + 40 * NS).then(1).otherwise(pl.col("rss_bytes"))
    )
    found = creep(seconds(40), late, ["chatd-1"], zero_ns=ZERO)
    assert found.rss_bytes_per_s is not None
    assert (found.rss_bytes_per_s.low, found.rss_bytes_per_s.high) == (0, 0)


def test_a_long_run_is_thinned_and_says_the_same() -> None:
    count = 3 * MOST_POINTS
    found = creep(seconds(count), samples(count, growth_bytes=10), ["chatd-1"], zero_ns=ZERO)
    assert found.rss_bytes_per_s is not None
    assert found.rss_bytes_per_s.per_unit == pytest.approx(10)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_too_few_seconds_say_nothing(count: int) -> None:
    found = creep(seconds(count), samples(count), ["chatd-1"], zero_ns=ZERO)
    assert (found.rss_bytes_per_s, found.p99_ms_per_s) == (None, None)


def test_a_run_without_samples_has_no_slope_of_memory() -> None:
    assert creep(seconds(40), None, ["chatd-1"], zero_ns=ZERO).rss_bytes_per_s is None


def judged(metric: str, expr: str, found: Creep) -> GateResult:
    gates = parse_gates(
        {"gate": [{"id": "g", "kind": "threshold", "metric": metric, "expr": expr}]}, source="test"
    )
    measures = Measures(
        history=in_memory(Synthetic(bare=True)), classes={}, intervals=seconds(4), creep=found
    )
    (result,) = evaluate(gates, measures)
    return result


LEAK = Creep(
    Slope(per_unit=1024**2 / HOUR_S, low=0.0, high=2 * 1024**2 / HOUR_S, at_zero=0.0, up_to=60.0),
    Slope(per_unit=2 / HOUR_S, low=1 / HOUR_S, high=3 / HOUR_S, at_zero=0.0, up_to=60.0),
)


@pytest.mark.parametrize(
    ("metric", "expr", "verdict"),
    [
        ("memory.creep", "mean == 1MiB", GateVerdict.PASS),
        ("memory.creep", "max < 1.5MiB", GateVerdict.FAIL),
        ("memory.creep", "min <= 0MiB", GateVerdict.PASS),
        ("delivery.creep", "mean < 2.5ms", GateVerdict.PASS),
        ("delivery.creep", "max < 2.5ms", GateVerdict.FAIL),
    ],
)
def test_gates_ask_for_the_growth_in_an_hour_and_for_the_ends_of_its_interval(
    metric: str, expr: str, verdict: GateVerdict
) -> None:
    assert judged(metric, expr, LEAK).verdict is verdict


@pytest.mark.parametrize(("metric", "unit"), [("memory.creep", "MiB"), ("delivery.creep", "ms")])
def test_a_slope_that_was_not_seen_fails_its_gate(metric: str, unit: str) -> None:
    found = judged(metric, f"max < 5{unit}", Creep())
    assert found.verdict is GateVerdict.FAIL
    assert "fewer than three seconds" in found.why

"""CPU a delivery, by process."""

from __future__ import annotations

import polars as pl
import pytest

from reports.periods import NS, Phase
from reports.usage import (
    SCHEMA,
    target_cpu_us_per_delivery,
    target_rss_bytes,
    target_rss_growth_bytes,
    targets,
    usage,
)

ZERO = 100 * NS
PHASES = [Phase("warm-up", ZERO, ZERO + 2 * NS, warmup=True), Phase("steady", ZERO + 2 * NS, ZERO + 10 * NS)]
TARGETS = frozenset({"chatd-1", "chatd-2"})


def second_by_second(per_s: list[int]) -> pl.DataFrame:
    return pl.DataFrame(
        {"second": range(len(per_s)), "delivered": per_s}, schema={"second": pl.Int64, "delivered": pl.Int64}
    )


def sampled(*rows: tuple[float, str, int, float]) -> pl.DataFrame:
    """(second, process, pid, CPU seconds since its start)"""
    made = [(ZERO + round(at * NS), process, pid, 1000 * pid, cpu_s) for at, process, pid, cpu_s in rows]
    return pl.DataFrame(made, schema=SCHEMA, orient="row")


def of(samples: pl.DataFrame | None, per_s: list[int]) -> dict[str, tuple[float, float | None]]:
    found = usage(samples, second_by_second(per_s), PHASES, zero_ns=ZERO, targets=TARGETS)
    return {used.process: (used.cpu_s, used.cpu_us_per_delivery) for used in found}


def test_cpu_and_deliveries_are_counted_over_the_same_time_and_not_in_the_warm_up() -> None:
    rows = [(float(s) + 0.5, "chatd-1", 7, 0.25 * s) for s in range(12)]
    # From 2.5 s to 9.5 s: seven seconds of a quarter of a core each, and 7,000 deliveries.
    assert of(sampled(*rows), [99_999, 99_999] + [1000] * 10) == {"chatd-1": (1.75, 250.0)}


def test_a_process_that_is_restarted_counts_from_zero_again() -> None:
    rows = [
        (3.0, "chatd-1", 7, 5.0),
        (5.0, "chatd-1", 7, 6.0),
        (6.0, "chatd-1", 8, 0.5),
        (9.0, "chatd-1", 8, 1.5),
    ]
    assert of(sampled(*rows), [1000] * 10) == {"chatd-1": (2.5, pytest.approx(2.5e6 / 6000, abs=1e-3))}


def test_the_system_under_test_is_the_sum_of_its_processes() -> None:
    rows = [
        (at, name, pid, at * share)
        for at in (3.0, 9.0)
        for name, pid, share in (("chatd-1", 1, 0.1), ("chatd-2", 2, 0.2), ("worker-1", 3, 0.9))
    ]
    found = usage(sampled(*rows), second_by_second([1000] * 10), PHASES, zero_ns=ZERO, targets=TARGETS)
    assert target_cpu_us_per_delivery(found) == pytest.approx(300)
    assert [(u.process, u.target, u.rss_max_bytes) for u in found] == [
        ("chatd-1", True, 1000), ("chatd-2", True, 2000), ("worker-1", False, 3000),
    ]  # fmt: skip


def test_without_deliveries_there_is_no_ratio() -> None:
    found = usage(
        sampled((3.0, "chatd-1", 7, 0.0), (9.0, "chatd-1", 7, 1.0)),
        second_by_second([0] * 10),
        PHASES,
        zero_ns=ZERO,
        targets=TARGETS,
    )
    assert found[0].cpu_us_per_delivery is None
    assert target_cpu_us_per_delivery(found) is None


@pytest.mark.parametrize(
    "samples",
    [None, pl.DataFrame({"t": [1]}), pl.DataFrame({"t": ["x"], "process": [1]})],
    ids=["none", "columns", "types"],
)
def test_samples_that_are_not_ours_give_nothing(samples: pl.DataFrame | None) -> None:
    assert of(samples, [1000] * 10) == {}


def test_the_processes_under_test_are_those_that_the_journal_calls_so() -> None:
    lines = [{"process": "chatd-1", "role": "target"}, {"process": "proxy", "role": "harness"}, {"id": "cut"}]
    assert targets(lines) == {"chatd-1"}


def test_memory_is_of_the_processes_under_test_and_growth_from_before_the_schedule() -> None:
    samples = pl.DataFrame(
        [
            (ZERO - 2 * NS, "chatd-1", 7, 40, 0.1),
            (ZERO - NS, "chatd-1", 7, 50, 0.2),
            (ZERO + NS, "chatd-1", 7, 90, 0.3),
            (ZERO + 2 * NS, "chatd-1", 7, 70, 0.4),
            (ZERO + NS, "worker-1", 8, 900, 0.4),
        ],
        schema=SCHEMA,
        orient="row",
    )
    found = usage(samples, second_by_second([1000] * 10), PHASES, zero_ns=ZERO, targets=TARGETS)
    assert target_rss_bytes(found) == 90
    assert target_rss_growth_bytes(found) == 40


def test_growth_is_unknown_of_what_was_not_sampled_before() -> None:
    late = pl.DataFrame([(ZERO + NS, "chatd-1", 7, 90, 0.3)], schema=SCHEMA, orient="row")
    found = usage(late, second_by_second([1000] * 10), PHASES, zero_ns=ZERO, targets=TARGETS)
    assert target_rss_bytes(found) == 90
    assert target_rss_growth_bytes(found) is None
    assert target_rss_bytes([]) is None

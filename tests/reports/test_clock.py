"""Times of several hosts: converted to the run's, with an uncertainty that holds."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.clock import HostClock, host_clocks, in_run_time, uncertainty_ns
from reports.history import RECORD, Flag, HistoryError, Kind

HOUR = 3_600_000_000_000
MONTHS = 2**53 + 12_345_678_901  # more than a float holds exactly


def clock(*readings: tuple[int, int, int]) -> HostClock:
    return host_clocks({"clock": {"workers": {"1": {"readings": readings}}}})[1]


@st.composite
def drifting(draw: st.DrawFn) -> tuple[HostClock, list[tuple[int, int]]]:
    """A clock's readings, and (its time, how far the run's was truly ahead) between them.

    Between two readings the true offset stays between its values there, and each reading is off by
    no more than its bound.
    """
    count = draw(st.integers(1, 6))
    gaps = draw(st.lists(st.integers(1, 10**10), min_size=count, max_size=count))
    times = np.cumsum([draw(st.integers(0, 10**15)), *gaps[1:]]).tolist()
    base = draw(st.integers(-MONTHS, MONTHS))
    true = [base + draw(st.integers(-(10**7), 10**7)) for _ in times]
    least = draw(st.integers(0, 10**6))
    bounds = [draw(st.integers(least, 2 * least)) for _ in times]  # of no busy moment
    told = [at + draw(st.integers(-bound, bound)) for at, bound in zip(true, bounds, strict=True)]
    facts = list(zip(times, true, strict=True))
    for (one, here), (other, there) in itertools.pairwise(tuple(facts)):
        facts.append((draw(st.integers(one, other)), draw(st.integers(min(here, there), max(here, there)))))
    return clock(*zip(times, told, bounds, strict=True)), facts


@given(drifting())
def test_no_time_is_further_off_than_the_uncertainty(drawn: tuple[HostClock, list[tuple[int, int]]]) -> None:
    known, facts = drawn
    for t, ahead in facts:
        (converted,) = known.to_run(np.array([t])).tolist()
        assert abs(converted - (t + ahead)) <= known.uncertainty_ns + 1  # a nanosecond of rounding


def test_an_offset_of_months_is_applied_to_the_nanosecond() -> None:
    known = clock((10, MONTHS, 5), (1_000_010, MONTHS + 10, 5))
    assert known.to_run(np.array([0, 10, 500_010, 1_000_010, 9_000_000])).tolist() == [
        MONTHS, MONTHS + 10, MONTHS + 500_015, MONTHS + 1_000_020, MONTHS + 9_000_010
    ]  # fmt: skip


def test_what_two_workers_may_be_apart_is_the_sum_of_the_two_worst() -> None:
    one, two, three = clock((0, 5, 10)), clock((0, 5, 10), (9, 25, 30)), clock((0, 5, 20))
    assert [each.uncertainty_ns for each in (one, two, three)] == [10, 50, 20]
    assert uncertainty_ns({1: one, 2: two, 3: three}) == 70
    assert uncertainty_ns({}) == 0


def test_a_reading_of_a_busy_moment_is_left_out_between_others() -> None:
    busy = clock((0, 5, 10), (9, 90, 100), (18, 7, 12), (27, 9, 11))
    assert busy.worker_ns.tolist() == [0, 18, 27]
    assert busy.uncertainty_ns == 14
    at_the_end = clock((0, 5, 10), (9, 7, 12), (18, 90, 100))
    assert at_the_end.uncertainty_ns == 183  # it is all that is known of then


def record(kind: Kind, t: int, t2: int, publisher: int = 0, flags: int = 0) -> Any:
    row = np.zeros(1, RECORD)
    row["kind"], row["t"], row["t2"], row["publisher"], row["flags"] = kind, t, t2, publisher, flags
    return row


AWAY = {1: clock((0, 1000, 0)), 2: clock((0, 500, 0))}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        pytest.param(record(Kind.SEND, 10, 7, publisher=1), (1010, 1007), id="its own times"),
        pytest.param(record(Kind.CLOSE, 10, 0), (1010, 0), id="no second time"),
        pytest.param(record(Kind.NACK, 10, 4003), (1010, 4003), id="a code is no time"),
        pytest.param(record(Kind.GAP, 10, 2), (1010, 2), id="a reason is no time"),
        pytest.param(record(Kind.RECV, 10, 7, publisher=3), (1010, 1007), id="from worker 1, of 2"),
        pytest.param(record(Kind.RECV, 10, 7, publisher=2), (1010, 507), id="from another host"),
        pytest.param(record(Kind.RECV, 10, 7, publisher=0), (1010, 7), id="from the run itself"),
        pytest.param(
            record(Kind.RECV, 10, 7, publisher=2, flags=Flag.FOREIGN), (1010, 7), id="of another run"
        ),
    ],
)
def test_each_time_is_converted_by_the_clock_that_it_was_read_from(
    row: Any, expected: tuple[int, int]
) -> None:
    (moved,) = in_run_time(row, 1, AWAY, 2)[["t", "t2"]].tolist()
    assert moved == expected


def test_what_the_run_itself_read_has_the_publishers_times_converted_only() -> None:
    (moved,) = in_run_time(record(Kind.READ, 10, 7, publisher=2), 0, AWAY, 2)[["t", "t2"]].tolist()
    assert moved == (10, 507)


def test_records_of_one_host_are_not_even_copied() -> None:
    rows = record(Kind.RECV, 10, 7)
    assert in_run_time(rows, 1, {}, 2) is rows


@pytest.mark.parametrize(
    "told",
    [
        pytest.param({"1": {"readings": [[5, 0, 0], [4, 0, 0]]}}, id="backwards"),
        pytest.param({"1": {"readings": [[5, 0, -1]]}}, id="a bound below 0"),
        pytest.param({"1": {"readings": [[5, 0]]}}, id="two columns"),
        pytest.param({"1": {"readings": [["x", 0, 0]]}}, id="no number"),
        pytest.param({"one": {"readings": []}}, id="no worker"),
        pytest.param({"1": 7}, id="no object"),
        pytest.param([1], id="a list"),
    ],
)
def test_readings_that_make_no_sense_are_told(told: Any) -> None:
    with pytest.raises(HistoryError, match=r"clock\.workers must map workers to readings"):
        host_clocks({"clock": {"workers": told}})

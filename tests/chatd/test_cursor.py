"""Position, outbox and backoff: the values that every client of chatd stands on."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.protocol.cursor import Backoff, Cursor, Outbox, Step

D, R, G = Step.DELIVER, Step.REPEAT, Step.GAP


@pytest.mark.parametrize(
    ("start", "arrivals", "steps", "position"),
    [
        pytest.param(0, [1, 2, 3], [D, D, D], 3, id="in order"),
        pytest.param(0, [1, 2, 2], [D, D, R], 2, id="repeat"),
        pytest.param(0, [1, 3], [D, G], 1, id="a hole does not move the position"),
        pytest.param(0, [1, 3, 2, 3], [D, G, D, D], 3, id="a hole that fills"),
        pytest.param(0, [2, 1], [G, D], 1, id="out of order"),
        pytest.param(40, [40, 39, 41], [R, R, D], 41, id="resumed"),
        pytest.param(2**53 - 2, [2**53 - 1], [D], 2**53 - 1, id="the last serial there is"),
    ],
)
def test_cursor_says_what_each_serial_means(
    start: int, arrivals: list[int], steps: list[Step], position: int
) -> None:
    cursor = Cursor()
    cursor.start("E1", start)
    assert [cursor.receive(serial) for serial in arrivals] == steps
    assert cursor.position == ("E1", position)


@given(st.lists(st.integers(1, 12), max_size=80))
def test_whatever_arrives_the_delivered_serials_are_a_run_from_the_start(arrivals: list[int]) -> None:
    cursor = Cursor()
    cursor.start("E1", 0)
    delivered = [serial for serial in arrivals if cursor.receive(serial) is D]
    assert delivered == list(range(1, len(delivered) + 1))


def test_cursor_has_no_position_before_it_was_started() -> None:
    assert Cursor().position is None


@given(st.lists(st.integers(1, 100)))
def test_observer_is_at_the_highest_serial_that_it_saw(arrivals: list[int]) -> None:
    cursor = Cursor()
    cursor.start("E1", 0)
    for serial in arrivals:
        cursor.observe(serial)
    assert cursor.position == ("E1", max(arrivals, default=0))


@pytest.mark.parametrize(
    ("serial", "fork", "after"),
    [
        pytest.param(90, 100, 90, id="before the fork: the same place under the new name"),
        pytest.param(100, 100, 100, id="at the fork"),
        pytest.param(104, 100, 100, id="behind the fork: back to it"),
    ],
)
def test_fork_moves_the_position_to_the_new_epoch(serial: int, fork: int, after: int) -> None:
    cursor = Cursor()
    cursor.start("E1", serial)
    cursor.fork("E2", fork)
    assert cursor.position == ("E2", after)


def test_outbox_keeps_the_order_of_publishing_and_settles_once() -> None:
    outbox: Outbox[int] = Outbox()
    for n in range(4):
        outbox.add(f"m{n}", n)
    assert outbox.settle("m1") == 1
    assert outbox.settle("m1") is None
    assert outbox.settle("never") is None
    assert outbox.get("m2") == 2
    assert outbox.pending() == [("m0", 0), ("m2", 2), ("m3", 3)]
    assert len(outbox) == 3


def test_settling_while_walking_over_what_is_pending_is_safe() -> None:
    outbox: Outbox[int] = Outbox()
    for n in range(4):
        outbox.add(f"m{n}", n)
    for message, _ in outbox.pending():
        outbox.settle(message)
    assert len(outbox) == 0


@given(st.integers(0, 2**32), st.integers(1, 100))
def test_delay_is_within_the_ceiling_of_its_attempt(seed: int, attempts: int) -> None:
    backoff, rng = Backoff(base_s=0.5, cap_s=30), random.Random(seed)
    for attempt in range(attempts):
        delay_s = backoff.next_delay_s(0.0, rng)
        assert 0 <= delay_s <= min(30, 0.5 * 2**attempt)


def test_delays_spread_over_the_whole_range() -> None:
    """Full jitter: a thousand clients do not come back together."""
    delays = [Backoff(base_s=1.0).next_delay_s(0.0, random.Random(seed)) for seed in range(1000)]
    tenths = [sum(1 for delay in delays if n / 10 <= delay < (n + 1) / 10) for n in range(10)]
    assert min(tenths) > 60


@pytest.mark.parametrize(
    ("lasted_s", "attempt"),
    [
        pytest.param(4.9, 4, id="too short: the attempts go on counting"),
        pytest.param(5.0, 1, id="long enough: they start again"),
    ],
)
def test_attempts_are_forgotten_only_after_a_connection_that_lasted(lasted_s: float, attempt: int) -> None:
    backoff, rng = Backoff(), random.Random(1)
    for _ in range(3):
        backoff.next_delay_s(0.0, rng)
    backoff.connected(100.0)
    backoff.next_delay_s(100.0 + lasted_s, rng)
    assert backoff.attempt == attempt


def test_one_connection_resets_the_attempts_once() -> None:
    backoff, rng = Backoff(), random.Random(1)
    backoff.connected(0.0)
    for _ in range(3):
        backoff.next_delay_s(1000.0, rng)
    assert backoff.attempt == 3


def test_ten_thousand_attempts_do_not_overflow() -> None:
    backoff = Backoff(attempt=10_000)
    assert 0 <= backoff.next_delay_s(0.0, random.Random(1)) <= 30

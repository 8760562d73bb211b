"""The clock of another host: the bound holds whatever the network did, and the best exchange is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.clock import BURST, WINDOW_NS, Reading, Watch, read

SECOND = 1_000_000_000
delays = st.integers(0, 10 * SECOND)
clocks = st.integers(-(10**18), 10**18)


@given(asked=clocks, ahead=clocks, there=delays, back=delays)
def test_the_true_offset_is_within_the_bound_whatever_each_direction_took(
    asked: int, ahead: int, there: int, back: int
) -> None:
    told = read(asked_ns=asked, worker_ns=asked + there - ahead, answered_ns=asked + there + back)
    assert abs(told.offset_ns - ahead) <= told.bound_ns
    assert told.bound_ns == (there + back + 1) // 2


@given(ahead=clocks, trips=st.lists(st.tuples(delays, delays), min_size=BURST, max_size=40))
def test_what_a_watch_keeps_is_the_shortest_trip_and_holds_too(
    ahead: int, trips: list[tuple[int, int]]
) -> None:
    watch, now, first = Watch(), 0, trips[:BURST]
    for there, back in first:
        kept = watch.add(read(asked_ns=now, worker_ns=now + there - ahead, answered_ns=now + there + back))
        now += there + back + 1
    assert kept is not None
    assert watch.readings == [kept]
    assert kept.bound_ns == min((there + back + 1) // 2 for there, back in first)
    assert abs(kept.offset_ns - ahead) <= kept.bound_ns


def test_an_answer_before_its_question_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="answered_ns is 4: must not be before asked_ns, 5"):
        read(asked_ns=5, worker_ns=0, answered_ns=4)


def test_the_first_reading_comes_with_the_burst_and_the_others_with_their_windows() -> None:
    watch = Watch()
    step = WINDOW_NS // 20
    times = [watch.add(Reading(at * step, 7, 100 - at)) for at in range(1, BURST + 50)]
    kept = [reading.worker_ns // step for reading in times if reading is not None]
    assert kept == [BURST, BURST + 21, BURST + 42]  # the last of each has the shortest trip here
    assert watch.readings == [reading for reading in times if reading is not None]


def test_closing_keeps_what_has_been_compared_since() -> None:
    watch = Watch()
    assert watch.close() is None
    assert watch.add(Reading(1, 7, 30)) is None
    assert watch.add(Reading(2, 8, 20)) is None
    assert watch.close() == Reading(2, 8, 20)
    assert watch.close() is None

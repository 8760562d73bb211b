from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chatd.wheel import Turn, Wheel, turn


def test_an_item_has_one_deadline_the_last_one_set() -> None:
    wheel = Wheel[str](step_s=1.0, now=0.0)
    wheel.put("later", 9.0)
    wheel.put("later", 2.0)
    wheel.put("moved away", 1.0)
    wheel.put("moved away", 5.0)
    assert wheel.expire(2.0) == ["later"]
    assert wheel.expire(10.0) == ["moved away"]


def test_an_item_taken_out_does_not_come_back() -> None:
    wheel = Wheel[str](step_s=1.0, now=0.0)
    wheel.put("gone", 1.0)
    wheel.remove("gone")
    wheel.remove("never there")
    assert wheel.expire(5.0) == []


@given(
    st.floats(0, 1000),
    st.floats(0.01, 5),
    st.lists(st.floats(0, 50), max_size=30),
    st.lists(st.floats(0, 10), max_size=30),
)
def test_nothing_is_early_and_nothing_is_more_than_a_step_late(start, step_s, deadlines, moves) -> None:
    wheel = Wheel[int](step_s=step_s, now=start)
    due = {number: start + after for number, after in enumerate(deadlines)}
    for number, when in due.items():
        wheel.put(number, when)
    now, found = start, set()
    for move in [*moves, 100.0]:
        now += move
        for number in wheel.expire(now):
            assert number not in found
            assert due[number] <= now + 1e-6
            found.add(number)
        assert all(number in found for number, when in due.items() if when + 2 * step_s <= now)
    assert found == set(due)


def test_a_process_that_stood_still_gives_nobody_up_once_and_says_so_every_time() -> None:
    went, told = Turn(stood_still=False, expires=True), []
    for lag_s in (0.1, 5.0, 5.0, 5.0, 0.1, 5.0):
        went = turn(lag_s, 0.5, went)
        told.append(went)
    assert [one.stood_still for one in told] == [False, True, True, True, False, True]
    assert [one.expires for one in told] == [True, False, True, False, True, False]

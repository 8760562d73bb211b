"""Marks of reading: they only rise, and are pushed seldom."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from chatd.protocol.messages import Mark
from chatd.receipts import GATHER_S, USERS, Marks


def test_a_mark_rises_and_never_falls() -> None:
    marks = Marks()
    assert marks.report("ann", "read", 5, 0.0)
    assert not marks.report("ann", "read", 5, 0.0)
    assert not marks.report("ann", "read", 4, 0.0)
    assert marks.report("ann", "delivered", 7, 0.0)
    assert marks.all() == [Mark("ann", delivered=7, read=5)]


def test_the_first_report_is_pushed_at_once_and_the_next_ones_together() -> None:
    marks = Marks()
    marks.report("ann", "read", 1, 10.0)
    assert marks.due == 10.0
    assert marks.take(10.0) == [Mark("ann", read=1)]
    marks.report("ann", "read", 2, 10.01)
    marks.report("bob", "read", 2, 10.02)
    marks.report("ann", "read", 3, 10.03)
    assert marks.due == 10.0 + GATHER_S
    assert marks.take(10.1) == []
    assert marks.take(10.0 + GATHER_S) == [Mark("ann", read=3), Mark("bob", read=2)]
    assert marks.due is None


def test_the_user_who_reported_longest_ago_makes_room() -> None:
    marks = Marks()
    for n in range(USERS):
        marks.report(f"u{n}", "read", 1, 0.0)
    marks.report("u0", "read", 2, 0.0)
    marks.report("new", "read", 1, 0.0)
    users = [mark.user for mark in marks.all()]
    assert len(users) == USERS
    assert "u1" not in users
    assert {"u0", "new"} <= set(users)
    assert len(marks.take(1.0)) == USERS, "nobody is pushed who is no longer kept"


def test_what_was_missed_is_pushed_whole() -> None:
    marks = Marks()
    marks.again(3.0)
    assert marks.due is None, "there is nothing"
    marks.report("ann", "read", 1, 0.0)
    marks.report("bob", "read", 1, 0.0)
    marks.take(0.0)
    marks.again(3.0)
    assert marks.due == 3.0
    assert [mark.user for mark in marks.take(3.0)] == ["ann", "bob"]


reports = st.tuples(
    st.sampled_from(["ann", "bob"]),
    st.sampled_from(["read", "delivered"]),
    st.integers(0, 9),
    st.floats(0, 0.3),
)


@settings(deadline=None)
@given(st.lists(reports, max_size=30))
def test_who_takes_the_maximum_of_all_pushes_knows_every_mark(script) -> None:
    marks, now, heard, pushes = Marks(), 0.0, {}, []
    truth: dict[tuple[str, str], int] = {}

    def take() -> None:
        if taken := marks.take(now):
            pushes.append(now)
        for mark in taken:
            for kind in ("read", "delivered"):
                key = (mark.user, kind)
                assert getattr(mark, kind) >= heard.get(key, 0)
                heard[key] = getattr(mark, kind)

    for user, kind, serial, pause in script:
        now += pause
        take()
        marks.report(user, kind, serial, now)
        truth[user, kind] = max(truth.get((user, kind), 0), serial)
    now = marks.due or now
    take()
    assert {key: value for key, value in heard.items() if value} == {k: v for k, v in truth.items() if v}
    assert all(b - a >= GATHER_S - 1e-9 for a, b in pairwise(pushes))

"""Stretches of a run, and how anomalies spread over them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from reports.by_phase import NO_TIME, Course, Share, Spread, Stretch, Where, by_span, shares, stretches
from reports.periods import FaultWindow, Phase

WARM, STEADY = Phase("warm", 100, 200, True), Phase("steady", 200, 300)
NAMED = [
    Stretch(Where.NO_TIME),
    Stretch(Where.BEFORE),
    Stretch(Where.PHASE, "warm", True),
    Stretch(Where.PHASE, "steady"),
    Stretch(Where.AFTER),
]


def window(begin: int | None, end: int | None, ident: str = "f") -> FaultWindow:
    return FaultWindow(
        id=ident, kind="down", target="all", planned_ns=begin, applied_ns=begin, reverted_ns=end
    )


def spread(at: int, *windows: FaultWindow, **how: Any) -> list[int]:
    """Counts by stretch, and after them how many under a fault."""
    first, last = how.pop("first", at), how.pop("last", at)
    course = Course([WARM, STEADY], windows, 400)
    found = course.spread(np.array([at]), np.array([first]), np.array([last]), **how).stretches
    return [*(n for n, _ in found), sum(under for _, under in found)]


def test_stretches_are_numbered_in_the_order_of_time_whatever_the_order_in_the_manifest() -> None:
    assert stretches([STEADY, WARM]) == NAMED
    assert [s.where for s in stretches([])] == [Where.NO_TIME, Where.BEFORE, Where.AFTER]


@pytest.mark.parametrize(
    ("at", "counts"),
    [
        pytest.param(NO_TIME, [1, 0, 0, 0, 0, 0], id="nobody knows when"),
        pytest.param(99, [0, 1, 0, 0, 0, 0], id="while clients connected"),
        pytest.param(100, [0, 0, 1, 0, 0, 0], id="first moment of the first phase"),
        pytest.param(199, [0, 0, 1, 0, 0, 0], id="last moment of the first phase"),
        pytest.param(200, [0, 0, 0, 1, 0, 0], id="first moment of the second"),
        pytest.param(300, [0, 0, 0, 0, 1, 0], id="once the last is over"),
    ],
)
def test_each_falls_into_one_stretch(at: int, counts: list[int]) -> None:
    assert spread(at) == counts


@pytest.mark.parametrize(
    ("first", "last", "windows", "under"),
    [
        pytest.param(110, 120, [window(121, 130)], 0, id="before it"),
        pytest.param(110, 121, [window(121, 130)], 1, id="as it begins"),
        pytest.param(130, 140, [window(121, 130)], 1, id="as it ends"),
        pytest.param(131, 140, [window(121, 130)], 0, id="after it"),
        pytest.param(110, 140, [window(121, 130)], 1, id="around it"),
        pytest.param(160, 170, [window(110, 190, "long"), window(120, 130)], 1, id="the first is still on"),
        pytest.param(350, 360, [window(110, None)], 1, id="never reverted"),
        pytest.param(150, 160, [window(None, None)], 0, id="never applied"),
    ],
)
def test_a_fault_counts_that_was_in_force_between_the_two_times(
    first: int, last: int, windows: list[FaultWindow], under: int
) -> None:
    assert spread(last, *windows, first=first)[-1] == under


def test_what_has_no_time_is_under_no_fault() -> None:
    assert spread(NO_TIME, window(1, None), first=0, last=400) == [1, 0, 0, 0, 0, 0]


def test_one_may_stand_for_many() -> None:
    assert spread(210, window(200, 250), weight=np.array([7])) == [0, 0, 0, 7, 0, 7]


def test_a_run_without_a_phase_has_all_before_or_after() -> None:
    at = np.array([5, NO_TIME])
    assert Course([], [], 400).spread(at, at, at).stretches == ((1, 0), (1, 0), (0, 0))


def test_spreads_add_up_and_nothing_adds_nothing() -> None:
    some, none = Spread(((0, 0), (1, 1), (2, 0)), (4, 0)), Spread()
    assert some + some == Spread(((0, 0), (2, 2), (4, 0)), (8, 0))
    assert none + some == some == some + none
    assert none + none == none


def test_spans_count_what_may_have_happened_in_them() -> None:
    course = Course([WARM], [], 400, [(120, 140), (130, 300)])
    at, first = np.array([110, 125, 150, 145, NO_TIME]), np.array([100, 119, 141, 140, 0])
    last, weight = np.array([119, 130, 150, 145, 400]), np.array([1, 2, 3, 10, 90])
    found = course.spread(at, first, last, weight)
    assert by_span(found, {"a": (120, 140), "b": (130, 300)}) == {"a": 12, "b": 15}
    assert by_span(Spread(), {"a": (1, 2)}) == {"a": 0}


def test_shares_have_the_names_of_their_stretches() -> None:
    told = shares(Spread(((0, 0), (0, 0), (3, 1), (0, 0), (2, 2))), [WARM, STEADY])
    assert [share.stretch for share in told] == NAMED
    assert [share for share in told if share.count] == [Share(NAMED[2], 3, 1), Share(NAMED[4], 2, 2)]
    assert [(share.count, share.in_fault) for share in shares(Spread(), [WARM, STEADY])] == [(0, 0)] * 5

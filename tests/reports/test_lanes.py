"""Faults as lanes: what a plan says, and bounded for any plan."""

from __future__ import annotations

from reports.effects import FaultEffect
from reports.grids import Mark
from reports.lanes import MOST_LANES, MOST_MARKS, lanes


def fault(
    name: str, planned: float | None, applied: float | None, reverted: float | None, *, kind: str = "down"
) -> FaultEffect:
    return FaultEffect(
        id=name, kind=kind, target="b", planned_s=planned, applied_s=applied, reverted_s=reverted
    )


def plain(told: str) -> str:
    return told.replace("\u00a0", " ")


def test_a_fault_has_a_lane_that_tells_how_late_it_was() -> None:
    (lane,) = lanes([fault("cut", 4.0, 4.0125, 5.0125)], {"cut": "1"})
    (mark,) = lane.marks
    assert (lane.label, lane.number, plain(lane.aside)) == (
        "cut · down · b",
        "1",
        "12.5 ms late; 1.00 s in force",
    )
    assert (mark.planned, mark.begin, mark.end) == (4.0, 4.0125, 5.0125)
    assert plain(mark.told) == (
        "cut (down, b): planned at 4.00 s, applied at 4.01 s, 12.5 ms late, "
        "reverted at 5.01 s, 1.00 s in force"
    )


def test_what_never_happened_is_said() -> None:
    never, endless, early = lanes(
        [fault("a", 1.0, None, None), fault("b", 2.0, 2.0, None), fault("c", 3.0, 2.998, 4.0)], {}
    )
    assert (never.aside, plain(endless.aside)) == ("never applied", "0 ms late; never reverted")
    assert plain(early.aside).startswith("2.00 ms early")
    assert (never.marks[0].begin, endless.marks[0].end) == (None, None)


def test_a_long_plan_has_a_lane_for_each_kind_with_a_mark_a_fault() -> None:
    many = [fault(f"f{n}", n, n + n / 1000, n + 0.5, kind="down" if n % 2 else "latency") for n in range(40)]
    found = lanes([*many, fault("no", 50, None, None)], {})
    assert [lane.label for lane in found] == ["latency · b", "down · b"]
    assert [len(lane.marks) for lane in found] == [20, 21]
    assert plain(found[0].aside) == "20 faults, at most 38.0 ms late"
    assert plain(found[1].aside) == "21 faults, 1 never applied, at most 39.0 ms late"


def test_no_plan_has_more_marks_or_lanes_than_a_screen_can_show() -> None:
    many = [fault(f"f{n}", n, n, n + 0.25, kind=f"kind{n % 50}") for n in range(2000)]
    found = lanes(many, {})
    assert len(found) == MOST_LANES
    assert found[-1].label == "31 other kinds and targets"
    assert sum(len(lane.marks) for lane in found) <= MOST_MARKS
    one = lanes([fault(f"f{n}", n, n, n + 0.25) for n in range(1000)] + [fault("late", 5000, 5000, 5001)], {})
    assert len(one[0].marks) == MOST_MARKS
    assert one[0].marks[-1].told.startswith("late")
    assert "faults, from" in one[0].marks[-2].told


def test_marks_that_became_one_last_from_the_first_to_the_last() -> None:
    close = [fault(f"f{n}", n / 10, n / 10, n / 10 + 0.05) for n in range(MOST_MARKS)]
    far = [fault(f"g{n}", 100.0 + 10 * n, 100.0 + 10 * n, None) for n in range(MOST_MARKS - 1)]
    (lane,) = lanes([*close, *far], {})
    assert lane.marks[0] == Mark(None, 0.0, 23.95, "240 faults, from 0.00 to 23.95\u00a0s")

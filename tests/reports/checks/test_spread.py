"""The counts of a class by stretch of the run add up to its count, and agree with its findings."""

from __future__ import annotations

from collections import Counter

import pytest

from reports.by_phase import shares, stretches
from reports.checks import Integrity, run_checks
from reports.checks.result import CAP, ClassResult
from reports.history import History
from reports.periods import fault_windows, phases
from tests.builders import T0, Story, fault_lines
from tests.reports.checks.twins import TWINS
from tests.scenes import Scene
from tests.simulator.edits import EDITS

PARTS = 4  # phases that the time of a story is cut into; the last fifth is after all of them


def in_phases(story: Story) -> History:
    """The story as a history of a run with several phases."""
    history = story.history()
    step = (story.now - T0) // (PARTS + 1)
    history.run["phases"] = [
        {"name": f"p{i}", "start_ns": T0 + i * step, "end_ns": T0 + (i + 1) * step, "warmup": not i}
        for i in range(PARTS)
    ]
    return history


def fits(result: ClassResult, history: History) -> None:
    """What must hold of every class in every history."""
    known = phases(history.run)
    told = shares(result.spread, known)
    assert sum(share.count for share in told) == result.count, result
    assert all(0 <= share.in_fault <= share.count for share in told), result
    if result.count == len(result.findings):  # each finding is one anomaly, and none was left out
        assert sum(share.in_fault for share in told) == sum(bool(f.faults) for f in result.findings), result
        possible = [{_stretch(history, t) for t in (f.first_t, f.last_t)} for f in result.findings]
        used = Counter({str(share.stretch): share.count for share in told if share.count})
        if result.cls not in ("D1", "V6"):  # by when it was sent; and an exit without a time has none
            assert set(used) <= set().union(*possible), result


def _stretch(history: History, t: int) -> str:
    known = phases(history.run)
    number = 1 + sum(t >= phase.start_ns for phase in known) + (t >= known[-1].end_ns)
    return str(stretches(known)[number])


def judged(story: Story) -> tuple[Integrity, History]:
    history = in_phases(story)
    return run_checks(history), history


@pytest.mark.parametrize("cls", TWINS)
def test_stretches_add_up_in_the_bad_history_of_each_class(cls: str) -> None:
    found, history = judged(TWINS[cls].bad())
    assert found.classes[cls].count == TWINS[cls].count
    for result in found.classes.values():
        fits(result, history)


@pytest.mark.parametrize("name", EDITS)
def test_stretches_add_up_in_simulated_histories_with_faults(name: str) -> None:
    for edited in EDITS[name].examples(4):
        found, history = judged(edited.story)
        assert any(result.count for result in found.classes.values())
        for result in found.classes.values():
            fits(result, history)


def test_more_than_are_told_are_all_counted_where_their_messages_were_sent() -> None:
    scene = Scene(clients=2)
    scene.conn(1)
    scene.join(2)
    scene.publish(1)
    ends = [scene.now]
    for lost in (5, CAP + 5, 3):
        for _ in range(lost):
            scene.publish(1, skip=[2])
        ends.append(scene.now)
    scene.publish(1)  # after which all of them are known to be missing, in one hole
    scene.finish()
    history = scene.history()
    names = ("calm", "storm", "late")
    history.run["phases"] = [
        {"name": name, "start_ns": begin, "end_ns": end}
        for name, begin, end in zip(names, ends[:-1], ends[1:], strict=True)
    ]
    history.faults.extend(fault_lines("cut", "latency", ends[1], ends[2]))
    found = run_checks(history).classes["D1"]
    told = shares(found.spread, phases(history.run))
    assert {s.stretch.phase: s.count for s in told if s.count} == {"calm": 5, "storm": CAP + 5, "late": 3}
    assert found.count == CAP + 13 > len(found.findings)
    fits(found, history)


def test_a_duplicate_falls_where_it_came_again_and_under_the_fault_that_began_in_between() -> None:
    scene = Scene(clients=2)
    scene.conn(1)
    scene.join(2)
    message = scene.publish(1)
    between = scene.now
    scene.wait(1)
    begin = scene.now
    scene.recv(2, 1, message)
    end = scene.now + 1
    scene.finish()
    history = scene.history()
    history.run["phases"] = [
        {"name": "first", "start_ns": T0, "end_ns": begin},
        {"name": "second", "start_ns": begin, "end_ns": end},
    ]
    history.faults.extend(fault_lines("slow", "latency", between + 10, between + 20))
    assert len(fault_windows(history.faults)) == 1
    told = shares(run_checks(history).classes["D5"].spread, phases(history.run))
    assert [(s.stretch.phase, s.count, s.in_fault) for s in told if s.count] == [("second", 1, 1)]


def test_an_exit_of_which_nobody_wrote_the_time_has_none() -> None:
    story = TWINS["V6"].bad()
    for line in story.faults:
        if line.get("kind") == "exit":
            line["t"] = None
    found, history = judged(story)
    told = shares(found.classes["V6"].spread, phases(history.run))
    assert [str(s.stretch.where) for s in told if s.count] == ["no time"]
    fits(found.classes["V6"], history)


def test_a_hole_of_several_serials_counts_each_of_them() -> None:
    scene = Scene(clients=2)
    scene.conn(1)
    scene.join(2)
    scene.publish(1)
    for _ in range(3):
        scene.publish(1, acked=False, skip=[2])
    scene.publish(1)
    scene.trim(1, 6)
    scene.finish()
    found, history = judged(scene)
    assert (found.classes["L4"].count, len(found.classes["L4"].findings)) == (3, 1)
    fits(found.classes["L4"], history)

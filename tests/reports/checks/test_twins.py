"""Every class reports its bad golden history and is silent on the legal one, a record apart."""

from __future__ import annotations

from collections import Counter

import pytest

from reports.checks import CHECKS, Verdict, run_checks
from reports.checks.table import NEVER_GATED
from tests.builders import Story
from tests.reports.checks.twins import TWINS
from tests.reports.checks.verdicts import counts


def apart(one: Story, other: Story) -> int:
    """How many records, or lines of faults, one has and the other has not; times do not matter."""

    def untimed(story: Story) -> Counter[object]:
        records = [(worker, *row[2:]) for worker, log in story.logs.items() for row in log]
        return Counter([*records, *(repr(sorted(line.items(), key=str)) for line in story.faults)])

    a, b = untimed(one), untimed(other)
    return max((a - b).total(), (b - a).total())


def test_every_class_has_twins() -> None:
    assert TWINS.keys() == CHECKS.keys()


@pytest.mark.parametrize("cls", CHECKS)
def test_the_bad_history_is_reported_exactly(cls: str) -> None:
    twin = TWINS[cls]
    judged = run_checks(twin.bad().history())
    found = counts(judged)
    assert found.pop(cls) == twin.count
    assert found.keys() == twin.also
    assert judged.verdict is (Verdict.VALID if cls in NEVER_GATED else Verdict.INVALID), judged.reasons
    finding = judged.classes[cls].findings[0]
    assert finding.cls == cls
    assert finding.sentence
    assert finding.records or cls == "V6"


@pytest.mark.parametrize("cls", CHECKS)
def test_its_legal_twin_is_valid(cls: str) -> None:
    judged = run_checks(TWINS[cls].legal().history())
    assert counts(judged) == {}
    assert judged.verdict is Verdict.VALID, judged.reasons


@pytest.mark.parametrize("cls", CHECKS)
def test_twins_are_at_most_one_record_apart(cls: str) -> None:
    assert apart(TWINS[cls].bad(), TWINS[cls].legal()) <= 1


def test_who_was_never_ready_has_broken_no_promise_by_its_end() -> None:
    story = TWINS["V6"].bad()
    story.faults = [line | {"ready": False} if line["kind"] == "exit" else line for line in story.faults]
    assert not run_checks(story.history()).classes["V6"].count

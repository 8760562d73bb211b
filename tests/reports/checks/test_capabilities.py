"""What a server does not promise is not held against it, and never shown as nothing found."""

from __future__ import annotations

import pytest

from loadgen.drivers.base import Capability
from reports.checks import CHECKS, Integrity, Verdict
from reports.history import Kind
from tests.builders import Story
from tests.reports.checks.twins import TWINS
from tests.reports.checks.verdicts import counts, judge
from tests.scenes import Scene

ALL = sorted(str(capability) for capability in Capability)


def without(*capabilities: str) -> list[str]:
    return [capability for capability in ALL if capability not in capabilities]


def silent_on_places(scene: Scene) -> Scene:
    """The same, of a server that acks without saying where it placed the message."""
    for log in scene.logs.values():
        for at, row in enumerate(log):
            if row[8] == Kind.ACK:
                log[at] = (*row[:6], 0, 0, *row[8:])
    scene.contract["capabilities"] = without("ack-position")
    return scene


def quiet_scene() -> Scene:
    scene = Scene(clients=2)
    scene.join(1), scene.join(2)
    return scene


def test_what_classes_need_is_what_drivers_can_offer() -> None:
    needed = set().union(*(check.needs for check in CHECKS.values()))
    assert needed <= set(ALL)


@pytest.mark.parametrize("cls", [cls for cls, check in CHECKS.items() if check.needs])
def test_a_class_is_judged_only_where_all_that_it_needs_is_offered(cls: str) -> None:
    story = TWINS[cls].bad()
    assert judge(story).classes[cls].count
    for need in sorted(CHECKS[cls].needs):
        story.contract["capabilities"] = without(need)
        result = judge(story).classes[cls]
        assert (result.promised, result.count, result.gated, result.unknown) == (False, 0, False, False)
        assert need in result.lacks


@pytest.mark.parametrize("cls", [cls for cls, check in CHECKS.items() if check.needs])
def test_all_offered_is_judged_as_nothing_said(cls: str) -> None:
    story = TWINS[cls].bad()
    before = counts(judge(story))
    story.contract["capabilities"] = ALL
    assert counts(judge(story)) == before


def test_a_second_place_is_an_anomaly_only_of_a_server_that_dedupes() -> None:
    def twice(offered: list[str]) -> Integrity:
        scene = quiet_scene()
        message = scene.publish(1, acked=False)
        scene.retry(message)
        scene.commit(message)
        scene.finish()
        scene.contract["capabilities"] = offered
        return judge(scene)

    assert twice(ALL).classes["L2"].count == 1
    judged = twice(without("dedupe"))
    assert judged.verdict is Verdict.VALID
    assert judged.classes["L2"].lacks == ("dedupe",)
    assert judged.classes["L2x"].count == 1


@pytest.mark.parametrize(
    ("lacking", "unknown"),
    [
        pytest.param("", True, id="all promised"),
        pytest.param("resume", False, id="no resume"),
    ],
)
def test_a_rule_of_vacuity_rests_on_what_is_promised(lacking: str, unknown: bool) -> None:
    scene = quiet_scene()
    scene.publish(1)
    scene.finish()
    scene.expect["resumes"] = True
    scene.contract["capabilities"] = without(lacking)
    assert (judge(scene).verdict is Verdict.UNKNOWN) == unknown


def test_a_run_without_acks_is_no_emptier_for_it() -> None:
    scene = quiet_scene()
    scene.publish(1, acked=False)
    scene.publish(1, acked=False)
    said = judge(scene).reasons
    assert sum(why.startswith(("no publish was acked", "no sentinel was acked")) for why in said) == 2
    scene.contract["capabilities"] = without("ack", "ack-position")
    assert not [why for why in judge(scene).reasons if why.startswith(("no publish", "no sentinel"))]


# ── acks without a position ────────────────────────────────────────────────────────────────────


def test_a_message_stands_where_it_was_first_seen_if_its_ack_does_not_say() -> None:
    scene = quiet_scene()
    for _ in range(3):
        scene.publish(1)
    scene.finish()
    judged = judge(silent_on_places(scene))
    assert (judged.verdict, counts(judged)) == (Verdict.VALID, {})
    assert judged.classes["L9"].lacks == ("ack-position",)
    assert judged.coverage.sentinels == 1
    assert judged.coverage.unwitnessed == 0


def test_what_one_subscriber_lacks_is_missing_all_the_same() -> None:
    scene = quiet_scene()
    scene.publish(1, skip=[2])
    scene.publish(1)
    scene.finish()
    assert counts(judge(silent_on_places(scene))) == {"D1": 1}


def lost(*, lives: int = 1, trimmed: bool = False) -> Story:
    """An acked message that nobody ever saw."""
    scene = quiet_scene()
    scene.publish(1)
    if trimmed:
        scene.trim(1, 2)
    message = scene.next_message(1)
    scene.send(1, message[1])
    scene.ack(1, message[1], 2)
    if lives > 1:
        scene.cut(2)
        scene.new_life()
        scene.join(2)
    scene.publish(1)
    scene.finish()
    return silent_on_places(scene)


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        pytest.param(lost(), 1, id="the reads have all"),
        pytest.param(lost(trimmed=True), 0, id="it may have been trimmed"),
        pytest.param(lost(lives=2), 0, id="it may have gone with its epoch"),
    ],
)
def test_what_was_acked_and_is_nowhere_is_lost_where_all_can_be_read(story: Story, expected: int) -> None:
    judged = judge(story)
    assert judged.classes["L3"].count == expected
    assert judged.coverage.unwitnessed == 1 - expected


def test_a_sentinel_that_nobody_saw_closes_nothing() -> None:
    scene = quiet_scene()
    scene.publish(1)
    scene.drain(behind=[1, 2])
    judged = judge(silent_on_places(scene))
    assert judged.verdict is Verdict.UNKNOWN
    assert any("no sentinel was acked" in why for why in judged.reasons)

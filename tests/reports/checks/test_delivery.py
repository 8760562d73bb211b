"""Gaps, repeats and reorder: which of them, and how many."""

from __future__ import annotations

import pytest

from reports.history import Flag
from tests.reports.checks.twins import TWINS, two_clients
from tests.reports.checks.verdicts import counts, judge
from tests.scenes import Scene


def test_a_serial_that_nothing_showed_is_not_the_subscribers_loss() -> None:
    scene = two_clients()
    scene.publish(1)
    scene.log[1].append(None)  # the log skips a serial
    scene.publish(1)
    scene.finish()
    assert "D1" not in counts(judge(scene))


def test_a_late_frame_is_reordered_and_not_missing() -> None:
    scene = two_clients()
    scene.publish(1, skip=[2])
    scene.publish(1, skip=[2])
    scene.publish(1)
    scene.give(2, 1, 1)
    scene.finish()
    assert counts(judge(scene)) == {"D1": 1, "D6": 1}


def test_a_repeated_late_frame_is_one_of_each() -> None:
    scene = two_clients()
    scene.publish(1, skip=[2])
    scene.publish(1)
    scene.give(2, 1, 1)
    scene.give(2, 1, 1)
    scene.finish()
    assert counts(judge(scene)) == {"D5": 1, "D6": 1}


def test_a_damaged_frame_is_no_gap_and_its_intact_copy_no_repeat() -> None:
    scene = two_clients()
    message = scene.publish(1, skip=[2])
    scene.recv(2, 1, message, flags=Flag.BAD_DIGEST)
    scene.publish(1)
    scene.recv(2, 1, message)
    scene.finish()
    assert counts(judge(scene)) == {"L7": 1}


def test_an_unreadable_body_where_a_message_stands_is_damage_and_elsewhere_a_phantom() -> None:
    scene = two_clients()
    scene.publish(1, skip=[2])
    scene.recv(2, 1, (0, 0), flags=Flag.FOREIGN)
    assert judge(scene).classes["L7"].count == 1
    scene.recv(2, 2, (0, 0), flags=Flag.FOREIGN)
    assert judge(scene).classes["L5"].count == 1


def test_a_gap_notice_excuses_only_what_it_names() -> None:
    scene = two_clients()
    for _ in range(4):
        scene.publish(1, skip=[2])
    scene.gap(2, 1, 3)
    scene.stands[2, 1] = 1, 4
    scene.publish(1)
    scene.finish()
    judged = judge(scene)
    assert counts(judged) == {"D1": 1, "D3": 1}
    assert judged.classes["D1"].findings[0].serials == ((4, 4),)


def test_holes_of_the_dead_count_as_far_as_they_received() -> None:
    scene = Scene(clients=3)
    scene.join(1), scene.join(2), scene.join(3)
    scene.publish(1, skip=[2])
    scene.publish(1)
    scene.publish(1, skip=[2])
    scene.cut(2, on_purpose=True)
    scene.finish()
    assert counts(judge(scene)) == {"D1": 1}


def test_own_messages_are_not_owed_where_echo_is_off() -> None:
    scene = Scene(clients=2, echo=False)
    scene.join(1), scene.join(2)
    scene.publish(1)
    scene.publish(2)
    scene.publish(1)
    scene.cut(1)
    scene.publish(1)
    scene.publish(2)
    scene.back(1)
    scene.finish()
    assert counts(judge(scene)) == {}


def test_an_own_message_that_only_its_ack_showed_is_not_owed_where_echo_is_off() -> None:
    """Nobody else was there to see it, and it is trimmed before the final reads."""
    scene = Scene(clients=2, echo=False)
    scene.join(1)
    scene.conn(2)
    scene.publish(1)
    scene.publish(2)
    scene.trim(1, 3)
    scene.finish()
    judged = judge(scene)
    assert counts(judged) == {}
    assert judged.coverage.unwitnessed == 1


@pytest.mark.parametrize("lost", [False, True], ids=["its own", "its own, and another's"])
def test_final_reads_lack_the_sentinels_of_who_reads_where_echo_is_off(lost: bool) -> None:
    scene = Scene(clients=2, echo=False)
    scene.join(1), scene.join(2)
    scene.publish(1)
    scene.publish(1)
    scene.finish(forget=[(1, 3), *([(1, 1)] if lost else [])])
    assert counts(judge(scene)) == ({"L3": 1} if lost else {})


def test_others_messages_are_owed_where_echo_is_off() -> None:
    scene = Scene(clients=2, echo=False)
    scene.join(1), scene.join(2)
    scene.publish(1, skip=[2])
    scene.publish(1)
    scene.finish()
    assert counts(judge(scene)) == {"D1": 1}


def test_a_hole_is_told_without_the_serials_that_nothing_showed() -> None:
    scene = two_clients()
    scene.publish(1)
    scene.publish(1, skip=[2])
    scene.log[1].append(None)
    scene.publish(1, skip=[2])
    scene.publish(1)
    scene.finish()
    result = judge(scene).classes["D1"]
    assert result.count == 2
    assert result.findings[0].serials == ((2, 2), (4, 4))


def test_another_clients_close_ends_nobodys_subscription() -> None:
    scene = Scene(clients=3)
    scene.join(1), scene.join(2), scene.join(3)
    scene.cut(3, on_purpose=True)
    scene.publish(1, skip=[1])
    scene.publish(1)
    scene.drain()
    scene.final_reads()
    assert counts(judge(scene)) == {"D1": 1}


def test_leaving_one_channel_ends_no_subscription_to_another() -> None:
    scene = Scene(clients=2, channels=2, workers=2)
    scene.join(1, 1, 2), scene.join(2, 1, 2)
    scene.leave(1, 1)
    scene.publish(1, 2, skip=[1])
    scene.publish(1, 2)
    scene.publish(2, 1)
    scene.finish()
    assert counts(judge(scene)) == {"D1": 1}


@pytest.mark.parametrize("cls", ["L5", "L6", "L7"])
def test_findings_about_entries_name_their_place(cls: str) -> None:
    finding = judge(TWINS[cls].bad()).classes[cls].findings[0]
    assert (finding.channel, finding.epoch, finding.serials) == ("room:1", "E1", ((1, 1),))
    assert "room:1 E1 1" in finding.sentence


def test_a_damaged_message_outside_of_any_subscription_is_only_damaged() -> None:
    scene = two_clients()
    scene.leave(2)
    scene.recv(2, 1, scene.publish(1), flags=Flag.BAD_DIGEST)
    scene.subscribe(2)
    scene.finish()
    assert counts(judge(scene)) == {"L7": 1}


def test_a_message_that_strayed_into_its_place_hides_nobodys_own_message() -> None:
    """Echo is off; all that is seen of client 2's message is another channel's: client 2 missed nothing."""
    scene = two_clients(channels=2)
    scene.echo = False
    stray = scene.publish(1, 2)
    scene.join(3)
    scene.publish(1)
    own = scene.publish(2, skip=[3])
    scene.recv(3, scene.top(), stray)
    scene.publish(1)
    scene.trim(1, scene.top() + 1)
    scene.finish()
    assert own == (2, 1)
    assert counts(judge(scene)) == {"L6": 1}

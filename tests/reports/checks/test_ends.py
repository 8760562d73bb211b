"""The end of a run: stalled, lost, gone, and what the final reads say."""

from __future__ import annotations

import pytest

from reports.checks import Verdict
from reports.history import Flag, Mark
from tests.reports.checks.twins import two_clients
from tests.reports.checks.verdicts import counts, judge
from tests.scenes import Scene

# ── the end of a run ──────────────────────────────────────────────────────────────────────────


def test_without_a_forced_reconnect_stalled_is_not_lost() -> None:
    scene = two_clients()
    scene.publish(1)
    scene.drain(behind=[2])
    scene.final_reads()
    assert counts(judge(scene)) == {"V1": 1}


def test_who_subscribed_after_the_sentinel_owes_nothing_before_it() -> None:
    scene = two_clients()
    scene.publish(1)
    scene.leave(2)
    scene.drain()
    scene.subscribe(2)
    scene.final_reads()
    judged = judge(scene)
    assert counts(judged) == {}
    assert judged.verdict is Verdict.VALID, judged.reasons


def test_who_never_heard_of_the_new_life_is_stalled() -> None:
    scene = two_clients()
    scene.publish(1)
    scene.new_life()
    scene.open.discard((2, 1))
    scene.drain()
    scene.final_reads()
    assert counts(judge(scene)) == {"V1": 1}


def test_a_client_that_closes_and_comes_back_after_the_forced_reconnect_fails_is_only_stalled() -> None:
    """It was told to reconnect, and its new connection broke before waiting was over."""
    scene = two_clients()
    scene.publish(1)
    scene.drain(behind=[2])
    scene.mark(Mark.FORCED_RECONNECT)
    scene.cut(2, 1000, on_purpose=True)
    scene.conn(2)
    scene.resume(2, live=False, upto=1)
    scene.cut(2)
    scene.final_reads()
    assert counts(judge(scene)) == {"V1": 1}


def test_a_drop_just_before_the_end_is_not_held_against_the_client() -> None:
    scene = two_clients()
    scene.publish(1)
    scene.drain()
    scene.cut(2)
    scene.final_reads()
    assert counts(judge(scene)) == {}


def test_who_failed_to_connect_all_along_is_not_back() -> None:
    scene = Scene(clients=3)
    scene.join(1), scene.join(2)
    scene.conn(3, result=503)
    scene.conn(3, result=65536 + 111)
    scene.publish(1)
    scene.finish()
    judged = judge(scene)
    assert counts(judged) == {"V2": 1}
    assert "c3 failed to connect at 0.007 s" in judged.classes["V2"].findings[0].sentence


def test_a_planned_subscription_that_was_never_answered_makes_it_unknown() -> None:
    scene = two_clients()
    scene.subscriptions[1] = (1,)
    scene.publish(1)
    scene.finish()
    assert judge(scene).reasons == ("1 planned subscriptions of connected clients were never answered",)


# ── final reads ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("reads", "reason"), [(0, "no complete final read of room:1"), (1, "room:1 was read only once")]
)
def test_fewer_than_two_reads_leave_losses_unknown(reads: int, reason: str) -> None:
    scene = two_clients()
    scene.publish(1)
    scene.finish(reads=reads)
    judged = judge(scene)
    assert counts(judged) == {}
    assert judged.classes["L3"].unknown
    assert reason in judged.classes["L3"].reasons[0]
    assert judged.verdict is Verdict.UNKNOWN


def test_a_read_that_did_not_finish_proves_nothing() -> None:
    scene = two_clients()
    scene.publish(1)
    scene.finish(reads=2)
    scene.sub(0, 1, 0)
    judged = judge(scene)
    assert counts(judged) == {}
    assert judged.coverage.reads == 2


def test_reads_that_disagree_are_unknown_and_the_last_decides() -> None:
    scene = two_clients()
    scene.publish(1)
    scene.drain()
    scene.final_reads(reads=0)
    scene.read_channel(1, forget=[1])
    scene.read_channel(1)
    judged = judge(scene)
    assert counts(judged) == {}
    assert judged.classes["L3"].reasons == ("two final reads of room:1 disagree",)


@pytest.mark.parametrize("bad", [True, False], ids=["lacking", "trimmed meanwhile"])
def test_reads_agree_where_what_one_lacks_was_trimmed_while_it_was_read(bad: bool) -> None:
    scene = two_clients()
    scene.publish(1), scene.publish(1)
    scene.drain()
    scene.final_reads(reads=0)
    scene.read_channel(1)
    scene.sub(0, 1, 0)
    scene.read(1, (1, 1))
    if not bad:
        scene.gap(0, 2, 2)
    scene.read(3, (0, 1))
    scene.live(0, 1, 3)
    judged = judge(scene)
    assert counts(judged) == ({"L3": 1} if bad else {})
    assert judged.classes["L3"].unknown == bad


def test_a_message_that_stands_elsewhere_than_acked_is_not_lost() -> None:
    scene = two_clients()
    scene.next_message(1)
    scene.send(1, 1)
    scene.log[1].append((1, 1))
    scene.ack(1, 1, 2)
    scene.deliver(1, 1)
    scene.publish(1)
    scene.finish()
    assert "L3" not in counts(judge(scene))


def test_a_damaged_entry_is_not_called_lost() -> None:
    scene = two_clients()
    message = scene.publish(1)
    scene.drain()
    scene.mark(Mark.FINAL_READS)
    for _ in range(2):
        scene.sub(0, 1, 0)
        scene.read(1, message, flags=Flag.BAD_DIGEST)
        scene.read(2, (0, 1))
        scene.live(0, 1, 2)
    assert counts(judge(scene)) == {"L7": 1}


def test_trimmed_before_anybody_saw_it_is_unwitnessed() -> None:
    scene = two_clients()
    scene.leave(2)
    scene.publish(1)
    scene.trim(1, 2)
    scene.subscribe(2)
    scene.publish(1)
    scene.finish()
    judged = judge(scene)
    assert counts(judged) == {}
    assert judged.coverage.unwitnessed == 1


@pytest.mark.parametrize("serial", [1, 2, 3], ids=["at the floor", "between", "at the head"])
def test_a_read_covers_from_its_floor_to_its_head(serial: int) -> None:
    scene = two_clients()
    scene.publish(1)
    scene.publish(1)
    scene.finish(forget=[(1, serial)])  # the third is the sentinel
    judged = judge(scene)
    assert counts(judged) == {"L3": 1}
    assert "of 1 to 3 does not have it" in judged.classes["L3"].findings[0].sentence


def test_a_read_without_a_floor_covers_from_where_it_began() -> None:
    scene = two_clients()
    scene.publish(1)
    scene.publish(1)
    scene.drain()
    for _ in range(2):
        scene.sub(0, 1, 2)
        scene.read(3, (0, 1))
        scene.live(0, 1, 3, floor=0)
    assert counts(judge(scene)) == {}


def test_reads_agree_where_both_look() -> None:
    """The log was trimmed between them."""
    scene = two_clients()
    for _ in range(3):
        scene.publish(1)
    scene.drain()
    scene.final_reads(reads=1)
    scene.trim(1, 3)
    scene.read_channel(1)
    scene.mark(Mark.END)
    assert judge(scene).verdict is Verdict.VALID


def test_what_was_acked_after_a_read_began_need_not_be_in_it() -> None:
    scene = two_clients()
    scene.publish(1)
    scene.drain()
    scene.final_reads()
    scene.publish(1)
    assert counts(judge(scene)) == {}


def test_a_trimmed_message_that_was_seen_elsewhere_than_acked_is_not_lost() -> None:
    scene = two_clients()
    scene.publish(1)
    scene.next_message(1)
    scene.send(1, 2)
    scene.ack(1, 2, 2)
    scene.log[1] += [None, (1, 2)]
    scene.deliver(1, 3)
    scene.publish(1)
    scene.trim(1, 5)
    scene.finish()
    assert counts(judge(scene)) == {"D1": 1}


def test_attempts_to_come_back_are_counted() -> None:
    scene = two_clients()
    scene.publish(1)
    scene.cut(2)
    for _ in range(3):
        scene.conn(2, result=503)
    scene.publish(1)
    scene.finish()
    finding = judge(scene).classes["V2"].findings[0]
    assert "c2 lost its connection at 0.008 s (code 1006) and was not back" in finding.sentence
    assert "3 attempts failed" in finding.sentence


def test_who_left_on_purpose_is_not_missed() -> None:
    scene = two_clients()
    scene.publish(1)
    scene.cut(2)
    scene.back(2)
    scene.cut(2, on_purpose=True)
    scene.publish(1)
    scene.finish()
    assert counts(judge(scene)) == {}


def test_a_drop_after_the_drain_counts_once_it_has_lasted() -> None:
    scene = two_clients()
    scene.publish(1)
    scene.drain()
    scene.cut(2)
    scene.wait(10)
    scene.final_reads()
    assert counts(judge(scene)) == {"V2": 1}

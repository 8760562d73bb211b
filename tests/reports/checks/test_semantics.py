"""What the definitions say where they are easy to get wrong: outcomes, windows, tails, lineage, reads."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reports.checks import Integrity, Verdict, run_checks
from reports.history import BadReason, Flag, GapReason, Kind, Mark
from tests.builders import T0, Story, exit_line, fault_lines
from tests.reports.checks.twins import two_clients
from tests.scenes import Scene


def judge(story: Story) -> Integrity:
    return run_checks(story.history())


def counts(judged: Integrity) -> dict[str, int]:
    return {cls: result.count for cls, result in judged.classes.items() if result.count}


# ── benign ────────────────────────────────────────────────────────────────────────────────


def late_but_in_time(scene: Scene) -> None:
    scene.publish(1, skip=[2])
    scene.wait(4)
    scene.give(2, 1, 1)


def commits_later(scene: Scene) -> None:
    message = scene.publish(1, commit=False)
    scene.wait(10)
    scene.send(*message, retry=True)
    scene.commit(message)


def commits_and_is_never_acked(scene: Scene) -> None:
    scene.publish(1, acked=False)


def exact_gap_on_resume(scene: Scene) -> None:
    scene.publish(1)
    scene.cut(2)
    for _ in range(3):
        scene.publish(1)
    scene.trim(1, 4)
    scene.back(2)


def exact_gap_while_open(scene: Scene) -> None:
    """A slow cursor falls under the floor: the stream goes on after a declared gap."""
    scene.publish(1)
    scene.publish(1, skip=[2])
    scene.publish(1, skip=[2])
    scene.gap(2, 2, 3, why=GapReason.LAG)
    scene.stands[2, 1] = 1, 3
    scene.publish(1)


def gap_then_cut_then_resume(scene: Scene) -> None:
    exact_gap_while_open(scene)
    scene.publish(1, skip=[2])
    scene.gap(2, 5, 5, why=GapReason.LAG)
    scene.stands[2, 1] = 1, 5
    scene.cut(2)
    scene.publish(1)
    scene.back(2)


def leaves_and_subscribes_anew(scene: Scene) -> None:
    scene.publish(1)
    scene.leave(2)
    scene.publish(1)
    scene.subscribe(2)


def two_acks_of_one_message(scene: Scene) -> None:
    scene.retry(scene.publish(1))


def restart_with_resumes(scene: Scene) -> None:
    scene.publish(1)
    scene.cut(1), scene.cut(2)
    scene.faults.append(exit_line(planned=True, t=scene.now))
    scene.conn(2, result=65536 + 111)
    scene.back(1), scene.back(2)


def restart_without_memory(scene: Scene) -> None:
    scene.publish(1)
    scene.cut(1), scene.cut(2)
    scene.new_life()
    scene.back(1), scene.back(2)


def cut_before_its_answer(scene: Scene) -> None:
    """The connection is accepted and ends before the subscription is answered."""
    scene.publish(1)
    scene.cut(2)
    scene.conn(2)
    scene.close(2)
    scene.publish(1)
    scene.back(2)


def replaced_subscription(scene: Scene) -> None:
    """`subscribe` on an open subscription, from where the client stands."""
    scene.publish(1)
    scene.resume(2)


def from_the_first_message(scene: Scene) -> None:
    """A second subscription from the start sees everything again: a segment of its own."""
    scene.publish(1)
    scene.publish(1)
    scene.leave(2)
    scene.sub(2, 1, 0)
    scene.open.add((2, 1))
    scene.give(2, 1, 1, flags=Flag.REPLAYED)
    scene.give(2, 1, 2, flags=Flag.REPLAYED)
    scene.live(2, 1, 2)


def a_killed_client_that_closed_nothing(scene: Scene) -> None:
    """Its records end; what it was owed ends with its last arrival. It left on purpose elsewhere."""
    scene.publish(1)
    scene.cut(2, on_purpose=True)


@pytest.mark.parametrize(
    "happens",
    [
        late_but_in_time,
        commits_later,
        commits_and_is_never_acked,
        exact_gap_on_resume,
        exact_gap_while_open,
        gap_then_cut_then_resume,
        leaves_and_subscribes_anew,
        two_acks_of_one_message,
        restart_with_resumes,
        restart_without_memory,
        cut_before_its_answer,
        replaced_subscription,
        from_the_first_message,
        a_killed_client_that_closed_nothing,
    ],
    ids=lambda happens: happens.__name__.replace("_", " "),
)
def test_what_is_legal_is_valid(happens: Callable[[Scene], None]) -> None:
    scene = Scene(clients=2)
    scene.join(1), scene.join(2)
    happens(scene)
    scene.publish(1)
    scene.finish()
    judged = judge(scene)
    assert counts(judged) == {}
    assert judged.verdict is Verdict.VALID, judged.reasons
    assert judged.coverage.unexplained == {}


def test_an_empty_channel_is_valid_where_the_scenario_allows_it() -> None:
    scene = Scene(clients=2, channels=2, expect={"unexercised": 0.5})
    scene.join(1, 1, 2), scene.join(2, 1, 2)
    scene.publish(1)
    scene.finish()
    assert judge(scene).verdict is Verdict.VALID


# ── outcomes ──────────────────────────────────────────────────────────────────────────────


def test_outcomes_fold_all_attempts() -> None:
    scene = two_clients()
    scene.publish(1)  # OK
    scene.publish(1, acked=False)  # COMMITTED
    scene.publish(1, commit=False)  # INFO
    refused = scene.publish(1, commit=False)
    scene.nack(*refused)  # FAIL
    half = scene.publish(1, commit=False)
    scene.send(*half, retry=True)
    scene.nack(*half)  # one of two attempts failed: INFO
    unsure = scene.publish(1, commit=False)
    scene.nack(*unsure, code=504, flags=0)  # not definite: INFO
    twice = scene.publish(1, commit=False)
    scene.send(*twice, retry=True)
    scene.nack(*twice)
    scene.nack(*twice, flags=Flag.DEFINITE | Flag.NOT_OPEN)  # answers no open request: proves nothing
    never_written = scene.publish(1, commit=False)
    scene.nack(*never_written, code=0, flags=0)  # FAIL
    scene.finish()
    cover = judge(scene).coverage
    assert (cover.acked, cover.recovered, cover.unresolved, cover.failed) == (1, 1, 4, 2)


def test_too_many_unknown_outcomes_are_unknown() -> None:
    scene = two_clients()
    scene.expect["info_share"] = 0.4
    scene.publish(1)
    scene.publish(1, commit=False)
    scene.finish()
    judged = judge(scene)
    assert judged.verdict is Verdict.UNKNOWN
    assert "50% of the messages have no known outcome" in judged.reasons[0]


# ── delivery ──────────────────────────────────────────────────────────────────────────────


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
    assert counts(judged) == {"D1": 1}
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


def test_others_messages_are_owed_where_echo_is_off() -> None:
    scene = Scene(clients=2, echo=False)
    scene.join(1), scene.join(2)
    scene.publish(1, skip=[2])
    scene.publish(1)
    scene.finish()
    assert counts(judge(scene)) == {"D1": 1}


# ── resumes ───────────────────────────────────────────────────────────────────────────────


def cut_and_missed(*, after: int = 2) -> Scene:
    scene = Scene(clients=3)
    scene.join(1), scene.join(2), scene.join(3)
    scene.publish(1)
    scene.cut(2)
    for _ in range(after):
        scene.publish(1)
    return scene


def test_a_replay_that_ends_too_early_is_a_false_resume() -> None:
    scene = cut_and_missed()
    scene.conn(2)
    scene.resume(2, upto=2)
    scene.finish()
    judged = judge(scene)
    assert counts(judged) == {"D2": 1}
    assert judged.classes["D2"].findings[0].serials == ((3, 3),)


def test_a_replay_that_is_cut_owes_nothing_yet() -> None:
    scene = cut_and_missed()
    scene.conn(2)
    scene.resume(2, upto=2, live=False)
    scene.cut(2)
    scene.back(2)
    scene.finish()
    assert counts(judge(scene)) == {}


def test_a_false_live_counts_even_if_the_next_resume_repairs_it() -> None:
    scene = cut_and_missed()
    scene.conn(2)
    scene.resume(2, upto=1)
    scene.cut(2)
    scene.back(2)
    scene.finish()
    assert counts(judge(scene)) == {"D2": 1}


def test_a_live_frame_before_the_replay_is_reordered_not_missing() -> None:
    scene = cut_and_missed()
    scene.conn(2)
    scene.sub(2, 1, 1, asked=(1, 1), resumed=True)
    scene.open.add((2, 1))
    scene.publish(1)
    scene.give(2, 1, 2, flags=Flag.REPLAYED)
    scene.give(2, 1, 3, flags=Flag.REPLAYED)
    scene.live(2, 1, 3)
    scene.finish()
    assert counts(judge(scene)) == {"D6": 2}


def test_a_hole_after_live_is_a_gap_and_not_the_resumes() -> None:
    scene = cut_and_missed()
    scene.back(2)
    scene.publish(1, skip=[2])
    scene.publish(1)
    scene.finish()
    assert counts(judge(scene)) == {"D1": 1}


def test_a_resume_that_overlaps_repeats() -> None:
    scene = cut_and_missed()
    scene.conn(2)
    scene.sub(2, 1, 1, asked=(1, 1), resumed=True)
    scene.open.add((2, 1))
    for serial in (1, 2, 3):
        scene.give(2, 1, serial, flags=Flag.REPLAYED)
    scene.live(2, 1, 3)
    scene.finish()
    judged = judge(scene)
    assert (
        counts(judged) == {"D5": 0}
        or judged.coverage.unexplained == {"RECV at or before its segment's start": 1}
        or counts(judged) == {"D5": 1}
    )


def test_another_epochs_stream_under_a_resume_is_false() -> None:
    scene = cut_and_missed()
    scene.new_life()
    scene.publish(1)
    scene.conn(2)
    scene.sub(2, 1, 1, epoch=2, asked=(1, 1), resumed=True)
    scene.live(2, 1, 1, epoch=2)
    scene.stands[2, 1] = 2, 1
    scene.open.add((2, 1))
    scene.finish()
    judged = judge(scene)
    assert counts(judged) == {"D2": 1}
    assert "the stream served was E2's" in judged.classes["D2"].findings[0].sentence


# ── lineage: E2 goes on from E1 after a fork ──────────────────────────────────────────────


def forked(*, fork: int, client: int = 2) -> Scene:
    """Three messages in E1; the server fails over to E2, which has the first ``fork`` of them."""
    scene = Scene(clients=3)
    scene.join(1), scene.join(2), scene.join(3)
    for _ in range(3):
        scene.publish(1)
    for each in (1, 2, 3):
        scene.cut(each)
    scene.life[1] = 2
    del scene.log[1][fork:]
    return scene


def rejoin(scene: Scene, client: int, *, fork: int) -> None:
    """Resume under the new epoch: without loss up to the fork, with a gap after it."""
    stood = scene.stands[client, 1][1]
    start = min(stood, fork)
    scene.conn(client)
    scene.epoch(client, 2, parent=1, fork=fork)
    scene.sub(client, 1, start, epoch=2, asked=(1, stood), resumed=start == stood)
    if start < stood:
        scene.gap(client, start + 1, stood, epoch=2, from_epoch=1, why=GapReason.FORK)
    scene.stands[client, 1] = 2, start
    scene.open.add((client, 1))
    for serial in range(start + 1, scene.top() + 1):
        scene.give(client, 1, serial, flags=Flag.REPLAYED)
    scene.live(client, 1, scene.top(), epoch=2)


def test_a_resume_across_a_fork_goes_on_in_one_segment() -> None:
    scene = forked(fork=3)
    for client in (1, 2, 3):
        rejoin(scene, client, fork=3)
    scene.publish(1, skip=[2])
    scene.publish(1)
    scene.give(3, 1, 2)
    scene.finish()
    assert counts(judge(scene)) == {"D1": 1, "D5": 1}


def test_what_a_fork_lost_is_declared_and_not_owed() -> None:
    scene = forked(fork=1)
    for client in (1, 2, 3):
        rejoin(scene, client, fork=1)
    scene.publish(1)
    scene.finish()
    judged = judge(scene)
    assert counts(judged) == {}
    assert judged.verdict is Verdict.VALID, judged.reasons


def test_a_message_that_a_fork_lost_may_stand_again_after_its_retry() -> None:
    """The places are on two branches: the server may have forgotten the first."""
    scene = forked(fork=1)
    for client in (1, 2, 3):
        rejoin(scene, client, fork=1)
    scene.send(1, 3, retry=True)
    scene.commit((1, 3))
    scene.finish()
    assert counts(judge(scene)) == {"L2x": 1}


def test_a_message_from_before_the_fork_may_not() -> None:
    scene = forked(fork=3)
    for client in (1, 2, 3):
        rejoin(scene, client, fork=3)
    scene.send(1, 3, retry=True)
    scene.commit((1, 3))
    scene.finish()
    assert counts(judge(scene)) == {"L2": 1}


def test_a_message_acked_before_the_fork_is_found_after_it() -> None:
    scene = forked(fork=3)
    for client in (1, 2, 3):
        rejoin(scene, client, fork=3)
    scene.finish(forget=[(1, 2)])
    judged = judge(scene)
    assert counts(judged) == {"L3": 1}
    assert judged.classes["L3"].findings[0].message == "c1:2"


def test_a_reset_in_an_open_window_goes_on_where_nothing_was_lost() -> None:
    scene = Scene(clients=2)
    scene.join(1), scene.join(2)
    scene.publish(1)
    scene.publish(1)
    for client in (1, 2):
        scene.epoch(client, 2, parent=1, fork=2)
        scene.stands[client, 1] = 2, 2
    scene.life[1] = 2
    scene.publish(1, skip=[2])
    scene.publish(1)
    scene.finish()
    judged = judge(scene)
    assert counts(judged) == {"D1": 1}
    assert judged.coverage.unexplained == {}


def test_a_reset_behind_the_client_starts_again_at_the_fork() -> None:
    scene = Scene(clients=2)
    scene.join(1), scene.join(2)
    scene.publish(1)
    scene.publish(1)
    for client in (1, 2):
        scene.epoch(client, 2, parent=1, fork=1)
        scene.stands[client, 1] = 2, 1
    scene.life[1] = 2
    del scene.log[1][1:]
    scene.publish(1)
    scene.finish()
    assert counts(judge(scene)) == {}


# ── the end of a run ──────────────────────────────────────────────────────────────────────


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


# ── final reads ───────────────────────────────────────────────────────────────────────────


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


# ── vacuity, and what nothing explains ────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("why", "reason"),
    [
        ("no publish", "no publish was acked"),
        ("no sentinel", "no sentinel was acked"),
        ("no delivery", "nothing was delivered"),
        ("no resume", "promises resumes and none was seen"),
        ("silent channel", "1 of 2 channels were silent"),
    ],
)
def test_a_run_that_tests_nothing_is_unknown(why: str, reason: str) -> None:
    scene = Scene(clients=2, channels=2 if why == "silent channel" else 1)
    scene.expect["resumes"] = why == "no resume"
    scene.conn(1)
    if why != "no delivery":
        scene.join(2)
    if why != "no publish":
        scene.publish(1)
    if why != "no sentinel":
        scene.finish()
    judged = judge(scene)
    assert counts(judged) == {}
    assert judged.verdict is Verdict.UNKNOWN
    assert any(reason in each for each in judged.reasons), judged.reasons


def test_channels_marked_silent_are_no_fault() -> None:
    scene = Scene(clients=2, channels=2)
    scene.join(1, 1, 2), scene.join(2, 1, 2)
    for client in (1, 2):
        scene.mark(Mark.SILENT, client=client, channel=2)
    scene.publish(1)
    scene.finish()
    assert judge(scene).verdict is Verdict.VALID


def test_an_empty_history_is_unknown() -> None:
    judged = judge(Story())
    assert counts(judged) == {}
    assert judged.verdict is Verdict.UNKNOWN


def test_records_that_nothing_explains_are_counted() -> None:
    scene = two_clients()
    message = scene.publish(1)
    scene.leave(2)
    scene.recv(2, 2, message)
    scene.gap(2, 3, 4)
    scene.live(2, 1, 4)
    scene.ack(1, 99, 5)
    scene.read(1, message)
    scene.bad(2, BadReason.UNDECODABLE)
    scene.put(99, 2)
    judged = judge(scene)
    assert judged.coverage.unexplained == {
        "ACK or NACK of a message never sent": 1,
        "BAD: an undecodable or illegal frame": 1,
        "GAP without a subscription": 1,
        "LIVE outside of any subscription": 1,
        "READ outside of a complete final read": 1,
        "RECV outside of any subscription": 1,
        "record of an unknown kind": 1,
    }
    assert "1 records are of a kind that this build does not know" in judged.reasons


def test_a_resume_from_elsewhere_starts_a_segment_of_its_own() -> None:
    scene = two_clients()
    for _ in range(3):
        scene.publish(1)
    scene.cut(2)
    scene.stands[2, 1] = 1, 1  # as if it had forgotten the last two
    scene.back(2)
    scene.finish()
    judged = judge(scene)
    assert counts(judged) == {}
    assert judged.coverage.unexplained == {"resume from elsewhere than where the client stood": 1}


# ── profiles, findings ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("profile", "verdict"),
    [
        ("effectively-once", Verdict.INVALID),
        ("at-least-once", Verdict.VALID),
        ("at-most-once", Verdict.INVALID),
        ("exactly-whatever", Verdict.INVALID),
    ],
)
def test_a_profile_says_what_repeats_mean(profile: str, verdict: Verdict) -> None:
    scene = two_clients()
    scene.contract["profile"] = profile
    scene.publish(1)
    scene.give(2, 1, 1)
    scene.finish()
    judged = judge(scene)
    assert judged.classes["D5"].count == 1
    assert judged.verdict is verdict


def test_a_finding_tells_what_happened_to_whom_when_and_under_which_faults() -> None:
    scene = two_clients()
    scene.faults = fault_lines("slow-1", "latency", T0, T0 + 10**12)
    scene.publish(1)
    scene.publish(1, skip=[2])
    scene.publish(1)
    scene.finish()
    finding = judge(scene).classes["D1"].findings[0]
    assert finding.sentence == (
        "c2 never received room:1 E1 2 (c1:2), between 0.007 s and 0.012 s; in force: slow-1"
    )
    assert (finding.channel, finding.epoch, finding.serials) == ("room:1", "E1", ((2, 2),))
    assert (finding.clients, finding.message, finding.faults) == (("c2",), "c1:2", ("slow-1",))
    rows = [scene.logs[worker][row] for worker, row in finding.records]
    assert [(row[8], row[6]) for row in rows] == [(Kind.RECV, 1), (Kind.RECV, 3)]


def test_findings_are_capped_and_counts_exact() -> None:
    scene = two_clients()
    scene.publish(1)
    for _ in range(50):
        scene.publish(1, skip=[2])
        scene.publish(1)
    scene.finish()
    result = judge(scene).classes["D1"]
    assert result.count == 50
    assert len(result.findings) == 20
    assert [f.serials[0][0] for f in result.findings] == list(range(2, 42, 2))


def test_progress_is_told_after_each_part() -> None:
    scene = Scene(clients=2, channels=3)
    scene.join(1, 1, 2, 3)
    scene.finish()
    told: list[tuple[int, int]] = []
    run_checks(scene.history(), part_rows=1, progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3)]

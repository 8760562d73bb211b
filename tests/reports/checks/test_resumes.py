"""Resumes, within an epoch and across a fork."""

from __future__ import annotations

from reports.checks import Verdict
from reports.history import Flag, GapReason
from tests.reports.checks.verdicts import counts, judge
from tests.scenes import Scene

# ── resumes ───────────────────────────────────────────────────────────────────────────────────


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
    assert counts(judge(scene)) == {"D5": 1}


def test_another_epochs_stream_under_a_resume_is_false() -> None:
    scene = cut_and_missed()
    scene.cut(1), scene.cut(3)
    scene.new_life()
    scene.back(1), scene.back(3)
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


# ── lineage: E2 goes on from E1 after a fork ──────────────────────────────────────────────────


def forked(*, fork: int) -> Scene:
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
        scene.gap(client, stood + 1, start, epoch=2, from_epoch=1, why=GapReason.FORK)
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
    assert counts(judge(scene)) == {"L2": 1, "L9": 1}


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
    scene.publish(1, skip=[2])
    scene.publish(1)
    scene.finish()
    judged = judge(scene)
    assert counts(judged) == {"D1": 1}
    assert judged.coverage.unexplained == {}


def test_a_gap_into_another_epoch_starts_again_where_it_ends() -> None:
    """The stream turned over under an open subscription, and the server said what is missing."""
    scene = Scene(clients=2)
    scene.join(1), scene.join(2)
    scene.publish(1)
    scene.new_life()
    for client in (1, 2):
        scene.stands[client, 1] = 2, 0
    scene.publish(1, skip=[1, 2])
    for client in (1, 2):
        scene.gap(client, 2, 1, epoch=2, from_epoch=1, why=GapReason.EPOCH)
        scene.stands[client, 1] = 2, 1
    scene.publish(1, skip=[2])
    scene.publish(1)
    scene.finish()
    judged = judge(scene)
    assert counts(judged) == {"D1": 1}
    assert judged.classes["D1"].findings[0].serials == ((2, 2),)
    assert judged.coverage.unexplained == {}


def test_a_hole_after_an_empty_replay_is_a_gap() -> None:
    """Resumed from before the first message, and live at once."""
    scene = Scene(clients=2)
    scene.join(1), scene.join(2)
    scene.cut(2)
    scene.back(2)
    scene.publish(1, skip=[2])
    scene.publish(1)
    scene.finish()
    assert counts(judge(scene)) == {"D1": 1}


def test_a_client_ahead_of_the_log_starts_again_where_it_ends() -> None:
    scene = Scene(clients=2)
    scene.join(1), scene.join(2)
    for _ in range(5):
        scene.publish(1)
    for client in (1, 2):
        scene.cut(client)
    del scene.log[1][3:]
    scene.trim(1, 4)
    for client in (1, 2):
        scene.conn(client)
        scene.sub(client, 1, 3, asked=(1, 5))
        scene.gap(client, 6, 3, why=GapReason.AHEAD)
        scene.live(client, 1, 3)
        scene.stands[client, 1] = 1, 3
        scene.open.add((client, 1))
    scene.publish(1, skip=[2])
    scene.publish(1)
    scene.finish()
    assert counts(judge(scene))["D1"] == 1


def test_a_reset_ahead_of_the_client_goes_on_from_where_it_stood() -> None:
    """Its next message was placed before the fork and arrives after the reset."""
    scene = Scene(clients=2)
    scene.join(1), scene.join(2)
    scene.publish(1)
    scene.publish(1, skip=[2])
    scene.publish(1, skip=[2])
    for client in (1, 2):
        scene.epoch(client, 2, parent=1, fork=3)
        scene.stands[client, 1] = 2, scene.stands[client, 1][1]
    scene.life[1] = 2
    scene.give(2, 1, 3)
    scene.publish(1)
    scene.finish()
    judged = judge(scene)
    assert counts(judged) == {"D1": 1}
    assert judged.classes["D1"].findings[0].serials == ((2, 2),)
    assert judged.coverage.unexplained == {}

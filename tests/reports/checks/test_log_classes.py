"""What the log classes count, and what they excuse: identities, holes, acks, order, epochs."""

from __future__ import annotations

import pytest

from reports.checks import Verdict
from reports.history import Flag, GapReason, Kind, Mark
from tests.builders import T0, Story, exit_line, start_line
from tests.reports.checks.twins import realtime_inversion, two_clients
from tests.reports.checks.verdicts import counts, judge
from tests.scenes import Scene


def test_two_acks_of_different_messages_at_one_unseen_serial_diverge() -> None:
    scene = two_clients()
    scene.publish(1)
    for _ in range(2):
        scene.ack(*scene.publish(1, commit=False), 2)
    scene.log[1].append(None)
    scene.trim(1, 3)
    scene.publish(1)
    scene.finish()
    assert judge(scene).classes["L1"].count == 1


def test_a_hole_in_the_final_read_is_counted_by_serial() -> None:
    scene = two_clients()
    scene.publish(1)
    scene.log[1] += [None, None, None]
    scene.finish()
    judged = judge(scene)
    assert counts(judged) == {"L4": 3}
    assert judged.classes["L4"].findings[0].serials == ((2, 4),)


def test_what_was_trimmed_while_it_was_read_is_neither_hole_nor_loss() -> None:
    scene = two_clients()
    scene.publish(1), scene.publish(1)
    scene.drain()
    scene.final_reads(reads=0)
    for _ in range(2):
        scene.sub(0, 1, 0)
        scene.gap(0, 1, 2)
        scene.read(3, (0, 1))
        scene.live(0, 1, 3)
    assert counts(judge(scene)) == {}


def test_a_hole_is_not_told_where_a_log_is_torn() -> None:
    scene = two_clients()
    scene.publish(1)
    scene.publish(1, acked=False, skip=[2])
    scene.publish(1)
    scene.trim(1, 4)
    scene.finish()
    assert counts(judge(scene)) == {"L4": 1}
    scene.torn.add(1)
    judged = judge(scene)
    assert counts(judged) == {}
    assert judged.classes["L4"].unknown


def test_acks_may_differ_once_the_server_may_have_forgotten() -> None:
    scene = two_clients(dedupe_s=10)
    message = scene.publish(1)
    scene.wait(20)
    scene.send(*message, retry=True)
    scene.commit(message)
    scene.finish()
    assert counts(judge(scene)) == {"L2x": 1}


def test_a_place_that_a_retry_may_have_got_before_is_in_order() -> None:
    """One attempt of the first message precedes the second, another follows it."""
    scene = two_clients()
    first, second = scene.publish(1, commit=False), scene.publish(1, commit=False)
    scene.commit(second)
    scene.send(*first, retry=True)
    scene.commit(first)
    scene.finish()
    assert counts(judge(scene)) == {}


@pytest.mark.parametrize(("uncertainty_ns", "found"), [(10_000, {"L11": 1}), (60_000_000_000, {})])
def test_an_inversion_shorter_than_the_clocks_uncertainty_proves_nothing(
    uncertainty_ns: int, found: dict[str, int]
) -> None:
    scene = realtime_inversion(True)
    run = scene.run()
    run["clock"]["uncertainty_ns"] = uncertainty_ns
    scene.run = lambda: run  # type: ignore[method-assign]
    assert counts(judge(scene)) == found


def test_order_is_judged_across_a_fork() -> None:
    """Acked in the new epoch, and then something else is placed before the fork."""
    scene = Scene(clients=3)
    scene.join(2), scene.conn(1), scene.conn(3)
    scene.publish(1)
    scene.log[1].append(None)
    scene.epoch(2, 2, parent=1, fork=2)
    scene.stands[2, 1] = 2, 1
    first = scene.next_message(1)
    scene.send(*first)
    scene.ack(*first, 3, epoch=2)
    late = scene.next_message(3)
    scene.send(*late)
    scene.ack(*late, 2, epoch=2)
    scene.log[1][1:] = [late, first]
    scene.life[1] = 2
    scene.deliver(1, 2), scene.deliver(1, 3)
    scene.finish()
    assert counts(judge(scene)) == {"L11": 1}


# ── epochs ────────────────────────────────────────────────────────────────────────────────────


def _life(scene: Scene, epoch: int) -> None:
    """The stream goes on in an epoch that had been given up."""
    scene.life[1] = epoch
    scene.log[1] = []


def test_an_epoch_that_comes_back_is_a_fault_even_with_exits() -> None:
    scene = two_clients()
    scene.faults.append(start_line())
    scene.publish(1)
    for epoch in (2, 1):
        scene.cut(2)
        scene.faults.append(exit_line(planned=True, t=scene.now))
        _life(scene, epoch)
        scene.back(2)
        scene.publish(1, skip=[2])
    assert counts(judge(scene))["L12"] == 1
    assert "was there again" in judge(scene).classes["L12"].findings[0].sentence


def test_an_exit_long_before_explains_no_change() -> None:
    scene = two_clients()
    scene.faults += [start_line(), exit_line(planned=True, t=scene.now)]
    scene.wait(5)
    scene.publish(1)
    scene.cut(2)
    scene.new_life()
    scene.back(2)
    scene.publish(1)
    scene.finish()
    assert counts(judge(scene)) == {"L12": 1}


def test_where_nobody_watched_the_server_no_change_is_a_fault() -> None:
    scene = two_clients()
    scene.publish(1)
    scene.cut(2)
    scene.new_life()
    scene.back(2)
    scene.publish(1)
    scene.finish()
    assert counts(judge(scene)) == {}


def test_a_final_read_that_ends_before_what_was_seen_went_back() -> None:
    scene = two_clients()
    for _ in range(4):
        scene.publish(1)
    scene.drain()
    scene.trim(1, 2)
    del scene.log[1][3:]
    scene.final_reads()
    judged = judge(scene)
    assert judged.classes["L12"].count == 1
    assert "its head went down" in judged.classes["L12"].findings[0].sentence


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_node_may_not_have_heard_of_what_another_one_has_shown(nodes: int, monkeypatch) -> None:
    scene = Scene(clients=3, channels=1)
    scene.conn(1)
    scene.join(2, 1)
    for _ in range(3):
        scene.publish(1)
    scene.conn(3)
    scene.wait(0.1)
    scene.sub(3, 1, 2)
    scene.live(3, 1, 2)
    scene.recv(3, 3, (1, 3))
    scene.finish()
    run = {**scene.run(), "nodes": [{"name": f"n{number + 1}"} for number in range(nodes)]}
    monkeypatch.setattr(scene, "run", lambda: run)
    assert ("L12" in counts(judge(scene))) == (nodes == 1)


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_node_that_has_not_heard_of_a_failover_answers_as_before(nodes: int, monkeypatch) -> None:
    scene = two_clients()
    scene.publish(1)
    scene.faults = [start_line(), exit_line(planned=True, t=scene.now)]
    scene.cut(2)
    scene.new_life()
    scene.back(2)
    scene.publish(1)
    scene.wait(0.1)
    scene.conn(1)
    scene.sub(1, 1, 1, epoch=1)
    scene.finish()
    run = {**scene.run(), "nodes": [{"name": f"n{number + 1}"} for number in range(nodes)]}
    monkeypatch.setattr(scene, "run", lambda: run)
    assert ("L12" in counts(judge(scene))) == (nodes == 1)


def test_a_client_told_that_it_is_ahead_of_what_was_shown_saw_the_head_go_down() -> None:
    scene = two_clients()
    for _ in range(3):
        scene.publish(1)
    scene.cut(2)
    scene.conn(2)
    scene.sub(2, 1, 1, asked=(1, 3))
    scene.gap(2, 4, 1, why=GapReason.AHEAD)
    assert counts(judge(scene)) == {"L12": 1}


def test_a_client_told_that_it_is_ahead_before_the_stream_got_there_proves_nothing() -> None:
    """It asked for a place that nobody had given yet; later there is a message at it."""
    scene = two_clients()
    scene.conn(3)
    scene.publish(1)
    scene.sub(3, 1, 1, asked=(1, 3))
    scene.gap(3, 4, 1, why=GapReason.AHEAD)
    scene.live(3, 1, 1)
    scene.open.add((3, 1))
    scene.stands[3, 1] = 1, 1
    scene.publish(1), scene.publish(1)
    scene.finish()
    judged = judge(scene)
    assert counts(judged) == {}
    assert judged.verdict is Verdict.VALID


@pytest.mark.parametrize("forgets", [True, False], ids=["in another life", "in the same"])
def test_an_ack_counts_where_its_message_stands(forgets: bool) -> None:
    """Acked, and placed again behind a later one: an inversion, unless the server lost the stream between."""
    scene = two_clients()
    scene.conn(3)
    first = scene.publish(1, skip=[2]) if forgets else scene.publish(1, commit=False)
    if not forgets:
        scene.ack(*first, 2)
    scene.cut(2)
    if forgets:
        scene.new_life()
    scene.back(2)
    scene.publish(3)
    scene.send(*first, retry=True)
    scene.commit(first)
    scene.finish()
    assert counts(judge(scene)) == ({} if forgets else {"L11": 1})


def test_a_serial_given_again_after_it_was_seen_started_again() -> None:
    scene = two_clients()
    scene.publish(1)
    again = scene.publish(1, commit=False)
    scene.ack(*again, 1)
    scene.recv(2, 1, again)
    found = counts(judge(scene))
    assert found == {"L1": 1, "L12": 1, "D5": 1}
    assert "started again" in judge(scene).classes["L12"].findings[0].sentence


def test_two_messages_at_one_serial_sent_at_once_are_a_race_and_no_fault_of_the_epoch() -> None:
    scene = two_clients()
    one, other = scene.publish(1, commit=False), scene.publish(1, commit=False)
    for message in (one, other):
        scene.ack(*message, 1)
        scene.recv(2, 1, message)
    assert counts(judge(scene)) == {"L1": 1, "D5": 1}


# ── answers ───────────────────────────────────────────────────────────────────────────────────


def _second_ack(scene: Story) -> None:
    scene.ack(1, 1, 1)


def _nack_after_ack(scene: Story) -> None:
    scene.nack(1, 1)


def _unasked(scene: Story) -> None:
    scene.ack(1, 1, 1, flags=Flag.NOT_OPEN)


def _somebody_elses(scene: Story) -> None:
    scene.put(7, 2, channel=1, publisher=1, pub_seq=1, serial=1, epoch=1)


def _of_nothing(scene: Story) -> None:
    scene.ack(1, 40, 1)


@pytest.mark.parametrize(
    "answer",
    [_second_ack, _nack_after_ack, _unasked, _somebody_elses, _of_nothing],
    ids=lambda answer: answer.__name__.strip("_").replace("_", " "),
)
def test_an_answer_that_was_not_due_is_counted_once(answer: object) -> None:
    scene = two_clients()
    scene.publish(1)
    answer(scene)  # type: ignore[operator]
    scene.retry((1, 1))
    scene.finish()
    assert counts(judge(scene)) == {"D10": 1}


def test_a_sentinel_acked_in_anothers_place_is_not_lost_where_its_reader_gets_no_own_messages() -> None:
    scene = two_clients()
    scene.echo = False
    scene.publish(1)
    scene.mark(Mark.HEAL), scene.mark(Mark.DRAIN)
    sentinel = scene.publish(0, commit=False)
    scene.mark(Mark.SENTINEL, channel=1, of=sentinel)
    scene.log[1].append(sentinel)
    scene.ack(*sentinel, 1)
    scene.deliver(1, 2)
    scene.log[1][1] = None  # no read of client 0 shows it
    scene.final_reads()
    assert counts(judge(scene)) == {"L9": 1}


def test_a_lost_message_of_an_earlier_life_excuses_no_hole_of_this_one() -> None:
    scene = two_clients()
    scene.publish(1), scene.publish(1, skip=[2]), scene.publish(1)
    scene.cut(2)
    scene.faults = [start_line(), exit_line(planned=True, t=scene.now)]
    scene.new_life()
    scene.publish(1)
    scene.log[1].append(None)
    scene.publish(1)
    scene.back(2)
    scene.finish()
    assert counts(judge(scene)) == {"D1": 1, "L3": 1, "L4": 1}


@pytest.mark.parametrize(
    "exit_s", [pytest.param(3.0, id="exit between"), pytest.param(0.5, id="exit before")]
)
def test_a_change_of_epoch_is_explained_by_no_exit_before_the_other_was_last_there(exit_s: float) -> None:
    """A first subscription to E2 that took long hides when E2 began; a second one shows it."""
    scene = two_clients()
    scene.wait(1)
    scene.publish(1)  # E1 is there after 1 s
    scene.wait(4)
    scene.cut(2)
    scene.new_life()
    scene.put(Kind.SUB, 1, t2=T0, channel=1, epoch=2)  # asked for at the beginning
    scene.unsub(1)
    scene.back(2)
    scene.faults = [start_line(), exit_line(planned=True, t=T0 + int(exit_s * 1e9))]
    scene.finish()
    assert counts(judge(scene)) == ({"L12": 1} if exit_s < 1 else {})


@pytest.mark.parametrize("uncertainty_ms", [0, 10_000])
def test_epochs_closer_together_than_clocks_agree_have_no_order(
    monkeypatch: pytest.MonkeyPatch, uncertainty_ms: int
) -> None:
    scene = two_clients()
    scene.faults = [start_line()]
    scene.publish(1)
    scene.cut(2)
    scene.new_life()
    scene.back(2)
    scene.finish()
    run = scene.run()
    run["clock"]["uncertainty_ns"] = uncertainty_ms * 1_000_000
    monkeypatch.setattr(scene, "run", lambda: run)
    assert counts(judge(scene)) == ({} if uncertainty_ms else {"L12": 1})


def test_a_misrouted_message_says_nothing_of_the_epoch_of_the_channel_it_strayed_into() -> None:
    scene = two_clients(channels=2)
    scene.publish(1, 2)
    scene.cut(2)
    scene.faults = [start_line(), exit_line(planned=True, t=scene.now)]
    scene.new_life(2)
    scene.back(2)
    scene.publish(1, 2)
    stray = scene.publish(1, 1)
    scene.recv(2, 2, stray, 2, epoch=1)
    scene.finish()
    assert "L12" not in counts(judge(scene))

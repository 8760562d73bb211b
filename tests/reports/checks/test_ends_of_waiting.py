"""Gap notices inside a stream, retention, and the deadlines: acks, dead connections, progress."""

from __future__ import annotations

import pytest

from reports.checks import Verdict
from reports.history import GapReason, Mark
from tests.builders import fault_lines
from tests.reports.checks.twins import half_open, missed_and_trimmed, no_progress, two_clients
from tests.reports.checks.verdicts import counts, judge
from tests.scenes import Scene

# ── gap notices ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("first", "last", "found"),
    [
        pytest.param(2, 3, {}, id="exact"),
        pytest.param(1, 3, {"D3": 1}, id="begins with what it has"),
        pytest.param(3, 3, {"D1": 1, "D3": 1}, id="begins too late"),
        pytest.param(2, 2, {"D1": 1, "D3": 1}, id="ends too early"),
        pytest.param(2, 4, {"D3": 1}, id="declares what comes"),
    ],
)
def test_a_gap_in_an_open_stream_is_exactly_the_hole(first: int, last: int, found: dict[str, int]) -> None:
    scene = two_clients()
    scene.publish(1)
    scene.publish(1, skip=[2]), scene.publish(1, skip=[2])
    scene.gap(2, first, last, why=GapReason.LAG)
    scene.stands[2, 1] = 1, 3
    scene.publish(1)
    scene.finish()
    assert counts(judge(scene)) == found


def test_a_break_without_a_gap_is_told_once_something_came_after_it() -> None:
    scene = missed_and_trimmed()
    scene.sub(2, 1, 3, asked=(1, 1))
    assert counts(judge(scene)) == {}  # the notice may have been on its way
    scene.live(2, 1, 3)
    assert counts(judge(scene)) == {"D3": 1}
    scene.torn.add(1)
    assert counts(judge(scene)) == {}


def test_nothing_is_broken_where_a_subscription_starts_where_it_was_asked_to() -> None:
    scene = two_clients()
    scene.publish(1)
    scene.cut(2)
    scene.conn(2)
    scene.sub(2, 1, 1, asked=(1, 1), resumed=False)
    scene.live(2, 1, 1)
    assert counts(judge(scene)) == {}


# ── retention ─────────────────────────────────────────────────────────────────────────────────

KEEPS = {"retain_n": 1000, "retain_s": 1000, "retain_bytes": 1_000_000}


@pytest.mark.parametrize(
    ("contract", "waits_s", "found"),
    [
        pytest.param(KEEPS, 1, 1, id="within all three"),
        pytest.param(KEEPS | {"retain_n": 3}, 1, 1, id="two newer, three kept"),
        pytest.param(KEEPS | {"retain_n": 2}, 1, 0, id="two newer, two kept"),
        pytest.param(KEEPS, 995, 0, id="nearly too old"),
        pytest.param(KEEPS | {"retain_bytes": 3 * (100 + 512)}, 1, 1, id="three messages' bytes"),
        pytest.param(KEEPS | {"retain_bytes": 3 * (100 + 512) - 1}, 1, 0, id="a byte less"),
        pytest.param({"retain_n": 1000}, 1, 0, id="the contract says too little"),
        pytest.param(
            KEEPS | {"namespaces": {"room": KEEPS | {"retain_n": 1}}}, 1, 0, id="a namespace of its own"
        ),
    ],
)
def test_only_what_was_certainly_retained_counts(
    contract: dict[str, object], waits_s: float, found: int
) -> None:
    scene = missed_and_trimmed()
    scene.contract = dict(contract)
    scene.publish(1)
    scene.wait(waits_s)
    scene.trim(1, 3)
    scene.resume(2)
    assert counts(judge(scene)) == ({"D4": found} if found else {})


def test_a_floor_of_the_final_read_above_what_is_retained_counts() -> None:
    scene = two_clients(**KEEPS)
    scene.publish(1)
    scene.publish(1)
    scene.drain()
    scene.trim(1, 2)
    scene.final_reads()
    assert counts(judge(scene)) == {"D4": 1}


def test_a_serial_that_holds_nothing_may_have_been_counted_as_kept() -> None:
    """Three are kept: serials 3 to 5 of five, of which one is empty; only two newer messages were sent."""
    scene = two_clients(**KEEPS | {"retain_n": 3})
    scene.publish(1), scene.publish(1)
    scene.cut(2)
    scene.log[1].append(None)
    scene.publish(1), scene.publish(1)
    scene.trim(1, 3)
    scene.conn(2)
    scene.sub(2, 1, 2, asked=(1, 1))
    scene.gap(2, 2, 2)
    assert "D4" not in counts(judge(scene))


def test_where_another_runs_messages_are_nothing_is_certain() -> None:
    scene = two_clients(**KEEPS)
    scene.publish(1)
    scene.publish(1)
    scene.recv(2, 9, (7, 7), flags=1 << 7)
    scene.drain()
    scene.trim(1, 2)
    scene.final_reads()
    assert "D4" not in counts(judge(scene))


# ── deadlines ─────────────────────────────────────────────────────────────────────────────────


def test_a_publish_sent_again_and_again_without_an_answer_counts_from_the_first() -> None:
    scene = two_clients()
    scene.publish(1)
    message = scene.publish(1, commit=False)
    for _ in range(2):
        scene.wait(3)
        scene.send(*message, retry=True)
    scene.finish()
    assert counts(judge(scene)) == {"V3": 1}


def test_an_answer_that_a_fault_may_have_held_up_is_not_due() -> None:
    scene = two_clients()
    scene.publish(1)
    scene.faults = fault_lines("slow-1", "latency", scene.now, scene.now + 30 * 10**9)
    scene.publish(1, commit=False)
    scene.wait(31)
    scene.finish()
    assert counts(judge(scene)) == {}


def test_a_connection_that_ended_before_the_drain_owes_no_answer() -> None:
    scene = two_clients()
    scene.publish(1)
    scene.publish(1, commit=False)
    scene.wait(9)
    scene.close(1)
    scene.conn(1)
    scene.finish()
    assert counts(judge(scene)) == {}


def test_an_answer_on_the_connection_shows_that_it_lives() -> None:
    scene = two_clients(ping_s=2, pong_s=1)
    scene.publish(1)
    scene.faults = fault_lines("hole-1", "timeout", scene.now, scene.now + 10**10)
    message = scene.publish(1, commit=False)
    scene.wait(2)
    scene.commit(message)
    scene.wait(8)
    scene.finish()
    assert counts(judge(scene)) == {}


@pytest.mark.parametrize("target", ["a", "b"])
def test_a_dead_connection_is_one_that_the_fault_was_aimed_at(target: str) -> None:
    scene = half_open(True)
    for line in scene.faults:
        line["target"] = target
    assert counts(judge(scene)) == ({"V4": 1} if target == "b" else {})


@pytest.mark.parametrize("target", ["link-1", "link-*", "broker-1"])
@pytest.mark.parametrize("kind", ["pause", "partition"])
def test_what_waits_for_the_broker_is_on_no_dead_connection(kind: str, target: str) -> None:
    scene = half_open(True)
    for line in scene.faults:
        line["kind"], line["target"] = kind, target
    assert counts(judge(scene)) == {}


@pytest.mark.parametrize("client", [1, 2], ids=["of its client", "of another"])
@pytest.mark.parametrize("hears", [False, True], ids=["to the end", "for a while"])
def test_who_reads_nothing_by_its_own_persona_cannot_see_its_connection_end(client: int, hears: bool) -> None:
    scene = two_clients(ping_s=2, pong_s=1)
    scene.publish(1)
    scene.faults = fault_lines("hole-1", "timeout", scene.now, scene.now + 10**10)
    message = scene.publish(1, commit=False)
    scene.mark(Mark.DEAF, client=client)
    scene.wait(5)
    if hears:
        scene.mark(Mark.HEARS, client=client)
    scene.close(1)
    scene.wait(10)
    scene.conn(1)
    scene.send(*message, retry=True)
    scene.commit(message)
    scene.finish()
    assert counts(judge(scene)) == ({} if client == 1 else {"V4": 1})


def test_deadlines_are_judged_only_after_a_drain() -> None:
    scene = Scene(clients=2)
    scene.join(1), scene.join(2)
    scene.publish(1)
    judged = judge(scene)
    assert all(judged.classes[cls].unknown for cls in ("V1", "V2", "V3", "V4", "V5"))
    assert judged.verdict is Verdict.UNKNOWN


def test_a_server_that_client_0_cannot_reach_after_healing_makes_no_progress() -> None:
    scene = two_clients()
    scene.publish(1)
    scene.mark(Mark.HEAL)
    scene.mark(Mark.DRAIN)
    for _ in range(4):
        scene.conn(0, result=65536 + 111)
        scene.wait(4)
    scene.mark(Mark.END)
    assert counts(judge(scene)) == {"V5": 1}


def test_what_is_seen_without_an_ack_is_progress() -> None:
    scene = no_progress(True)
    assert counts(judge(scene)) == {"V5": 1}
    scene.contract["deadlines"] = {"settle_s": 20}
    assert counts(judge(scene)) == {}

"""Declared gaps: exact ones are silent, wrong ones are bad notices; and what may not be trimmed yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from reports.checks import Verdict
from reports.history import Flag, GapReason
from tests.reports.checks.verdicts import counts, judge
from tests.scenes import Scene


def returned(
    *, gap: tuple[int, int] | None = (2, 3), gives: tuple[int, ...] = (4,), live: bool = True
) -> Scene:
    """Client 2 had 1; 2 and 3 are trimmed when it comes back; it is told ``gap`` and gets ``gives``."""
    scene = Scene(clients=2)
    scene.conn(1)
    scene.join(2)
    scene.publish(1)
    scene.cut(2)
    for _ in range(3):
        scene.publish(1)
    scene.trim(1, 4)
    scene.conn(2)
    scene.sub(2, 1, 3, asked=(1, 1))
    if gap is not None:
        scene.gap(2, *gap)
    scene.open.add((2, 1))
    for serial in gives:
        scene.give(2, 1, serial, flags=Flag.REPLAYED)
    if live:
        scene.live(2, 1, 4, floor=4)
    return scene


@pytest.mark.parametrize(
    ("gap", "told"),
    [
        pytest.param((2, 3), "", id="exact"),
        pytest.param(None, "no gap was declared", id="none"),
        pytest.param((3, 3), "the gap declared is E1 3", id="begins too late"),
        pytest.param((1, 3), "the gap declared is E1 1–3", id="begins too early"),
        pytest.param((2, 2), "the gap declared is E1 2", id="ends too early"),
        pytest.param((2, 4), "the gap declared is E1 2–4", id="ends too late"),
    ],
)
def test_the_notice_of_an_answer_is_the_hole(gap: tuple[int, int] | None, told: str) -> None:
    made = returned(gap=gap)
    made.finish()
    judged = judge(made)
    if not told:
        assert judged.verdict is Verdict.VALID
        return
    assert counts(judged) == {"D3": 1}
    assert told in judged.classes["D3"].findings[0].sentence
    assert judged.classes["D3"].findings[0].clients == ("c2",)


def test_a_notice_that_the_end_of_the_connection_cut_off_is_not_missed() -> None:
    scene = returned(gap=None, gives=(), live=False)
    scene.cut(2)
    scene.conn(2)
    scene.sub(2, 1, 3, asked=(1, 1))
    scene.gap(2, 2, 3)
    scene.open.add((2, 1))
    scene.give(2, 1, 4, flags=Flag.REPLAYED)
    scene.live(2, 1, 4, floor=4)
    scene.finish()
    assert counts(judge(scene)) == {}


def test_a_client_with_a_torn_log_is_not_accused_but_the_class_is_unknown() -> None:
    scene = returned(gap=None)
    scene.finish()
    scene.torn.add(1)
    judged = judge(scene)
    assert judged.classes["D3"].count == 0
    assert judged.classes["D3"].unknown


def test_a_gap_in_the_middle_may_not_declare_what_came_before_it() -> None:
    scene = Scene(clients=2)
    scene.conn(1)
    scene.join(2)
    for _ in range(2):
        scene.publish(1)
    scene.publish(1, skip=[2])
    scene.gap(2, 2, 3, why=GapReason.LAG)
    scene.stands[2, 1] = 1, 3
    scene.publish(1)
    scene.finish()
    assert counts(judge(scene)) == {"D3": 1}


def test_a_gap_of_nothing_is_a_bad_notice() -> None:
    scene = Scene(clients=2)
    scene.conn(1)
    scene.join(2)
    scene.publish(1)
    scene.gap(2, 2, 1, why=GapReason.LAG)
    scene.publish(1)
    scene.finish()
    assert counts(judge(scene)) == {"D3": 1}


@pytest.mark.parametrize(("first", "count"), [(2, 0), (3, 1)], ids=["exact", "one too late"])
def test_a_gap_into_another_epoch_begins_where_the_client_stood(first: int, count: int) -> None:
    scene = Scene(clients=2)
    scene.conn(1)
    scene.join(2)
    scene.publish(1)
    scene.cut(2)
    scene.new_life()
    scene.publish(1)
    scene.conn(2)
    scene.epoch(2, 2)
    scene.sub(2, 1, 1, epoch=2, asked=(1, 1))
    scene.gap(2, first, 1, epoch=2, from_epoch=1, why=GapReason.EPOCH)
    scene.live(2, 1, 1, epoch=2)
    scene.stands[2, 1] = 2, 1
    scene.open.add((2, 1))
    scene.finish()
    assert judge(scene).classes["D3"].count == count


def retained(*, newer: int, in_flight: int = 0, **contract: Any) -> Scene:
    """2 and 3 are declared trimmed; ``newer`` came after them, and ``in_flight`` are sent by then."""
    scene = Scene(clients=2, contract={"retain_n": 4, "retain_s": 60, "retain_bytes": 1 << 20, **contract})
    scene.conn(1)
    scene.join(2)
    scene.publish(1)
    scene.cut(2)
    for _ in range(2 + newer):
        scene.publish(1)
    flying = [scene.next_message(1) for _ in range(in_flight)]
    for message in flying:
        scene.send(*message)
    scene.wait(5)
    scene.trim(1, 4)
    scene.back(2)
    for message in flying:
        scene.commit(message)
    scene.finish()
    return scene


@pytest.mark.parametrize(
    ("scene", "count"),
    [
        pytest.param(lambda: retained(newer=3), 1, id="one of the newest"),
        pytest.param(lambda: retained(newer=4), 0, id="one past them"),
        pytest.param(lambda: retained(newer=3, in_flight=1), 0, id="perhaps past them: one was in flight"),
        pytest.param(lambda: retained(newer=2, in_flight=1), 1, id="not even with the one in flight"),
        pytest.param(lambda: retained(newer=3, retain_s=5), 0, id="too old"),
        pytest.param(lambda: retained(newer=3, retain_s=6), 1, id="not yet too old"),
        pytest.param(lambda: retained(newer=3, retain_bytes=4 * 612 - 1), 0, id="perhaps too large"),
        pytest.param(lambda: retained(newer=3, retain_bytes=4 * 612), 1, id="certainly not too large"),
    ],
)
def test_a_retention_is_only_breached_when_it_is_certain(scene: Callable[[], Scene], count: int) -> None:
    judged = judge(scene())
    assert counts(judged) == ({"D4": count} if count else {})


def test_the_promise_of_a_namespace_counts_for_its_channels() -> None:
    scene = retained(newer=3, namespaces={"room": {"retain_n": 3, "retain_s": 60, "retain_bytes": 1 << 20}})
    assert counts(judge(scene)) == {}
    scene.contract["namespaces"] = {"dm": {"retain_n": 3}}
    assert counts(judge(scene)) == {"D4": 1}


def test_without_a_promise_there_is_no_breach() -> None:
    scene = retained(newer=0)
    scene.contract.clear()
    assert counts(judge(scene)) == {}


def test_a_breach_names_only_what_was_certainly_retained() -> None:
    finding = judge(retained(newer=3)).classes["D4"].findings[0]
    assert finding.serials == ((3, 3),)
    assert "E1 2–3 was declared trimmed to c2 at 5.021 s, though c1:3 at 3" in finding.sentence


def test_what_was_trimmed_before_anybody_saw_it_is_unwitnessed_and_not_lost() -> None:
    """Its only subscriber is away and told of the gap; the final reads begin above it."""
    scene = Scene(clients=2, contract={"retain_n": 2, "retain_s": 60, "retain_bytes": 1 << 20})
    scene.conn(1)
    scene.join(2)
    scene.publish(1)
    scene.cut(2, 1000, on_purpose=True)
    for _ in range(5):
        scene.publish(1)
    scene.trim(1, 5)
    scene.back(2)
    scene.trim(1, 6)  # as the sentinel pushes out one more
    scene.finish()
    judged = judge(scene)
    assert counts(judged) == {}
    assert judged.coverage.unwitnessed == 3
    assert judged.coverage.gaps == 1

"""Laws of the checker, over random histories of a correct server and over single planted faults."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reports.checks import Verdict, run_checks
from reports.history import Kind
from tests.builders import Story
from tests.reports.checks.twins import TWINS
from tests.reports.checks.verdicts import counts
from tests.scenes import Scene
from tests.simulator.simulate import simulate
from tests.strategies import PLANTS, Stage, clean_scenes, evicted_early, finished, stages

EXAMPLES = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@EXAMPLES
@given(clean_scenes())
def test_a_correct_server_is_found_valid(scene: Scene) -> None:
    judged = run_checks(scene.history())
    assert counts(judged) == {}, [f.sentence for r in judged.classes.values() for f in r.findings]
    assert judged.verdict is Verdict.VALID, judged.reasons
    assert judged.coverage.unexplained == {}


@pytest.mark.parametrize("name", PLANTS)
@settings(EXAMPLES, max_examples=25)
@given(st.data())
def test_one_planted_fault_is_reported_exactly(name: str, data: st.DataObject) -> None:
    cls, plant = PLANTS[name]
    scene = finished(data.draw(stages(plant=plant)))
    judged = run_checks(scene.history())
    assert counts(judged) == {cls: 1}, [f.sentence for r in judged.classes.values() for f in r.findings]
    assert judged.verdict is Verdict.INVALID


@EXAMPLES
@given(stages(), st.data())
def test_an_acked_message_that_reads_do_not_show_is_lost(stage: Stage, data: st.DataObject) -> None:
    scene = stage.scene
    acked = {(row[4], row[5]) for log in scene.logs.values() for row in log if row[8] == Kind.ACK}
    channel = data.draw(st.integers(1, scene.channels))
    there = [
        serial
        for serial, message in enumerate(scene.log[channel], start=1)
        if serial >= scene.floor[channel] and message in acked
    ]
    serial = data.draw(st.sampled_from(there))
    scene.finish(forget=[(channel, serial)])
    judged = run_checks(scene.history())
    assert counts(judged) == {"L3": 1}
    assert judged.classes["L3"].findings[0].serials == ((serial, serial),)


@EXAMPLES
@given(stages(), st.data())
def test_who_gets_nothing_until_forced_to_reconnect_is_stalled(stage: Stage, data: st.DataObject) -> None:
    client = stage.client()
    subscriptions = len([c for c, _ in stage.scene.open if c == client])
    lost = data.draw(st.booleans())
    stage.scene.finish(behind=[client], lost=[client] if lost else [])
    judged = run_checks(stage.scene.history())
    expected = {"V1": subscriptions} | ({"D1": subscriptions} if lost else {})
    assert counts(judged) == expected


@EXAMPLES
@given(stages(plant=evicted_early, retain_n=1000))
def test_what_was_certainly_retained_is_not_declared_trimmed(stage: Stage) -> None:
    stage.scene.finish()
    assert counts(run_checks(stage.scene.history())) == {"D4": 1}


@EXAMPLES
@given(stages())
def test_who_does_not_come_back_is_never_reconnected(stage: Stage) -> None:
    stage.scene.cut(stage.client())
    stage.scene.publish(1)
    stage.scene.finish()
    assert counts(run_checks(stage.scene.history())) == {"V2": 1}


@EXAMPLES
@given(clean_scenes(), st.data())
def test_a_prefix_of_a_valid_history_is_never_invalid(scene: Scene, data: st.DataObject) -> None:
    times = sorted(row[0] for log in scene.logs.values() for row in log)
    end = data.draw(st.sampled_from(times))
    scene.logs = {worker: [row for row in log if row[0] <= end] for worker, log in scene.logs.items()}
    judged = run_checks(scene.history())
    assert {cls: n for cls, n in counts(judged).items() if not cls.startswith("V")} == {}


@pytest.mark.parametrize("name", [None, *PLANTS])
@settings(EXAMPLES, max_examples=15)
@given(st.data(), st.randoms(use_true_random=False))
def test_the_order_of_different_clients_records_does_not_matter(
    name: str | None, data: st.DataObject, rng: random.Random
) -> None:
    scene = finished(data.draw(stages(plant=PLANTS[name][1] if name else None)))
    before = run_checks(scene.history())
    for worker, log in scene.logs.items():
        scene.logs[worker] = shuffled(log, rng)
    after = run_checks(scene.history())
    assert counts(after) == counts(before)
    assert after.coverage == before.coverage
    assert [f.sentence for r in after.classes.values() for f in r.findings] == [
        f.sentence for r in before.classes.values() for f in r.findings
    ]


def shuffled(log: list[tuple[int, ...]], rng: random.Random) -> list[tuple[int, ...]]:
    """The rows of different clients interleaved anew; each client's own rows keep their order."""
    order = [row[2] for row in log]
    rng.shuffle(order)
    queues = {client: iter([row for row in log if row[2] == client]) for client in set(order)}
    return [next(queues[client]) for client in order]


@pytest.mark.parametrize("name", [None, *PLANTS])
@settings(EXAMPLES, max_examples=10)
@given(st.data(), st.integers(1, 60))
def test_how_a_history_is_parted_does_not_matter(
    name: str | None, data: st.DataObject, part_rows: int
) -> None:
    scene = crowded(finished(data.draw(stages(plant=PLANTS[name][1] if name else None))))
    assert run_checks(scene.history(), part_rows=part_rows) == run_checks(scene.history())


@pytest.mark.parametrize("part_rows", [1, 9, 30])
@pytest.mark.parametrize("bad", [True, False], ids=["bad", "legal"])
@pytest.mark.parametrize("cls", TWINS)
def test_how_golden_twins_are_parted_does_not_matter(cls: str, bad: bool, part_rows: int) -> None:
    history = crowded(TWINS[cls].make(bad)).history()
    assert run_checks(history, part_rows=part_rows) == run_checks(history)


@pytest.mark.parametrize("seed", range(24))
def test_how_damaged_histories_of_the_simulator_are_parted_does_not_matter(seed: int) -> None:
    story, rng = simulate(seed).story, random.Random(seed)
    if seed % 3 == 1:
        story = crowded(story)
    for log in story.logs.values():
        for _ in range(3):
            _spoil(log, rng)
    history = story.history()
    judged = run_checks(history)
    for part_rows in (1, rng.randrange(2, 200)):
        assert run_checks(history, part_rows=part_rows) == judged


def _spoil(log: list[tuple[int, ...]], rng: random.Random) -> None:
    """One record less, again later, or with another serial, message or epoch."""
    at, what = rng.randrange(len(log)), rng.randrange(5)
    if what == 0:
        del log[at]
        return
    if what == 1:
        log.insert(min(len(log), at + rng.randrange(30)), log[at])
        return
    fields = list(log[at])
    if what == 2:
        fields[6] = max(1, fields[6] + rng.choice([-2, -1, 1, 2]))  # serial
    elif what == 3 and fields[8] != Kind.SEND:  # no message is ever sent to two channels
        fields[5] += 1  # pub_seq
    else:
        fields[7] = rng.randrange(1, 4)  # epoch
    log[at] = tuple(fields)


def crowded(story: Story) -> Story:
    """The story with more clients who see just what others saw, some only what comes before a delivery."""
    own = (Kind.SEND, Kind.ACK, Kind.NACK, Kind.MARK)
    for worker, log in story.logs.items():
        crowd: list[tuple[int, ...]] = []
        delivered: set[int] = set()
        for t, t2, client, *rest in log:
            crowd.append((t, t2, client, *rest))
            kind = rest[5]
            if client and kind not in own:
                crowd += [(t + copy, t2, client + 100 * copy, *rest) for copy in (1, 2)]
                delivered |= {client} if kind == Kind.RECV else set()
                if client not in delivered:
                    crowd += [(t + copy, t2, client + 100 * copy, *rest) for copy in (3, 4)]
        story.logs[worker] = crowd
    return story


@EXAMPLES
@given(clean_scenes(), st.data())
def test_taking_out_an_unobserved_message_of_unknown_outcome_adds_nothing(
    scene: Scene, data: st.DataObject
) -> None:
    answered = {(row[4], row[5]) for log in scene.logs.values() for row in log if row[8] != Kind.SEND}
    for worker, log in scene.logs.items():
        scene.logs[worker] = [
            row
            for row in log
            if row[8] != Kind.SEND or (row[4], row[5]) in answered or data.draw(st.booleans())
        ]
    judged = run_checks(scene.history())
    assert counts(judged) == {}
    assert judged.verdict is Verdict.VALID


@EXAMPLES
@given(clean_scenes(), st.data())
def test_a_torn_log_accuses_nobody_of_what_is_not_there(scene: Scene, data: st.DataObject) -> None:
    worker = data.draw(st.sampled_from(sorted(scene.logs)))
    keep = data.draw(st.integers(0, len(scene.logs[worker])))
    scene.logs[worker] = scene.logs[worker][:keep]
    scene.torn.add(worker)
    judged = run_checks(scene.history())
    assert counts(judged) == {}
    assert judged.verdict is Verdict.UNKNOWN


def test_a_check_that_breaks_leaves_its_class_unknown_and_the_others_judged() -> None:
    from reports.checks.table import CHECKS, Check

    def breaks(part: object) -> object:
        return np.empty(0)[1]

    scene = Scene(clients=2)
    scene.join(1)
    scene.publish(1)
    scene.finish()
    broken = Check(title="breaks", unit="things", absence=False, part=breaks)  # type: ignore[arg-type]
    judged = run_checks(scene.history(), checks={**CHECKS, "X1": broken})
    assert judged.classes["X1"].unknown
    assert "IndexError" in judged.classes["X1"].reasons[0]
    assert "breaks, line" in judged.classes["X1"].reasons[0]
    assert not judged.classes["D1"].unknown
    assert judged.verdict is Verdict.UNKNOWN

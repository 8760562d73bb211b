"""What a correct server may do is valid: late, retried, trimmed, restarted, churned."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reports.checks import Verdict
from reports.history import Flag, GapReason
from tests.builders import exit_line
from tests.reports.checks.verdicts import counts, judge
from tests.scenes import Scene


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

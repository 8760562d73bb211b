"""Outcomes of publishes, and what they leave owed."""

from __future__ import annotations

from reports.checks import Verdict, run_checks
from reports.history import Flag, Kind
from tests.reports.checks.twins import two_clients
from tests.reports.checks.verdicts import counts, judge
from tests.scenes import Scene


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
    nor_this = scene.publish(1, commit=False)
    scene.nack(*nor_this, code=0, flags=0)  # FAIL
    scene.finish()
    cover = judge(scene).coverage
    assert (cover.acked, cover.recovered, cover.unresolved, cover.failed) == (1, 1, 4, 3)


def test_too_many_unknown_outcomes_are_unknown() -> None:
    scene = two_clients()
    scene.expect["info_share"] = 0.4
    scene.publish(1)
    scene.publish(1, commit=False)
    scene.finish()
    judged = judge(scene)
    assert judged.verdict is Verdict.UNKNOWN
    assert "50% of the messages have no known outcome" in judged.reasons[0]


def test_an_ack_that_answers_no_open_request_is_an_ack() -> None:
    """It comes without a channel, and goes where its message was sent."""
    scene = Scene(clients=2, channels=3)
    scene.conn(1)
    scene.join(2, 1, 2, 3)
    for channel in (1, 2, 3):
        message = scene.publish(1, channel, acked=False)
        scene.put(Kind.ACK, 1, publisher=1, pub_seq=message[1], serial=1, epoch=1, flags=Flag.NOT_OPEN)
    scene.finish()
    for part_rows in (1, 1000):
        judged = run_checks(scene.history(), part_rows=part_rows)
        assert judged.coverage.acked == 3
        assert counts(judged) == {"D10": 3}
        assert judged.coverage.unexplained == {}

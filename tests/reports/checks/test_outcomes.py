"""Outcomes of publishes, and what they leave owed."""

from __future__ import annotations

from reports.checks import Verdict
from reports.history import Flag
from tests.reports.checks.twins import two_clients
from tests.reports.checks.verdicts import judge


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

"""When silence proves nothing, and how findings are told."""

from __future__ import annotations

import pytest

from reports.checks import Verdict, run_checks
from reports.history import BadReason, Kind, Mark
from reports.progress import Step
from tests.builders import T0, Story, fault_lines
from tests.reports.checks.twins import two_clients
from tests.reports.checks.verdicts import counts, judge
from tests.scenes import Scene

# ── vacuity, and what nothing explains ────────────────────────────────────────────────────────


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
        "BAD: an undecodable or illegal frame": 1,
        "GAP without a subscription": 1,
        "LIVE outside of any subscription": 1,
        "READ outside of a complete final read": 1,
        "record of an unknown kind": 1,
    }
    assert counts(judged)["D7"] == counts(judged)["D10"] == 1
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


# ── profiles, findings ────────────────────────────────────────────────────────────────────────


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


def test_progress_is_told_as_records_are_sorted_and_after_each_part() -> None:
    scene = Scene(clients=2, channels=3)
    scene.join(1, 1, 2, 3)
    scene.finish()
    told: list[Step] = []
    run_checks(scene.history(), part_rows=20, progress=told.append)
    assert [(step.what, step.parts, step.of_parts) for step in told] == [
        ("sorting", 0, 0),
        *(("checking", part, 3) for part in range(4)),
    ]
    assert [step.rows for step in told if step.parts in (0, 3)] == [told[0].of_rows, 0, told[0].of_rows]


def test_each_range_of_clients_of_a_large_channel_is_a_part() -> None:
    scene = Scene(clients=4)
    for client in (1, 2, 3):
        scene.join(client)
    for _ in range(5):
        scene.publish(4)
    scene.finish()
    told: list[Step] = []
    run_checks(scene.history(), part_rows=12, progress=told.append)
    assert (told[-1].parts, told[-1].of_parts, told[-1].rows) == (2, 2, told[-1].of_rows)

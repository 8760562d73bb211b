"""The steady state: what is read of probes, how it is counted, and the rule that fails a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reports.checks import run_checks
from reports.history import HistoryError
from reports.pipeline import analyse, report_run
from reports.render import report_markdown
from reports.steady import counted, lost, read_probes, steady_gate
from reports.verdict import Exit
from tests.reports.synthetic import in_memory, small


def probe(when: str, ok: bool = True, name: str = "ready", why: str = "") -> dict[str, Any]:
    return {"t": 1, "when": when, "probe": name, "ok": ok, "took_ms": 1.0, "why": why}


def test_probes_are_counted_by_time_and_name():
    probes = [probe("before"), probe("during"), probe("during", False), probe("after", name="round_trip")]
    assert counted(probes) == {
        "before": {"ready": {"ok": 1, "asked": 1}},
        "during": {"ready": {"ok": 1, "asked": 2}},
        "after": {"round_trip": {"ok": 1, "asked": 1}},
    }


@pytest.mark.parametrize(
    ("probes", "why"),
    [
        pytest.param([], [], id="none were asked"),
        pytest.param([probe("during", False, why="no")], [], id="a failure under faults is judged by nobody"),
        pytest.param([probe("after", False, why="no"), probe("after")], [], id="well in the end"),
        pytest.param([probe("after"), probe("after", False, why="no")], ["ready: no"], id="not well at last"),
        pytest.param(
            [probe("after"), probe("after", False, name="round_trip", why="not acked")],
            ["round_trip: not acked"],
            id="each probe for itself",
        ),
    ],
)
def test_the_last_answer_after_healing_decides(probes, why):
    assert lost(probes) == why
    assert [gate.why for gate in steady_gate(probes)] == ["; ".join(why)] * bool(why)


def test_a_steady_state_that_did_not_come_back_fails_the_run_and_is_told():
    history = in_memory(small())
    told = [probe("before"), probe("after", False, name="round_trip", why="not acked within 2 s")]
    analysis = analyse(history, run_checks(history), (), steady=told)
    assert analysis.judgement.exit is Exit.GATE
    assert "steady-state" in analysis.judgement.sentence
    page = report_markdown(analysis)
    assert "before ready 1 of 1" in page
    assert "not acked within 2 s" in page


def test_a_run_directory_is_judged_by_its_probes(tmp_path: Path):
    run = small().write(tmp_path / "run")
    (run / "probes.jsonl").write_text(json.dumps(probe("after", False, why="no")) + "\n")
    outcome = report_run(run)
    assert outcome.exit == Exit.GATE
    assert outcome.summary["steady"]["after"] == {"ready": {"ok": 0, "asked": 1}}


def test_a_torn_last_line_is_left_out_and_another_is_an_error(tmp_path: Path):
    path = tmp_path / "probes.jsonl"
    path.write_text(json.dumps(probe("before")) + '\n{"t": 1, "wh')
    assert len(read_probes(tmp_path)) == 1
    path.write_text('{"when": "never"}\n')
    with pytest.raises(HistoryError, match="line 1 is no probe"):
        read_probes(tmp_path)
    assert read_probes(tmp_path / "elsewhere") == []

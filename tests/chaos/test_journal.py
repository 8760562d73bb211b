"""Lines of faults.jsonl, as the reports read them."""

from __future__ import annotations

import json
from pathlib import Path

from chaos.journal import Journal
from chaos.plan import PlannedFault
from chaos.process import Exit, Started

FAULT = PlannedFault("x", "latency", "a", 10, 5, {"latency_ms": 5}, (2, 4))


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_line_is_in_the_file_before_the_call_returns(tmp_path):
    journal = Journal(tmp_path / "faults.jsonl")
    journal.planned([FAULT], 100)
    assert lines(journal.path) == [
        {"id": "x", "kind": "latency", "phase": "planned", "t": None, "planned_t": 110, "skew_ns": None,
         "target": "a", "clients": 2, "ordinals": [2, 4], "pids": [], "effect": [], "error": None}
    ]  # fmt: skip
    journal.fault(FAULT, "revert", t=117, planned_t=115, effect=[{"pid": 7}], pids=[7], error="no answer")
    assert lines(journal.path)[1] == {
        "id": "x", "kind": "latency", "phase": "revert", "t": 117, "planned_t": 115, "skew_ns": 2,
        "target": "a", "clients": 2, "ordinals": [2, 4], "pids": [7], "effect": [{"pid": 7}],
        "error": "no answer",
    }  # fmt: skip
    journal.close()


def test_a_fault_of_a_process_names_no_clients(tmp_path):
    journal = Journal(tmp_path / "faults.jsonl")
    journal.planned([PlannedFault("k", "kill", "chatd-1", 10, 5, {}, None)], 100)
    (line,) = lines(journal.path)
    assert (line["clients"], line["ordinals"], line["target"]) == (None, None, "chatd-1")
    journal.close()


def test_starts_and_exits_of_processes_are_lines_too_and_a_second_journal_appends(tmp_path):
    path = tmp_path / "faults.jsonl"
    journal = Journal(path)
    journal.started(Started(process="chatd-1", role="target", pid=7, t=5, fault_id=""))
    journal.close()
    journal = Journal(path)
    journal.exited(
        Exit(
            process="chatd-1",
            role="target",
            pid=7,
            t=9,
            fault_id="k",
            code=None,
            signal="SIGKILL",
            planned=True,
        )
    )
    journal.close()
    assert lines(path) == [
        {"id": "", "kind": "start", "phase": "engine_effect", "t": 5, "process": "chatd-1", "role": "target",
         "pid": 7},
        {"id": "k", "kind": "exit", "phase": "engine_effect", "t": 9, "process": "chatd-1", "role": "target",
         "pid": 7, "code": None, "signal": "SIGKILL", "planned": True, "ready": True, "error": None},
    ]  # fmt: skip

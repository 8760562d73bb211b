"""How commands end: each status of the shell means one thing, whatever the command."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import scenarios.cli
import scenarios.run
from reports.pipeline import report_run
from reports.verdict import Exit
from scenarios.doctor import Result
from scenarios.model import bundled_files
from scenarios.ready import StageFailed
from tests.reports.synthetic import small
from tests.scenarios.gate_runs import repeat

ON_A_SCENARIO = {
    "run": ["run", "nowhere"],
    "plan": ["plan", "nowhere"],
    "ab": ["ab", "smoke", "nowhere"],
    "capacity": ["capacity", "nowhere"],
    "soak": ["soak", "nowhere"],
}


@pytest.mark.parametrize("arguments", ON_A_SCENARIO.values(), ids=ON_A_SCENARIO)
def test_a_scenario_that_is_not_there_is_a_usage_error(arguments: list[str]) -> None:
    ended = CliRunner().invoke(scenarios.cli.main, arguments)
    assert ended.exit_code == Exit.USAGE, ended.output
    assert "'nowhere' is no scenario" in ended.output
    assert "Traceback" not in ended.output


@pytest.mark.parametrize(
    ("error", "status"),
    [
        pytest.param(ZeroDivisionError("planted"), Exit.INTERNAL, id="a defect"),
        pytest.param(KeyboardInterrupt(), Exit.INTERRUPTED, id="Ctrl-C"),
    ],
)
@pytest.mark.parametrize("command", ["run", "plan", "capacity"])
def test_a_defect_is_no_failed_gate(
    command: str, error: BaseException, status: Exit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(name: str) -> None:
        raise error

    monkeypatch.setattr(scenarios.cli, "find", broken)
    ended = CliRunner().invoke(scenarios.cli.main, [command, "smoke"])
    assert ended.exit_code == status, ended.output
    assert ("Please report them" in ended.output) == (status is Exit.INTERNAL)


def test_what_click_refuses_keeps_its_own_words() -> None:
    ended = CliRunner().invoke(scenarios.cli.main, ["run", "smoke", "--workers", "0"])
    assert ended.exit_code == Exit.USAGE
    assert "Invalid value for '--workers'" in ended.output
    assert CliRunner().invoke(scenarios.cli.main, ["--version"]).exit_code == Exit.PASS


def judged(path: Path, run_id: str = "run-0") -> Path:
    small(run={"run_id": run_id}).write(path)
    (path / "config").mkdir()
    (path / "config" / "scenario.toml").write_text("[server]\n")
    report_run(path)
    return path


def test_a_baseline_that_cannot_be_used_starts_nothing(tmp_path: Path) -> None:
    broken = judged(tmp_path / "broken")
    (broken / "analysis" / "summary.json").write_text('{"latency_ms": 1}')
    for other in (broken, tmp_path / "nowhere"):
        ended = CliRunner().invoke(
            scenarios.cli.main, ["run", "smoke", "--out", str(tmp_path / "out"), "--baseline", str(other)]
        )
        assert ended.exit_code == Exit.USAGE, ended.output
        assert ended.output.startswith(f"error: {other}: ")
        assert "`chatproof report`" in ended.output
        assert not (tmp_path / "out").exists()


def test_the_baseline_is_read_before_the_run_and_shown_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``latest`` is the baseline, although it is this run by the time that the report is made."""
    (tmp_path / "latest").symlink_to(judged(tmp_path / "before"))
    seen: list[Any] = []

    def report(path: Path, **more: Any) -> Any:
        seen.append(((tmp_path / "latest").resolve() == path, more["baseline"].made.run_id))
        return report_run(judged(tmp_path / "made", "run-1"), baseline=more["baseline"])

    monkeypatch.setattr(scenarios.run, "perform", lambda *_: None)
    monkeypatch.setattr(scenarios.run, "report_run", report)
    ended = CliRunner().invoke(
        scenarios.cli.main,
        ["run", "smoke", "--quiet", "--out", str(tmp_path), "--baseline", str(tmp_path / "latest")],
    )
    assert seen == [(True, "run-0")]
    assert "shown beside" in ended.output


def test_all_that_cannot_be_planned_with_is_told_before_anything_is_run(tmp_path: Path) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text("[node]\nper_month = 3\n")
    asked = ["capacity", "--peak", "nan", "--growth=-1", "--spare", "5000", "--prices", str(prices)]
    ended = CliRunner().invoke(scenarios.cli.main, [*asked, "--out", str(tmp_path / "runs")])
    assert ended.exit_code == Exit.USAGE, ended.output
    assert [line.split(": ")[0] for line in ended.output.splitlines()] == [
        "--peak is nan", "--growth is -1", "--spare is 5000", *[str(prices)] * 2,
    ]  # fmt: skip
    assert not (tmp_path / "runs").exists()


def test_options_of_the_page_without_the_page_are_no_slip_that_is_passed_over() -> None:
    for option in (["--ui-port", "8089"], ["--ui-login-file", "login"], ["--ui-host", "0.0.0.0"]):
        ended = CliRunner().invoke(scenarios.cli.main, ["run", "smoke", *option])
        assert ended.exit_code == Exit.USAGE, ended.output
        assert "say --ui as well" in ended.output


def test_a_page_that_cannot_listen_starts_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = CliRunner().invoke(
            scenarios.cli.main, ["run", "smoke", "--out", str(tmp_path / "out"), "--ui", "--ui-port", port]
        )
    assert ended.exit_code == Exit.USAGE, ended.output
    assert f"--ui-port is {port}: " in ended.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "expected", "word"),
    [
        pytest.param(
            scenarios.run.Interrupted(), Exit.INTERRUPTED, "Interrupted before its end", id="Ctrl-C"
        ),
        pytest.param(StageFailed("chatd-1 ended"), Exit.VOID, "Chatd-1 ended", id="a stage fails"),
    ],
)
def test_a_run_that_ends_before_anything_has_begun_is_judged_and_ends_with_what_happened(
    error: BaseException, expected: Exit, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends_at_once(*_: object) -> None:
        raise error

    monkeypatch.setattr(scenarios.run, "perform", ends_at_once)
    ended = CliRunner().invoke(scenarios.cli.main, ["run", "smoke", "--quiet", "--out", str(tmp_path)])
    assert ended.exit_code == expected, ended.output
    assert word in ended.output
    again = CliRunner().invoke(scenarios.cli.main, ["report", str(tmp_path / "latest")])
    assert again.exit_code == Exit.VOID, again.output
    assert word in again.output


def test_a_signal_while_the_manifest_is_finished_is_no_defect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends_late(*_: object) -> None:
        raise scenarios.run.Interrupted

    monkeypatch.setattr(scenarios.run, "perform", lambda *_: None)
    monkeypatch.setattr(scenarios.run.RunDirectory, "finish", ends_late)
    ended = CliRunner().invoke(scenarios.cli.main, ["run", "smoke", "--quiet", "--out", str(tmp_path)])
    assert ended.exit_code == Exit.INTERRUPTED, ended.output
    again = CliRunner().invoke(scenarios.cli.main, ["report", str(tmp_path / "latest")])
    assert again.exit_code == Exit.VOID, again.output
    assert "The run has status 'running': it never came to its end" in again.output


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param("complete", Exit.PASS, id="to its end"),
        pytest.param("aborted", Exit.VOID, id="broken off"),
    ],
)
def test_a_run_that_was_steered_by_hand_ends_well_if_it_came_to_its_end(
    status: str, expected: Exit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made"
    small(run={"status": status, "interactive": True, "void": ["late"]}).write(made)
    (made / "config").mkdir()
    (made / "config" / "scenario.toml").write_text("[server]\n")
    outcome = report_run(made)
    assert outcome.exit == Exit.VOID
    monkeypatch.setattr(scenarios.run, "perform", lambda *_: None)
    monkeypatch.setattr(scenarios.run, "report_run", lambda *_, **__: outcome)
    ended = CliRunner().invoke(scenarios.cli.main, ["run", "smoke", "--ui", "--out", str(tmp_path / "out")])
    assert ended.exit_code == expected, ended.output


def test_a_promise_that_broke_while_a_run_was_steered_by_hand_is_no_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = small(run={"interactive": True})
    spoiled = {worker: repeat(rows) if worker else rows for worker, rows in made.records().items()}
    monkeypatch.setattr(made, "records", lambda: spoiled)
    made.write(tmp_path / "made")
    (tmp_path / "made/config").mkdir()
    (tmp_path / "made/config/scenario.toml").write_text("[server]\n")
    outcome = report_run(tmp_path / "made")
    monkeypatch.setattr(scenarios.run, "perform", lambda *_: None)
    monkeypatch.setattr(scenarios.run, "report_run", lambda *_, **__: outcome)
    ended = CliRunner().invoke(scenarios.cli.main, ["run", "smoke", "--ui", "--out", str(tmp_path / "out")])
    assert ended.exit_code == Exit.INTEGRITY, ended.output
    assert "D5" in ended.output


@pytest.mark.parametrize("scenario", [path.stem for path in bundled_files()])
def test_a_plan_fits_a_terminal_of_80_columns(scenario: str) -> None:
    ended = CliRunner().invoke(scenarios.cli.main, ["plan", scenario])
    assert ended.exit_code == Exit.PASS, ended.output
    assert [line for line in ended.output.splitlines() if len(line) > 80] == []


def test_what_the_doctor_advises_fits_a_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Result(what="haproxy", found="not found", ok=False, remedy="a word " * 20)
    monkeypatch.setattr(scenarios.cli.doctor_checks, "examine", lambda: [found])
    ended = CliRunner().invoke(scenarios.cli.main, ["doctor"])
    assert len(ended.output.splitlines()) > 3
    assert max(map(len, ended.output.splitlines())) <= 80


def test_a_pipe_that_nobody_reads_any_more_is_no_defect() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-c", "from scenarios.cli import main; main()", "list"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(writer)
    assert ended.returncode == Exit.INTERRUPTED
    assert ended.stderr == ""

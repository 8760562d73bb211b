"""Whole runs with real processes: the verdict on an honest server, on broken ones, on an interrupted run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest

from reports.history import Kind, open_history

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[2]
WRITTEN = """
    run.json plan.json faults.jsonl names.json config/scenario.toml events/w1.parquet
    metrics/chatd.parquet metrics/host.parquet
    analysis/summary.json analysis/findings.jsonl analysis/intervals.parquet analysis/gates.json
    report/report.html report/report.md report/junit.xml report/ctrf.json report/metrics.txt
    report/latency.hlog
""".split()
SHORT = """
version = 1
why = "Does a short run with a cut and a kill say what it should?"

[server]
retry_ms = [100, 1000]

[workload]
clients = 40
channels = 8
channels_per_client = 2
connect_over_s = 0.5

[[workload.phase]]
name = "warm-up"
duration_s = 1.5
publish_per_s = 40.0
warmup = true

[[workload.phase]]
name = "chaos"
duration_s = 8.0
publish_per_s = 60.0

[[fault]]
id = "cut"
kind = "down"
target = "a"
at_s = 3.0
duration_s = 0.5

[[fault]] # acks on the wire when the cut comes: their publishes are sent again
id = "slow"
kind = "latency"
target = "a"
at_s = 2.0
duration_s = 2.0
latency_ms = 300

[[fault]]
id = "kill"
kind = "kill"
target = "chatd-1"
at_s = 5.5
duration_s = 0.5

[expect]
resumes = true

[[gate]] # a tenth of it is the lag that a run may have: a busy machine must not void this one
id = "some-day"
kind = "threshold"
metric = "delivery"
expr = "p(99) < 10s"
"""


def chatproof(
    *arguments: str, cwd: Path, path: str = str(ROOT), prefix: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    """Start the command in a directory of its own; its runs go to ``cwd/runs``.

    Args:
        path: PYTHONPATH.
        prefix: a command that runs it, as in another namespace.
    """
    env = {**os.environ, "PYTHONPATH": path, "COLUMNS": "160"}
    command = [*prefix, sys.executable, "-m", "scenarios", *arguments]
    return subprocess.Popen(
        command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def run(
    *arguments: str, cwd: Path, path: str = str(ROOT), prefix: tuple[str, ...] = ()
) -> tuple[int, str, dict[str, Any]]:
    """Exit status, output and summary of a whole run."""
    process = chatproof("run", *arguments, cwd=cwd, path=path, prefix=prefix)
    output, _ = process.communicate(timeout=300)
    summary_path = cwd / "runs/latest/analysis/summary.json"
    return process.returncode, output, json.loads(summary_path.read_text()) if summary_path.exists() else {}


def until_load(tmp_path: Path, *, s: float) -> None:
    """Until so many seconds of the load are over."""
    manifest = tmp_path / "runs/latest/run.json"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if manifest.exists() and (t0_ns := json.loads(manifest.read_text()).get("t0_ns")):
            time.sleep(max(0.0, t0_ns / 1e9 + s - time.monotonic()))
            return
        time.sleep(0.1)
    raise AssertionError("the load never began")


def until_fault(tmp_path: Path, name: str) -> None:
    """Until a fault is on."""
    journal = tmp_path / "runs/latest/faults.jsonl"
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        whole = journal.read_text().splitlines(keepends=True) if journal.exists() else []
        told = [json.loads(line) for line in whole if line.endswith("\n")]
        if any((line.get("id"), line.get("phase")) == (name, "start") for line in told):
            return
        time.sleep(0.02)
    raise AssertionError(f"{name} never began")


@pytest.fixture
def short(tmp_path: Path) -> str:
    (tmp_path / "short.toml").write_text(SHORT)
    return "short.toml"


def test_an_honest_server_is_valid_and_the_run_directory_is_whole(tmp_path: Path, short: str) -> None:
    status, output, summary = run(short, cwd=tmp_path)
    assert status == 0, output
    assert summary["verdict"] == "valid"
    assert summary["void"] == []
    assert {name: c["count"] for name, c in summary["classes"].items() if c["count"]} == {}
    assert summary["coverage"]["acked"] > 300
    assert summary["coverage"]["resumed"] > 50
    faults = {fault["id"]: fault for fault in summary["faults"]}
    assert faults["cut"]["effects"]["closes"] == 20
    assert faults["kill"]["effects"]
    latest = tmp_path / "runs/latest"
    for name in WRITTEN:
        assert (latest / name).is_file(), name
    assert list((latest / "report/plots").glob("*.png"))
    assert not list((latest / "events").glob("*.rec"))


def test_an_interrupted_run_leaves_nothing_behind_and_still_reports(tmp_path: Path, short: str) -> None:
    process = chatproof("run", short, cwd=tmp_path)
    manifest = tmp_path / "runs/latest/run.json"
    until_fault(tmp_path, "cut")
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 5
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert not [child for child in children if child.is_running()]
    assert json.loads(manifest.read_text())["status"] == "aborted"
    assert (tmp_path / "runs/latest/report/report.html").is_file()
    journal = (tmp_path / "runs/latest/faults.jsonl").read_text()
    faults = [json.loads(line) for line in journal.splitlines()]
    started = {line["id"] for line in faults if line["phase"] == "start"}
    reverted = {line["id"] for line in faults if line["phase"] == "revert" and not line["error"]}
    assert started
    assert started <= reverted


def test_a_killed_controller_takes_every_process_with_it(tmp_path: Path, short: str) -> None:
    process = chatproof("run", short, cwd=tmp_path)
    until_load(tmp_path, s=0.0)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate(timeout=60)
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive


def test_bad_input_is_one_line_a_fault_and_nothing_starts(tmp_path: Path) -> None:
    process = chatproof(
        "run", "smoke", "--set", "workload.clents=3", "--set", "server.store=floppy", cwd=tmp_path
    )
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 2
    assert "workload.clents" in output
    assert "server.store" in output
    assert "Traceback" not in output
    assert not (tmp_path / "runs").exists()


def test_a_gates_file_with_faults_is_told_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "gates.toml").write_text(
        '[[gate]]\nid = "a"\nkind = "threshold"\nmetric = "delivery"\nexpr = "p(99) < 5 parsecs"\n'
        '[[gate]]\nid = "b"\nkind = "integrity"\nmetric = "lsot"\nmax = 0\n'
    )
    (tmp_path / "misfit.toml").write_text(
        '[[gate]]\nid = "a"\nkind = "threshold"\nmetric = "delivery"\nexpr = "p(99) < 5s"\nphase = "rest"\n'
    )
    for name, told in (("gates.toml", ("parsecs", "lsot")), ("misfit.toml", ("phase is 'rest'", "steady"))):
        process = chatproof("run", "smoke", "--gates", name, cwd=tmp_path)
        output, _ = process.communicate(timeout=90)
        assert process.returncode == 2, output
        assert all(part in output for part in told), output
        assert "Traceback" not in output
        assert not (tmp_path / "runs").exists()


def test_on_any_loopback_address_history_and_server_count_the_same_messages(tmp_path: Path) -> None:
    status, output, summary = run(
        "smoke", "--set", "server.host=127.0.0.2", "--gates", "late.toml",
        "--set", "server.namespaces.room.private=false",  # no probe writes what is not in the history
        cwd=with_late_gate(tmp_path),
    )  # fmt: skip
    assert status == 0, output
    assert summary["verdict"] == "valid"
    rows = open_history(tmp_path / "runs/latest").scan().collect()
    counts = dict(rows.group_by("kind").len().iter_rows())
    told = pl.read_parquet(tmp_path / "runs/latest/metrics/chatd.parquet").sort("t").row(-1, named=True)
    assert told["chatd_publishes_total"] == counts[Kind.ACK] > 200
    assert told["chatd_deliveries_total"] == counts[Kind.RECV] + counts[Kind.READ] > 2000


def with_late_gate(folder: Path) -> Path:
    """A gate in the place of smoke's own on latency: a busy machine must not fail or void this run."""
    (folder / "late.toml").write_text(
        '[[gate]]\nid = "soon"\nkind = "threshold"\nmetric = "delivery"\nexpr = "p(99) < 10s"\n'
    )
    return folder

"""Whole runs whose processes are hit: by faults, by signals to the run itself, by an unplanned death."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from reports.history import Kind, open_history
from tests.e2e.test_run import chatproof, run, until_load

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

LOAD = """
version = 1
why = "What does a run say of faults on its processes?"

[server]
retry_ms = [100, 1000]
ping_s = 2
pong_s = 2
drain_s = 1.0
drain_per_s = 1.0

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
duration_s = {length}
publish_per_s = 60.0

[deadlines]
settle_s = {patience_s}
drain_cap_s = {patience_s}

[[gate]] # a tenth of it is the lag that a run may have: a busy machine must not void this one
id = "some-day"
kind = "threshold"
metric = "delivery"
expr = "p(99) < 20s"
"""


def fault(kind: str, at_s: float, duration_s: float, *, target: str = "chatd-1", **keys: Any) -> str:
    told = {"id": kind, "kind": kind, "target": target, "at_s": at_s, "duration_s": duration_s, **keys}
    lines = (f"{key} = {json.dumps(value)}\n" for key, value in told.items())
    return "\n[[fault]]\n" + "".join(lines)


def write(tmp_path: Path, *faults: str, length: float = 8.0, patience_s: float = 20.0) -> str:
    """``patience_s``: for what comes back in the end; less where somebody never does."""
    load = LOAD.format(length=length, patience_s=patience_s)
    (tmp_path / "hit.toml").write_text(load + "".join(faults))
    return "hit.toml"


def steps(tmp_path: Path) -> dict[str, list[str]]:
    """Phases of each fault, as they were recorded without an error."""
    found: dict[str, list[str]] = {}
    for line in (tmp_path / "runs/latest/faults.jsonl").read_text().splitlines():
        told = json.loads(line)
        if "target" in told and not told["error"]:
            found.setdefault(told["id"], []).append(told["phase"])
    return found


def test_a_full_disk_and_a_blocked_loop_are_seen_and_cost_nothing(tmp_path: Path) -> None:
    scenario = write(
        tmp_path,
        fault("disk_full", 3.0, 1.5),
        fault("loop_block", 7.0, 2.0, block_ms=500, every_s=1.0),
        length=9.0,
    )
    status, output, summary = run(scenario, cwd=tmp_path)
    assert status == 0, output
    effects = {each["id"]: each["effects"] for each in summary["faults"]}
    assert effects["disk_full"]["acks"] == 0
    assert effects["disk_full"]["nacks"] > 0
    assert effects["loop_block"]["stall_s"] >= 0.4
    assert summary["steady"]["after"]["round_trip"]["ok"] == 1


def test_orderly_and_disorderly_ends_of_the_server_cost_nothing(tmp_path: Path) -> None:
    scenario = write(
        tmp_path,
        fault("rolling", 2.5, 5.0, target="chatd-*", deadline_s=4.0),
        fault("crash_loop", 8.0, 3.0, every_s=1.4),
        length=11.0,
    )
    status, output, summary = run(scenario, cwd=tmp_path)
    assert status == 0, output
    effects = {each["id"]: each["effects"] for each in summary["faults"]}
    assert effects["rolling"]["forced"] == 0
    assert effects["crash_loop"]["exits"] == effects["crash_loop"]["starts"] >= 2


def test_a_killed_load_worker_voids_the_run_and_its_log_can_be_read(tmp_path: Path) -> None:
    scenario = write(tmp_path, fault("client_kill", 3.0, 1.0, target="worker-2"), patience_s=6.0)
    status, output, summary = run(scenario, "--workers", "2", cwd=tmp_path)
    assert status == 5, output
    assert any("ended worker-2" in reason for reason in summary["void"])
    assert not any(found["count"] for found in summary["classes"].values())
    clients = open_history(tmp_path / "runs/latest").scan().filter(kind=int(Kind.SEND)).collect()["client"]
    assert (clients % 2 == 0).any()  # worker 2 has the even ones, and what it sent until then is there


def test_a_stopped_load_worker_shows_in_the_lag_of_the_run(tmp_path: Path) -> None:
    scenario = write(tmp_path, fault("client_pause", 3.0, 2.0, target="worker-1"))
    status, output, summary = run(scenario, "--set", "gate=[]", "--workers", "2", cwd=tmp_path)
    assert status == 5, output
    assert any("worker 1 ran late" in reason for reason in summary["void"])
    assert summary["faults"][0]["had_effect"]


def test_a_run_that_is_told_to_end_reverts_and_leaves_nothing(tmp_path: Path) -> None:
    """As Ctrl-C, which ``test_run`` presses."""
    scenario = write(
        tmp_path,
        fault("pause", 2.0, 7.0),
        fault("latency", 2.0, 7.0, target="all", latency_ms=100),
    )
    process = chatproof("run", scenario, cwd=tmp_path)
    until_load(tmp_path, s=3.0)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 4
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 130, output
    assert not [child for child in children if child.is_running()]
    assert {fault_id: phases[-1] for fault_id, phases in steps(tmp_path).items()} == {
        "pause": "revert",
        "latency": "revert",
    }
    report = (tmp_path / "runs/latest/report/report.md").read_text()
    assert "Skew" in report


def test_a_server_that_dies_by_itself_is_told_and_its_faults_are_reverted(tmp_path: Path) -> None:
    latency = fault("latency", 2.0, 7.0, target="a", latency_ms=50)
    process = chatproof("run", write(tmp_path, latency, patience_s=6.0), cwd=tmp_path)
    until_load(tmp_path, s=3.0)
    (server,) = [child for child in psutil.Process(process.pid).children() if "chatd" in child.cmdline()]
    os.kill(server.pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 3, output
    summary = json.loads((tmp_path / "runs/latest/analysis/summary.json").read_text())
    assert summary["classes"]["V6"]["count"] == 1
    assert steps(tmp_path)["latency"][-1] == "revert"
    assert "steady-state" in [gate["id"] for gate in summary["gates"]]  # the probes had nobody to ask


@pytest.mark.parametrize("seed", [3, 8])
def test_a_short_swarm_is_valid(tmp_path: Path, seed: int) -> None:
    scenario = write(tmp_path, "\n[swarm]\nleast = 1\nmost = 2\n", length=10.0)
    status, output, summary = run(scenario, "--seed", str(seed), cwd=tmp_path)
    assert status == 0, output
    assert summary["verdict"] == "valid"
    assert summary["faults"]

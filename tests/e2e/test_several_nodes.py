"""Whole runs with two nodes on a broker of their own: one is killed, or one of them is broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.test_run import run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

TWO = """
version = 1
why = "Does a short run with two nodes say what it should?"

[server]
nodes = 2
store = "valkey"
retry_ms = [100, 1000]

[workload]
clients = 40
channels = 8
channels_per_client = 2
connect_over_s = 0.5
balance = "least"

[[workload.phase]]
name = "warm-up"
duration_s = 1.5
publish_per_s = 40.0
warmup = true

[[workload.phase]]
name = "chaos"
duration_s = 6.0
publish_per_s = 60.0

[[gate]] # a tenth of it is the lag that a run may have: a busy machine must not void this one
id = "some-day"
kind = "threshold"
metric = "delivery"
expr = "p(99) < 10s"
"""
KILL = """
[expect]
resumes = true

[[fault]]
id = "kill"
kind = "kill"
target = "chatd-2"
at_s = 3.5
duration_s = 2.0

[[fault]]
id = "half-of-the-first"
kind = "latency"
target = "a1"
at_s = 2.0
duration_s = 1.0
latency_ms = 200

[[gate]] # a node that dies takes nobody with it for long, be the machine ever so busy
id = "back-soon"
kind = "threshold"
metric = "recovery.away"
expr = "max < 20s"
where = { fault = "kill" }
"""


def test_one_of_two_nodes_dies_and_nothing_is_lost(tmp_path: Path) -> None:
    (tmp_path / "two.toml").write_text(TWO + KILL)
    status, output, summary = run("two.toml", cwd=tmp_path)
    assert status == 0, output
    assert summary["verdict"] == "valid"
    latest = tmp_path / "runs/latest"
    effects = {fault["id"]: fault["effects"] for fault in summary["faults"]}
    assert 10 <= effects["kill"]["closes"] <= 30  # those who were on it, and nobody else
    manifest = json.loads((latest / "run.json").read_text())
    assert [node["process"] for node in manifest["nodes"]] == ["chatd-1", "chatd-2"]
    assert set(manifest["wires"]) == {"a1", "b1", "a2", "b2"}
    journal = [json.loads(line) for line in (latest / "faults.jsonl").read_text().splitlines()]
    exits = [line["process"] for line in journal if line["kind"] == "exit" and line["id"] == "kill"]
    assert exits == ["chatd-2"]
    assert (latest / "metrics/nodes.parquet").is_file()


def test_a_node_that_leaves_subscribers_out_is_found_among_honest_ones(tmp_path: Path) -> None:
    (tmp_path / "two.toml").write_text(TWO)
    mutant = ("--set", "server.mutant=skip-subscriber:0.05", "--set", "server.mutant_node=chatd-2")
    status, output, summary = run("two.toml", *mutant, cwd=tmp_path)
    assert status == 3, output
    found = {name for name, result in summary["classes"].items() if result["count"]}
    assert "D1" in found
    assert found <= {"D1", "V1"}  # the sentinel of a channel may be what is left out

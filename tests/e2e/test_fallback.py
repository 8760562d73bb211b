"""Whole runs over HTTP: an honest chatd behind a strict proxy, and one that leaves subscribers out."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from reports.history import CONN_OK, Kind, Transport
from tests.e2e.test_run import run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

OVER_HTTP = """
version = 1
why = "Is it seen when the server leaves out people who have no WebSocket?"

[server]
http_port = "free"
mutant = "skip-subscriber:0.02"

[workload]
clients = 20
channels = 4
channels_per_client = 2
connect_over_s = 0.5

[[workload.persona]]
name = "streaming"
weight = 0.8
transport = "sse"

[[workload.persona]]
name = "polling"
weight = 0.2
transport = "poll"

[[workload.phase]]
name = "load"
duration_s = 6.0
publish_per_s = 40.0

[[gate]] # a tenth of it is the lag that a run may have: a busy machine must not void this one
id = "some-day"
kind = "threshold"
metric = "delivery"
expr = "p(99) < 10s"
"""


# In the place of those that the scenario has: a busy machine must not fail or void the run.
LATE = """
[[gate]]
id = "soon-by-{way}"
kind = "threshold"
metric = "delivery"
expr = "p(99) < 10s"
phase = "chat"
"""
ON_TWO_NODES = """
version = 1
why = "Do people over HTTP have all they were promised on several nodes, when one of them is killed?"

[server]
store = "valkey"
nodes = 2
http_port = "free"
retry_ms = [100, 1000]

[workload]
clients = 24
channels = 4
channels_per_client = 2
connect_over_s = 0.5
balance = "round_robin"

[[workload.persona]]
name = "streaming"
weight = 0.6
transport = "sse"

[[workload.persona]]
name = "polling"
weight = 0.4
transport = "poll"

[[workload.phase]]
name = "load"
duration_s = 7.0
publish_per_s = 30.0

[[fault]]
id = "kill"
kind = "kill"
target = "chatd-2"
at_s = 3.0
duration_s = 1.5

[expect]
resumes = true

[[gate]]
id = "some-day"
kind = "threshold"
metric = "delivery"
expr = "p(99) < 10s"
"""


def transports(latest: Path) -> dict[int, Transport]:
    """By what each client was connected last."""
    rows = pl.concat([pl.read_parquet(path) for path in sorted((latest / "events").glob("w*.parquet"))])
    made = rows.filter((pl.col("kind") == Kind.CONN) & (pl.col("serial") == CONN_OK) & (pl.col("client") > 0))
    last = made.sort("t").group_by("client").agg(pl.col("flags").last())
    return {int(client): Transport(flags) for client, flags in last.iter_rows()}


def test_people_behind_a_strict_proxy_chat(tmp_path: Path) -> None:
    (tmp_path / "late.toml").write_text(
        "".join(LATE.format(way=way) for way in ("websocket", "stream", "polls"))
    )
    status, output, summary = run("fallback_transport", "--gates", "late.toml", cwd=tmp_path)
    assert status == 0, output
    assert summary["verdict"] == "valid"
    assert {name: c["count"] for name, c in summary["classes"].items() if c["count"]} == {}
    used = list(transports(tmp_path / "runs/latest").values())
    assert len(used) == 60
    assert {transport: used.count(transport) >= 6 for transport in Transport} == dict.fromkeys(
        Transport, True
    )
    effects = {fault["id"]: fault["effects"] for fault in summary["faults"]}
    assert effects["no-upgrade"]["failed"] >= 24
    assert effects["no-stream"]["failed"] >= 10
    gates = json.loads((tmp_path / "runs/latest/analysis/gates.json").read_text())["gates"]
    assert {"resumes-happened", "resumes-hold", "soon-by-polls"} <= {gate["id"] for gate in gates}


def test_who_is_left_out_of_a_stream_is_found(tmp_path: Path) -> None:
    (tmp_path / "left_out.toml").write_text(OVER_HTTP)
    status, output, summary = run("left_out.toml", cwd=tmp_path)
    assert status == 3, output
    assert summary["classes"]["D1"]["count"] > 0
    latest = tmp_path / "runs/latest"
    by = transports(latest)
    findings = [json.loads(line) for line in (latest / "analysis/findings.jsonl").read_text().splitlines()]
    hurt = {by[int(client[1:])] for found in findings if found["cls"] == "D1" for client in found["clients"]}
    assert Transport.SSE in hurt


def test_people_over_http_are_balanced_over_nodes_and_go_to_another_when_theirs_is_killed(
    tmp_path: Path,
) -> None:
    (tmp_path / "nodes.toml").write_text(ON_TWO_NODES)
    status, output, summary = run("nodes.toml", cwd=tmp_path)
    assert status == 0, output
    assert {name: c["count"] for name, c in summary["classes"].items() if c["count"]} == {}
    events = (tmp_path / "runs/latest/events").glob("w*.parquet")
    rows = pl.concat([pl.read_parquet(path) for path in sorted(events)]).filter(pl.col("client") > 0)
    made = rows.filter((pl.col("kind") == Kind.CONN) & (pl.col("serial") == CONN_OK)).sort("t")
    first = made.group_by("client", maintain_order=True).first()
    on = {
        (int(way), int(node)): int(n)
        for way, node, n in first.group_by("flags", "publisher").len().iter_rows()
    }
    streams, polls = (
        sum(n for (way, _), n in on.items() if way == one) for one in (Transport.SSE, Transport.POLL)
    )
    assert (streams, polls) == (14, 10)
    second = sum(n for (_, node), n in on.items() if node == 2)
    assert 8 <= second <= 16, "round robin deals them out alike"
    assert len(made) - 24 >= second, "all who were on it come back"

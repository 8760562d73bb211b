"""Load from other hosts: what is told before anything starts."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from loadgen.workload import Workload
from scenarios.away import Away
from scenarios.cluster import Cluster, Member
from scenarios.layout import Node
from scenarios.model import ScenarioError, parse
from scenarios.run import Options, make_fault_plan, run_once

WIRE = {"id": "cut", "kind": "down", "target": "a", "at_s": 1.0, "duration_s": 0.5}
PAUSE = {"id": "stop", "kind": "client_pause", "target": "worker-1", "at_s": 1.0, "duration_s": 0.5}


def misfits(
    away: Away,
    *faults: dict[str, Any],
    allow: tuple[str, ...] = (),
    balance: str = "fixed",
    transport: str = "websocket",
    **server: Any,
) -> list[str]:
    workload: dict[str, Any] = {
        "clients": 4,
        "channels": 2,
        "phase": [{"name": "a", "duration_s": 5.0}],
        "balance": balance,
    }
    workload["persona"] = [{"name": "all", "weight": 1, "transport": transport}]
    document = {"version": 1, "why": "Is it told in time?", "workload": workload, "fault": list(faults)}
    scenario = parse(
        document | ({"server": server} if server else {}), name="x", allow_targets=["chat.example"]
    )
    return away.misfits(scenario.server, scenario.workload, make_fault_plan(scenario), allow)


TEN = Away(2, "10.0.0.1")
ALL = Away(2, "0.0.0.0")


@pytest.mark.parametrize(
    ("away", "faults", "more"),
    [
        pytest.param(Away(2), [], {}, id="all on this machine"),
        pytest.param(Away(2), [WIRE], {}, id="all on this machine, with a proxy"),
        pytest.param(TEN, [], {"url": "wss://chat.example"}, id="a server of its own"),
        pytest.param(TEN, [WIRE], {"allow": ("10.0.0.1",)}, id="through the proxy"),
        pytest.param(
            TEN, [], {"url": "wss://chat.example", "http_url": "http://[::1]:9"}, id="nobody comes over HTTP"
        ),
        pytest.param(
            TEN,
            [],
            {"url": "wss://chat.example", "http_url": "https://chat.example", "transport": "sse"},
            id="over HTTP",
        ),
    ],
)
def test_what_workers_can_reach_is_no_misfit(away: Away, faults: list[Any], more: dict[str, Any]) -> None:
    assert misfits(away, *faults, **more) == []


@pytest.mark.parametrize(
    ("away", "faults", "more", "words"),
    [
        pytest.param(TEN, [], {}, "server.host is '127.0.0.1'", id="a chatd on loopback"),
        pytest.param(ALL, [], {"url": "ws://localhost:9"}, "server.url is 'ws://localhost:9'", id="a url"),
        pytest.param(
            TEN,
            [],
            {"url": "wss://chat.example", "http_url": "http://localhost:9", "transport": "fallback"},
            "server.http_url is 'http://localhost:9': workers on other hosts cannot dial it",
            id="HTTP on loopback",
        ),
        pytest.param(TEN, [WIRE], {}, "--allow-target 10.0.0.1", id="a proxy not allowed"),
        pytest.param(ALL, [WIRE], {}, "name the address", id="a proxy everywhere"),
        pytest.param(
            Away(2),
            [PAUSE],
            {},
            "target is 'worker-1': must be a worker that the run starts",
            id="a fault on a worker",
        ),
        pytest.param(
            Away(2), [], {"balance": "least", "nodes": 3, "store": "valkey"}, "it asks the nodes", id="least"
        ),
    ],
)
def test_what_workers_cannot_reach_is_told(
    away: Away, faults: list[Any], more: dict[str, Any], words: str
) -> None:
    (line,) = misfits(away, *faults, **more)
    assert words in line


def test_each_fault_on_a_worker_is_refused_with_what_to_do_before_anything_starts(tmp_path: Path) -> None:
    faults = [PAUSE, {**PAUSE, "id": "again", "at_s": 3.0}, {**PAUSE, "id": "other", "target": "worker-3"}]
    document = {
        "version": 1,
        "why": "Is it told in time?",
        "workload": {"clients": 4, "channels": 2, "phase": [{"name": "a", "duration_s": 5.0}]},
        "fault": faults,
    }
    scenario = parse(document, name="x")
    with pytest.raises(ScenarioError) as afar:
        run_once(scenario, Options(out=tmp_path / "runs", away=Away(2)), Console(quiet=True))
    told = [line.partition(":")[0] for line in afar.value.lines]
    assert told == ["fault 'other'", "fault 'stop'", "fault 'again'"]  # in order of start, then of names
    assert all("must be a worker that the run starts" in line for line in afar.value.lines)
    assert "leave the fault out, or say --workers 3 or more" in afar.value.lines[0]
    with pytest.raises(ScenarioError) as few:
        run_once(scenario, Options(out=tmp_path / "runs", workers=2), Console(quiet=True))
    assert few.value.lines == [
        "fault 'other': target is 'worker-3': must be at most worker-2, the last one that the run starts; "
        "aim at another, or say --workers 3"
    ]
    assert not (tmp_path / "runs").exists()


def test_the_command_for_a_worker_allows_what_it_must() -> None:
    command = Away(2, "10.0.0.1").command(5557, ["ws://10.0.0.1:8000", "ws://10.0.0.1:8001"])
    assert command == (
        "chatproof load --worker --master-host 10.0.0.1 --master-port 5557 --allow-target 10.0.0.1"
    )
    assert "--allow-target" not in Away(2).command(7, ["ws://127.0.0.1:8000"])
    assert "0.0.0.0" not in Away(2, "0.0.0.0").command(7, ["ws://127.0.0.1:8000"])


@pytest.mark.parametrize(
    ("transport", "allowed"), [("sse", ["chat.example", "http.example"]), ("websocket", ["chat.example"])]
)
def test_a_worker_is_told_to_allow_where_its_clients_come_over_http(
    transport: str, allowed: list[str]
) -> None:
    workload = Workload.model_validate(
        {
            "clients": 1, "channels": 1, "channels_per_client": 1,
            "phase": [{"name": "a", "duration_s": 1.0}],
            "persona": [{"name": "all", "weight": 1, "transport": transport}],
        }
    )  # fmt: skip
    urls = {"url": "wss://chat.example", "http_url": "https://http.example"}
    member = Member(Node(1, ()), urls["url"], (urls["url"],), None, urls["http_url"], (urls["http_url"],))
    command = Away(2, "10.0.0.1").command(5557, Cluster((member,)).dialled(workload)).split()
    assert [host for word, host in pairwise(command) if word == "--allow-target"] == allowed

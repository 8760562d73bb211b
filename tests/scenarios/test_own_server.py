"""A server that is no chatd and is started by the run: what may be written for it, and what it is told."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from loadgen.drivers.foreign import VARIABLE, declare
from scenarios.model import ScenarioError, load, parse
from scenarios.ready import listens

EXAMPLE = Path(__file__).parents[2] / "examples/own_server"
COMMAND = [sys.executable, "server.py", "--at", "{host}:{port}", "--data={data}"]


def scenario(server: dict[str, Any], *faults: dict[str, Any], driver: str = "chatd", **rest: Any) -> Any:
    workload = {
        "clients": 2,
        "channels": 2,
        "driver": driver,
        "phase": [{"name": "all", "duration_s": 9.0, "publish_per_s": 1.0}],
    }
    fault = [{"id": f"f{n}", "at_s": 1.0, "duration_s": 1.0, **own} for n, own in enumerate(faults)]
    tables = {"server": server, "workload": workload, "fault": fault, **rest}
    return parse({"version": 1, "why": "Is this a question?", **tables}, name="own")


def refusal(*args: Any, **kwargs: Any) -> str:
    with pytest.raises(ScenarioError) as refused:
        scenario(*args, **kwargs)
    return str(refused.value)


def test_its_command_is_told_where_to_listen_and_what_directory_is_its_own() -> None:
    server = scenario({"command": COMMAND}).server
    assert server.own
    argv = server.own_argv(port=7, data="/d")
    assert argv == (sys.executable, "server.py", "--at", "127.0.0.1:7", "--data=/d")


def test_a_command_without_a_port_is_a_build_of_chatd() -> None:
    chosen = scenario({"command": [sys.executable]})
    assert not chosen.server.own
    assert chosen.layout.processes == ("chatd-1",)


def test_faults_are_aimed_at_it_by_its_own_name() -> None:
    chosen = scenario({"command": COMMAND}, {"kind": "kill", "target": "server-1"})
    assert chosen.layout.processes == ("server-1",)
    assert "server-1" in refusal({"command": COMMAND}, {"kind": "kill", "target": "chatd-1"})


def test_what_is_chatds_own_is_refused() -> None:
    assert "retain_n, store: for a chatd" in refusal({"command": COMMAND, "store": "memory", "retain_n": 5})
    assert "url names a server that runs" in refusal({"command": COMMAND, "url": "ws://127.0.0.1:1"})
    blocked = {"kind": "loop_block", "target": "server-1", "block_ms": 300}
    assert "kind is 'loop_block': it needs test hooks" in refusal({"command": COMMAND}, blocked)


def test_swarms_leave_its_process_alone() -> None:
    drawn = scenario({"command": COMMAND}, swarm={}).faults.faults
    assert drawn
    assert not [spec for spec in drawn if spec.common.target == "server-1"]


def test_a_driver_whose_server_nobody_starts_is_refused() -> None:
    assert "what the run would start is a chatd: write server.url" in refusal({}, driver="centrifugo")
    assert scenario({"url": "ws://127.0.0.1:1"}, driver="centrifugo")


def test_it_is_ready_when_it_listens() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert not listens(*bound.getsockname())
        bound.listen()
        assert listens(*bound.getsockname())


def test_the_example_can_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    monkeypatch.setattr(sys, "path", list(sys.path))
    declare([f"{EXAMPLE / 'own_driver.py'}:OwnDriver"])
    chosen = load(EXAMPLE / "promises.toml")
    assert chosen.workload.driver == "own"
    assert [spec.common.target for spec in chosen.faults.faults] == ["a", "server-1"]

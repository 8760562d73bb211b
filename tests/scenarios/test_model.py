"""Scenario files: what is wrong is said at once, in words, and nothing starts."""

from __future__ import annotations

import socket
import tomllib
from pathlib import Path
from typing import Any

import pytest

from scenarios.model import BUNDLED, ScenarioError, find, load, parse

GOOD: dict[str, Any] = {
    "version": 1,
    "why": "Does a small chat work at all?",
    "workload": {
        "clients": 4,
        "channels": 2,
        "phase": [{"name": "steady", "duration_s": 5.0, "publish_per_s": 10.0}],
    },
}


def with_changes(**changes: Any) -> dict[str, Any]:
    data = {**GOOD, "workload": {**GOOD["workload"]}}
    for path, value in changes.items():
        table = data
        *parents, last = path.split("__")
        for key in parents:
            table = table.setdefault(key, {})
        table[last] = value
    return data


def faults_of(data: dict[str, Any], **arguments: Any) -> list[str]:
    with pytest.raises(ScenarioError) as wrong:
        parse(data, name="own", **arguments)
    return wrong.value.lines


def test_a_password_in_a_url_is_not_said_again() -> None:
    (line,) = faults_of(with_changes(server__store="postgres://me:hidden@h"))
    assert "me:…@h" in line


def test_a_minimal_scenario_is_enough() -> None:
    scenario = parse(GOOD, name="own")
    assert scenario.name == "own"
    assert scenario.duration_s == 5.0
    assert scenario.server.port == 0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({"workload__clents": 5}, ["workload.clents", "mean 'clients'"], id="unknown key"),
        pytest.param({"workload__clients": 0}, ["workload.clients", "0", "greater than"], id="range"),
        pytest.param({"workload__clients": "many"}, ["workload.clients", "'many'"], id="wrong type"),
        pytest.param({"workload__phase": []}, ["workload.phase"], id="no phase"),
        pytest.param({"server__store": "floppy"}, ["server.store", "'floppy'", "sqlite"], id="unknown store"),
        pytest.param({"server__host": "192.0.2.1"}, ["server.host", "192.0.2.1", "loopback"], id="host"),
        pytest.param(
            {"workload__persona": [{"name": "p", "weight": 1, "transport": "sse"}]},
            ["server.http_port is 0", 'http_port = "free"'],
            id="nowhere to go over HTTP",
        ),
        pytest.param(
            {
                "server__url": "ws://127.0.0.1:1",
                "workload__persona": [{"name": "p", "weight": 1, "transport": "fallback"}],
            },
            ["server.http_url is missing", "http://HOST:PORT"],
            id="nowhere to go over HTTP on a server of others",
        ),
        pytest.param({"server__http_url": "ws://127.0.0.1"}, ["server.http_url", "https://"], id="no HTTP"),
        pytest.param(
            {"server__url": "ws://127.0.0.1:1", "server__http_url": "http://192.0.2.1"},
            ["server.http_url is 'http://192.0.2.1'", "--allow-target 192.0.2.1"],
            id="foreign target over HTTP",
        ),
        pytest.param(
            {"server__http_url": "http://127.0.0.1:1"},
            ["server.http_url is 'http://127.0.0.1:1', and server.url is not set", 'http_port = "free"'],
            id="HTTP of a server of others alone",
        ),
        pytest.param({"server__url": "http://127.0.0.1"}, ["server.url", "ws://"], id="scheme"),
        pytest.param(
            {"server__url": "ws://192.0.2.1:80"}, ["--allow-target 192.0.2.1"], id="foreign target"
        ),
        pytest.param({"faults": 3}, ["faults is 3"], id="faults no table"),
        pytest.param({"fault": [3]}, ["fault is not a list of tables"], id="fault no table"),
        pytest.param({"faults__engine": "hammer"}, ["engine", "'hammer'", "embedded"], id="unknown engine"),
        pytest.param(
            {"fault": [{"id": "x", "kind": "quake", "target": "a", "at_s": 1.0, "duration_s": 1.0}]},
            ["kind is 'quake'", "latency"],
            id="unknown kind",
        ),
        pytest.param(
            {"gate": [{"id": "g", "kind": "threshold", "metric": "delivery", "expr": "p(99) < 50mm"}]},
            ["expr", "'mm'"],
            id="wrong unit",
        ),
        pytest.param(
            {
                "gate": [
                    {"id": "g", "kind": "threshold", "metric": "ack", "expr": "max < 50ms", "phase": "rest"}
                ]
            },
            ["phase is 'rest'", "steady"],
            id="unknown phase",
        ),
        pytest.param({"version": 2}, ["version is 2"], id="version"),
        pytest.param({"why": "?"}, ["why is '?'"], id="no question"),
        pytest.param({"whyy": "x"}, ["whyy is not a known key", "did you mean 'why'"], id="unknown section"),
    ],
)  # fmt: skip
def test_a_fault_of_the_file_names_key_value_and_rule(change: dict[str, Any], expected: list[str]) -> None:
    lines = faults_of(with_changes(**change))
    assert len(lines) == 1, lines
    assert lines[0].startswith("own: ")
    for part in expected:
        assert part in lines[0]


def test_all_faults_of_a_file_are_reported_at_once() -> None:
    lines = faults_of(
        with_changes(
            workload__clients=-1,
            server__sotre="sqlite",
            fault=[{"id": "x", "kind": "latency", "target": "q", "at_s": 1.0, "duration_s": 1.0}],
            gate=[{"id": "g", "kind": "integrity", "metric": "lsot", "max": 0}],
            colour="blue",
        )
    )
    text = "\n".join(lines)
    for part in (
        "workload.clients",
        "server.sotre",
        "target is 'q'",
        "latency_ms is missing",
        "lsot",
        "colour",
    ):
        assert part in text


def test_a_port_in_use_is_said_before_anything_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        lines = faults_of(with_changes(server__port=port))
    assert f"server.port is {port}: the port is in use" in lines[0]


def test_an_allowed_target_is_taken() -> None:
    data = with_changes(server__url="ws://chat.example:8080/ws")
    scenario = parse(data, name="own", allow_targets=["chat.example"])
    assert scenario.server.url == "ws://chat.example:8080/ws"


def test_a_server_that_is_not_ours_has_no_process_to_kill() -> None:
    kill = {"id": "k", "kind": "kill", "target": "chatd-1", "at_s": 1.0, "duration_s": 1.0}
    lines = faults_of(with_changes(server__url="ws://127.0.0.1:9", fault=[kill]))
    assert "target is 'chatd-1'" in lines[0]


def test_on_a_server_that_is_not_ours_names_of_channels_are_the_runs_own() -> None:
    drop = {"id": "f", "kind": "frame_drop", "target": "a", "at_s": 0, "duration_s": 1, "channel": "room:1"}
    lines = faults_of(
        with_changes(
            server__url="ws://127.0.0.1:9",
            workload__topology__direct_per_client=1,
            faults__self_test=True,
            fault=[drop],
        )
    )
    assert "workload.topology.direct_per_client is set, and the server is none of chatproof's" in lines[0]
    assert "fault 'f': channel is 'room:1', and the server is none of chatproof's" in lines[1]


def test_a_mutant_switches_the_test_hooks_on() -> None:
    assert parse(with_changes(server__mutant="no-dedupe:1"), name="own").server.test_hooks


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "own.toml"
    path.write_text((BUNDLED / "smoke.toml").read_text())
    return path


def test_overrides_are_values_of_toml_or_bare_words(file: Path) -> None:
    scenario = load(
        file, overrides=["workload.clients=7", "server.store=memory", "seed=9", 'why="Is it 7?????"']
    )
    assert (scenario.workload.clients, scenario.server.store, scenario.seed) == (7, "memory", 9)
    assert scenario.why == "Is it 7?????"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        pytest.param("clients", "must be section.key=value", id="no value"),
        pytest.param("=3", "must be section.key=value", id="no key"),
        pytest.param("workload.phase.name=x", "is a list", id="inside a list"),
        pytest.param("version.x=1", "is a value, not a section", id="inside a value"),
        pytest.param("workload.clinets=3", "did you mean 'clients'", id="unknown key"),
    ],
)
def test_a_bad_override_is_explained(file: Path, text: str, rule: str) -> None:
    with pytest.raises(ScenarioError, match=rule):
        load(file, overrides=[text])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"\xff\xfe", "cannot be read", id="not UTF-8"),
        pytest.param(b"version = ", "cannot be read", id="not TOML"),
    ],
)
def test_a_file_that_is_no_toml_is_explained(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "own.toml"
    path.write_bytes(content)
    with pytest.raises(ScenarioError, match=said):
        load(path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("reconect_storm", "did you mean 'reconnect_storm'", id="near miss"),
        pytest.param("xyzzy", "smoke", id="lists those there are"),
        pytest.param("no/such.toml", "no such file", id="no file"),
        pytest.param("../scenarios/smoke", "is no scenario", id="a path without .toml"),
    ],
)
def test_a_scenario_that_does_not_exist_is_explained(name: str, said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        find(name)


def test_the_resolved_scenario_can_be_run_again(tmp_path: Path) -> None:
    from scenarios.describe import resolved_toml

    original = load(BUNDLED / "reconnect_storm.toml", overrides=["workload.clients=50"])
    path = tmp_path / "again.toml"
    path.write_text(resolved_toml(original))
    again = load(path)
    assert again.model_copy(update={"name": original.name}) == original
    assert tomllib.loads(path.read_text())["workload"]["clients"] == 50


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        ("duplicated", "(L2 needs dedupe): take D5, or leave it out"),
        ("L9", "(L9 needs ack-position): leave it out"),
    ],
)
def test_what_the_server_of_a_driver_does_not_promise_cannot_be_gated(metric: str, told: str) -> None:
    gate = {"id": "g", "kind": "integrity", "metric": metric, "max": 0}
    theirs = with_changes(server__url="ws://127.0.0.1:9", workload__driver="centrifugo")
    (line,) = faults_of(theirs | {"gate": [gate]})
    assert line.endswith(told)
    parse(GOOD | {"gate": [gate]}, name="own")

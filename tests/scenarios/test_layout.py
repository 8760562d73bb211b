"""Several nodes in a scenario: what there is, what faults may be aimed at, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from scenarios.model import ScenarioError, parse
from scenarios.run import make_fault_plan

WORKLOAD = {
    "clients": 12,
    "channels": 2,
    "phase": [{"name": "steady", "duration_s": 9.0, "publish_per_s": 10.0}],
}
THREE = {"nodes": 3, "store": "valkey"}
FOREIGN = {"store": "valkey://192.0.2.1:6379/0"}


def scenario(server: dict[str, Any], *faults: dict[str, Any], **workload: Any) -> Any:
    fault = [{"id": f"f{n}", "at_s": 1.0, "duration_s": 1.0, **own} for n, own in enumerate(faults)]
    return parse(
        {
            "version": 1,
            "why": "Is this a question?",
            "server": server,
            "workload": WORKLOAD | workload,
            "fault": fault,
        },
        name="own",
    )


def plan(server: dict[str, Any], *faults: dict[str, Any], **workload: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(make_fault_plan(scenario(server, *faults, **workload)).to_bytes())
    return made


def latency(target: str, **more: Any) -> dict[str, Any]:
    return {"kind": "latency", "target": target, "latency_ms": 50, **more}


def test_one_node_is_what_it_always_was():
    layout = scenario({}).layout
    assert (layout.processes, layout.proxies) == (("chatd-1",), ("a", "b"))
    made = plan({}, latency("a"))
    assert (made["processes"], made["proxies"]) == (["chatd-1"], ["a", "b"])
    assert made["faults"][0]["ordinals"] == [2, 4, 6, 8, 10, 12]


def test_a_server_that_the_run_did_not_start_has_no_processes_and_two_wires():
    layout = scenario({"url": "ws://127.0.0.1:9"}).layout
    assert (layout.processes, layout.proxies) == ((), ("a", "b"))


def test_several_nodes_have_a_broker_and_wires_of_their_own():
    layout = scenario({**THREE, "replicas": 1}).layout
    assert [(n.process, n.name, n.proxies, n.link) for n in layout.nodes][1:] == [
        ("chatd-2", "n2", ("a2", "b2"), "link-2"),
        ("chatd-3", "n3", ("a3", "b3"), "link-3"),
    ]
    assert layout.processes == ("chatd-1", "chatd-2", "chatd-3", "broker-1", "broker-2")
    assert scenario({"store": "valkey://127.0.0.1:1/0", "nodes": 2}).layout.brokers == ()


def test_one_node_on_a_broker_can_be_cut_off_from_it():
    assert plan({"store": "valkey"}, latency("link-1"))["proxies"] == ["a", "b", "link-1"]


def test_links_are_in_the_plan_where_a_fault_acts_on_one_and_nobody_dials_them():
    assert plan(THREE, latency("a"))["proxies"] == ["a1", "b1", "a2", "b2", "a3", "b3"]
    made = plan(THREE, latency("link-2"))
    assert made["proxies"][-3:] == ["link-1", "link-2", "link-3"]
    assert made["faults"][0]["ordinals"] is None


@pytest.mark.parametrize(
    ("balance", "ordinals"), [("fixed", [2, 3, 8, 9]), ("least", list(range(1, 13)))], ids=["fixed", "chosen"]
)
def test_who_can_be_hit_through_one_node_depends_on_how_a_node_is_chosen(balance, ordinals):
    assert plan(THREE, latency("node-2"), balance=balance)["faults"][0]["ordinals"] == ordinals


def test_nodes_that_join_later_are_known_from_the_plan():
    made = make_fault_plan(scenario(THREE, {"kind": "node_start", "target": "chatd-3"}))
    assert made.starts() == {"chatd-3"}
    assert not made.needs()
    assert not made.on_wires()
    assert make_fault_plan(scenario(THREE, latency("link-1"))).on_wires() is False
    assert make_fault_plan(scenario(THREE, latency("b"))).on_wires() is True


@pytest.mark.parametrize(
    ("server", "faults", "parts"),
    [
        pytest.param({"nodes": 2}, [], ["nodes is 2", "'sqlite'", 'store = "valkey"'], id="no shared store"),
        pytest.param({"nodes": 2, "url": "ws://127.0.0.1:9"}, [], ["nodes are processes"], id="not ours"),
        pytest.param({"nodes": 99, "store": "valkey"}, [], ["server.nodes is 99", "16"], id="too many"),
        pytest.param({"replicas": 1}, [], ["replicas is 1", "own broker"], id="replica of nothing"),
        pytest.param({**THREE, "port": 9_999}, [], ["port is 9999", "a free one"], id="one port for all"),
        pytest.param(
            {**THREE, "mutant": "skip-subscriber", "mutant_node": "chatd-4"},
            [],
            ["mutant_node is 'chatd-4'", "chatd-3"],
            id="a mutant nowhere",
        ),
        pytest.param(
            FOREIGN, [], ["server.store", "--allow-target 192.0.2.1"], id="host"
        ),
        pytest.param({}, [latency("link-1")], ["target is 'link-1'", "one of a, b, all"], id="no link"),
        pytest.param(THREE, [latency("node-4")], ["target is 'node-4'", "node-3", "link-3"], id="no node"),
        pytest.param(
            THREE, [{"kind": "kill", "target": "chatd-4"}], ["chatd-3, broker-1"], id="no process"
        ),
        pytest.param(
            THREE,
            [{"kind": "partition", "target": "link-1", "share": 0.5}],
            ["target is 'link-1'", "no client dials a link"],
            id="a part of a link",
        ),
        pytest.param(
            THREE, [{"kind": "frame_delay", "target": "link-1", "delay_ms": 9}], ["no messages"], id="frames"
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_with_rule_and_remedy(server, faults, parts):
    with pytest.raises(ScenarioError) as wrong:
        scenario(server, *faults)
    (line,) = wrong.value.lines
    for part in parts:
        assert part in line

"""How many nodes run, by what they have to do."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from typing import Any

import pytest
from pydantic import ValidationError

from scenarios.autoscale import Autoscale, Autoscaler, Controller, beginners
from scenarios.model import ScenarioError, parse

S = 1_000_000_000
PHASE = {"name": "p", "duration_s": 5.0, "publish_per_s": 1.0}


def changes(
    section: Autoscale, course: Iterable[tuple[float, float]], *, most: int = 4, running: int = 1
) -> Any:
    """What is done in a course of (second, total), each decision carried out at once: {second: change}."""
    controller, found = Controller(section, most), {}
    for now_s, total in course:
        if decision := controller.decide(total, running, now_s):
            found[now_s] = decision.change
            running += decision.change
    return found


def test_as_many_nodes_are_added_at_once_as_the_load_needs():
    section = Autoscale(connections=100)
    assert changes(section, [(0, 100)]) == {}
    assert changes(section, [(0, 101)]) == {0: 1}
    assert changes(section, [(0, 350)]) == {0: 3}
    assert changes(section, [(0, 9_999)]) == {0: 3}


def test_nothing_more_is_done_until_the_last_change_has_had_its_time():
    section = Autoscale(connections=100, cool_down_s=5)
    assert changes(section, [(0, 150), (1, 250), (4.9, 250), (5, 250)]) == {0: 1, 5: 1}


def test_one_node_goes_at_a_time_when_the_others_would_have_room_to_spare():
    section = Autoscale(connections=100, cool_down_s=0, down_below=0.8)
    assert changes(section, [(0, 161), (1, 160), (2, 81), (3, 80), (4, 0)], running=3) == {1: -1, 3: -1}
    assert changes(section, [(0, 0), (1, 0), (2, 0)], running=3) == {0: -1, 1: -1}


def test_there_are_never_fewer_than_the_least_nor_more_than_there_are():
    section = Autoscale(min=2, connections=100, cool_down_s=0)
    assert changes(section, [(0, 0), (1, 0)], running=3) == {0: -1}
    assert changes(section, [(0, 0)], running=1) == {0: 1}
    assert changes(section, [(0, 900)], running=4) == {}


def test_a_load_at_the_edge_does_not_go_up_and_down():
    section = Autoscale(connections=100, cool_down_s=0)
    assert changes(section, [(s, 100 + s % 2) for s in range(20)]) == {1: 1}


def test_a_decision_says_why():
    decision = Controller(Autoscale(deliveries_per_s=2000), 3).decide(4100.0, 1, 0.0)
    assert decision is not None
    assert decision.reason == "4,100 deliveries/s on 1, 2,000 a node: 3 are needed"
    down = Controller(Autoscale(connections=50), 3).decide(30, 2, 0.0)
    assert down is not None
    assert down.reason == "30 connections on 2, 50 a node: 1 would have 30 each"


class World:
    """Processes that start and leave as they are told, and a load that is set."""

    def __init__(self, *running: str) -> None:
        self.up, self.told, self.load = list(running), [], {"chatd-1": 0.0}

    def running(self, name: str) -> bool:
        return name in self.up

    def restart(self, name: str, *, fault_id: str = "") -> object:
        self.up.append(name)
        self.told.append((name, "start", fault_id))
        return None

    def signal(self, name: str, signum: int, *, fault_id: str = "") -> int:
        self.told.append((name, signal.Signals(signum).name, fault_id))
        return 1


def scaler(world: World, **section: Any) -> tuple[Autoscaler, list[tuple[str, str]]]:
    recorded: list[tuple[str, str]] = []
    made = Autoscaler(
        Autoscale(connections=100, **section),
        ["chatd-1", "chatd-2", "chatd-3"],
        load=lambda _now_ns: world.load,
        processes=world,
        record=lambda action, process, reason: recorded.append((action, process)),
    )
    return made, recorded


def test_nodes_join_in_their_order_and_the_last_is_drained_first_once():
    world = World("chatd-1")
    made, recorded = scaler(world, cool_down_s=0.0)
    world.load = {"chatd-1": 250.0}
    made.step(0)
    made.step(S // 2)  # not yet due
    assert recorded == [("start", "chatd-2"), ("start", "chatd-3")]
    world.load = {"chatd-1": 50.0, "chatd-2": 50.0}
    made.step(1 * S)
    made.step(2 * S)  # chatd-3 drains still, and is no longer counted: two would leave the first with 100
    world.up.remove("chatd-3")
    world.load = {"chatd-1": 40.0}
    made.step(3 * S)
    assert recorded[2:] == [("drain", "chatd-3"), ("drain", "chatd-2")]
    assert world.told == [
        ("chatd-2", "start", "autoscale"), ("chatd-3", "start", "autoscale"),
        ("chatd-3", "SIGTERM", "autoscale"), ("chatd-2", "SIGTERM", "autoscale"),
    ]  # fmt: skip


def test_a_node_on_its_way_out_is_not_started_again_before_it_has_gone():
    world = World("chatd-1", "chatd-2", "chatd-3")
    made, recorded = scaler(world, cool_down_s=0.0)
    made.step(0)
    world.load = {"chatd-1": 250.0}
    made.step(1 * S)
    assert recorded == [("drain", "chatd-3")]
    world.up.remove("chatd-3")
    made.step(2 * S)
    assert recorded == [("drain", "chatd-3"), ("start", "chatd-3")]


def test_at_the_beginning_only_the_least_number_is_there():
    nodes = ["chatd-1", "chatd-2", "chatd-3"]
    assert beginners(Autoscale(min=2, connections=1), nodes) == {"chatd-3"}
    assert beginners(None, nodes) == frozenset()


@pytest.mark.parametrize("given", [{}, {"connections": 10, "deliveries_per_s": 5.0}])
def test_exactly_one_target_is_named(given):
    with pytest.raises(ValidationError, match="write exactly one of connections and deliveries_per_s"):
        Autoscale(**given)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"autoscale": {"min": 3, "connections": 5}}, ["autoscale.min is 3", "server.nodes, 3"]),
        (
            {
                "autoscale": {"connections": 5},
                "fault": [{"id": "j", "kind": "node_start", "target": "chatd-2", "at_s": 1, "duration_s": 1}],
            },
            ["fault 'j'", "[autoscale] starts nodes"],
        ),
    ],
)
def test_what_does_not_go_together_with_it_is_said(change, parts):
    data = {
        "version": 1, "why": "Is this a question?", "server": {"nodes": 3, "store": "valkey"},
        "workload": {"clients": 4, "channels": 2, "phase": [PHASE]},
        **change,
    }  # fmt: skip
    with pytest.raises(ScenarioError) as wrong:
        parse(data, name="own")
    (line,) = wrong.value.lines
    for part in parts:
        assert part in line

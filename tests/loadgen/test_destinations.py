"""Where clients dial: their usual wire, the node that was chosen, or where the server sent them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from loadgen.destinations import Destinations
from loadgen.workload import LoadNode, LoadSpec, Phase, Workload

WIRES = ("ws://127.0.0.1:11", "ws://127.0.0.1:12", "ws://127.0.0.1:21", "ws://127.0.0.1:22")  # a1 b1 a2 b2
NODES = (LoadNode(name="n1", pages="127.0.0.1:1"), LoadNode(name="n2", pages="127.0.0.1:2"))


def destinations(*, balance: Any = "fixed", nodes: tuple[LoadNode, ...] = NODES, **more: Any) -> Destinations:
    workload = Workload(
        clients=8, channels=2, balance=balance, phase=(Phase(name="p", duration_s=1.0, publish_per_s=1.0),)
    )
    spec = LoadSpec(run_dir=Path(), nonce=1, seed=1, targets=WIRES, nodes=nodes, workload=workload, **more)
    return Destinations(spec, worker=0, rng=random.Random(1))


@pytest.mark.parametrize("nodes", [(), NODES])
def test_a_fixed_client_dials_its_place_in_the_list_of_targets(nodes):
    found = destinations(nodes=nodes)
    assert [found.of(client, (), 0.0) for client in range(8)] == [*WIRES, *WIRES]
    assert found.pages == ()


def test_a_client_keeps_its_half_on_whichever_node():
    found = destinations(balance="round_robin")
    dialled = {client: {found.of(client, (), 0.0) for _ in range(2)} for client in (2, 3)}
    assert dialled == {2: {WIRES[0], WIRES[2]}, 3: {WIRES[1], WIRES[3]}}
    assert found.pages == ["127.0.0.1:1", "127.0.0.1:2"]


def test_a_client_is_sent_to_a_node_and_goes_there_by_its_own_half():
    found = destinations()
    assert found.of(1, ("ws://127.0.0.1:21",), 0.0) == WIRES[3]
    assert found.of(4, ("ws://127.0.0.1:21/ws",), 0.0) == WIRES[2]


def test_a_client_goes_only_where_load_may_go_and_speaks_as_before():
    found = destinations()
    assert found.of(1, ("ws://chat.example:80", "wss://127.0.0.1:21"), 0.0) == WIRES[1]
    assert found.of(1, ("ws://127.0.0.1:99",), 0.0) == "ws://127.0.0.1:99"
    allowed = destinations(allow_targets=("chat.example",))
    assert allowed.of(1, ("ws://chat.example:80",), 0.0) == "ws://chat.example:80"


def test_a_node_that_refuses_is_left_out_and_tried_again_when_it_was_reached():
    found = destinations(balance="least")
    found.learn({"n1": ("up", 0), "n2": ("up", 100)}, 0.0)
    assert found.of(2, (), 0.0) == WIRES[0]
    found.dialled(2, 0.0, connected=False)
    assert found.of(4, (), 0.1) == WIRES[2]
    assert found.of(2, ("ws://127.0.0.1:11",), 0.1) == WIRES[0]
    found.dialled(2, 0.1, connected=True)
    assert found.of(6, (), 0.1) == WIRES[0]

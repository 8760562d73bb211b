"""Weights, destinations and shedding among several nodes: values in, values out."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.balance import (
    RAMP_S,
    SHED_PER_S,
    SHED_UNTIL,
    Shedder,
    destinations,
    emptier,
    fair_share,
    weight,
)
from chatd.store.bus import Node, NodeState

LONG_AGO = 0
NOW_MS = 1_000_000


def node(
    name: str, connections: int, *, capacity: int = 1000, state: NodeState = "up", age_s: float = 1000
) -> Node:
    return Node(
        name=name,
        url=f"ws://127.0.0.1/{name}",
        state=state,
        connections=connections,
        capacity=capacity,
        lag_s=0.0,
        started_ms=NOW_MS - round(age_s * 1000),
    )


@pytest.mark.parametrize("state", ["starting", "draining", "unhealthy"])
def test_nobody_is_sent_to_a_node_that_is_not_up(state: NodeState) -> None:
    assert weight(node("n2", 0, state=state), NOW_MS) == 0
    assert destinations([node("n2", 0, state=state)], "n1", NOW_MS, random.Random(1)) == []


def test_a_full_node_has_no_weight_and_an_overfull_one_has_not_less() -> None:
    assert weight(node("n2", 1000), NOW_MS) == 0
    assert weight(node("n2", 1200), NOW_MS) == 0


def test_a_new_node_gets_a_tenth_at_first_and_everything_after_the_ramp() -> None:
    assert weight(node("n2", 0, age_s=0), NOW_MS) == pytest.approx(100)
    assert weight(node("n2", 0, age_s=RAMP_S / 2), NOW_MS) == pytest.approx(550)
    assert weight(node("n2", 0, age_s=RAMP_S), NOW_MS) == 1000


def test_a_clock_that_is_behind_the_nodes_makes_it_no_lighter_than_new() -> None:
    assert weight(node("n2", 0, age_s=-60), NOW_MS) == pytest.approx(100)


def test_clients_spread_over_the_others_as_their_room_says() -> None:
    nodes = [node("n1", 0), node("n2", 400), node("n3", 800), node("n4", 0, state="draining")]
    rng = random.Random(7)
    first = Counter(destinations(nodes, "n1", NOW_MS, rng)[0][-2:] for _ in range(4000))
    assert set(first) == {"n2", "n3"}
    assert first["n2"] / 4000 == pytest.approx(0.75, abs=0.03)


def test_a_client_is_told_a_second_address_in_case_the_first_does_not_answer() -> None:
    nodes = [node("n1", 0), node("n2", 400), node("n3", 800)]
    told = destinations(nodes, "n1", NOW_MS, random.Random(1))
    assert sorted(url[-2:] for url in told) == ["n2", "n3"]


def test_who_is_shed_goes_to_nodes_that_have_less_than_their_share() -> None:
    nodes = [node("n1", 300), node("n2", 290), node("n3", 10, age_s=0), node("n4", 0, state="draining")]
    told = {tuple(emptier(nodes, "n1", random.Random(seed))) for seed in range(200)}
    assert told == {("ws://127.0.0.1/n3",)}


def test_of_two_that_lack_connections_the_emptier_one_gets_more_of_them() -> None:
    nodes = [node("n1", 500), node("n2", 100), node("n3", 0)]  # a share is 200
    rng = random.Random(3)
    first = Counter(emptier(nodes, "n1", rng)[0][-2:] for _ in range(3000))
    assert first["n3"] / 3000 == pytest.approx(2 / 3, abs=0.03)


def shed_until_calm(nodes: list[Node], *, seconds: int = 600) -> tuple[list[Node], list[int]]:
    """Each second the first node sheds, and the last one takes them."""
    shedder, gone = Shedder(), []
    for second in range(seconds):
        shed = shedder.observe(float(second), nodes[0], nodes)
        gone.append(shed)
        first, *middle, last = nodes
        nodes = [
            node(first.name, first.connections - shed),
            *middle,
            node(last.name, last.connections + shed),
        ]
    return nodes, gone


def test_a_node_above_its_share_sheds_one_in_a_hundred_a_second_until_it_is_near_it() -> None:
    nodes, gone = shed_until_calm([node("n1", 300), node("n2", 300), node("n3", 0)])
    assert max(gone) <= 300 * SHED_PER_S
    mean = 200
    assert nodes[0].connections <= SHED_UNTIL * mean
    assert nodes[0].connections > SHED_UNTIL * mean - 2  # and no more than it must
    assert gone[-1] == 0


def test_between_the_bounds_nothing_begins() -> None:
    shedder = Shedder()
    nodes = [node("n1", 115), node("n2", 85)]  # 1.15 of the mean
    assert [shedder.observe(float(second), nodes[0], nodes) for second in range(60)] == [0] * 60
    assert not shedder.active


def test_a_node_alone_or_among_others_that_are_not_up_keeps_everybody() -> None:
    shedder = Shedder()
    for nodes in ([node("n1", 500)], [node("n1", 500), node("n2", 0, state="draining")]):
        assert fair_share(nodes[0], nodes) is None
        assert [shedder.observe(float(second), nodes[0], nodes) for second in range(9)] == [0] * 9


def test_a_node_that_is_going_away_does_not_shed_besides() -> None:
    shedder, own = Shedder(), node("n1", 500, state="draining")
    assert [shedder.observe(float(second), own, [own, node("n2", 0)]) for second in range(9)] == [0] * 9


def test_a_share_is_by_capacity() -> None:
    nodes = [node("n1", 300, capacity=3000), node("n2", 100, capacity=1000)]
    assert fair_share(nodes[0], nodes) == 300


@given(
    st.lists(st.integers(0, 5000), min_size=2, max_size=6),
    st.floats(0.05, 5.0),
)
def test_shedding_never_takes_a_node_below_its_share_or_faster_than_it_may(
    loads: list[int], step_s: float
) -> None:
    nodes = [node(f"n{number}", load) for number, load in enumerate(loads)]
    shedder, total, connections = Shedder(), 0, loads[0]
    for step in range(40):
        own = node("n0", connections)
        shed = shedder.observe(step * step_s, own, nodes)
        share = fair_share(own, nodes)
        assert share is not None
        assert shed == 0 or connections - shed >= SHED_UNTIL * share - 1
        connections, total = connections - shed, total + shed
    assert total <= loads[0] * SHED_PER_S * 40 * step_s + 1

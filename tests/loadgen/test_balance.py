"""Which node a client dials."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from loadgen.balance import LEFT_OUT_CAP_S, LEFT_OUT_S, NEWS_S, POLICIES, Balancer

NODES = ("n1", "n2", "n3")
CHOOSING = [policy for policy in POLICIES if policy != "fixed"]


def news(*connections: int, state: str = "up") -> dict[str, tuple[str, int]]:
    return {name: (state, count) for name, count in zip(NODES, connections, strict=False)}


def chosen(balancer: Balancer, clients: int, *, now_s: float = 0.0) -> Counter[int]:
    rng = random.Random(1)
    return Counter(balancer.choose(client, now_s, rng) for client in range(1, clients + 1))


def test_fixed_puts_a_client_on_the_node_of_its_target_whatever_is_heard_and_asks_nobody():
    balancer = Balancer("fixed", NODES, halves=2)
    balancer.learn(news(0, 9, 9), 0.0)
    balancer.failed(0, 0.0)
    found = [balancer.choose(client, 0.0, random.Random(1)) for client in range(12)]
    assert found == [0, 0, 1, 1, 2, 2] * 2
    assert not balancer.listens
    assert Balancer("least", NODES).listens
    assert not Balancer("least", NODES[:1]).listens


@pytest.mark.parametrize(("policy", "most"), [("round_robin", 100), ("least", 100), ("two_choices", 115)])
def test_balanced_clients_are_spread_evenly_with_or_without_news(policy, most):
    for told in ({}, news(0, 0, 0)):
        balancer = Balancer(policy, NODES)
        balancer.learn(told, 0.0)
        spread = chosen(balancer, 300)
        assert len(spread) == 3
        assert max(spread.values()) <= most


def test_least_fills_up_the_emptiest_node_with_its_own_dials_counted():
    balancer = Balancer("least", NODES)
    balancer.learn(news(10, 4, 12), 0.0)
    assert chosen(balancer, 6) == {1: 6}
    assert set(chosen(balancer, 2)) == {0, 1}


def test_of_two_choices_the_fullest_node_is_never_taken():
    balancer = Balancer("two_choices", NODES)
    balancer.learn(news(10, 10, 1000), 0.0)
    assert set(chosen(balancer, 50)) == {0, 1}


def test_hash_moves_only_the_clients_of_a_node_that_is_gone_and_they_come_back():
    balancer = Balancer("hash", NODES)
    rng = random.Random(1)
    before = {client: balancer.choose(client, 0.0, rng) for client in range(300)}
    assert min(Counter(before.values()).values()) > 60
    balancer.failed(1, 0.0)
    during = {client: balancer.choose(client, 0.1, rng) for client in range(300)}
    assert {client for client in before if during[client] != before[client]} == {
        client for client, node in before.items() if node == 1
    }
    assert {client: balancer.choose(client, 1.0, rng) for client in range(300)} == before


@pytest.mark.parametrize("policy", CHOOSING)
@pytest.mark.parametrize("state", ["draining", "starting", "unhealthy"])
def test_a_node_that_is_not_up_is_left_out(policy, state):
    balancer = Balancer(policy, NODES)
    balancer.learn({**news(0, 0, 0), "n2": (state, 0)}, 0.0)
    assert set(chosen(balancer, 60)) == {0, 2}


@pytest.mark.parametrize("policy", CHOOSING)
def test_a_node_that_the_registry_names_no_more_is_left_out(policy):
    balancer = Balancer(policy, NODES)
    balancer.learn(news(0, 0, 0), 0.0)
    later = NEWS_S + 1
    balancer.learn(news(0, 0), later)
    assert set(chosen(balancer, 60, now_s=later)) == {0, 1}


@pytest.mark.parametrize("policy", CHOOSING)
def test_without_news_every_node_is_tried_again(policy):
    balancer = Balancer(policy, NODES)
    balancer.learn(news(0, 0), 0.0)
    assert set(chosen(balancer, 60, now_s=NEWS_S + 1)) == {0, 1, 2}


@pytest.mark.parametrize("policy", CHOOSING)
def test_a_node_that_refused_is_left_out_for_longer_each_time_until_it_is_well(policy):
    balancer = Balancer(policy, NODES)
    waits = []
    now_s = 0.0
    for _ in range(7):
        balancer.failed(2, now_s)
        wait_s = LEFT_OUT_S
        while 2 not in chosen(balancer, 60, now_s=now_s + wait_s):
            wait_s *= 2
        waits.append(wait_s)
        assert 2 not in chosen(balancer, 60, now_s=now_s + wait_s * 0.99)
        now_s += wait_s
    assert waits == [0.5, 1, 2, 4, 8, 8, 8]
    assert waits[-1] == LEFT_OUT_CAP_S
    balancer.connected(2)
    balancer.failed(2, now_s)
    assert 2 in chosen(balancer, 60, now_s=now_s + LEFT_OUT_S)


@pytest.mark.parametrize("policy", CHOOSING)
def test_when_all_are_left_out_all_are_tried(policy):
    balancer = Balancer(policy, NODES)
    for node in range(3):
        balancer.failed(node, 0.0)
    assert set(chosen(balancer, 60)) == {0, 1, 2}


def test_workers_begin_their_round_at_different_nodes():
    firsts = {Balancer("round_robin", NODES, first=w).choose(1, 0.0, random.Random(1)) for w in range(3)}
    assert firsts == {0, 1, 2}

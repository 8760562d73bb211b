"""Names of wires: which proxies a target means, and which clients dial them."""

from __future__ import annotations

import pytest

from chaos.wires import dialling, links, meant, of_clients, proxies, targets

ONE, THREE = proxies(1), (*proxies(3), *links(3))


def test_one_node_has_two_proxies_and_each_of_several_its_own_two():
    assert ONE == ("a", "b")
    assert proxies(2) == ("a1", "b1", "a2", "b2")
    assert of_clients(THREE) == ("a1", "b1", "a2", "b2", "a3", "b3")


def test_all_that_a_fault_may_be_aimed_at_is_told():
    assert targets(ONE) == ("a", "b", "all")
    assert targets((*proxies(2), *links(2))) == (
        "a", "b", "node-1", "node-2", "a1", "b1", "a2", "b2", "all", "link-1", "link-2",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("a", ("a1", "a2", "a3")),
        ("node-2", ("a2", "b2")),
        ("b3", ("b3",)),
        ("all", ("a1", "b1", "a2", "b2", "a3", "b3")),
        ("link-2", ("link-2",)),
        ("link-*", ("link-1", "link-2", "link-3")),
        ("link-4", ()),
        ("node-4", ()),
        ("node-", ()),
        ("*", ()),
        ("chatd-1", ()),
    ],
)
def test_a_target_means_proxies_by_half_by_node_or_by_name(target, found):
    assert meant(target, THREE) == found


def test_every_target_that_is_offered_means_something_and_something_else_than_the_others():
    assert all(meant(target, THREE) for target in targets(THREE))
    assert len({meant(target, THREE) for target in targets(THREE)}) == len(targets(THREE))


def test_of_one_node_the_even_clients_dial_a_and_the_odd_ones_b():
    assert dialling("a", 5, ONE) == (2, 4)
    assert dialling("b", 5, ONE) == (1, 3, 5)
    assert dialling("all", 3, ONE) == (1, 2, 3)


def test_a_half_is_the_same_clients_however_many_nodes_there_are():
    assert dialling("a", 12, THREE) == dialling("a", 12, ONE) == dialling("a", 12, THREE, balanced=True)


def test_clients_whose_node_is_fixed_are_spread_over_the_nodes_each_on_one():
    found = [dialling(f"node-{node}", 12, THREE) for node in (1, 2, 3)]
    assert sorted(client for clients in found for client in clients) == list(range(1, 13))
    assert [len(clients) for clients in found] == [4, 4, 4]
    assert all(client % 6 in (2, 3) for client in found[1])


def test_clients_that_choose_their_node_may_be_on_any_but_keep_their_half():
    assert dialling("node-2", 6, THREE, balanced=True) == (1, 2, 3, 4, 5, 6)
    assert dialling("a2", 6, THREE, balanced=True) == (2, 4, 6)


def test_nobody_dials_a_link():
    assert dialling("link-1", 6, THREE) == ()

"""Presence, typing and receipts over several nodes that hear each other at most once, and in time.

Nodes are those of ``test_ephemeral``, with sockets that are lists; what one tells reaches those that hear the
channel, unless the test loses it.
"""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatd.company import PIECE, RETELL_S, SILENT_S, Company
from chatd.protocol.messages import Mark, Presence, decode_reply
from chatd.typists import TTL_S
from tests.chatd.test_ephemeral import Node, Peer
from tests.chatd.test_presence import Watcher


class Cluster:
    """Nodes that share the channel ``room``; one clock for all."""

    def __init__(self, *names: str) -> None:
        self.nodes = {name: Node() for name in names}
        self.alive = set(names)
        self.deaf: set[str] = set()
        self.lost = 0
        self.lose = False
        self.companies = {name: self._company(name) for name in names}

    def _company(self, name: str) -> Company:
        node = self.nodes[name]
        return Company(
            node.ephemeral,
            lambda channel, payload: self.tell(name, channel, payload),
            lambda channel: name not in self.deaf,
            lambda: node.now,
        )

    def tell(self, teller: str, channel: str, payload: bytes) -> None:
        for name, company in self.companies.items():
            if name == teller or name in self.deaf or {name, teller} - self.alive:
                continue
            if self.lose:
                self.lost += 1
            else:
                company.heard(channel, teller, payload)

    def move(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            for name, node in self.nodes.items():
                node.move(1.0)
                if name in self.alive:
                    self.companies[name].tick(node.now, self.alive)

    def users(self, name: str) -> dict[str, bytes]:
        """Who is present, as a client of the node is answered."""
        answer = Peer(self.nodes[name], "asks").presence("get")
        return {member.user: bytes(member.data) for member in answer.members or ()}


def test_who_enters_on_one_node_is_there_on_the_other_and_leaves_there_too() -> None:
    cluster = Cluster("n1", "n2")
    watcher = Peer(cluster.nodes["n2"], "w").join(presence=True)
    ann = Peer(cluster.nodes["n1"], "ann")
    ann.presence("enter", b'"hi"')
    cluster.move(1)
    assert cluster.users("n2") == {"ann": b'"hi"'}
    ann.presence("update", b'"busy"')
    cluster.move(1)
    ann.presence("leave")
    cluster.move(1)
    changes = [push["changes"] for push in watcher.got("presence") if "changes" in push]
    assert [[(one["op"], one.get("data")) for one in each] for each in changes] == [
        [("enter", "hi")], [("update", "busy")], [("leave", None)],
    ]  # fmt: skip
    assert cluster.users("n2") == {}


def test_a_user_on_two_nodes_goes_with_his_last_connection() -> None:
    cluster = Cluster("n1", "n2", "n3")
    first, second = Peer(cluster.nodes["n1"], "ann"), Peer(cluster.nodes["n2"], "ann")
    first.presence("enter")
    second.presence("enter")
    cluster.nodes["n1"].ephemeral.depart("room", "ann", first.outlet)
    assert set(cluster.users("n3")) == set(cluster.users("n1")) == {"ann"}
    cluster.nodes["n2"].ephemeral.depart("room", "ann", second.outlet)
    assert cluster.users("n3") == cluster.users("n1") == {}


def test_two_connections_of_a_user_on_one_node_are_one_presence_elsewhere() -> None:
    cluster = Cluster("n1", "n2")
    first, second = Peer(cluster.nodes["n1"], "ann"), Peer(cluster.nodes["n1"], "ann")
    first.presence("enter", b"1")
    second.presence("enter", b"2")
    assert cluster.users("n2") == {"ann": b"2"}
    second.presence("leave")
    assert cluster.users("n2") == {"ann": b"1"}


def test_what_was_lost_is_told_again() -> None:
    cluster = Cluster("n1", "n2")
    ann, bob = Peer(cluster.nodes["n1"], "ann"), Peer(cluster.nodes["n1"], "bob")
    bob.presence("enter")
    cluster.lose = True
    ann.presence("enter")
    bob.presence("leave")
    assert cluster.lost
    assert set(cluster.users("n2")) == {"bob"}
    cluster.lose = False
    cluster.move(RETELL_S + 1)
    assert set(cluster.users("n2")) == {"ann"}


def test_the_last_one_who_left_unheard_is_forgotten_in_time() -> None:
    cluster = Cluster("n1", "n2")
    ann = Peer(cluster.nodes["n1"], "ann")
    ann.presence("enter")
    cluster.lose = True
    ann.presence("leave")
    cluster.lose = False
    cluster.move(SILENT_S + 2)
    assert cluster.users("n2") == {}


def test_a_node_that_leaves_the_registry_takes_its_people_with_it() -> None:
    cluster = Cluster("n1", "n2")
    Peer(cluster.nodes["n1"], "ann").presence("enter")
    Peer(cluster.nodes["n2"], "bob").presence("enter")
    cluster.alive.discard("n1")
    cluster.move(1)
    assert set(cluster.users("n2")) == {"bob"}


def test_but_not_while_the_registry_cannot_be_read() -> None:
    cluster = Cluster("n1", "n2")
    Peer(cluster.nodes["n1"], "ann").presence("enter")
    cluster.companies["n2"].tick(cluster.nodes["n2"].now, ())
    assert set(cluster.users("n2")) == {"ann"}


def test_who_begins_to_hear_a_channel_asks_and_is_told_all() -> None:
    cluster = Cluster("n1", "n2")
    cluster.deaf.add("n2")
    reader = Peer(cluster.nodes["n1"], "ann").join()
    reader.presence("enter", b'"hi"')
    assert reader.report(5) is None
    cluster.deaf.clear()
    late = Peer(cluster.nodes["n2"], "bob").join()
    cluster.companies["n2"].joined("room")
    assert cluster.users("n2") == {"ann": b'"hi"'}
    cluster.move(1)
    assert late.got("receipt")[-1]["marks"] == [{"user": "ann", "read": 5}]


def test_a_channel_that_is_heard_no_more_forgets_what_others_said() -> None:
    cluster = Cluster("n1", "n2")
    Peer(cluster.nodes["n1"], "ann").presence("enter")
    cluster.deaf.add("n2")
    cluster.companies["n2"].left("room")
    assert cluster.users("n2") == {}
    assert len(cluster.nodes["n2"].ephemeral) == 0


def test_a_crowd_is_told_in_pieces_and_a_piece_that_is_lost_costs_only_time() -> None:
    cluster = Cluster("n1", "n2")
    peers = [Peer(cluster.nodes["n1"], f"user{n}") for n in range(2 * PIECE + 10)]
    for peer in peers:
        peer.presence("enter")
    assert Peer(cluster.nodes["n2"], "asks").presence("get").count == len(peers)
    cluster.lose = True
    for peer in peers[:50]:
        peer.presence("leave")
    cluster.lose = False
    told, state = 0, cluster.companies["n2"].heard

    def without_the_second(channel: str, node: str, payload: bytes) -> None:
        nonlocal told
        told += 1
        if told != 2:
            state(channel, node, payload)

    cluster.companies["n2"].heard = without_the_second  # type: ignore[method-assign]
    cluster.move(RETELL_S + 1)
    cluster.companies["n2"].heard = state  # type: ignore[method-assign]
    cluster.move(RETELL_S + 1)
    assert Peer(cluster.nodes["n2"], "asks").presence("get").count == len(peers) - 50


def test_typing_is_seen_on_the_other_node_and_ends_by_itself_when_its_end_is_lost() -> None:
    cluster = Cluster("n1", "n2")
    watcher, ann = Peer(cluster.nodes["n2"], "w").join(), Peer(cluster.nodes["n1"], "ann").join()
    ann.type()
    cluster.move(1)
    assert [push["on"] for push in watcher.got("typing")] == [True]
    cluster.lose = True
    ann.type(False)
    cluster.move(TTL_S + 2)
    assert [push["on"] for push in watcher.got("typing")] == [False]


def test_marks_only_rise_whatever_the_order_in_which_they_come() -> None:
    cluster = Cluster("n1", "n2")
    watcher = Peer(cluster.nodes["n2"], "w").join()
    ann = Peer(cluster.nodes["n1"], "ann").join()
    for serial in (5, 3, 7):
        ann.report(serial)
    cluster.nodes["n2"].ephemeral.remote_mark("room", Mark("ann", read=4))
    cluster.move(1)
    assert watcher.got("receipt")[-1]["marks"] == [{"user": "ann", "read": 7}]


def test_a_telling_that_cannot_be_read_is_logged_and_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = Cluster("n1", "n2")
    cluster.companies["n1"].heard("room", "n2", b"\xff nonsense")
    assert "bad_telling" in "".join(capsys.readouterr())
    assert cluster.users("n1") == {}


OPS = st.lists(
    st.tuples(
        st.sampled_from(["enter", "leave", "lose", "hear", "wait", "die", "back"]),
        st.integers(0, 2),
        st.integers(0, 3),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(OPS, st.randoms(use_true_random=False))
def test_whatever_is_lost_all_nodes_agree_soon_after(
    ops: list[tuple[str, int, int]], rng: random.Random
) -> None:
    names = ["n1", "n2", "n3"]
    cluster = Cluster(*names)
    watcher = Watcher()
    watching = Peer(cluster.nodes["n1"], "w").join(presence=True)
    peers: dict[tuple[str, int], Peer] = {}
    for op, where, who in ops:
        name = names[where]
        match op:
            case "enter":
                peer = peers.setdefault((name, who), Peer(cluster.nodes[name], f"user{who}"))
                peer.presence("enter", str(rng.randrange(3)).encode())
            case "leave":
                if (peer := peers.pop((name, who), None)) is not None:
                    peer.presence("leave")
            case "lose" | "hear":
                cluster.lose = op == "lose"
            case "wait":
                cluster.move(2)
            case "die":
                if name != "n1":
                    cluster.alive.discard(name)
            case "back":
                cluster.alive.add(name)
    cluster.lose = False
    cluster.move(SILENT_S + RETELL_S + 2)
    there = {f"user{who}" for (name, who) in peers if name in cluster.alive}
    for name in cluster.alive:
        assert set(cluster.users(name)) == there
    for push in watching.got("presence"):
        frame = decode_reply(json.dumps(push).encode())
        assert isinstance(frame, Presence)
        watcher.hear(frame)
    assert watcher.table is not None
    assert set(watcher.table) == there

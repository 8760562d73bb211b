"""Races between the bus, the log and a reset, one by one, and what comes without a look at the tops."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from chatd.store.base import Append
from chatd.stream import shared
from tests.chatd.model_nodes import Client, Node, Truth, settle
from tests.chatd.shared_store import Broker


class Scene:
    """One node and one client of "room", live. Time does not pass: nobody looks at the tops."""

    def __init__(self) -> None:
        self.broker = Broker()
        self.node = Node(self.broker)
        self.store = self.node.store
        self.client = Client(Truth(self.broker), "room")
        self.placed = 0

    async def begin(self) -> None:
        self.client.come(self.node, random.Random(0))
        await self.moves()
        assert self.client.live

    def place(self, count: int = 1, *, heard: bool = True) -> None:
        self.broker.loses = lambda store, placing: not heard
        for _ in range(count):
            self.placed += 1
            self.broker.place(Append("room", "ann", f"m{self.placed}", b"1"))

    async def moves(self) -> None:
        await settle()
        self.client.read()


def play(scenario: Callable[[Scene], Awaitable[None]]) -> None:
    async def main() -> None:
        scene = Scene()
        await scene.begin()
        await scenario(scene)
        assert not scene.node.errors
        scene.node.close()
        await settle()

    asyncio.run(main())


def test_what_is_heard_in_doubt_goes_on_where_the_log_ended() -> None:
    async def scenario(scene: Scene) -> None:
        scene.store.holding = True
        scene.node.relay.paused()
        await scene.moves()
        reads = scene.store.reads
        scene.place(3)
        await scene.moves()
        assert scene.client.seen == 0
        scene.store.let_go()
        await scene.moves()
        assert scene.client.seen == 3
        assert scene.store.reads == reads

    play(scenario)


def test_a_doubt_during_a_read_is_not_ended_by_it() -> None:
    async def scenario(scene: Scene) -> None:
        scene.store.holding = True
        scene.node.relay.paused()
        await scene.moves()
        scene.place(heard=False)
        scene.store.bus.break_off()
        scene.store.bus.mend()
        await scene.moves()
        scene.store.holding = False
        scene.store.let_go()
        await scene.moves()
        assert scene.client.seen == 1

    play(scenario)


def test_a_hole_before_what_is_heard_during_a_read_is_read_too() -> None:
    async def scenario(scene: Scene) -> None:
        scene.store.holding = True
        scene.node.relay.paused()
        await scene.moves()
        scene.place(heard=False)
        scene.place()
        await scene.moves()
        scene.store.holding = False
        scene.store.let_go()
        await scene.moves()
        assert scene.client.seen == 2

    play(scenario)


def test_a_page_that_was_asked_for_before_a_reset_is_not_used_after_it() -> None:
    async def scenario(scene: Scene) -> None:
        scene.place(5)
        await scene.moves()
        scene.client.block()
        scene.place(200)
        await scene.moves()
        scene.store.bus.allow(0)
        scene.broker.fail_over({"room": 3})
        scene.store.bus.mend()
        scene.place(300)
        scene.store.holding = True
        scene.client.unblock()  # a page after 5 is read, of the new epoch
        await scene.moves()
        scene.store.bus.allow(None)
        await scene.moves()
        for _ in range(4):  # meanwhile the tail finds the fork
            scene.store.let_go(newest=True)
            await scene.moves()
        scene.store.holding = False
        scene.store.let_go()
        await scene.moves()
        assert scene.client.resets == 1
        assert scene.client.position == ("E2", 303)

    play(scenario)


def test_a_page_of_an_epoch_that_the_node_has_not_heard_of_waits_for_the_reset() -> None:
    async def scenario(scene: Scene) -> None:
        scene.client.block()
        scene.place(200)
        await scene.moves()
        scene.store.bus.allow(0)
        scene.broker.fail_over({"room": 50})
        scene.store.bus.mend()
        scene.place(100)
        scene.client.unblock()
        await scene.moves()
        assert scene.client.resets == 1
        assert scene.client.position == ("E2", 150)

    play(scenario)


def test_what_is_placed_while_a_channel_opens_comes_without_another_read() -> None:
    async def scenario(scene: Scene) -> None:
        late = Client(Truth(scene.broker), "other")
        scene.store.holding = True
        late.come(scene.node, random.Random(0))
        await scene.moves()
        scene.store.let_go()  # the top; the page is read next
        await scene.moves()
        scene.broker.place(Append("other", "ann", "m", b"1"))
        await scene.moves()
        scene.store.holding = False
        scene.store.let_go()
        await scene.moves()
        late.read()
        assert late.position == ("E1", 1)

    play(scenario)


def test_a_read_for_a_channel_that_was_left_answers_no_doubt_of_its_successor() -> None:
    async def scenario(scene: Scene) -> None:
        relay, hub = scene.node.relay, scene.node.hub
        left = hub.channel("room")
        assert left is not None
        scene.client.go()
        await scene.moves()
        scene.store.holding = True
        scene.client.come(scene.node, random.Random(0))
        await scene.moves()
        scene.store.let_go()
        await scene.moves()  # the page that opens it was read
        scene.place(heard=False)
        relay.paused()
        relay.reading(left)  # as of a read that was planned before
        scene.store.holding = False
        scene.store.let_go()
        await scene.moves()
        assert scene.client.position == ("E1", 1)

    play(scenario)


def test_many_channels_after_a_break_are_asked_for_in_one_round_trip() -> None:
    async def scenario(scene: Scene) -> None:
        others = [Client(Truth(scene.broker), f"room:{n}") for n in range(300)]
        for client in others:
            client.come(scene.node, random.Random(0))
            await settle()
        scene.place(heard=False)
        reads = scene.store.reads
        scene.store.bus.break_off()
        scene.store.bus.mend()
        await scene.moves()
        assert scene.client.seen == 1
        assert scene.store.reads == reads + 2  # all tops, and a page of the one that missed something

    play(scenario)


@pytest.mark.parametrize(
    ("old", "new", "last"),
    [
        pytest.param([("E1", 1)], [("E1", 1), ("E2", 6)], 5, id="the epoch after"),
        pytest.param(
            [("E1", 1), ("E2", 6)], [("E1", 1), ("E3", 4)], 3, id="a replica that lagged by an epoch"
        ),
        pytest.param([("E1", 1), ("E2", 6)], [("E1", 1), ("E3", 9)], 5, id="and knew more of the one before"),
        pytest.param([("E1", 1), ("E2", 6)], [("E1", 1)], 5, id="back to an older epoch"),
        pytest.param([("E1", 1)], [("E2", 1)], 0, id="nothing in common"),
        pytest.param([("E1", 1)], [("E1", 1), ("E2", 9), ("E3", 4)], 3, id="a later fork that lies lower"),
    ],
)
def test_what_two_lineages_share(old: list[tuple[str, int]], new: list[tuple[str, int]], last: int) -> None:
    assert shared(tuple(old), tuple(new)) == last

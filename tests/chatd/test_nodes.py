"""Nodes among others: company over all of them, clients that are sent elsewhere, a smaller node."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from typing import Any

import pytest

from chatd import balance, company, registry
from chatd.server import Server
from tests.chatd.house import Guest, House
from tests.chatd.test_several_nodes import Town, town

__all__ = ["town"]  # the fixture


@pytest.fixture(autouse=True)
def quick_hearts(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a second of a registry's life is a twentieth of the test's."""
    monkeypatch.setattr(registry, "BEAT_S", 0.05)
    monkeypatch.setattr(company, "RETELL_S", 0.2)


async def beat(server: Server, times: int = 1) -> None:
    """Until a node has asked the registry so many times more."""
    nodes = server.nodes.registry
    told, then = asyncio.Event(), nodes.beaten

    def beaten() -> None:
        then()
        told.set()

    nodes.beaten = beaten
    async with asyncio.timeout(20):
        for _ in range(times):
            told.clear()
            await told.wait()
    nodes.beaten = then


async def known(server: Server, nodes: int) -> None:
    """Until a node has heard of so many that are up."""
    async with asyncio.timeout(20):
        while sum(node.state == "up" for node in server.nodes.registry.nodes) < nodes:
            await beat(server)


async def present(guest: Guest) -> dict[str, Any]:
    await guest.ask("presence", channel="room", op="get")
    answer = (await guest.until("presence"))[-1]
    while "members" not in answer:
        answer = (await guest.until("presence"))[-1]
    return {member["user"]: member.get("data") for member in answer["members"]}


async def until_present(house: House, guest: Guest, expected: dict[str, Any]) -> None:
    async with asyncio.timeout(20):
        while await present(guest) != expected:
            await beat(house.server)


def test_who_is_present_on_one_node_is_seen_on_the_other_also_by_who_comes_later(town) -> None:
    async def scenario(town: Town) -> None:
        first, second = town.houses
        ann = await first.listener("ann")
        await ann.ask("presence", channel="room", op="enter", data="hi")
        bob = await second.listener("bob")
        await until_present(second, bob, {"ann": "hi"})
        cyd = await second.listener("cyd")
        await cyd.ask("presence", channel="room", op="enter", data="yo")
        await until_present(first, ann, {"ann": "hi", "cyd": "yo"})
        await ann.ws.close()
        await until_present(second, bob, {"cyd": "yo"})

    town(scenario)


def test_a_mark_and_a_typist_of_one_node_are_told_on_the_other(town) -> None:
    async def scenario(town: Town) -> None:
        first, second = town.houses
        ann, bob = await first.listener("ann"), await second.listener("bob")
        await ann.publish("1")
        await bob.until("message")
        await ann.ws.send('{"type":"receipt","channel":"room","serial":1,"kind":"read"}')
        assert (await bob.until("receipt"))[-1]["marks"] == [{"user": "ann", "read": 1}]
        await ann.ws.send('{"type":"typing","channel":"room","on":true}')
        assert (await bob.until("typing"))[-1]["user"] == "ann"

    town(scenario)


def test_who_is_sent_away_by_a_node_that_ends_is_told_where_the_others_are(town) -> None:
    async def scenario(town: Town) -> None:
        first, *others = town.houses
        await known(first.server, 3)
        ann = await first.guest("ann")
        stopping = asyncio.create_task(first.server.stop())
        goodbye = (await ann.until("goodbye"))[-1]
        assert (goodbye["code"], goodbye["why"]) == (4101, "drain")
        assert sorted(goodbye["to"]) == sorted(house.server.url for house in others)
        await stopping

    town(scenario, nodes=3)


def test_the_address_that_is_advertised_is_the_one_that_is_told(town) -> None:
    async def scenario(town: Town) -> None:
        await known(town.houses[0].server, 2)
        ann = await town.houses[0].guest("ann")
        stopping = asyncio.create_task(town.houses[0].server.stop())
        assert (await ann.until("goodbye"))[-1]["to"] == ["ws://chat.example.org:80"]
        await stopping

    town(scenario, advertise="ws://chat.example.org:80")


def test_a_node_alone_tells_nobody_to_go_elsewhere(town) -> None:
    async def scenario(town: Town) -> None:
        ann = await town.houses[0].guest("ann")
        stopping = asyncio.create_task(town.houses[0].server.stop())
        assert (await ann.until("goodbye"))[-1].get("to", []) == []
        await stopping

    town(scenario, nodes=1)


def test_a_node_with_more_than_its_share_sends_some_to_the_one_that_has_come(
    town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balance, "SHED_PER_S", 1.0)

    async def scenario(town: Town) -> None:
        first, second = town.houses
        guests = [await first.guest(f"ann{n}") for n in range(20)]
        await known(first.server, 2)
        async with asyncio.timeout(10):
            while len(first.server.connections) > 1.1 * 10:
                await beat(first.server)
        await beat(first.server, times=5)  # it stops there
        assert len(first.server.connections) == 11
        sent = [guest for guest in guests if guest.ws.close_code is not None]
        assert len(sent) == 9
        for guest in sent:
            goodbye = (await guest.until("goodbye"))[-1]
            assert (goodbye["code"], goodbye["why"], goodbye["to"]) == (4102, "balance", [second.server.url])
            assert guest.ws.close_code == 4102

    # As connections only go, the share of the first falls with them: the other's are held up here.
    monkeypatch.setattr(balance, "fair_share", lambda own, nodes: 10.0 if len(list(nodes)) > 1 else None)
    town(scenario)


def test_it_keeps_them_where_that_is_wished(town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balance, "SHED_PER_S", 100.0)

    async def scenario(town: Town) -> None:
        for number in range(10):
            await town.houses[0].guest(f"ann{number}")
        await known(town.houses[0].server, 2)
        await beat(town.houses[0].server, times=5)
        assert len(town.houses[0].server.connections) == 10

    town(scenario, rebalance=False)


def test_a_smaller_node_delivers_no_faster_than_it_may_and_loses_nothing(serve) -> None:
    async def scenario(house: House) -> None:
        bob = await house.listener("bob")
        ann = await house.guest("ann")
        began = time.monotonic()
        for number in range(100):
            await ann.ask("publish", channel="room", message=str(number), data="x")
        frames = [(await bob.read())["serial"] for _ in range(100)]
        assert time.monotonic() - began >= 0.9 * 100 / 200
        assert all(later == earlier + 1 for earlier, later in pairwise(frames))
        assert len([await ann.until("ack") for _ in range(100)]) == 100

    serve(scenario, store="memory", slowed_to_per_s=200)


def test_a_broker_that_does_not_answer_holds_up_no_farewell(town, monkeypatch) -> None:
    monkeypatch.setattr(registry, "PART_S", 0.05)

    async def never(node: str) -> None:
        await asyncio.Event().wait()

    async def scenario(town: Town) -> None:
        monkeypatch.setattr(town.stores[1].bus, "part", never)
        async with asyncio.timeout(20):
            await town.houses[1].server.stop()

    town(scenario)

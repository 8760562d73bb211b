"""Several servers on one log: what their clients see."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from chatd.config import Config
from chatd.server import Server
from chatd.store import STORES
from tests.chatd.house import Guest, House, serials
from tests.chatd.shared_store import Broker, SharedStore

Scenario = Callable[["Town"], Awaitable[None]]


class Town:
    """Houses that share a broker. ``stores[n]`` is that of ``houses[n]``."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.houses: list[House] = []

    @property
    def stores(self) -> list[SharedStore]:
        return self.broker.stores

    async def listeners(self) -> list[Guest]:
        return [await house.listener(f"bob{n}") for n, house in enumerate(self.houses)]


@pytest.fixture
def town(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs ``scenario(town)`` with so many nodes."""

    def run(scenario: Scenario, nodes: int = 2, **settings: Any) -> None:
        broker = Broker()
        monkeypatch.setitem(STORES, "memory", lambda *_: SharedStore(broker))

        async def main() -> None:
            streets = Town(broker)
            async with AsyncExitStack() as stack:
                for number in range(nodes):
                    config = Config(
                        **{
                            "port": 0,
                            "store": "memory",
                            "drain_s": 1,
                            "node": f"n{number + 1}",
                            "tail_check_s": 0.05,
                            **settings,
                        }
                    )
                    server = Server(config)
                    await server.start()
                    stack.push_async_callback(server.stop)
                    streets.houses.append(House(server, await stack.enter_async_context(AsyncExitStack())))
                await scenario(streets)
            assert not any(house.server.failed for house in streets.houses)

        asyncio.run(main())

    return run


async def messages(guest: Guest, count: int) -> list[int]:
    """The serials of the next messages."""
    found: list[int] = []
    while len(found) < count:
        found += serials([await guest.read()])
    return found


def test_each_node_delivers_what_the_others_place_in_one_order(town) -> None:
    async def scenario(town: Town) -> None:
        guests = await town.listeners()
        writers = [await house.guest(f"ann{n}") for n, house in enumerate(town.houses)]
        for number in range(10):
            for n, writer in enumerate(writers):
                ack = await writer.publish(f"{n}:{number}")
                assert ack["position"] == ["E1", 3 * number + n + 1]
        streams = [[await guest.read() for _ in range(30)] for guest in guests]
        assert streams[0] == streams[1] == streams[2]
        assert serials(streams[0]) == list(range(1, 31))

    town(scenario, nodes=3)


def test_a_client_goes_on_at_another_node(town) -> None:
    async def scenario(town: Town) -> None:
        writer = await town.houses[0].guest("ann")
        for number in range(5):
            await writer.publish(str(number))
        guest = await town.houses[1].guest("bob", channels=[{"channel": "room", "from": ["E1", 2]}])
        frames = await guest.until("live")
        assert frames[0]["resumed"]
        assert serials(frames) == [3, 4, 5]

    town(scenario)


def test_a_client_that_has_seen_more_than_the_node_has_heard_is_not_told_that_it_is_lost(town) -> None:
    async def scenario(town: Town) -> None:
        behind = await town.houses[1].listener("cyd")
        town.stores[1].bus.allow(0)
        writer = await town.houses[0].guest("ann")
        await writer.publish("1")
        await writer.publish("2")
        guest = await town.houses[1].guest("bob", channels=[{"channel": "room", "from": ["E1", 2]}])
        (answer, *_) = await guest.until("live")
        assert answer["resumed"]
        assert answer["position"] == ["E1", 2]
        assert await messages(behind, 2) == [1, 2]

    town(scenario, tail_check_s=60)


def test_the_last_message_of_a_burst_is_found_by_the_look_at_the_tops_alone(town) -> None:
    async def scenario(town: Town) -> None:
        guest = await town.houses[1].listener("bob")
        writer = await town.houses[0].guest("ann")
        await writer.publish("1")
        town.broker.loses = lambda store, placing: store is town.stores[1]
        await writer.publish("2")
        assert await messages(guest, 2) == [1, 2]
        assert town.houses[1].server.metrics.tail_found == 1
        assert town.houses[0].server.metrics.tail_found == 0

    town(scenario)


def test_a_message_that_was_lost_on_the_bus_comes_before_the_next_one(town) -> None:
    async def scenario(town: Town) -> None:
        guest = await town.houses[1].listener("bob")
        writer = await town.houses[0].guest("ann")
        town.broker.loses = lambda store, placing: placing.entry.serial % 3 == 1
        for number in range(9):
            await writer.publish(str(number))
        assert await messages(guest, 9) == list(range(1, 10))

    town(scenario, tail_check_s=60)


def test_what_the_log_has_let_go_of_before_it_was_heard_is_a_gap(town) -> None:
    async def scenario(town: Town) -> None:
        guest = await town.houses[1].listener("bob")
        writer = await town.houses[0].guest("ann")
        town.broker.loses = lambda store, placing: placing.entry.serial < 8
        for number in range(7):
            await writer.publish(str(number))
        town.broker.trim("room", 6)
        await writer.publish("7")
        (gap,) = await guest.until("gap")
        assert (gap["why"], gap["from"], gap["to"]) == ("trimmed", ["E1", 0], ["E1", 5])
        assert await messages(guest, 3) == [6, 7, 8]

    town(scenario, tail_check_s=60)


def test_two_failovers_before_anything_was_read_are_one_reset_to_the_lower_fork(town) -> None:
    async def scenario(town: Town) -> None:
        guests = await town.listeners()
        writer = await town.houses[0].guest("ann")
        for number in range(5):
            await writer.publish(str(number))
        for guest in guests:
            assert await messages(guest, 5) == [1, 2, 3, 4, 5]
        town.broker.fail_over({"room": 4})
        town.broker.log("room")
        town.broker.fail_over({"room": 2})
        for guest in guests:
            (reset,) = await guest.until("reset")
            assert (reset["position"], reset["fork"]) == (["E3", 2], 2)
        await writer.publish("after")
        for guest in guests:
            assert await messages(guest, 1) == [3]

    town(scenario)


def test_a_failover_to_a_replica_that_lags_resets_everybody_at_the_fork(town) -> None:
    async def scenario(town: Town) -> None:
        guests = await town.listeners()
        writer = await town.houses[0].guest("ann")
        for number in range(5):
            await writer.publish(str(number))
        for guest in guests:
            assert await messages(guest, 5) == [1, 2, 3, 4, 5]
        town.broker.fail_over({"room": 3})
        for guest in guests:
            (reset,) = await guest.until("reset")
            assert reset == {
                "type": "reset",
                "channel": "room",
                "position": ["E2", 3],
                "fork": 3,
                "epochs": [["E1", 1], ["E2", 4]],
                "why": "failover",
            }
        ack = await writer.publish("after")
        assert ack["position"] == ["E2", 4]
        for guest in guests:
            assert await messages(guest, 1) == [4]

    town(scenario)


def test_positions_of_both_branches_are_judged_by_the_lineage(town) -> None:
    async def scenario(town: Town) -> None:
        writer = await town.houses[0].guest("ann")
        for number in range(5):
            await writer.publish(str(number))
        town.broker.fail_over({"room": 3})
        await writer.publish("after")
        there = town.houses[1]
        (answer, *frames) = await (
            await there.guest("bob", channels=[{"channel": "room", "from": ["E1", 2]}])
        ).until("live")
        assert answer["resumed"]
        assert serials(frames) == [3, 4]
        (answer, *frames) = await (
            await there.guest("cyd", channels=[{"channel": "room", "from": ["E1", 5]}])
        ).until("live")
        assert answer["gap"] == {"why": "fork", "from": ["E1", 5], "to": ["E2", 3]}
        assert serials(frames) == [4]
        await writer.ask("history", channel="room", after=["E1", 3])
        (page,) = await writer.until("history")
        assert [message["serial"] for message in page["messages"]] == [4]
        for lost in (["E1", 4], ["E0", 1]):
            await writer.ask("history", channel="room", after=lost)
            (error,) = await writer.until("error")
            assert error["code"] == 410

    town(scenario)


def test_a_node_that_cannot_reach_the_broker_refuses_and_keeps_its_subscribers(town) -> None:
    async def scenario(town: Town) -> None:
        cut_off, store = town.houses[1], town.stores[1]
        guest = await cut_off.listener("bob")
        writer = await town.houses[0].guest("ann")
        store.bus.mends_itself = False
        store.reachable = False
        store.bus.break_off()
        while (await cut_off.get("/readyz"))[0] == 200:
            pass
        here = await cut_off.guest("dan")
        await here.ask("publish", channel="room", message="x", data=1)
        (error,) = await here.until("error")
        assert (error["code"], error["temporary"]) == (503, True)
        await here.ask("subscribe", channel="other")
        (error,) = await here.until("error")
        assert (error["code"], error["temporary"]) == (503, True)
        for number in range(3):
            await writer.publish(str(number))
        store.reachable = True
        store.bus.mend()
        assert await messages(guest, 3) == [1, 2, 3]
        await here.publish("x", data=1)
        assert await messages(guest, 1) == [4]

    town(scenario)


def test_a_node_that_was_stopped_for_a_while_reads_before_it_delivers(town) -> None:
    async def scenario(town: Town) -> None:
        guest = await town.houses[1].listener("bob")
        writer = await town.houses[0].guest("ann")
        town.broker.loses = lambda store, placing: True
        await writer.publish("1")
        relay = town.houses[1].server.relay
        assert relay is not None
        relay.paused()
        assert await messages(guest, 1) == [1]

    town(scenario, tail_check_s=60)


def test_the_nodes_know_each_other(town) -> None:
    async def scenario(town: Town) -> None:
        await asyncio.gather(*(_until_known(house, 2) for house in town.houses))
        nodes = json.loads((await town.houses[0].get("/nodes"))[1])
        assert [(node["node"], node["state"], node["url"]) for node in nodes] == [
            ("n1", "up", "ws://proxy/ws"),
            ("n2", "up", "ws://proxy/ws"),
        ]
        await town.houses[1].server.stop()
        assert set(town.broker.registry) == {"n1"}

    town(scenario, advertise="ws://proxy/ws")


async def _until_known(house: House, count: int) -> None:
    async with asyncio.timeout(20):
        while len(json.loads((await house.get("/nodes"))[1])) < count:
            pass

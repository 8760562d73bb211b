"""Several servers on a real broker: what their clients see when it is killed and when it cannot write."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from chatd.config import Config
from chatd.server import Server
from tests.broker import Broker
from tests.chatd.house import Guest, House, serials


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path)
    broker.start()
    yield broker
    broker.kill()


def on_nodes(broker: Broker, scenario: Callable[[House, House], Awaitable[None]]) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            houses = []
            for name in ("n1", "n2"):
                settings = {"port": 0, "store": broker.url, "node": name, "drain_s": 1, "tail_check_s": 0.1}
                server = Server(Config.model_validate(settings))
                await server.start()
                stack.push_async_callback(server.stop)
                houses.append(House(server, await stack.enter_async_context(AsyncExitStack())))
            async with asyncio.timeout(60):
                await scenario(houses[0], houses[1])
            assert not any(house.server.failed for house in houses)

    asyncio.run(main())


async def messages(guest: Guest, count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        found += serials([await guest.read()])
    return found


async def ready(*houses: House) -> None:
    for house in houses:
        while (await house.get("/readyz"))[0] != 200:
            pass


def test_nodes_deliver_each_others_messages_with_what_the_broker_promises(broker: Broker) -> None:
    async def scenario(here: House, there: House) -> None:
        guests = [await here.listener("bob"), await there.listener("cyd")]
        writers = [await here.guest("ann"), await there.guest("dan")]
        for number in range(20):
            for n, writer in enumerate(writers):
                ack = await writer.publish(f"{n}:{number}")
                assert (ack["position"][1], ack["durability"]) == (2 * number + n + 1, "fsync")
        again = await writers[0].publish("0:0")
        assert (again["position"][1], again["duplicate"]) == (1, True)
        streams = [[await guest.read() for _ in range(40)] for guest in guests]
        assert streams[0] == streams[1]
        assert serials(streams[0]) == list(range(1, 41))

    on_nodes(broker, scenario)


def test_a_broker_that_is_killed_and_comes_back_costs_nobody_a_message(broker: Broker) -> None:
    async def scenario(here: House, there: House) -> None:
        guest, writer = await there.listener("bob"), await here.guest("ann")
        epoch = (await writer.publish("1"))["position"][0]
        assert await messages(guest, 1) == [1]
        broker.kill()
        await writer.ask("publish", channel="room", message="2", data=2)
        (error,) = await writer.until("error")
        assert (error["code"] in (503, 504), error["temporary"]) == (True, True)
        broker.start()
        (reset,) = await guest.until("reset")
        assert (reset["fork"], reset["epochs"][0]) == (1, [epoch, 1])
        await ready(here, there)
        await writer.ask("publish", channel="room", message="2", data=2)
        (ack,) = await writer.until("ack")
        assert ack["position"] == [reset["position"][0], 2]
        assert await messages(guest, 1) == [2]
        late = await there.guest("cyd", channels=[{"channel": "room", "from": [epoch, 0]}])
        (answer, *frames) = await late.until("live")
        assert answer["resumed"]
        assert serials(frames) == [1, 2]

    on_nodes(broker, scenario)


def test_a_full_broker_refuses_publishes_and_nothing_else(broker: Broker) -> None:
    async def scenario(here: House, there: House) -> None:
        guest, writer = await there.listener("bob"), await here.guest("ann")
        await writer.publish("1")
        broker.set("maxmemory", "1")
        await writer.ask("publish", channel="room", message="2", data=2)
        (error,) = await writer.until("error")
        assert (error["code"], error["definite"]) == (503, True)
        assert (await here.get("/readyz"))[0] == 503
        late = await there.guest("cyd", channels=[{"channel": "room", "from": "first"}])
        assert serials(await late.until("live")) == [1]
        broker.set("maxmemory", "0")
        await ready(here)
        await writer.publish("2", data=2)
        assert await messages(guest, 2) == [1, 2]

    on_nodes(broker, scenario)

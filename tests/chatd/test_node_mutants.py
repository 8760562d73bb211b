"""What mutants of a shared log do: one broken node and an honest one, each with a listener."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from chatd.config import Config
from chatd.server import Server
from chatd.store import STORES
from tests.chatd.house import Guest, House
from tests.chatd.shared_store import Broker, SharedStore

Sight = Callable[[Broker, Guest], Awaitable[None]]


async def frames(guest: Guest) -> list[dict[str, Any]]:
    """All up to and with the message with data "last"."""
    found = [await guest.read()]
    while found[-1].get("data") != "last":
        found.append(await guest.read())
    return found


async def hole(broker: Broker, ann: Guest) -> None:
    """The second of three messages goes unheard."""
    for number in range(2):
        broker.loses = lambda store, placing, number=number: number == 1
        await ann.publish(f"m{number}")
    broker.loses = lambda store, placing: False


async def fallen(broker: Broker, ann: Guest) -> None:
    await ann.publish("m0")
    await ann.publish("m1")
    broker.fail_over({"room": 1})


async def nothing(broker: Broker, ann: Guest) -> None:
    await ann.publish("m0")


ACROSS: dict[str, tuple[Sight, list[str], list[str]]] = {  # what is right, and what is seen
    "skip-repair": (hole, ["1", "2", "3"], ["1", "3"]),
    "no-reset": (fallen, ["1", "2", "reset", "2"], ["1", "2", "2"]),
    "double-fanout": (nothing, ["1", "2"], ["1", "1", "2", "2"]),
}


def told(found: list[dict[str, Any]]) -> list[str]:
    return [str(one.get("serial", one["type"])) for one in found]


@pytest.mark.parametrize("odds", ["", ":0"], ids=["always", "never"])
@pytest.mark.parametrize("name", ACROSS)
def test_one_node_is_broken_and_the_other_is_not(monkeypatch, name: str, odds: str) -> None:
    sight, right, wrong = ACROSS[name]
    broker = Broker()
    monkeypatch.setitem(STORES, "valkey", lambda *_: SharedStore(broker))

    async def main() -> None:
        async with AsyncExitStack() as stack:
            houses = []
            for mutant in (name + odds, ""):
                settings = {"test_hooks": bool(mutant), "mutant": mutant, "tail_check_s": 60}
                server = Server(
                    Config(port=0, store="valkey://h/0", drain_s=1, node=f"n{mutant[:1]}", **settings)
                )
                await server.start()
                stack.push_async_callback(server.stop)
                houses.append(House(server, await stack.enter_async_context(AsyncExitStack())))
            broken, honest = [await house.listener() for house in houses]
            ann = await houses[0].guest("ann")
            await sight(broker, ann)
            await ann.ask("publish", channel="room", message="last", data="last")
            assert told(await frames(honest)) == right
            seen = await frames(broken)
            if name == "double-fanout" and not odds:
                seen.append(await broken.read())
            assert told(seen) == (right if odds else wrong)
            metrics = houses[0].server.metrics
            assert bool(metrics.mutant_fired) == (not odds)
            assert metrics.mutant_chances

    asyncio.run(main())

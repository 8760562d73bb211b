"""The bus of a log in Valkey: what nodes hear of each other, and what a break looks like."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from chatd.store.base import Append, Dedupe, Retention, StoreUnavailable
from chatd.store.bus import Down, Event, Node, Placing, Telling, Up
from chatd.store.valkey.scripts import REGISTRY
from chatd.store.valkey.store import ValkeyStore
from tests.broker import Broker

KEEP_ALL = Retention(n=1_000_000, s=1e9, bytes=1 << 40)
NOW = 1_790_000_000_000


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("broker"))
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture(autouse=True)
def _empty(broker: Broker) -> None:
    broker.do("FLUSHALL")


def on_nodes(broker: Broker, count: int, scenario: Callable[..., Awaitable[None]]) -> None:
    """Run ``scenario`` with so many stores on one log."""

    async def main() -> None:
        stores = [ValkeyStore(broker.url, KEEP_ALL, Dedupe(300)) for _ in range(count)]
        for store in stores:
            await store.open()
        try:
            async with asyncio.timeout(30):
                await scenario(*stores)
        finally:
            for store in stores:
                await store.close()

    asyncio.run(main())


def publish(message: str, channel: str = "room") -> Append:
    return Append(channel, "ann", message, b'"hi"')


async def hear(events: AsyncIterator[Event], count: int) -> list[Event]:
    return [await anext(events) for _ in range(count)]


def serials(events: list[Event]) -> list[int]:
    return [event.entry.serial for event in events if isinstance(event, Placing)]


def test_all_nodes_that_joined_hear_what_any_node_places_as_the_log_has_it(broker: Broker) -> None:
    async def scenario(one: ValkeyStore, other: ValkeyStore) -> None:
        await one.bus.join(["room"])
        await other.bus.join(["room", "hall"])
        await one.append([publish("a"), publish("b", "hall"), publish("c")], NOW)
        await other.append(
            [publish("d"), publish("a"), Append("room", "bob", "e", b'"\xc3\xbc"', "edit", 1)], NOW
        )
        heard = await hear(one.bus.events(), 4)
        page = await one.read("room", 0, 10, 1 << 20)
        assert heard == [Placing("room", one.epoch, entry) for entry in page.entries]
        others = await hear(other.bus.events(), 5)
        assert [event for event in others if event.channel == "room"] == heard
        assert serials([event for event in others if event.channel == "hall"]) == [1]

    on_nodes(broker, 2, scenario)


def test_a_batch_too_large_for_one_event_is_heard_in_order(broker: Broker) -> None:
    async def scenario(store: ValkeyStore) -> None:
        await store.bus.join(["room"])
        large = [Append("room", "ann", f"{n}", b'"%b"' % (b"x" * 30_000)) for n in range(10)]
        await store.append(large, NOW)
        assert serials(await hear(store.bus.events(), 10)) == list(range(1, 11))

    on_nodes(broker, 1, scenario)


def test_a_channel_that_was_left_is_not_heard_and_can_be_joined_again(broker: Broker) -> None:
    async def scenario(store: ValkeyStore) -> None:
        await store.bus.join(["room", "hall"])
        await store.bus.leave(["room"])
        await store.append([publish("a"), publish("b", "hall")], NOW)
        events = store.bus.events()
        assert [event.channel for event in await hear(events, 1)] == ["hall"]
        for _ in range(20):  # the confirmations of one time are not taken for those of another
            await store.bus.join(["room"])
            await store.bus.leave(["room"])
        await asyncio.gather(store.bus.join(["room"]), store.bus.join(["room"]))
        await store.append([publish("c")], NOW)
        assert serials(await hear(events, 1)) == [2]

    on_nodes(broker, 1, scenario)


def test_what_is_told_is_heard_with_the_node_that_told_it(broker: Broker) -> None:
    async def scenario(one: ValkeyStore, other: ValkeyStore) -> None:
        await other.bus.join(["room"])
        await one.bus.tell("room", "n1", b"\0typing")
        assert await hear(other.bus.events(), 1) == [Telling("room", "n1", b"\0typing")]

    on_nodes(broker, 2, scenario)


@pytest.mark.parametrize("payload", [b"", b"P", b"P0123456789ab???", b"T", b"T\xff\xff", b"?"])
def test_what_no_node_has_written_is_left_out(broker: Broker, payload: bytes) -> None:
    async def scenario(one: ValkeyStore) -> None:
        await one.bus.join(["room"])
        broker.do("PUBLISH", one.bus.topic("room"), payload)
        await one.append([publish("a")], NOW)
        heard = one.bus.events()
        while not serials([event := await anext(heard)]):
            assert isinstance(event, Telling)

    on_nodes(broker, 1, scenario)


def test_a_node_of_another_version_is_no_reason_to_end(broker: Broker) -> None:
    async def scenario(one: ValkeyStore) -> None:
        me = Node("n1", "ws://n1", "up", 1, 10, 0.0, 0)
        stranger = msgspec.msgpack.encode({"name": "n2", "state": "asleep"})
        broker.do("HSET", REGISTRY, "n2", (1 << 62).to_bytes(8) + stranger)
        assert (await one.bus.heartbeat(me, 5.0)).nodes == [me]

    on_nodes(broker, 1, scenario)


def test_two_nodes_that_append_at_once_share_the_serials_and_hear_one_order(broker: Broker) -> None:
    async def scenario(one: ValkeyStore, other: ValkeyStore) -> None:
        async def appends(store: ValkeyStore, who: str) -> None:
            for n in range(50):
                await store.append([publish(f"{who}{n}.{m}") for m in range(4)], NOW)

        await one.bus.join(["room"])
        await other.bus.join(["room"])
        await asyncio.gather(appends(one, "a"), appends(other, "b"))
        heard = await hear(one.bus.events(), 400)
        assert serials(heard) == list(range(1, 401))
        assert await hear(other.bus.events(), 400) == heard
        assert {event.epoch for event in heard if isinstance(event, Placing)} == {one.epoch}

    on_nodes(broker, 2, scenario)


def test_a_lost_connection_is_told_and_mended_and_nothing_is_heard_twice(broker: Broker) -> None:
    async def scenario(store: ValkeyStore) -> None:
        await store.bus.join(["room"])
        events = store.bus.events()
        await store.append([publish("a"), publish("b")], NOW)
        assert serials(await hear(events, 1)) == [1]
        broker.do("CLIENT", "KILL", "TYPE", "pubsub")
        (second, down) = await hear(events, 2)
        assert (serials([second]), type(down)) == ([2], Down)
        with pytest.raises(StoreUnavailable):
            await store.bus.join(["hall"])
        await store.append([publish("unheard")], NOW)
        assert await hear(events, 1) == [Up()]
        await store.append([publish("c")], NOW)
        assert serials(await hear(events, 1)) == [4]

    on_nodes(broker, 1, scenario)


def test_a_reader_that_is_slow_makes_the_server_wait_and_loses_nothing(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatd.store.valkey.bus.QUEUE", 3)

    async def scenario(store: ValkeyStore) -> None:
        await store.bus.join(["room"])
        for n in range(40):
            await store.append([publish(f"{n}")], NOW)
        assert serials(await hear(store.bus.events(), 40)) == list(range(1, 41))

    on_nodes(broker, 1, scenario)


def test_large_pieces_make_the_server_wait_long_before_there_are_many(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as can pile up: nobody takes them, and what Valkey holds meanwhile is not counted here."""
    piece, most = 200_000, 1_000_000
    monkeypatch.setattr("chatd.store.valkey.bus.QUEUE_BYTES", most)

    async def scenario(store: ValkeyStore) -> None:
        bus = store.bus
        await bus.join(["room"])
        for _ in range(40):  # 8 MB
            broker.do("PUBLISH", bus.topic("room"), b"T\x02n1" + b"x" * (piece - 4))
        while bus.waiting_bytes < most:
            await store.tops(["room"])  # a round trip on another connection
        for _ in range(10):
            await store.tops(["room"])  # had it read on, that would be here
        assert most <= bus.waiting_bytes < most + piece + 2**18  # one piece, and what one read brings besides
        heard = await hear(bus.events(), 40)
        assert [len(event.payload) for event in heard if isinstance(event, Telling)] == [piece - 4] * 40
        assert bus.waiting_bytes == 0

    on_nodes(broker, 1, scenario)


def test_a_server_that_has_to_wait_may_break_off_and_the_log_has_what_went_unheard(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatd.store.valkey.bus.QUEUE_BYTES", 100_000)

    async def scenario(store: ValkeyStore) -> None:
        await store.bus.join(["room"])
        for n in range(20):
            await store.append([Append("room", "ann", f"{n}", b'"%b"' % (b"x" * 200_000))], NOW)
        while store.bus.waiting_bytes < 100_000:
            await store.tops(["room"])
        broker.do("CLIENT", "KILL", "TYPE", "pubsub")  # as it does when it would hold too much for a listener
        events, heard = store.bus.events(), []
        while not isinstance(event := await anext(events), Down):
            heard.append(event)
        assert serials(heard) == list(range(1, len(heard) + 1))
        assert await hear(events, 1) == [Up()]
        assert store.bus.waiting_bytes == 0
        page = await store.read("room", len(heard), 1000, 1 << 30)
        assert [entry.serial for entry in page.entries] == list(range(len(heard) + 1, 21))

    on_nodes(broker, 1, scenario)


def test_events_end_when_the_store_is_closed(broker: Broker) -> None:
    async def scenario(store: ValkeyStore) -> None:
        async def read() -> list[Event]:
            return [event async for event in store.bus.events()]

        reader = asyncio.create_task(read())
        await asyncio.sleep(0)
        await store.close()
        assert await reader == []
        with pytest.raises(StoreUnavailable):
            await store.read("room", 0, 1, 1)

    on_nodes(broker, 1, scenario)


def test_nodes_see_each_other_until_they_part_or_fall_silent(broker: Broker) -> None:
    async def scenario(one: ValkeyStore, other: ValkeyStore) -> None:
        first = Node("n1", "ws://a", "up", 3, 100, 0.001, NOW)
        second = Node("n2", "ws://b", "draining", 0, 100, 0.25, NOW)
        assert await one.bus.heartbeat(first, 60) == ([first], None)
        assert await other.bus.heartbeat(second, 60) == ([first, second], None)
        await other.bus.part("n2")
        assert await one.bus.heartbeat(first, 0.001) == ([first], first)
        while len(there := (await other.bus.heartbeat(second, 60)).nodes) > 1:
            pass  # 1 ms
        assert there == [second]
        assert broker.do("HKEYS", "chatd:nodes") == [b"n2"]

    on_nodes(broker, 2, scenario)


def test_a_node_hears_what_was_said_last_under_its_name(broker: Broker) -> None:
    async def scenario(one: ValkeyStore, other: ValkeyStore) -> None:
        first, second = (Node("n1", url, "up", 0, 100, 0.0, NOW) for url in ("ws://a", "ws://b"))
        await one.bus.heartbeat(first, 60)
        assert await other.bus.heartbeat(second, 60) == ([second], first)
        assert await one.bus.heartbeat(first, 60) == ([first], second)

    on_nodes(broker, 2, scenario)


def test_a_bus_that_is_silent_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatd.store.valkey.bus.PING_S", 0.05)
    monkeypatch.setattr("chatd.store.valkey.bus.PONG_S", 0.1)
    broker = Broker(tmp_path)
    broker.start()

    async def scenario(store: ValkeyStore) -> None:
        await store.bus.join(["room"])
        events = store.bus.events()
        broker.signal(signal.SIGSTOP)
        (down,) = await hear(events, 1)
        assert isinstance(down, Down)
        assert "nothing was heard" in down.why
        broker.signal(signal.SIGCONT)
        assert await hear(events, 1) == [Up()]

    try:
        on_nodes(broker, 1, scenario)
    finally:
        broker.kill()

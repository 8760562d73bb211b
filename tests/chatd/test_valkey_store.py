"""What only a log in Valkey promises: restarts, failovers and failures of a real server."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from chatd.store.base import (
    Append,
    Conflict,
    Dedupe,
    Duplicate,
    Placed,
    Retention,
    StoreUnavailable,
    StoreUncertain,
    StoreUnusable,
)
from chatd.store.bus import Down, Placing, Up
from chatd.store.valkey import link
from chatd.store.valkey.store import ValkeyStore
from chatd.stream import locate
from tests.broker import Broker

KEEP_ALL = Retention(n=1_000_000, s=1e9, bytes=1 << 40)
NOW = 1_790_000_000_000
Brokers = Callable[..., Broker]


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "RETRY_S", 0.0)


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[Brokers]:
    """Starts a server with these settings; all end with the test."""
    started: list[Broker] = []

    def start(**settings: str) -> Broker:
        broker = Broker(tmp_path / f"{len(started)}", **settings)
        started.append(broker)
        broker.start()
        return broker

    yield start
    for broker in started:
        broker.kill()


def with_store(
    url: str, scenario: Callable[[ValkeyStore], Awaitable[None]], retention: Retention = KEEP_ALL
) -> None:
    async def main() -> None:
        store = ValkeyStore(url, retention, Dedupe(300))
        try:
            async with asyncio.timeout(60):
                await store.open()
                await scenario(store)
        finally:
            await store.close()

    asyncio.run(main())


def publish(message: str, channel: str = "room", data: bytes = b'"hi"') -> Append:
    return Append(channel, "ann", message, data)


async def placed(store: ValkeyStore, messages: Sequence[str]) -> list[int]:
    outcomes = await store.append([publish(message) for message in messages], NOW)
    assert all(isinstance(outcome, Placed) for outcome in outcomes)
    return [outcome.serial for outcome in outcomes if isinstance(outcome, Placed)]


async def texts(store: ValkeyStore, channel: str = "room") -> list[str]:
    return [entry.message for entry in (await store.read(channel, 0, 1000, 1 << 30)).entries]


async def recovered(store: ValkeyStore) -> None:
    """Housekeeping, until the store is well again."""
    while not store.healthy:
        with suppress(StoreUnavailable):
            await store.trim(NOW)
        await asyncio.sleep(0)


# Restarts and failovers -----------------------------------------------------------------------------


def test_a_server_that_is_killed_loses_nothing_it_confirmed_and_goes_on_in_a_new_epoch(brokers) -> None:
    broker = brokers()

    async def scenario(store: ValkeyStore) -> None:
        confirmed: list[str] = []

        async def appends() -> None:
            while True:
                batch = [f"{len(confirmed) + n}" for n in range(10)]
                await placed(store, batch)
                confirmed.extend(batch)
                if len(confirmed) == 200:
                    midway.set()

        midway = asyncio.Event()
        writer = asyncio.create_task(appends())
        await midway.wait()
        first = store.epoch
        broker.kill()
        with pytest.raises((StoreUncertain, StoreUnavailable)):
            await writer
        assert not store.healthy
        broker.start()
        await recovered(store)
        assert (await texts(store))[: len(confirmed)] == confirmed
        (head,) = await store.tops(["room"])
        assert store.epoch == head.epoch != first
        assert head.lineage == ((first, 1), (head.epoch, head.top + 1))
        assert locate((first, 5), head).resumed
        assert (await store.append([publish("0")], NOW)) == [Duplicate(1, head.epoch)]
        assert (await store.append([publish("new")], NOW)) == [Placed(head.top + 1, NOW, head.epoch)]

    with_store(broker.url, scenario)


def test_a_replica_that_lags_and_takes_over_is_a_fork_at_the_last_serial_it_has(brokers) -> None:
    old, new = brokers(), brokers()
    new.follow(old)

    async def before(store: ValkeyStore) -> None:
        """WAIT says that the replica has all of this."""
        await placed(store, ["a", "b", "c"])

    async def scenario(store: ValkeyStore) -> None:
        await store.bus.join(["room"])
        events = store.bus.events()
        first = store.epoch
        new.do("REPLICAOF", "NO", "ONE")
        assert await placed(store, ["d", "e"]) == [4, 5]
        lost = [await anext(events), await anext(events)]
        old.kill()
        new.set("port", str(old.port))  # what a name or an address that moves would do
        assert [type(await anext(events)), type(await anext(events))] == [Down, Up]
        assert await store.append([publish("c"), publish("f")], NOW) == [
            Duplicate(3, store.epoch),
            Placed(4, NOW, store.epoch),
        ]
        assert await texts(store) == ["a", "b", "c", "f"]
        heard = await anext(events)
        assert isinstance(heard, Placing)
        assert (heard.epoch, heard.entry.serial) == (store.epoch, 4)
        assert {event.epoch for event in lost if isinstance(event, Placing)} == {first}
        (head,) = await store.tops(["room"])
        assert head.lineage[-2:] == ((first, 1), (store.epoch, 4))
        assert locate((first, 3), head).resumed
        start = locate((first, 5), head)
        assert start.gap is not None
        assert (start.serial, start.gap.why, start.gap.to) == (3, "fork", (store.epoch, 3))

    with_store(old.url + "?wait=1&timeout_s=10", before)
    with_store(old.url, scenario)


def test_a_server_that_lost_everything_begins_a_stream_that_nobody_can_take_for_the_old_one(brokers) -> None:
    broker = brokers(appendonly="no")

    async def scenario(store: ValkeyStore) -> None:
        assert store.durability == "memory"
        await placed(store, ["a", "b"])
        first = store.epoch
        broker.restart()
        await store.bus.events().__anext__()
        store.healthy = False
        await recovered(store)
        (head,) = await store.tops(["room"])
        assert (head.top, head.lineage) == (0, ((head.epoch, 1),))
        gap = locate((first, 2), head).gap
        assert gap is not None
        assert gap.why == "epoch"

    with_store(broker.url, scenario)


def test_a_chain_holds_the_last_eight_epochs_also_of_a_channel_that_is_only_read(brokers) -> None:
    broker = brokers()

    async def look(store: ValkeyStore) -> None:
        (head,) = await store.tops(["quiet"])
        assert head.epochs[-1] == (store.epoch, 1)
        seen.append(head.epochs)

    seen: list[list[tuple[str, int]]] = []
    for _ in range(10):
        with_store(broker.url, look)
        broker.restart()
    assert [len(epochs) for epochs in seen] == [1, 2, 3, 4, 5, 6, 7, 8, 8, 8]
    assert seen[-1][:-1] == seen[-2][1:]
    assert broker.do("PTTL", "chatd:log:quiet:at") > 0  # nobody ever published: it is not kept for ever


def test_a_channel_that_was_looked_at_first_is_kept_once_something_is_published(brokers) -> None:
    broker = brokers()

    async def scenario(store: ValkeyStore) -> None:
        await store.read("room", 0, 1, 1)
        await placed(store, ["a"])
        assert broker.do("PTTL", "chatd:log:room:at") == -1

    with_store(broker.url, scenario)


def test_a_message_id_is_known_to_every_node_and_after_a_restart(brokers) -> None:
    broker = brokers()

    async def first(store: ValkeyStore) -> None:
        await placed(store, ["a"])

    async def second(store: ValkeyStore) -> None:
        other = publish("a", data=b'"other"')
        assert await store.append([publish("a"), other], NOW) == [Duplicate(1, store.epoch), Conflict(1)]

    with_store(broker.url, first)
    with_store(broker.url, second)
    broker.restart()
    with_store(broker.url, second)


# Failures -------------------------------------------------------------------------------------------


def test_a_server_that_does_not_answer_leaves_the_outcome_open_and_a_retry_settles_it(brokers) -> None:
    broker = brokers()

    async def scenario(store: ValkeyStore) -> None:
        await placed(store, ["a"])
        broker.signal(signal.SIGSTOP)
        with pytest.raises(StoreUncertain, match=r"no answer within 1 s"):
            await store.append([publish("b")], NOW)
        with pytest.raises(StoreUnavailable):  # not even greeted: certainly nothing was written
            await store.append([publish("c")], NOW)
        assert not store.healthy
        broker.signal(signal.SIGCONT)
        await recovered(store)
        (outcome,) = await store.append([publish("b")], NOW)
        assert outcome == Duplicate(2, store.epoch)  # it had been read from the socket after all
        assert await texts(store) == ["a", "b"]

    with_store(broker.url + "?timeout_s=1", scenario)


def test_a_server_that_dies_with_a_batch_leaves_the_outcome_open(brokers) -> None:
    broker = brokers()

    async def scenario(store: ValkeyStore) -> None:
        await placed(store, ["a"])
        broker.signal(signal.SIGSTOP)
        appending = asyncio.create_task(store.append([publish("b")], NOW))
        await asyncio.sleep(0)
        broker.kill()
        with pytest.raises(StoreUncertain):
            await appending
        with pytest.raises(StoreUnavailable):
            await store.append([publish("c")], NOW)
        with pytest.raises(StoreUnavailable):
            await store.read("room", 0, 1, 1)
        with pytest.raises(StoreUnavailable):
            await store.trim(NOW)
        broker.start()
        await recovered(store)
        assert await placed(store, ["b"]) == [2]

    with_store(broker.url, scenario)


@pytest.mark.parametrize(
    ("setting", "bad", "good"),
    [
        pytest.param("maxmemory", "1", "0", id="out of memory"),
        pytest.param("min-replicas-to-write", "1", "0", id="too few replicas"),
    ],
)
def test_a_server_that_refuses_to_write_has_certainly_written_nothing(brokers, setting, bad, good) -> None:
    broker = brokers()

    async def scenario(store: ValkeyStore) -> None:
        await placed(store, ["a"])
        broker.set(setting, bad)
        with pytest.raises(StoreUnavailable):
            await store.append([publish("b"), publish("c", "hall")], NOW)
        assert not store.healthy
        with pytest.raises(StoreUnavailable):
            await store.trim(NOW)
        assert await texts(store) == ["a"]
        assert [head.top for head in await store.tops(["room", "new"])] == [1, 0]  # readers go on
        broker.set(setting, good)
        await store.trim(NOW)
        assert store.healthy
        assert await placed(store, ["b"]) == [2]

    with_store(broker.url, scenario)


def test_a_server_that_was_made_a_replica_is_left_until_it_is_the_primary_again(brokers) -> None:
    broker, other = brokers(), brokers()

    async def scenario(store: ValkeyStore) -> None:
        await placed(store, ["a"])
        broker.do("REPLICAOF", "127.0.0.1", other.port)
        with pytest.raises(StoreUnavailable):
            await store.append([publish("b")], NOW)
        with pytest.raises(StoreUnavailable, match="replica"):  # what it has may be old
            await store.read("room", 0, 1, 1)
        broker.do("REPLICAOF", "NO", "ONE")
        await recovered(store)
        await store.append([publish("b")], NOW)

    with_store(broker.url, scenario)


def test_a_batch_of_which_a_part_failed_is_uncertain_as_a_whole(brokers) -> None:
    broker = brokers()
    broker.do("SET", "chatd:log:broken", "no stream")

    async def scenario(store: ValkeyStore) -> None:
        with pytest.raises(StoreUncertain, match="WRONGTYPE"):
            await store.append([publish("a"), publish("b", "broken")], NOW)
        assert await store.append([publish("a")], NOW) == [Duplicate(1, store.epoch)]

    with_store(broker.url, scenario)


def test_a_server_that_forgot_the_scripts_is_given_them_again(brokers) -> None:
    broker = brokers()

    async def scenario(store: ValkeyStore) -> None:
        await placed(store, ["a"])
        broker.do("SCRIPT", "FLUSH")
        assert await store.append([publish("b"), publish("c", "hall")], NOW) == [
            Placed(2, NOW, store.epoch),
            Placed(1, NOW, store.epoch),
        ]
        broker.do("SCRIPT", "FLUSH")
        assert await texts(store) == ["a", "b"]

    with_store(broker.url + "?wait=0", scenario)


def test_with_wait_an_ack_means_that_a_replica_has_it_and_so_does_that_of_a_retry(brokers) -> None:
    primary, replica = brokers(), brokers()
    replica.follow(primary)

    async def reached(store: ValkeyStore) -> None:
        assert store.durability == "replicated"
        await placed(store, ["a"])
        primary.do("SCRIPT", "FLUSH")
        await placed(store, ["b"])
        assert replica.do("HGET", "chatd:log:room:at", "s") == b"2"

    async def alone(store: ValkeyStore) -> None:
        replica.signal(signal.SIGSTOP)
        with pytest.raises(StoreUncertain, match=r"0 of 1 replicas have it after 1 s"):
            await store.append([publish("c")], NOW)
        assert not store.healthy
        other = ValkeyStore(primary.url + "?wait=1&timeout_s=1", KEEP_ALL, Dedupe(300))
        await other.open()
        with pytest.raises(StoreUncertain):  # another connection, which has written nothing yet
            await other.append([publish("c")], NOW)
        await other.close()
        replica.signal(signal.SIGCONT)
        outcomes: list[object] = []
        while not outcomes:
            with suppress(StoreUncertain):
                outcomes += await store.append([publish("c")], NOW)
        assert outcomes == [Duplicate(3, store.epoch)]
        assert replica.do("HGET", "chatd:log:room:at", "s") == b"3"

    with_store(primary.url + "?wait=1&waitaof=1&timeout_s=10", reached)
    with_store(primary.url + "?wait=1&timeout_s=1", alone)


# Retention ------------------------------------------------------------------------------------------


def test_what_another_node_wrote_is_trimmed_too(brokers) -> None:
    broker, keep_two = brokers(), Retention(n=2, s=1e9, bytes=1 << 40)

    async def write(store: ValkeyStore) -> None:
        await placed(store, ["a", "b", "c"])

    async def trim(store: ValkeyStore) -> None:
        assert await store.trim(NOW) == {"room": 2}
        assert await texts(store) == ["b", "c"]

    with_store(broker.url, write, keep_two)
    with_store(broker.url, trim, keep_two)


def test_without_trims_a_channel_does_not_grow_without_bounds(brokers) -> None:
    broker = brokers()

    async def scenario(store: ValkeyStore) -> None:
        await placed(store, [f"{n}" for n in range(500)])
        (head,) = await store.tops(["room"])
        assert head.top - 300 < head.floor <= head.top - 10 + 1

    with_store(broker.url, scenario, Retention(n=10, s=1e9, bytes=1 << 40))


# Opening --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "durability"),
    [
        pytest.param({}, "fsync", id="appendfsync always"),
        pytest.param({"appendfsync": "everysec"}, "process", id="appendfsync everysec"),
        pytest.param({"no-appendfsync-on-rewrite": "yes"}, "process", id="not flushed during a rewrite"),
        pytest.param({"appendonly": "no"}, "memory", id="no file"),
    ],
)
def test_the_durability_is_what_the_server_is_set_to(brokers, settings, durability) -> None:
    broker = brokers()
    for name, value in settings.items():
        broker.set(name, value)

    async def scenario(store: ValkeyStore) -> None:
        assert store.durability == durability

    with_store(broker.url, scenario)


def test_a_server_that_keeps_less_than_was_promised_is_not_written_to(brokers) -> None:
    broker = brokers()

    async def scenario(store: ValkeyStore) -> None:
        await placed(store, ["a"])
        broker.set("appendfsync", "everysec")
        broker.do("CLIENT", "KILL", "TYPE", "normal")
        with pytest.raises((StoreUncertain, StoreUnavailable)):
            await store.append([publish("b")], NOW)
        with pytest.raises(StoreUnavailable, match="durability is process now"):
            await store.append([publish("b")], NOW)
        broker.set("appendfsync", "always")
        await recovered(store)

    with_store(broker.url, scenario)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param({"maxmemory_policy": "allkeys-lru"}, "must be noeviction", id="evicts"),
        pytest.param({"cluster_enabled": "yes"}, "must be one primary", id="cluster"),
        pytest.param({"requirepass": "secret"}, "NOAUTH", id="wants a password"),
        pytest.param({"replicaof": "127.0.0.1 1"}, "must be the primary", id="replica"),
    ],
)
def test_a_server_that_will_not_do_is_refused_in_one_line(brokers, settings, words) -> None:
    broker = brokers(**settings)

    async def scenario(store: ValkeyStore) -> None:
        raise AssertionError("it was opened")

    with pytest.raises(StoreUnusable) as caught:
        with_store(broker.url, scenario)
    assert f"store is '{broker.url}': " in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there_is_refused_with_what_to_do(brokers) -> None:
    broker = brokers()
    broker.kill()

    async def scenario(store: ValkeyStore) -> None:
        raise AssertionError("it was opened")

    with pytest.raises(StoreUnusable, match="start valkey-server there or give the address"):
        with_store(broker.url, scenario)


def test_a_password_comes_from_the_environment(brokers, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = brokers(requirepass="secret")

    async def scenario(store: ValkeyStore) -> None:
        await placed(store, ["a"])

    with pytest.raises(StoreUnusable, match=r"BROKER_PASSWORD of .* is not set"):
        with_store(broker.url + "?password_env=BROKER_PASSWORD", scenario)
    monkeypatch.setenv("BROKER_PASSWORD", "secret")
    with_store(broker.url + "?password_env=BROKER_PASSWORD", scenario)


def test_two_databases_of_one_server_are_two_logs_and_do_not_hear_each_other(brokers) -> None:
    broker = brokers()

    async def main() -> None:
        one = ValkeyStore(broker.url, KEEP_ALL, Dedupe(300))
        other = ValkeyStore(broker.url.replace("/0", "/1"), KEEP_ALL, Dedupe(300))
        for store in (one, other):
            await store.open()
            await store.bus.join(["room"])
        await placed(one, ["a", "b"])
        await placed(other, ["c"])
        heard = await anext(other.bus.events())
        assert isinstance(heard, Placing)
        assert heard.entry.message == "c"
        await one.close()
        await other.close()

    asyncio.run(main())

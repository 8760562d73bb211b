"""Real nodes on a real broker, killed, stopped and cut off: the failures that need several nodes.

PROTOCOL.md § Operations says what the client sees; here it is what a client saw.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from chatd.store.base import Append, Dedupe, Retention
from chatd.store.valkey.store import ValkeyStore
from tests.broker import HOST, Broker
from tests.chatd.house import Guest, serials
from tests.chatd.process import Daemon

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

Scenario = Callable[["Nodes"], Awaitable[None]]
PATIENCE_S = 30.0  # for what comes in the end; how soon it comes is asked nowhere here


class Wire:
    """A plain relay to the broker. ``hold``: nothing passes, and nobody is told."""

    def __init__(self, target: int) -> None:
        self.target = target
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        return f"valkey://{HOST}:{self.port}/0"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._open.wait()
            with suppress(OSError):
                there, away = await asyncio.open_connection(HOST, self.target)
                await self._join(reader, writer, there, away)
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _join(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        away: asyncio.StreamWriter,
    ) -> None:
        self._writers.add(away)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(reader, away))
                both.create_task(self._pass(there, writer))
        finally:
            self._writers.discard(away)
            away.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                await self._open.wait()
                writer.write(data)
        writer.close()

    def hold(self) -> None:
        self._open.clear()

    def pass_on(self) -> None:
        self._open.set()

    def switch(self, target: int) -> None:
        """What connects from now on comes to another server; what is open ends."""
        self.target = target
        for writer in self._writers:
            writer.close()

    async def close(self) -> None:
        self._server.close()
        self.switch(self.target)
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)


class Nodes:
    """Daemons on one broker, each behind a wire of its own, and their guests."""

    def __init__(self, broker: Broker, directory: Path, stack: AsyncExitStack) -> None:
        self.broker = broker
        self.directory = directory
        self.daemons: list[Daemon] = []
        self.wires: list[Wire] = []
        self._stack = stack

    async def start(self, *flags: str) -> Daemon:
        wire = Wire(self.broker.port)
        await wire.start()
        self._stack.push_async_callback(wire.close)
        self.wires.append(wire)
        name = f"n{len(self.wires)}"
        daemon = Daemon(self.directory / name)
        own = ["--store", f"{wire.url}?timeout_s=3", "--node", name, "--drain-s", "0"]
        own += ["--ping-s", "3600", "--pong-s", "3600"]  # nobody reads from a guest that waits for its turn
        await asyncio.to_thread(daemon.start, *own, *flags)
        self.daemons.append(daemon)
        return daemon

    async def guest(self, n: int, name: str, start: object | None = None) -> Guest:
        ws = await self._stack.enter_async_context(
            connect(
                f"ws://{HOST}:{self.daemons[n].port}/ws",
                subprotocols=["chatd.v1"],  # type: ignore[list-item]
                ping_interval=None,
                proxy=None,
            )
        )
        guest = Guest(ws)
        await guest.ask(
            "connect", client=name, subscribe=[] if start is None else [{"channel": "room", "from": start}]
        )
        assert (await guest.read())["type"] == "connected"
        return guest

    async def listener(self, n: int, name: str = "bob", start: object = "new") -> Guest:
        guest = await self.guest(n, name, start)
        await guest.until("live")
        return guest

    async def until_known(self, count: int) -> None:
        """Until the first node knows of so many."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                nodes = json.loads((await self.daemons[0].page("/nodes"))[1])
                if len(nodes) == count:
                    return
                await asyncio.sleep(0.1)

    async def figure(self, n: int, name: str) -> int:
        text = (await self.daemons[n].page("/metrics"))[1]
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(name + " "))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    one = Broker(tmp_path / "broker")
    one.start()
    yield one
    one.kill()


@pytest.fixture
def nodes(broker: Broker, tmp_path: Path) -> Callable[..., None]:
    """Runs ``scenario(nodes)`` with so many nodes."""

    def run(scenario: Scenario, count: int = 2) -> None:
        async def main() -> None:
            async with AsyncExitStack() as stack:
                town = Nodes(broker, tmp_path, stack)
                try:
                    for _ in range(count):
                        await town.start()
                    await scenario(town)
                finally:
                    for daemon in town.daemons:
                        if daemon.process is not None:
                            daemon.send(signal.SIGKILL)

        asyncio.run(main())

    return run


async def messages(guest: Guest, count: int) -> list[int]:
    """The serials of the next messages."""
    found: list[int] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(found) < count:
            with suppress(TimeoutError):
                found += serials([await guest.read()])
    return found


async def frames_to(guest: Guest, kind: str) -> list[dict[str, Any]]:
    """All up to and including the next of this type."""
    frames: list[dict[str, Any]] = []
    async with asyncio.timeout(PATIENCE_S):
        while not frames or frames[-1]["type"] != kind:
            with suppress(TimeoutError):
                frames.append(await guest.read())
    return frames


async def publish(guest: Guest, message: str) -> dict[str, Any]:
    """The ack. A broker that is busy for too long is asked again: the message is placed once all the same."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            request = await guest.ask("publish", channel="room", message=message, data="x")
            answer: dict[str, Any] = {}
            while answer.get("id") != request:
                with suppress(TimeoutError):
                    answer = await guest.read()
            if answer["type"] == "ack":
                return answer
            assert answer["temporary"], answer


async def wait_for(guest: Guest, kind: str) -> dict[str, Any]:
    return (await frames_to(guest, kind))[-1]


@pytest.mark.parametrize(
    "moment", ["die-before-commit", "die-after-commit", "die-before-fanout", "die-mid-fanout"]
)
def test_a_node_that_dies_at_any_moment_of_a_publish_costs_no_message_and_makes_no_second(
    nodes, moment
) -> None:
    async def scenario(town: Nodes) -> None:
        mortal = await town.start("--test-hooks", "--mutant", moment)
        here, there = await town.listener(1), await town.listener(0)
        writer = await town.guest(1, "ann")
        await writer.ask("publish", channel="room", message="m", data="x")
        assert mortal.process is not None
        assert await mortal.ended() == -signal.SIGKILL
        again = await town.guest(0, "ann")
        ack = await publish(again, "m")
        assert ack["position"][1] == 1
        assert ack["duplicate"] == (moment != "die-before-commit")
        await publish(again, "next")
        assert await messages(there, 2) == [1, 2]
        seen = 0
        with suppress(Exception):
            seen = max(await messages(here, 1))
        back = await town.guest(0, "bob", [ack["position"][0], seen])
        assert serials(await back.until("live")) == list(range(seen + 1, 3))

    nodes(scenario, count=1)


def test_a_node_that_stood_still_longer_than_its_place_in_the_registry_delivers_in_order(nodes) -> None:
    async def scenario(town: Nodes) -> None:
        guest, writer = await town.listener(1), await town.guest(0, "ann")
        await publish(writer, "0")
        await town.until_known(2)
        town.daemons[1].signal(signal.SIGSTOP)
        await publish(writer, "1")
        await town.until_known(1)
        last = (await publish(writer, "last"))["position"][1]
        town.daemons[1].signal(signal.SIGCONT)
        assert await messages(guest, last) == list(range(1, last + 1))
        assert await town.figure(1, "chatd_bus_doubts_total") >= 1

    nodes(scenario)


def test_a_broker_that_restarts_with_all_it_had_costs_nothing(nodes) -> None:
    async def scenario(town: Nodes) -> None:
        guests = [await town.listener(n) for n in (0, 1)]
        writer = await town.guest(0, "ann")
        await publish(writer, "1")
        await publish(writer, "2")
        await asyncio.to_thread(town.broker.restart)
        before = [await frames_to(guest, "reset") for guest in guests]
        for reset in (frames[-1] for frames in before):
            assert reset["fork"] == reset["position"][1] == 2
        await town.daemons[0].until_ready(200)
        ack = await publish(writer, "3")
        assert ack["position"] == [before[0][-1]["position"][0], 3]
        # The broker may die before a node heard of a message that is acked: it comes after the reset then.
        for guest, frames in zip(guests, before, strict=True):
            seen = serials(frames)
            assert seen + await messages(guest, 3 - len(seen)) == [1, 2, 3]

    nodes(scenario)


def test_a_node_that_is_cut_off_says_so_and_goes_on_when_it_is_back(nodes) -> None:
    async def scenario(town: Nodes) -> None:
        guest, cut_off, writer = (
            await town.listener(1),
            await town.guest(1, "dan"),
            await town.guest(0, "ann"),
        )
        await publish(writer, "1")
        assert await messages(guest, 1) == [1]
        town.wires[1].hold()
        await cut_off.ask("publish", channel="room", message="d", data="x")
        error = await wait_for(cut_off, "error")
        assert (error["code"], error["temporary"]) in ((503, True), (504, True))
        await town.daemons[1].until_ready(503)
        for number in (2, 3):
            assert (await publish(writer, str(number)))["position"][1] == number
        town.wires[1].pass_on()
        await town.daemons[1].until_ready(200)
        ack = await publish(cut_off, "d")
        last = (await publish(writer, "last"))["position"][1]
        assert await messages(guest, last - 1) == list(range(2, last + 1))
        assert ack["position"][1] < last

    nodes(scenario)


def test_a_lost_bus_is_mended_and_nothing_is_missing(nodes) -> None:
    async def scenario(town: Nodes) -> None:
        guests = [await town.listener(n) for n in (0, 1)]
        writer = await town.guest(0, "ann")
        for number in range(10):
            town.broker.do("CLIENT", "KILL", "TYPE", "pubsub")
            await publish(writer, str(number))
        for guest in guests:
            assert await messages(guest, 10) == list(range(1, 11))

    nodes(scenario)


def test_the_last_message_of_a_burst_is_found_though_the_bus_never_told_of_it(nodes, monkeypatch) -> None:
    async def scenario(town: Nodes) -> None:
        guests = [await town.listener(n) for n in (0, 1)]
        store = ValkeyStore(town.broker.url, Retention(n=1000, s=1e6, bytes=1 << 30), Dedupe(300))
        monkeypatch.setattr(store.bus, "topic", lambda channel: "nobody")
        await store.open()
        found, placed = [0, 0], 0
        while not all(found):  # a node that stood still for a moment has read the log before it looked
            placed += 1
            append = Append("room", "ann", f"silent{placed}", b"1")
            await store.append([append], time.time_ns() // 1_000_000)
            for n, guest in enumerate(guests):
                assert await messages(guest, 1) == [placed]
                found[n] = await town.figure(n, "chatd_tail_found_total")
                assert found[n] <= placed
        await store.close()

    nodes(scenario)


def has_all(replica: Broker, primary: Broker) -> bool:
    """Whether it has what the primary has of the room, the epoch that began with it too."""
    states = [one.do("HMGET", "chatd:log:room:at", "s", "c") for one in (replica, primary)]
    return states[0] == states[1] and primary.info("master_replid")[:12] in str(states[1])


def test_a_failover_to_a_replica_that_lags_declares_what_was_acked_and_is_lost(nodes, tmp_path) -> None:
    async def scenario(town: Nodes) -> None:
        guests = [await town.listener(n) for n in (0, 1)]
        writer = await town.guest(0, "ann")
        await publish(writer, "1")
        replica.do("REPLICAOF", HOST, town.broker.port)
        async with asyncio.timeout(PATIENCE_S):
            while not has_all(replica, town.broker):
                await publish(writer, "2")  # again: the broker's first replica began an epoch
        replica.do("REPLICAOF", "NO", "ONE")
        acked = [(await publish(writer, str(number)))["position"] for number in (3, 4)]
        for guest in guests:
            assert await messages(guest, 4) == [1, 2, 3, 4]
        town.broker.kill()
        for wire in town.wires:
            wire.switch(replica.port)
        for guest in guests:
            reset = await wait_for(guest, "reset")
            assert reset["fork"] == 2
        assert [position for position in acked if position[1] > reset["fork"]] == acked
        await town.daemons[0].until_ready(200)
        assert (await publish(writer, "3"))["position"] == [reset["position"][0], 3]
        for guest in guests:
            assert await messages(guest, 1) == [3]
        late = await town.guest(1, "cyd", acked[-1])
        (answer, *frames) = await late.until("live")
        assert answer["gap"]["why"] == "fork"
        assert answer["gap"]["to"] == [reset["position"][0], 2]
        assert serials(frames) == [3]

    replica = Broker(tmp_path / "replica")
    replica.start()
    try:
        nodes(scenario)
    finally:
        replica.kill()


def test_a_full_log_refuses_publishes_and_serves_the_rest(nodes) -> None:
    async def scenario(town: Nodes) -> None:
        guest, writer = await town.listener(1), await town.guest(0, "ann")
        await publish(writer, "1")
        town.broker.set("maxmemory", "1")
        await writer.ask("publish", channel="room", message="2", data="x")
        error = await wait_for(writer, "error")
        assert (error["code"], error["temporary"]) == (503, True)
        await town.daemons[0].until_ready(503)
        reader = await town.guest(1, "cyd", "first")
        assert serials(await reader.until("live")) == [1]
        town.broker.set("maxmemory", "0")
        await town.daemons[0].until_ready(200)
        assert (await publish(writer, "2"))["position"][1] == 2
        assert await messages(guest, 2) == [1, 2]

    nodes(scenario)

"""Nodes without sockets or clocks on the log of shared_store.py, and clients that believe nothing.

Each node has the real hub, joins, sessions and relay. Its sleeps end when the test says so, and what it hears
and reads comes when the test says so. A client checks every frame against what the log held in that epoch.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Coroutine
from typing import Any

from chatd.connection import Connection
from chatd.effects import Subscription, Terms
from chatd.flush import Flusher, Outlet
from chatd.framing import CLOSE, TEXT, unframe
from chatd.hub import Hub
from chatd.joins import Joins
from chatd.metrics import Metrics
from chatd.protocol.messages import Contract, HistoryRequest, Limits, Notice, PresenceRequest, Write
from chatd.relay import Relay
from chatd.session import Session
from chatd.slow import SlowConsumers
from chatd.store.base import Append
from chatd.wheel import Wheel
from tests.chatd.shared_store import Broker, SharedStore

TERMS = Terms(
    "n",
    Contract(
        profile="effectively-once",
        echo=True,
        durability="fsync",
        retain_n=1000,
        retain_s=1e6,
        retain_bytes=1 << 30,
        dedupe_s=300.0,
    ),
    Limits(frame_bytes=65536, channels=100),
    25.0,
    8.0,
    (500, 30_000),
)
TURNS = 40  # of the loop, after which nothing moves any more without the test


class Node:
    """Contract: ``Daemon`` (chatd/connection.py). To be made, and used, while a loop runs."""

    def __init__(self, broker: Broker) -> None:
        self.store = SharedStore(broker)
        self.store.bus.mends_itself = False
        self.metrics = Metrics()
        self.flusher = Flusher(self._schedule, lambda: 0.0, self._overflow, self.metrics)
        self.wheel = Wheel[Connection](step_s=1.0, now=0.0)
        self.clock = lambda: 0.0
        self.hub = Hub(self.flusher)
        self.slow = SlowConsumers(self.hub, 30.0)
        self.joins = Joins(self.store, self.hub, self.spawn, self.slow.caught_up)
        self.relay = self.joins.relay = Relay(
            self.store,
            self.store.bus,
            self.hub,
            self.spawn,
            tail_check_s=1.0,
            wall_ms=lambda: 0,
            sleep=self._sleep,
        )
        self.errors: list[BaseException] = []
        self.connections: dict[Outlet, Connection] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sleepers: list[asyncio.Future[None]] = []
        for work in (self.relay.listen(), self.relay.mend(), self.relay.look()):
            self.spawn(work)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.errors.append(error)

    def _schedule(self, delay_s: float, call: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(call)

    def _overflow(self, outlet: Outlet) -> None:
        self.connections[outlet].overflow()

    async def _sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append(future)
        await future

    def time_passes(self) -> None:
        """Every sleep is over."""
        sleepers, self._sleepers = self._sleepers, []
        for future in sleepers:
            if not future.done():
                future.set_result(None)

    def cut_off(self) -> None:
        self.store.reachable = False
        self.store.bus.break_off()

    def heal(self) -> None:
        self.store.reachable = True
        self.store.bus.mend()

    def close(self) -> None:
        self.store.close_now()
        for task in self._tasks:
            task.cancel()

    # Daemon -----------------------------------------------------------------------------------------

    def append(self, connection: Connection, request: Write, append: Append) -> None:
        raise AssertionError("the test appends")

    def join(self, connection: Connection, subscription: Subscription) -> None:
        self.joins.join(connection, subscription)

    def leave(self, connection: Connection, channel: str) -> None:
        self.hub.leave(channel, connection.outlet)

    def read(self, connection: Connection, request: HistoryRequest) -> None:
        self.joins.read(connection, request)

    def share(self, connection: Connection, request: PresenceRequest | Notice) -> None: ...

    def depart(self, connection: Connection, channel: str) -> None: ...

    def blocked(self, connection: Connection) -> None:
        self.slow.blocked(connection, self.joins, 0.0)

    def unblocked(self, connection: Connection) -> None:
        self.slow.unblocked(connection)

    def ended(self, connection: Connection) -> None:
        self.slow.unblocked(connection)
        self.connections.pop(connection.outlet, None)

    def hanging_up(self, connection: Connection, code: int, reason: str) -> None: ...


class Truth:
    """What may be said of a channel: who was where in which epoch, and what was trimmed."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    def fork(self, channel: str, old: str, new: str) -> int:
        """The last serial that two epochs have in common."""
        first, second = (self.broker.branches.get((channel, epoch), {}) for epoch in (old, new))
        serial = 0
        while serial + 1 in first and first.get(serial + 1) == second.get(serial + 1):
            serial += 1
        return serial

    def has(self, channel: str, epoch: str, frame: dict[str, Any]) -> bool:
        entry = self.broker.branches[channel, epoch].get(frame["serial"])
        return entry is not None and entry.message == frame["message"]

    def was_floor(self, channel: str, serial: int) -> bool:
        return serial in self.broker.logs[channel].floors


class Client:
    """One subscriber of one channel. ``position``: where it is, whatever node it is at."""

    def __init__(self, truth: Truth, channel: str) -> None:
        self.truth = truth
        self.channel = channel
        self.position: tuple[str, int] | None = None
        self.connection: Connection | None = None
        self.subscribed = self.live = self.asking = False
        self.seen = 0  # messages
        self.resets = 0
        self._request = 0
        self._waiting: list[bytes] = []
        self.blocked = False

    # Link -------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        self._waiting.append(data)

    @property
    def buffered(self) -> int:
        return 0

    def hang_up(self) -> None: ...

    def abort(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    # By the test ------------------------------------------------------------------------------------

    def come(self, node: Node, rng: random.Random) -> None:
        self.go()
        session = Session(TERMS, 0.0, user="u", first_ping_s=1.0)
        self.connection = Connection(node, self, session)
        node.connections[self.connection.outlet] = self.connection
        self._request = 1
        self._say({"type": "connect", "id": 1})
        self.subscribe(rng.choice(["first", "new", {"last": 2}]))

    def subscribe(self, start: object) -> None:
        if self.connection is not None and not self.subscribed and not self.asking:
            self.asking = True
            self._request += 1
            start = self.position or start
            self._say({"type": "subscribe", "id": self._request, "channel": self.channel, "from": start})

    def _say(self, frame: dict[str, Any]) -> None:
        assert self.connection is not None
        self.connection.received(json.dumps(frame).encode())

    def go(self) -> None:
        """The connection breaks; what was written is read before."""
        self.read()
        if self.connection is not None:
            self.connection.lost()
        self._gone()

    def _gone(self) -> None:
        self.connection = None
        self.subscribed = self.live = self.blocked = self.asking = False
        self._waiting.clear()

    def block(self) -> None:
        if self.connection is not None and not self.blocked:
            self.blocked = True
            self.connection.blocked()

    def unblock(self) -> None:
        if self.connection is not None and self.blocked:
            self.blocked = False
            self.connection.unblocked()

    # What it gets -----------------------------------------------------------------------------------

    def read(self) -> None:
        waiting, self._waiting = self._waiting, []
        for data in waiting:
            for opcode, payload in unframe(data):
                if opcode == TEXT and payload != b"{}":
                    self._take(json.loads(payload))
                elif opcode == CLOSE:
                    assert int.from_bytes(payload[:2], "big") == 4007, payload
                    assert self.connection is not None
                    self.connection.lost()
                    self._gone()
                    return

    def _take(self, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "subscribed":
                self._subscribed(frame)
            case "message":
                assert self.position is not None
                epoch, serial = self.position
                assert frame["serial"] == serial + 1, (self.position, frame)
                assert self.truth.has(self.channel, epoch, frame), (self.position, frame)
                self.position = epoch, serial + 1
                self.seen += 1
            case "live":
                assert tuple(frame["position"]) == self.position, (self.position, frame)
                self.live = True
            case "gap":
                assert tuple(frame["from"]) == self.position
                assert frame["why"] in ("trimmed", "lag")
                assert self.truth.was_floor(self.channel, frame["to"][1] + 1), frame
                self.position = tuple(frame["to"])
            case "reset":
                self._reset(frame)
            case "error":
                self.asking = False
                assert (frame["code"], frame["temporary"]) == (503, True)
            case kind:
                assert kind == "connected", frame

    def _subscribed(self, frame: dict[str, Any]) -> None:
        self.subscribed, self.asking = True, False
        epoch, start = frame["position"][0], frame["start"]
        if self.position is not None:
            old, serial = self.position
            fork = serial if old == epoch else self.truth.fork(self.channel, old, epoch)
            if frame["resumed"]:
                assert start == serial <= fork, (self.position, frame)
            else:
                gap = frame["gap"]
                assert gap["from"] == [old, serial]
                assert gap["to"] == [epoch, start]
                if gap["why"] == "fork":
                    assert serial > fork
                    assert start == fork or self.truth.was_floor(self.channel, start + 1)
                else:  # a live log never loses its end without another epoch
                    assert gap["why"] in ("trimmed", "epoch"), frame
                    assert start == 0 or self.truth.was_floor(self.channel, start + 1)
        self.position = epoch, start

    def _reset(self, frame: dict[str, Any]) -> None:
        assert self.position is not None
        assert self.subscribed
        (old, serial), new = self.position, frame["position"][0]
        assert old != new
        assert frame["fork"] == self.truth.fork(self.channel, old, new), (self.position, frame)
        assert frame["epochs"][-1][0] == new
        self.position = new, min(serial, frame["fork"])
        self.resets += 1


async def settle() -> None:
    """Until nothing moves any more by itself."""
    for _ in range(TURNS):
        await asyncio.sleep(0)

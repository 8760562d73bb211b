"""A log that several nodes share, in memory: what chatd/store/bus.py promises, and what may go wrong.

``Broker`` is the one server; each node has a ``SharedStore`` of its own on it. Tests lose events, break
a node's bus, cut a node off, hold its reads, and let the broker fail over to an older state.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Sequence

from chatd.store.base import (
    Append,
    Conflict,
    Duplicate,
    Durability,
    Entry,
    Head,
    Outcome,
    Page,
    Placed,
    StoreUnavailable,
    judge,
)
from chatd.store.bus import Beat, Down, Event, Node, Placing, Telling, Up

KEPT_EPOCHS = 8


class Log:
    """One channel. ``entries[n]`` has serial n + 1, trimmed ones too."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.floor = 1
        self.floors = {1}  # that it ever had
        self.chain: list[tuple[str, int]] = []  # the epochs in which it was touched

    def touch(self, epoch: str) -> None:
        if not self.chain or self.chain[-1][0] != epoch:
            self.chain.append((epoch, len(self.entries) + 1))

    @property
    def head(self) -> Head:
        return Head(self.chain[-1][0], len(self.entries), self.floor, tuple(self.chain[-KEPT_EPOCHS:]))

    def move_floor(self, floor: int) -> None:
        self.floor = floor
        self.floors.add(floor)

    def cut(self, top: int) -> None:
        """As it was when it had ``top`` entries."""
        del self.entries[top:]
        self.move_floor(min(self.floor, top + 1))
        self.chain = [(epoch, first) for epoch, first in self.chain if first <= top + 1]


class Broker:
    """The server that all nodes share. ``branches``: what each epoch had at each serial, for good."""

    def __init__(self) -> None:
        self.life = 1
        self.up = True
        self.logs: dict[str, Log] = {}
        self.branches: dict[tuple[str, str], dict[int, Entry]] = {}  # (channel, epoch) → serial → entry
        self.registry: dict[str, Node] = {}
        self.stores: list[SharedStore] = []
        self.loses: Callable[[SharedStore, Placing], bool] = lambda store, placing: False

    @property
    def epoch(self) -> str:
        return f"E{self.life}"

    def log(self, channel: str) -> Log:
        log = self.logs.setdefault(channel, Log())
        log.touch(self.epoch)
        self._record(channel, log)
        return log

    def _record(self, channel: str, log: Log) -> None:
        branch = self.branches.setdefault((channel, self.epoch), {})
        for entry in log.entries[len(branch) :]:
            branch[entry.serial] = entry

    def place(self, append: Append, now_ms: int = 0) -> Outcome:
        log = self.log(append.channel)
        for entry in log.entries:
            if (entry.user, entry.message) == (append.user, append.message):
                same = (entry.kind, entry.to, entry.data) == (append.kind, append.to, append.data)
                return Duplicate(entry.serial, self.epoch) if same else Conflict(entry.serial)
        if append.to:
            target = log.entries[append.to - 1] if log.floor <= append.to <= len(log.entries) else None
            if refused := judge(append, None if target is None else (target.user, target.kind)):
                return refused
        serial = len(log.entries) + 1
        entry = Entry(serial, now_ms, append.user, append.message, append.data, append.kind, append.to)
        log.entries.append(entry)
        self._record(append.channel, log)
        self.announce(Placing(append.channel, self.epoch, entry))
        return Placed(serial, now_ms, self.epoch)

    def announce(self, placing: Placing) -> None:
        for store in self.stores:
            if not self.loses(store, placing):
                store.bus.hear(placing.channel, placing)

    def trim(self, channel: str, floor: int) -> None:
        log = self.log(channel)
        log.move_floor(max(log.floor, min(floor, len(log.entries) + 1)))

    # What goes wrong --------------------------------------------------------------------------------

    def fail_over(self, tops: dict[str, int] | None = None) -> None:
        """Another server takes over, which has of each channel only this many; of others all."""
        for channel, top in (tops or {}).items():
            if channel in self.logs:
                self.logs[channel].cut(top)
        self.life += 1
        for store in self.stores:
            store.bus.break_off("failover")

    def lose_everything(self) -> None:
        for log in self.logs.values():
            log.cut(0)
            log.chain.clear()
        self.fail_over()


class SharedStore:
    """Contract: chatd/store/base.py. ``reachable``: whether this node reaches the broker at all."""

    durability: Durability = "fsync"

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.bus = SharedBus(self)
        self.reachable = True
        self.healthy = True
        self.reads = 0  # round trips, those of ``tops`` included
        self.holding = False  # reads get their answers, which are those of now, when ``let_go`` is called
        self._held: list[asyncio.Future[None]] = []
        broker.stores.append(self)

    @property
    def epoch(self) -> str:
        return self.broker.epoch

    def check(self) -> None:
        if not (self.reachable and self.broker.up):
            raise StoreUnavailable("no answer")

    def let_go(self, *, newest: bool = False) -> None:
        """Answer all reads that wait, or the newest of them alone."""
        held = self._held[-1:] if newest else [*self._held]
        del self._held[len(self._held) - len(held) :]
        for future in held:
            if not future.done():
                future.set_result(None)

    async def _answer(self) -> None:
        self.reads += 1
        if self.holding:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._held.append(future)
            await future
        self.check()

    async def open(self) -> None:
        self.check()

    async def append(self, batch: Sequence[Append], now_ms: int) -> list[Outcome]:
        self.healthy = self.reachable and self.broker.up
        self.check()
        return [self.broker.place(append, now_ms) for append in batch]

    async def read(self, channel: str, after: int, limit: int, max_bytes: int) -> Page:
        self.check()
        log = self.broker.log(channel)
        begin = max(after, log.floor - 1)
        found: list[Entry] = []
        for entry in log.entries[begin : begin + limit]:
            found.append(entry)
            if sum(len(one.data) for one in found) >= max_bytes:
                break
        head = log.head
        await self._answer()
        return Page(head.epoch, head.top, head.floor, found, head.lineage)

    async def tops(self, channels: Sequence[str]) -> list[Head]:
        self.check()
        heads = [self.broker.log(channel).head for channel in channels]
        await self._answer()
        return heads

    async def trim(self, now_ms: int) -> dict[str, int]:
        self.check()
        self.healthy = True
        return {}

    async def close(self) -> None:
        self.close_now()

    def close_now(self) -> None:
        self.bus.close()


class SharedBus:
    """Contract: chatd/store/bus.py. ``waiting``: what was told and not heard yet."""

    def __init__(self, store: SharedStore) -> None:
        self.store = store
        self.joined: set[str] = set()
        self.waiting: deque[Event] = deque()
        self.connected = True
        self.mends_itself = True
        self.let_through: int | None = None  # how many events may be heard before it is raised again
        self._news = asyncio.Event()
        self._over = False

    # By the test ------------------------------------------------------------------------------------

    def hear(self, channel: str, event: Event) -> None:
        if self.connected and self.store.reachable and channel in self.joined:
            self.waiting.append(event)
            self._news.set()

    def break_off(self, why: str = "broken") -> None:
        if self.connected:
            self.connected = False
            self.waiting.append(Down(why))
            self._news.set()
        if self.mends_itself:
            self.mend()

    def mend(self) -> None:
        if not self.connected and self.store.reachable and self.store.broker.up:
            self.connected = True
            self.waiting.append(Up())
            self._news.set()

    def allow(self, count: int | None) -> None:
        """So many events more may be heard; None: all."""
        self.let_through = None if count is None else (self.let_through or 0) + count
        self._news.set()

    def close(self) -> None:
        self._over = True
        self._news.set()

    # By the node ------------------------------------------------------------------------------------

    @property
    def waiting_bytes(self) -> int:
        return sum(len(event.payload) for event in self.waiting if isinstance(event, Telling))

    async def join(self, channels: Collection[str]) -> None:
        self.store.check()
        if not self.connected:
            raise StoreUnavailable("the bus is down")
        self.joined |= set(channels)

    async def leave(self, channels: Collection[str]) -> None:
        self.joined -= set(channels)

    async def tell(self, channel: str, node: str, payload: bytes) -> None:
        self.store.check()
        for store in self.store.broker.stores:
            store.bus.hear(channel, Telling(channel, node, payload))

    async def events(self) -> AsyncIterator[Event]:
        while not self._over:
            self._news.clear()
            while self.waiting and self.let_through != 0:
                if self.let_through is not None:
                    self.let_through -= 1
                yield self.waiting.popleft()
            if not self._over:
                await self._news.wait()

    async def heartbeat(self, node: Node, ttl_s: float) -> Beat:
        self.store.check()
        registry = self.store.broker.registry
        before = registry.get(node.name)
        registry[node.name] = node
        return Beat([registry[name] for name in sorted(registry)], before)

    async def part(self, node: str) -> None:
        self.store.broker.registry.pop(node, None)

"""Virtual time, the wire, and the records: what is neither the server's nor a client's.

A ``World`` is a queue of things to happen. A ``Link`` is one connection; frames on it keep their order.
When it breaks, what is on its way down still arrives until the client sees the end, and what is on its way
up until the server does: so publishes of which nobody learned the outcome are placed late, or never.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, Protocol

from reports.history import GapReason, Kind
from tests.builders import MS, T0, Message

from .params import LOAD_NS, Params

Row = tuple[int, int, int, int, int, int, int, int, int, int]  # the fields of RECORD


Lineage = tuple[tuple[int, int], ...]  # [epoch, its first serial], oldest first


class Peer(Protocol):
    """What reads the frames of one link."""

    def welcome(self) -> None: ...
    def acked(self, channel: int, message: Message, epoch: int, serial: int, dup: bool) -> None: ...
    def nacked(self, channel: int, message: Message, code: int, definite: bool) -> None: ...
    def subscribed(
        self, channel: int, start: int, stream: Lineage, resumed: bool, gap: GapReason | None, floor: int
    ) -> None: ...
    def live(self, channel: int, serial: int) -> None: ...
    def received(self, channel: int, serial: int, message: Message) -> None: ...
    def gap(self, channel: int, first: int, last: int, why: GapReason) -> None: ...
    def unsubscribed(self, channel: int) -> None: ...
    def reset(self, channel: int, epoch: int, fork: int) -> None: ...
    def closed(self) -> None: ...


@dataclass(slots=True, eq=False)
class Cursor:
    """The server's side of one subscription."""

    next: int  # serial
    live: bool = False


@dataclass(slots=True, eq=False)
class Link:
    """One connection. Each end learns of its end for itself."""

    client: int
    peer: Peer
    wire: bool = True  # what is sent now arrives
    swallows: bool = False  # nothing arrives any more, and nobody is told
    client_open: bool = True
    server_open: bool = True
    up_t: int = 0
    down_t: int = 0
    stalled: bool = False  # the server holds back what goes down
    cursors: dict[int, Cursor] = field(default_factory=dict)


class World:
    """The clock and the queue. Deterministic: all chance is ``rng``'s."""

    def __init__(self, seed: int, params: Params) -> None:
        self.params = params
        self.rng = random.Random(seed)
        self.now = T0
        self.logs: dict[int, list[Row]] = {worker: [] for worker in range(len(params.skew_ns))}
        self.faults: list[dict[str, Any]] = []
        self.seen: Counter[str] = Counter()  # features
        self._queue: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0
        self._grid, self._latency = params.grid_ns, params.latency_ns
        self._workers = len(params.skew_ns) - 1

    # ── time ──────────────────────────────────────────────────────────────────────────────────

    def at(self, t: int, act: Callable[..., None], *args: Any) -> None:
        self._count += 1
        heappush(self._queue, (t, self._count, act, args))

    def later(self, wait_ns: int, act: Callable[..., None], *args: Any) -> None:
        self.at(self.now + wait_ns, act, *args)

    def run(self, until: int) -> None:
        queue = self._queue
        while queue and queue[0][0] <= until:
            self.now, _, act, args = heappop(queue)
            act(*args)

    def some_time(self, begin: int = T0, end: int = LOAD_NS) -> int:
        """A time, often close to others: things that meet are what goes wrong."""
        if self.rng.random() < 0.5:
            center = begin + (end - begin) * self.rng.randint(1, 6) // 7
            return min(end, max(begin, center + int(self.rng.gauss(0, 1) * 150 * MS)))
        return self.rng.randint(begin, end)

    def chance(self, share: float) -> bool:
        return share > 0 and self.rng.random() < share

    def saw(self, feature: str) -> None:
        self.seen[feature] += 1

    # ── the wire ──────────────────────────────────────────────────────────────────────────────

    def latency(self) -> int:
        return 20_000 + int(self.rng.random() * self._latency)

    def up(self, link: Link, act: Callable[..., None], *args: Any) -> None:
        """A request: ``act(link, *args)`` when it gets to the server."""
        if not link.wire or link.swallows:
            return
        t = self.now + self.latency()
        if link.client and self.chance(self.params.busy):
            t += int(self.rng.random() * 3 * self.params.ack_timeout_ns)
            self.saw("a request waits long")
        link.up_t = t = max(t, link.up_t + 1)
        self.at(t, self._reach, link, act, args)

    def _reach(self, link: Link, act: Callable[..., None], args: tuple[Any, ...]) -> None:
        if link.server_open and not link.swallows:
            act(link, *args)

    def down(self, link: Link, act: Callable[..., None], *args: Any) -> None:
        """A frame: ``act(*args)`` when the client reads it."""
        if not link.wire or link.swallows:
            return
        t = max(self.now + self.latency(), link.down_t)
        if self._grid:
            t = -(-t // self._grid) * self._grid
            if t == link.down_t:
                self.saw("frames read together")
        link.down_t = t
        self.at(t, self._arrive, link, act, args)

    def _arrive(self, link: Link, act: Callable[..., None], args: tuple[Any, ...]) -> None:
        if link.client_open and not link.swallows:
            act(*args)

    # ── records ───────────────────────────────────────────────────────────────────────────────

    def put(
        self,
        kind: Kind,
        client: int,
        *,
        t2: int = 0,
        channel: int = 0,
        publisher: int = 0,
        pub_seq: int = 0,
        serial: int = 0,
        epoch: int = 0,
        flags: int = 0,
    ) -> None:
        """A record of now, by the clock of the client's worker."""
        worker = 1 + (client - 1) % self._workers if client else 0
        skew = self.params.skew_ns[worker]
        self.logs[worker].append(
            (
                self.now + skew,
                t2 + skew if t2 >= T0 else t2,
                client,
                channel,
                publisher,
                pub_seq,
                serial,
                epoch,
                int(kind),
                int(flags),
            )
        )

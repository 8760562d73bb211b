"""How nodes hear of each other: PUBLISH and SUBSCRIBE, and one hash in which each says that it is there.

One connection listens. Nothing runs beside the reader of ``events``: it is the one that notices a break,
dials again with backoff and asks again for what is joined.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import suppress
from itertools import chain
from struct import error as StructError
from typing import Final

import msgspec

from ...logs import log
from ..base import StoreUnavailable
from ..bus import Beat, Down, Event, Node, Telling, Up
from .link import Link, greeting
from .records import unpack_event
from .resp import Command, NotSent, Reply, ReplyError, Wire, dial
from .scripts import NODES, REGISTRY
from .url import Address

PING_S: Final = 1.0  # of silence, after which the connection is asked whether it still is one
PONG_S: Final = 3.0  # for the answer
BACKOFF_S: Final = (0.1, 2.0)  # before dialling again: at first, at most
# What was heard and not yet taken, before Valkey has to wait. It keeps 32 MiB for a listener by default
# (client-output-buffer-limit) and then breaks off; the log has what went unheard. Here at most half as much
# again is held, and the one piece that crosses the line. By pieces alone, 10,000 messages of the default
# `frame_bytes` would be 640 MB.
QUEUE: Final = 10_000  # pieces; of small ones each costs more than its bytes
QUEUE_BYTES: Final = 16 * 2**20  # of their payloads
TOPICS: Final = 1000  # in one command

_encode_node = msgspec.msgpack.Encoder().encode
_decode_node = msgspec.msgpack.Decoder(Node).decode


class Ear:
    """One connection that listens: what it heard, and which topics are confirmed."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.wire = Wire(self._hear, self._end)
        self.heard: deque[tuple[str, bytes]] = deque()  # channel, payload
        self.heard_bytes = 0  # of these payloads
        self.pending: dict[str, deque[asyncio.Future[None]]] = {}  # channel → confirmations, in order
        self.why: str | None = None  # it is over
        self.news = asyncio.Event()  # something was heard, or it is over
        self._held = False

    def _hear(self, reply: Reply) -> None:
        self.news.set()
        if isinstance(reply, ReplyError):
            self.why = self.why or str(reply)
            self.wire.abort()
            return
        if not isinstance(reply, list):
            return  # of the greeting
        kind = reply[0]
        if kind == b"message":
            self.heard.append((reply[1].decode()[len(self._prefix) :], reply[2]))
            self.heard_bytes += len(reply[2])
            full = len(self.heard) >= QUEUE or self.heard_bytes >= QUEUE_BYTES
            if full and not self._held:
                self._held = True
                self.wire.hold(True)
        elif kind == b"subscribe":
            channel = reply[1].decode()[len(self._prefix) :]
            future = self.pending[channel].popleft()
            if not self.pending[channel]:
                del self.pending[channel]
            if not future.done():
                future.set_result(None)

    def _end(self, why: str) -> None:
        self.why = self.why or why
        for future in chain.from_iterable(self.pending.values()):
            if not future.done():
                future.set_exception(StoreUnavailable(f"the bus broke: {self.why}"))
                future.exception()  # whoever asked may have gone
        self.pending.clear()
        self.news.set()

    def take(self) -> Iterator[tuple[str, bytes]]:
        while self.heard:
            channel, payload = self.heard.popleft()
            self.heard_bytes -= len(payload)
            yield channel, payload
        if self._held:
            self._held = False
            self.wire.hold(False)

    def subscribe(self, channels: Collection[str]) -> list[asyncio.Future[None]]:
        """Ask for channels; returns the confirmations. Raises ``StoreUnavailable``."""
        loop = asyncio.get_running_loop()
        try:
            self.wire.send(list(self._commands("SUBSCRIBE", list(channels))))
        except NotSent as bad:
            raise StoreUnavailable(f"the bus is down: {bad}") from None
        confirmations = []
        for name in channels:
            future = loop.create_future()
            self.pending.setdefault(name, deque()).append(future)
            confirmations.append(future)
        return confirmations

    def unsubscribe(self, channels: Collection[str]) -> None:
        with suppress(NotSent):
            self.wire.send(list(self._commands("UNSUBSCRIBE", list(channels))))

    def _commands(self, verb: str, names: list[str]) -> Iterator[Command]:
        for first in range(0, len(names), TOPICS):
            yield (verb, *(self._prefix + name for name in names[first : first + TOPICS]))


class ValkeyBus:
    """Contract: chatd/store/bus.py.

    Args:
        link: for commands; the listening connection is the bus's own.
    """

    def __init__(self, address: Address, password: str, link: Link) -> None:
        self._address = address
        self._password = password
        self._link = link
        self._prefix = f"chatd:{address.db}:"  # topics, unlike keys, are those of all databases
        self._joined: set[str] = set()
        self._ear: Ear | None = None
        self._over = asyncio.Event()

    def topic(self, channel: str) -> str:
        return self._prefix + channel

    @property
    def waiting_bytes(self) -> int:
        return self._ear.heard_bytes if self._ear is not None else 0

    # Hearing ----------------------------------------------------------------------------------------

    async def dial(self) -> None:
        """Listen, to what is joined already. Raises ``StoreUnavailable``."""
        address, ear = self._address, Ear(self._prefix)
        try:
            await dial(ear.wire, address.host, address.port, tls=address.tls, timeout_s=address.timeout_s)
            ear.wire.send([*greeting(address, self._password), ("PING",)])
            asked = set(self._joined)
            await _all(ear.subscribe(asked), address.timeout_s)
        except NotSent as bad:
            raise StoreUnavailable(f"{address.place} does not answer: {bad}") from None
        except StoreUnavailable:
            ear.wire.abort()
            raise
        self._ear = ear
        if left := asked - self._joined:
            ear.unsubscribe(left)

    async def join(self, channels: Collection[str]) -> None:
        ear = self._ear
        if ear is None or ear.why is not None:
            raise StoreUnavailable("the bus is down")
        fresh = [name for name in channels if name not in self._joined]
        waits = [ear.pending[name][-1] for name in channels if name in self._joined & ear.pending.keys()]
        self._joined.update(fresh)
        try:
            await _all([*waits, *ear.subscribe(fresh)], self._address.timeout_s)
        except BaseException:
            self._joined.difference_update(fresh)
            raise

    async def leave(self, channels: Collection[str]) -> None:
        names = [name for name in channels if name in self._joined]
        self._joined.difference_update(names)
        if self._ear is not None and names:
            self._ear.unsubscribe(names)

    async def events(self) -> AsyncIterator[Event]:
        attempt = 0
        while not self._over.is_set():
            ear = self._ear
            if ear is not None:
                async for event in self._listen(ear):
                    attempt = 0
                    yield event
                self._ear = None
                if self._over.is_set():
                    return
                yield Down(ear.why or "the connection was closed")
            await self._pause(attempt)
            attempt += 1
            with suppress(StoreUnavailable):
                await self.dial()
                yield Up()

    async def _listen(self, ear: Ear) -> AsyncIterator[Event]:
        """What is heard on one connection until it ends, which it does too when it does not answer."""
        silent_s = 0.0
        while True:
            ear.news.clear()
            for channel, payload in ear.take():
                if channel in self._joined:
                    for event in _read(channel, payload):
                        yield event
            if ear.why is not None:
                return
            try:
                async with asyncio.timeout(PING_S if silent_s == 0 else PONG_S):
                    await ear.news.wait()
                silent_s = 0.0
            except TimeoutError:
                if silent_s:
                    ear.why = f"nothing was heard for {silent_s + PONG_S:g} s"
                    ear.wire.abort()
                    return
                silent_s = PING_S
                with suppress(NotSent):
                    ear.wire.send([("PING",)])

    async def _pause(self, attempt: int) -> None:
        first_s, most_s = BACKOFF_S
        longest_s = min(most_s, first_s * 2**attempt)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), random.uniform(first_s / 2, longest_s))

    async def close(self) -> None:
        self._over.set()
        if self._ear is not None:
            self._ear.wire.abort()
            await self._ear.wire.closed.wait()

    # Telling ----------------------------------------------------------------------------------------

    async def tell(self, channel: str, node: str, payload: bytes) -> None:
        name = node.encode()
        await self._link.ask([("PUBLISH", self.topic(channel), b"T%c%b%b" % (len(name), name, payload))])

    async def heartbeat(self, node: Node, ttl_s: float) -> Beat:
        ((before, *there),) = await self._link.ask(
            [NODES.run([REGISTRY], node.name, _encode_node(node), int(ttl_s * 1000))]
        )
        said = next(_nodes([before] if before else []), None)
        return Beat(sorted(_nodes(there), key=lambda one: one.name), said)

    async def part(self, node: str) -> None:
        with suppress(StoreUnavailable):
            await self._link.ask([("HDEL", REGISTRY, node)])


async def _all(confirmations: Collection[asyncio.Future[None]], timeout_s: float) -> None:
    if not confirmations:
        return
    try:
        async with asyncio.timeout(timeout_s):
            for confirmation in confirmations:
                await asyncio.shield(confirmation)
    except TimeoutError:
        raise StoreUnavailable(f"the bus did not answer within {timeout_s:g} s") from None


def _read(channel: str, payload: bytes) -> list[Event]:
    """Anybody may publish to a topic: what no node has written is logged and left out. Was it one, the
    log has what it said."""
    try:
        if payload[:1] == b"P":
            return list(unpack_event(channel, payload, 1))
        end = 2 + payload[1]
        return [Telling(channel, payload[2:end].decode(), payload[end:])]
    except (IndexError, UnicodeDecodeError, StructError) as bad:
        log("bad_event", level="error", channel=channel, reason=str(bad))
        return []


def _nodes(values: Collection[bytes]) -> Iterator[Node]:
    """Those that can be read: a node of another version may say of itself what this one does not know."""
    for value in values:
        try:
            yield _decode_node(value)
        except msgspec.MsgspecError as bad:
            log("bad_node", level="error", reason=str(bad))

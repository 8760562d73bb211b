"""The store that several nodes share: a Valkey or Redis server keeps the log and gives out the serials.

A batch is one round trip: one script a channel (``lua/append.lua``), all in one write. Appends have a
connection of their own, so that no read waits behind them and they wait behind none.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final

from ..base import (
    Append,
    Conflict,
    Dedupe,
    Duplicate,
    Durability,
    Head,
    Outcome,
    Page,
    Placed,
    Refused,
    Retain,
    StoreUnavailable,
    StoreUncertain,
    StoreUnusable,
)
from .broker import Broker, weaker
from .bus import ValkeyBus
from .link import REFUSALS, RETRY_S, Link, Loading
from .records import pack_request, read_chain, remembered_as, unpack_stored
from .resp import Command, NoReply, NotSent, Reply, ReplyError
from .scripts import APPEND, CHANNELS, PROBE, READ, TOPS, TRIM, log_keys
from .url import read_url

TRIM_CHANNELS: Final = 500  # that were written to, looked at in one trim
SWEEP_CHANNELS: Final = 100  # of all others: the node that wrote to them may be gone
PROBE_MS: Final = 60_000


class ValkeyStore:
    """Contract: chatd/store/base.py. ``url``: chatd/store/valkey/url.py."""

    def __init__(self, url: str, retention: Retain, dedupe: Dedupe) -> None:
        self.epoch = ""
        self.healthy = True
        self.durability: Durability = "memory"  # until ``open`` knows better
        self._address = address = read_url(url)
        self._retention = retention
        self._dedupe_ms = max(1, int(dedupe.ttl_ms))
        password = os.environ.get(address.password_env, "") if address.password_env else ""
        self._writes = Link(address, password, self._check)
        self._reads = Link(address, password, self._check)
        self.bus = ValkeyBus(address, password, self._reads)
        self._open = False
        self._dirty: dict[str, None] = {}  # channels to trim, the longest waiting first
        self._cursor = 0  # of the sweep through all channels

    # Opening and closing ----------------------------------------------------------------------------

    async def open(self) -> None:
        address = self._address
        if address.password_env and address.password_env not in os.environ:
            raise StoreUnusable(
                f"store is {address.place!r}: the environment variable {address.password_env} of"
                " ?password_env is not set"
            )
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + address.timeout_s
        while True:
            try:
                await self._writes.wire()
                await self._reads.wire()
                await self.bus.dial()
                self._open = True
                return
            except StoreUnavailable as bad:
                if not isinstance(bad, Loading) or loop.time() > deadline_s:
                    why = f"{bad}; start valkey-server there or give the address of one"
                    raise StoreUnusable(f"store is {address.place!r}: {why}") from None
            await asyncio.sleep(RETRY_S)

    def _check(self, broker: Broker) -> None:
        """Of every server that is dialled: the first says what is promised, the others have to keep it."""
        durability = broker.durability(self._address)
        if (refused := broker.refused()) is not None:
            if not self._open:
                raise StoreUnusable(f"store is {self._address.place!r}: {refused}")
            raise StoreUnavailable(f"{self._address.place}: {refused}")
        if not self._open:
            self.durability = durability
        elif weaker(durability, self.durability):
            why = f"its durability is {durability} now, and acks were promised to mean {self.durability}"
            raise StoreUnavailable(f"{self._address.place}: {why}")
        self.epoch = broker.epoch

    async def close(self) -> None:
        await self.bus.close()
        await self._writes.close()
        await self._reads.close()

    # Appending --------------------------------------------------------------------------------------

    async def append(self, batch: Sequence[Append], now_ms: int) -> list[Outcome]:
        groups: dict[str, list[int]] = {}
        for index, append in enumerate(batch):
            groups.setdefault(append.channel, []).append(index)
        commands = [
            self._command(name, [batch[index] for index in indices], now_ms)
            for name, indices in groups.items()
        ]
        try:
            replies = await self._commit(commands)
        except (StoreUnavailable, StoreUncertain):
            self.healthy = False
            raise
        self.healthy = True
        outcomes: list[Outcome | None] = [None] * len(batch)
        for (name, indices), (chain, time, *codes) in zip(groups.items(), replies, strict=True):
            self.epoch = epoch = read_chain(chain)[-1][0]
            for index, code in zip(indices, codes, strict=True):
                outcomes[index] = _outcome(code, epoch, time)
            self._dirty[name] = None
        return [outcome for outcome in outcomes if outcome is not None]

    def _command(self, channel: str, appends: Sequence[Append], now_ms: int) -> Command:
        address = self._address
        return APPEND.run(
            [*log_keys(channel), CHANNELS, *map(remembered_as, appends)],
            channel,
            self.bus.topic(channel),
            now_ms,
            self._retention.of(channel).n,
            self._dedupe_ms,
            int(bool(address.wait or address.waitaof)),
            *map(pack_request, appends),
        )

    async def _commit(self, commands: Sequence[Command]) -> list[Reply]:
        """The replies to ``commands``, when what they wrote is as durable as promised."""
        then, timeout_s = self._waits(), self._address.timeout_s
        wire = await self._writes.wire()
        try:
            replies = await self._writes.run(wire, commands, then, timeout_s=timeout_s * (1 + len(then)))
        except NotSent as bad:
            raise StoreUnavailable(f"{self._address.place} does not answer: {bad}") from None
        except NoReply as bad:
            raise StoreUncertain(f"{self._address.place} did not answer: {bad}") from None
        errors = [reply for reply in replies if isinstance(reply, ReplyError)]
        for error in errors:
            self._writes.judge(error)
        placing = replies[: len(commands)]
        if placing and all(isinstance(reply, ReplyError) and reply.code in REFUSALS for reply in placing):
            raise StoreUnavailable(f"{self._address.place} says: {errors[0]}")
        if errors:
            raise StoreUncertain(f"{self._address.place} says: {errors[0]}")
        self._waited(replies[len(commands) :])
        return placing

    def _waits(self) -> list[Command]:
        address, timeout_ms = self._address, int(self._address.timeout_s * 1000)
        commands: list[Command] = []
        if address.wait:
            commands.append(("WAIT", address.wait, timeout_ms))
        if address.waitaof:
            commands.append(("WAITAOF", 0, address.waitaof, timeout_ms))
        return commands

    def _waited(self, replies: Sequence[Reply]) -> None:
        """Raises ``StoreUncertain``: the primary has it, and too few replicas are known to."""
        wanted = [number for number in (self._address.wait, self._address.waitaof) if number]
        for number, reply in zip(wanted, replies, strict=True):
            reached = reply[1] if isinstance(reply, list) else reply
            if reached < number:
                raise StoreUncertain(
                    f"{self._address.place}: {reached} of {number} replicas have it after"
                    f" {self._address.timeout_s:g} s"
                )

    # Reading ----------------------------------------------------------------------------------------

    async def read(self, channel: str, after: int, limit: int, max_bytes: int) -> Page:
        keep_ms = self._keep_ms(channel)
        (reply,) = await self._reads.ask(
            [READ.run(log_keys(channel), max(0, after), max(0, limit), max_bytes, keep_ms)]
        )
        chain, top, floor, *rest = reply
        lineage = read_chain(chain)
        self.epoch = lineage[-1][0]
        entries = [unpack_stored(serial, raw) for serial, raw in zip(rest[::2], rest[1::2], strict=True)]
        return Page(self.epoch, top, floor, entries, lineage)

    async def tops(self, channels: Sequence[str]) -> list[Head]:
        if not channels:
            return []
        keys = [key for channel in channels for key in log_keys(channel)]
        (reply,) = await self._reads.ask([TOPS.run(keys, max(map(self._keep_ms, channels)))])
        heads = []
        for chain, top, floor in zip(reply[::3], reply[1::3], reply[2::3], strict=True):
            lineage = read_chain(chain)
            self.epoch = lineage[-1][0]
            heads.append(Head(self.epoch, top, floor, lineage))
        return heads

    def _keep_ms(self, channel: str) -> int:
        """How long a channel that nobody publishes to is known: as long as messages would be."""
        return max(1, min(int(self._retention.of(channel).s * 1000), 1 << 50))

    # Housekeeping -----------------------------------------------------------------------------------

    async def trim(self, now_ms: int) -> dict[str, int]:
        if not self.healthy:
            await self._writes.ask([("SET", PROBE, now_ms, "PX", PROBE_MS)])
            self.healthy = True
        names = list(islice(self._dirty, TRIM_CHANNELS))
        ((cursor, found),) = await self._reads.ask(
            [("SSCAN", CHANNELS, self._cursor, "COUNT", SWEEP_CHANNELS)]
        )
        names += [name for raw in found if (name := raw.decode()) not in self._dirty]
        replies = await self._reads.ask([self._trim(name, now_ms) for name in names])
        self._cursor = int(cursor)
        for name in names:
            self._dirty.pop(name, None)
        return {name: floor for name, floor in zip(names, replies, strict=True) if floor}

    def _trim(self, channel: str, now_ms: int) -> Command:
        keep = self._retention.of(channel)
        oldest_ms = max(0, int(now_ms - keep.s * 1000))
        return TRIM.run(log_keys(channel), keep.n, oldest_ms, keep.bytes)


_REFUSED: Final[Mapping[int, Outcome]] = {3: Refused("target"), 4: Refused("author")}


def _outcome(code: int, epoch: str, time: int) -> Outcome:
    """What ``append.lua`` says of one message. A message that was placed in an earlier epoch and is
    still known is part of this one too, at the same serial."""
    serial, kind = divmod(code, 8)
    if kind == 0:
        return Placed(serial, time, epoch)
    if kind == 1:
        return Duplicate(serial, epoch)
    return Conflict(serial) if kind == 2 else _REFUSED[kind]

"""A store that forgets everything when the process ends. Its epoch is new at every start."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from ..stream import Stream
from .base import (
    Append,
    Conflict,
    Dedupe,
    Duplicate,
    Durability,
    Entry,
    Head,
    Outcome,
    Page,
    Placed,
    Retain,
    content,
    identity,
    judge,
)


class MemoryStore:
    """Contract: chatd/store/base.py. An ack means no more than that this process has the message."""

    durability: Durability = "memory"
    bus = None
    healthy = True

    def __init__(self, retention: Retain, dedupe: Dedupe) -> None:
        self.epoch = secrets.token_hex(6)
        self._retention = retention
        self._dedupe = dedupe
        self._streams: dict[str, Stream[Entry]] = {}
        self._time = 0

    async def open(self) -> None:
        pass

    async def append(self, batch: Sequence[Append], now_ms: int) -> list[Outcome]:
        self._time = max(self._time, now_ms)
        outcomes = [self._place(append) for append in batch]
        self._dedupe.commit(self._time)
        return outcomes

    def _place(self, append: Append) -> Outcome:
        key = identity(append.channel, append.user, append.message)
        digest = content(append.kind, append.to, append.data)
        if (found := self._dedupe.find(key)) is not None:
            return Duplicate(found.serial) if found.digest == digest else Conflict(found.serial)
        stream = self._streams.get(append.channel)
        if append.to and (refused := judge(append, _target(stream, append.to))) is not None:
            return refused
        if stream is None:
            stream = self._streams[append.channel] = Stream(self._retention.of(append.channel))
        time = self._time
        entry = Entry(stream.top + 1, time, append.user, append.message, append.data, append.kind, append.to)
        stream.append(entry, len(append.data), time)
        self._dedupe.stage(key, entry.serial, digest)
        return Placed(entry.serial, time)

    async def read(self, channel: str, after: int, limit: int, max_bytes: int) -> Page:
        stream = self._streams.get(channel)
        if stream is None:
            return Page(self.epoch, 0, 1, [])
        return Page(self.epoch, stream.top, stream.floor, stream.after(after, limit, max_bytes))

    async def tops(self, channels: Sequence[str]) -> list[Head]:
        heads = []
        for channel in channels:
            stream = self._streams.get(channel)
            top, floor = (0, 1) if stream is None else (stream.top, stream.floor)
            heads.append(Head(self.epoch, top, floor))
        return heads

    async def trim(self, now_ms: int) -> dict[str, int]:
        return {name: stream.floor for name, stream in self._streams.items() if stream.trim(now_ms)}

    async def close(self) -> None:
        pass


def _target(stream: Stream[Entry] | None, serial: int) -> tuple[str, str] | None:
    if stream is None or not stream.floor <= serial <= stream.top:
        return None
    (entry,) = stream.after(serial - 1, 1, 1)
    return entry.user, entry.kind

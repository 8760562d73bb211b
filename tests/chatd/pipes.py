"""A whole daemon whose sockets are values: no network, no waiting."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from chatd.config import Config
from chatd.connection import Connection
from chatd.server import Server
from chatd.transports.websocket import HIGH_WATER_BYTES
from tests.chatd.reader import split


class Pipe:
    """A socket whose peer reads when it is told to. Contract: ``Link`` (chatd/transports/base.py)."""

    def __init__(self, *, endless: bool = False) -> None:
        self.endless = endless
        self.sent = b""  # written by the daemon, taken by the kernel or not
        self.buffered = 0
        self.most = 0  # that ever waited in user space
        self.reading = True
        self.aborted = False
        self.full = False
        self.peer: Connection

    def write(self, data: bytes) -> None:
        self.sent += data
        if not self.endless:
            self.buffered += len(data)
            self.most = max(self.most, self.buffered + self.peer.outlet.held_bytes)
            if self.buffered > HIGH_WATER_BYTES and not self.full:
                self.full = True
                self.peer.blocked()

    def drain(self, size: int) -> None:
        self.buffered -= min(size, self.buffered)
        if self.full and self.buffered <= HIGH_WATER_BYTES // 4:
            self.full = False
            self.peer.unblocked()

    def hang_up(self) -> None: ...

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def ask(self, number: int, kind: str, **fields: object) -> None:
        self.peer.received(json.dumps({"type": kind, "id": number, **fields}).encode())

    @property
    def frames(self) -> list[dict[str, Any]]:
        return [json.loads(payload) for _, payload, _ in split(self.sent) if payload != b"{}"]


class Model:
    """A whole daemon with a store in memory and pipes in place of sockets."""

    def __init__(self, **options: Any) -> None:
        self.server = Server(Config(**{"store": "memory", "ping_s": 3600, **options}), rng=random.Random(1))
        self.publisher = self.pipe(endless=True)
        self.number = 0

    def pipe(self, **options: bool) -> Pipe:
        pipe = Pipe(**options)
        pipe.peer = self.server.accept(pipe)
        return pipe

    def publish(self, channel: str, size: int) -> None:
        self.number += 1
        self.publisher.ask(
            self.number, "publish", channel=channel, message=f"m{self.number}", data="x" * size
        )

    async def settle(self) -> None:
        """Let everything happen that needs no time."""
        for _ in range(30):
            self.server.flusher.flush()
            await asyncio.sleep(0)

    async def trim(self) -> None:
        self.server.hub.trimmed(await self.server.store.trim(0))


def run_model(scenario: Callable[[Model], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        model = Model(**options)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("chatd.server.TRANSPORTS", {})
            await model.server.start()
        model.publisher.ask(0, "connect", client="ann")
        try:
            await scenario(model)
        finally:
            for connection in list(model.server.connections.values()):
                connection.lost()
            await model.server.stop()
        assert not model.server.failed

    asyncio.run(main())

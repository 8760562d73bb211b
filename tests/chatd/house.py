"""A daemon in the test's own process, and guests that talk to it over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from chatd.server import Server

Scenario = Callable[["House"], Awaitable[None]]


class Guest:
    """A client that only observes."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.id = 0

    async def ask(self, kind: str, **fields: Any) -> int:
        self.id += 1
        if "from_" in fields:
            fields["from"] = fields.pop("from_")
        await self.ws.send(json.dumps({"type": kind, "id": self.id, **fields}))
        return self.id

    async def read(self) -> dict[str, Any]:
        """The next frame; pings are answered."""
        while True:
            async with asyncio.timeout(20):
                text = await self.ws.recv()
            if text != "{}":
                frame: dict[str, Any] = json.loads(text)
                return frame
            await self.ws.send("{}")

    async def until(self, kind: str) -> list[dict[str, Any]]:
        """All frames up to and including the next of this type."""
        frames = [await self.read()]
        while frames[-1]["type"] != kind:
            frames.append(await self.read())
        return frames

    async def publish(self, message: str, channel: str = "room", data: object = "x") -> dict[str, Any]:
        await self.ask("publish", channel=channel, message=message, data=data)
        return (await self.until("ack"))[-1]

    async def closed(self) -> int:
        try:
            async with asyncio.timeout(20):
                while True:
                    await self.ws.recv()
        except ConnectionClosed:
            return self.ws.close_code or 0


class House:
    """A server, and whoever comes."""

    def __init__(self, server: Server, stack: AsyncExitStack) -> None:
        self.server = server
        self._stack = stack

    async def guest(self, name: str = "ann", *, channels: object = (), **options: Any) -> Guest:
        ws = await self._stack.enter_async_context(
            connect(self.server.url, subprotocols=["chatd.v1"], ping_interval=None, proxy=None, **options)  # type: ignore[list-item]
        )
        guest = Guest(ws)
        await guest.ask("connect", client=name, subscribe=channels)
        assert (await guest.read())["type"] == "connected"
        return guest

    async def listener(self, name: str = "bob", start: object = "new", channel: str = "room") -> Guest:
        guest = await self.guest(name, channels=[{"channel": channel, "from": start}])
        await guest.until("live")
        return guest

    async def get(self, path: str) -> tuple[int, str]:
        reader, writer = await self.raw()
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        return int(head.split()[1]), body

    async def raw(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        port = int(self.server.url.rsplit(":", 1)[1].split("/")[0])
        return await asyncio.open_connection("127.0.0.1", port)


def serials(frames: list[dict[str, Any]]) -> list[int]:
    return [frame["serial"] for frame in frames if frame["type"] == "message"]

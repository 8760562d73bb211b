"""A raw WebSocket client that reads when it is told to, for tests of slow consumers and of processes."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, ClassVar

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
Frame = dict[str, Any]


def masked(payload: bytes, opcode: int = 1) -> bytes:
    size = len(payload)
    head = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    key = os.urandom(4)
    return bytes([0x80 | opcode]) + head + key + bytes(b ^ key[i % 4] for i, b in enumerate(payload))


def split(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Each whole server frame in ``data``: opcode, payload, where it ends."""
    at = 0
    while len(data) >= at + 2:
        size, head = data[at + 1], 2
        if size == 126:
            size, head = int.from_bytes(data[at + 2 : at + 4], "big"), 4
        elif size == 127:
            size, head = int.from_bytes(data[at + 2 : at + 10], "big"), 10
        if len(data) < at + head + size:
            return
        yield data[at] & 15, data[at + head : at + head + size], at + head + size
        at += head + size


class Reader(asyncio.Protocol):
    """One client. ``frames``: what it has read; ``code``: the close frame's code. Pings are
    answered. ``everybody``: those that are to be hung up after the test."""

    everybody: ClassVar[list[Reader]] = []

    def __init__(self) -> None:
        self.everybody.append(self)
        self.frames: list[Frame] = []
        self.times: list[float] = []  # when each was read, by the loop's clock
        self.code: int | None = None
        self.made = asyncio.Event()
        self.lost = asyncio.Event()
        self.pongs = True
        self._data = b""
        self._upgraded = False
        self._news = asyncio.Event()
        self.pings = 0
        self._id = 0
        self._transport: asyncio.Transport

    @classmethod
    async def dial(
        cls,
        port: int,
        name: str = "reader",
        *,
        receive_bytes: int | None = None,
        tls: ssl.SSLContext | None = None,
        **wishes: object,
    ) -> Reader:
        """Connect; ``wishes`` are channels and where to start in them."""
        sock = socket.socket()
        if receive_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", port))
        host = {"ssl": tls, "server_hostname": "127.0.0.1"} if tls is not None else {}
        _, reader = await loop.create_connection(cls, sock=sock, **host)  # type: ignore[arg-type]
        await reader.made.wait()
        subscribe = [{"channel": channel, "from": start} for channel, start in wishes.items()]
        reader.ask("connect", client=name, subscribe=subscribe)
        await reader.until(lambda: reader.count("live") + reader.count("connected") > len(wishes))
        return reader

    @classmethod
    async def upgrade_only(cls, port: int) -> None:
        """Raises ``AssertionError`` with the status line when the handshake is refused."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(UPGRADE)
        status = await reader.readline()
        writer.close()
        assert b" 101 " in status, status

    @classmethod
    async def hang_up(cls) -> None:
        """End all connections; a loop that closes over open ones may never return."""
        while cls.everybody:
            reader = cls.everybody.pop()
            reader.abort()
            await reader.lost.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's has no base class
        self.made.set()
        transport.write(UPGRADE)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self._upgraded:
            head, mark, rest = self._data.partition(b"\r\n\r\n")
            if not mark:
                return
            assert b" 101 " in head, head
            self._upgraded, self._data = True, rest
        end = 0
        for opcode, payload, end in split(self._data):  # noqa: B007 the last end is what counts
            if opcode == 8:
                self.code = int.from_bytes(payload[:2], "big")
                self._transport.write(masked(payload[:2], 8))
            elif payload == b"{}":
                self.pings += 1
                if self.pongs:
                    self._transport.write(masked(b"{}"))
            else:
                self.frames.append(json.loads(payload))
                self.times.append(asyncio.get_running_loop().time())
        self._data = self._data[end:]
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()
        self._news.set()

    def ask(self, kind: str, **fields: object) -> int:
        self._id += 1
        self._transport.write(masked(json.dumps({"type": kind, "id": self._id, **fields}).encode()))
        return self._id

    def publish(self, message: str, channel: str = "room", data: object = "x") -> int:
        return self.ask("publish", channel=channel, message=message, data=data)

    def pause(self) -> None:
        if self._transport.is_reading():
            self._transport.pause_reading()

    def resume(self) -> None:
        if not self._transport.is_reading() and not self._transport.is_closing():
            self._transport.resume_reading()

    def abort(self) -> None:
        self._transport.abort()

    async def until(self, done: Callable[[], bool], timeout_s: float = 15) -> None:
        """Wait for what arrives to make ``done`` true. Raises when the connection ends before."""
        async with asyncio.timeout(timeout_s):
            while not done():
                if self.lost.is_set():
                    raise ConnectionError(f"closed with {self.code}")
                self._news.clear()
                await self._news.wait()

    async def silent(self, seconds: float) -> None:
        """Wait until nothing has arrived for so long."""
        with suppress(TimeoutError):
            while True:
                self._news.clear()
                await asyncio.wait_for(self._news.wait(), seconds)

    def of(self, *kinds: str) -> list[Frame]:
        return [frame for frame in self.frames if frame["type"] in kinds]

    def count(self, kind: str) -> int:
        return len(self.of(kind))

    def serials(self, channel: str = "room") -> list[int]:
        return [frame["serial"] for frame in self.of("message") if frame["channel"] == channel]

    @property
    def acked(self) -> dict[str, int]:
        return {frame["message"]: frame["position"][1] for frame in self.of("ack")}


def follow(frames: list[Frame], channel: str) -> tuple[int, list[Frame]]:
    """Check that each serial of ``channel`` comes once and in order, or is in a declared gap.

    Returns the serial reached and the gaps.
    """
    at, gaps, opened = -1, [], False
    for frame in frames:
        if frame.get("channel") != channel:
            continue
        match frame["type"]:
            case "subscribed":
                assert not opened
                at, opened = frame["start"], True
            case "live":
                assert frame["position"][1] == at
            case "gap":
                assert frame["from"][1] == at < frame["to"][1], frame
                at = frame["to"][1]
                gaps.append(frame)
            case "message":
                assert frame["serial"] == at + 1, f"{frame['serial']} after {at}"
                at += 1
    assert opened
    assert [frame["type"] for frame in frames if frame.get("channel") == channel].count("live") <= 1
    return at, gaps

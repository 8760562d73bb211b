"""A chat server of a hundred lines, in memory: enough of ``chatd.v1`` to load, and to misbehave on demand."""

from __future__ import annotations

import asyncio
import contextlib
import http
import threading
from collections.abc import Callable
from typing import Any

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from chatd.protocol import messages as wire


class TinyServer:
    """Serves on 127.0.0.1; ``url`` once started.

    Everything a client sent is in ``frames``, in order. ``on_publish`` may answer instead of the server:
    it gets the connection's number and the frame and returns what to do: "ack" (default), "drop"
    (close the socket, unplaced), "place-and-drop", "ignore", or a dict that is sent as it is.
    """

    def __init__(self, on_publish: Callable[[int, wire.Publish], Any] | None = None) -> None:
        self.on_publish = on_publish or (lambda _connection, _frame: "ack")
        self.logs: dict[str, list[dict[str, Any]]] = {}
        self.placed: dict[str, tuple[str, int]] = {}
        self.epoch = "E1"
        self.frames: list[tuple[int, wire.Request]] = []
        self.pongs = 0
        self.subscribers: dict[str, set[ServerConnection]] = {}
        self.sockets: dict[int, ServerConnection] = {}
        self.refuse_upgrades = 0
        self.ping_s, self.pong_s, self.retry_ms = 25.0, 8.0, (1, 5)
        self.connected = asyncio.Event()
        self.url = ""
        self._dials = 0
        self._server: Server | None = None

    async def __aenter__(self) -> TinyServer:
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            0,
            subprotocols=["chatd.v1"],
            process_request=self._admit,  # type: ignore[list-item]
        )
        port = next(iter(self._server.sockets)).getsockname()[1]
        self.url = f"ws://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    def _admit(self, _connection: ServerConnection, _request: Request) -> Response | None:
        if self.refuse_upgrades:
            self.refuse_upgrades -= 1
            return _connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "full\n")
        return None

    async def _serve(self, socket: ServerConnection) -> None:
        self._dials += 1
        number = self._dials
        self.sockets[number] = socket
        try:
            async for payload in socket:
                raw = payload.encode() if isinstance(payload, str) else payload
                if raw == wire.PING:
                    self.pongs += 1
                    continue
                frame = wire.decode_request(raw)
                self.frames.append((number, frame))
                await self._answer(number, socket, frame)
        except ConnectionClosed:
            pass
        finally:
            for sockets in self.subscribers.values():
                sockets.discard(socket)
            self.sockets.pop(number, None)

    async def _answer(self, number: int, socket: ServerConnection, frame: wire.Request) -> None:
        if isinstance(frame, wire.Connect):
            await self.send(socket, self._connected(frame))
            for wanted in frame.subscribe:
                await self._subscribe(socket, wanted.channel, wanted.from_)
            self.connected.set()
        elif isinstance(frame, wire.Publish):
            await self._publish(number, socket, frame)
        elif isinstance(frame, wire.React):
            data = msgspec.Raw(msgspec.json.encode({"emoji": frame.emoji, "op": frame.op}))
            position = await self.place(frame.channel, frame.message, data, kind="react", to=frame.to)
            await self.send(socket, self._ack(frame, position, duplicate=False))
        elif isinstance(frame, wire.Unsubscribe):
            self.subscribers.get(frame.channel, set()).discard(socket)
            await self.send(socket, wire.Unsubscribed(id=frame.id, channel=frame.channel))
        elif isinstance(frame, wire.Subscribe):
            await self._subscribe(socket, frame.channel, frame.from_ or "new", request=frame.id)
        elif isinstance(frame, wire.TypingNotice):
            for other in list(self.subscribers.get(frame.channel, ())):
                with contextlib.suppress(ConnectionClosed):
                    await self.send(other, wire.Typing(channel=frame.channel, user="u", on=True, ttl_ms=6000))
        elif isinstance(frame, wire.PresenceRequest):
            await self.send(socket, wire.Presence(id=frame.id, channel=frame.channel, version=1, count=1))

    def _connected(self, frame: wire.Connect) -> wire.Connected:
        contract = wire.Contract(
            profile="effectively-once", echo=True, durability="memory", retain_n=1000, retain_s=60,
            retain_bytes=2**20, dedupe_s=60,
        )  # fmt: skip
        return wire.Connected(
            id=frame.id, node="n1", user=frame.client or "", contract=contract,
            limits=wire.Limits(frame_bytes=2**20, channels=100),
            ping_s=self.ping_s, pong_s=self.pong_s, retry_ms=self.retry_ms,
        )  # fmt: skip

    def _ack(
        self, frame: wire.Publish | wire.React, position: tuple[str, int], *, duplicate: bool
    ) -> wire.Ack:
        return wire.Ack(
            id=frame.id, message=frame.message, position=position, duplicate=duplicate, durability="memory"
        )

    async def _subscribe(
        self, socket: ServerConnection, channel: str, start: wire.From, *, request: int | None = None
    ) -> None:
        log = self.logs.setdefault(channel, [])
        top = len(log)
        resumed = isinstance(start, tuple) and start[0] == self.epoch
        after = start[1] if isinstance(start, tuple) and resumed else 0 if start == "first" else top
        answer = wire.Subscribed(
            channel=channel,
            position=(self.epoch, top),
            resumed=resumed,
            count=top - after,
            floor=1,
            start=after,
            id=request,
        )
        await self.send(socket, answer)
        for entry in log[after:]:
            await socket.send(msgspec.json.encode(entry), text=True)
        await self.send(socket, wire.Live(channel=channel, position=(self.epoch, top)))
        self.subscribers.setdefault(channel, set()).add(socket)

    async def _publish(self, number: int, socket: ServerConnection, frame: wire.Publish) -> None:
        verdict = self.on_publish(number, frame)
        if isinstance(verdict, dict):
            await socket.send(msgspec.json.encode(verdict), text=True)
        if verdict == "drop":
            socket.transport.abort()
        if verdict not in ("ack", "place-and-drop"):
            return
        duplicate = frame.message in self.placed
        position = self.placed.get(frame.message) or await self.place(
            frame.channel, frame.message, frame.data
        )
        if verdict == "place-and-drop":
            socket.transport.abort()
            return
        await self.send(socket, self._ack(frame, position, duplicate=duplicate))

    async def place(self, channel: str, message: str, data: msgspec.Raw, **about: Any) -> tuple[str, int]:
        log = self.logs.setdefault(channel, [])
        log.append(
            {"type": "message", "channel": channel, "serial": len(log) + 1, "message": message, "user": "u",
             "time": 0, "data": data, **about}
        )  # fmt: skip
        position = self.placed[message] = (self.epoch, len(log))  # before anything can come in between
        payload = msgspec.json.encode(log[-1])
        for subscriber in list(self.subscribers.get(channel, ())):
            with contextlib.suppress(ConnectionClosed):
                await subscriber.send(payload, text=True)
        return position

    async def send(self, socket: ServerConnection, frame: Any) -> None:
        await socket.send(wire.encode(frame), text=True)


class ServerThread:
    """A ``TinyServer`` on a loop of its own, for tests that drive other processes."""

    def __enter__(self) -> TinyServer:
        started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()

        async def main() -> None:
            self.server = TinyServer()
            async with self.server:
                started.set()
                await self._stop.wait()

        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(main()), daemon=True)
        self._thread.start()
        assert started.wait(10)
        return self.server

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()

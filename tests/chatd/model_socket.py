"""The model server on a real socket, for tests of what performs the client's actions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from websockets import Headers, Request, Response, Subprotocol
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from chatd.protocol import messages as m
from chatd.protocol.messages import SUBPROTOCOL
from tests.chatd.model_server import ModelConnection, ModelServer


class ModelSocket:
    """Serves a ``ModelServer`` on loopback; can cut, close and go away."""

    def __init__(self, model: ModelServer) -> None:
        self.model = model
        model.auto_commit = True
        self.port = 0
        self.sockets: dict[ServerConnection, ModelConnection] = {}
        self.accepted = 0
        self.on_accept = asyncio.Event()
        self.on_refusal = asyncio.Event()
        self.status: int | None = None  # answer the handshake with this instead
        self.mute = False  # takes frames and answers none
        self._server: Server | None = None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    async def start(self, *, subprotocols: list[Subprotocol] | None = None) -> None:
        self._server = await serve(
            self._handle,
            "127.0.0.1",
            self.port,
            subprotocols=[Subprotocol(SUBPROTOCOL)] if subprotocols is None else subprotocols,
            process_request=self._route,
            ping_interval=None,
            close_timeout=0.1,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Go away as a killed process does."""
        self.cut()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def cut(self) -> None:
        """Break every connection without a close frame."""
        for socket in list(self.sockets):
            socket.transport.abort()

    async def close(self, code: int, reason: str = "") -> None:
        for socket in list(self.sockets):
            await socket.close(code, reason)

    async def say(self, frame: m.Reply) -> None:
        for socket in list(self.sockets):
            await socket.send(m.encode(frame), text=True)

    async def flush(self) -> None:
        """Write what the model has for its clients."""
        for socket, connection in list(self.sockets.items()):
            frames, connection.sent = connection.sent, []
            if self.mute:
                continue
            for frame in frames:
                try:
                    await socket.send(frame, text=True)
                except ConnectionClosed:
                    break

    async def accepts(self) -> None:
        """Wait for the next connection."""
        self.on_accept.clear()
        await self.on_accept.wait()

    def _route(self, socket: ServerConnection, request: Request) -> Response | None:
        if self.status is None:
            return None
        self.on_refusal.set()
        return Response(self.status, "refused", Headers({"Retry-After": "0", "Location": self.url}))

    async def _handle(self, socket: ServerConnection) -> None:
        connection = self.sockets[socket] = self.model.connect()
        self.accepted += 1
        self.on_accept.set()
        try:
            while True:
                connection.receive(await socket.recv(decode=False))
                await self.flush()
        except ConnectionClosed:
            pass
        finally:
            del self.sockets[socket]
            connection.close()


@asynccontextmanager
async def serving(model: ModelServer | None = None) -> AsyncIterator[ModelSocket]:
    """A model server that is listening; its clients come back within a few milliseconds."""
    server = ModelSocket(model or ModelServer(retry_ms=(1, 5)))
    await server.start()
    try:
        yield server
    finally:
        await server.stop()

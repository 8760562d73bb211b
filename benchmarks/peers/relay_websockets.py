"""websockets' own broadcast(). python relay_websockets.py PORT"""

import asyncio
import sys

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

subscribers: set[ServerConnection] = set()


async def handle(connection: ServerConnection) -> None:
    assert connection.request is not None
    if connection.request.path == "/publish":
        async for message in connection:
            broadcast(subscribers, message)
        return
    subscribers.add(connection)
    try:
        await connection.wait_closed()
    finally:
        subscribers.discard(connection)


async def main() -> None:
    async with serve(
        handle,
        "127.0.0.1",
        int(sys.argv[1]),
        compression=None,
        ping_interval=None,
        backlog=4096,
        max_size=None,
    ):
        await asyncio.Event().wait()


uvloop.run(main())

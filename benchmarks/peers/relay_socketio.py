"""python-socketio on aiohttp, one room. python relay_socketio.py PORT"""

import sys
from urllib.parse import parse_qs

import socketio
import uvloop
from aiohttp import web

server = socketio.AsyncServer(async_mode="aiohttp", ping_interval=3600, http_compression=False)


@server.event
async def connect(sid: str, environ: dict[str, str]) -> None:
    if parse_qs(environ["QUERY_STRING"])["role"] != ["publisher"]:
        await server.enter_room(sid, "all")


@server.event
async def publish(sid: str, message: object) -> None:
    await server.emit("message", message, room="all")


application = web.Application()
server.attach(application)
uvloop.install()
web.run_app(application, host="127.0.0.1", port=int(sys.argv[1]), backlog=4096, print=None)

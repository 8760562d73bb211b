"""The admin port: GET /metrics, /nodes, /healthz and /readyz, on loopback whatever the public port is on.

With ``test_hooks`` also /hooks (chatd/hooks.py).
"""

from __future__ import annotations

from picows import WSUpgradeRequest, WSUpgradeResponseWithListener

from .. import hooks
from ..config import Config
from .base import Gateway, Listening, Page
from .door import Guest, open_door
from .websocket import Server, http_answer

HOST = "127.0.0.1"
NOWHERE = Page(404, "no such page: /metrics, /nodes, /healthz and /readyz are here\n")


async def listen_admin(config: Config, gateway: Gateway) -> Listening | None:
    """Answer the pages that are for operators only. None: no admin port is wanted."""
    if config.admin_port is None:
        return None

    def route(request: WSUpgradeRequest, guest: Guest) -> WSUpgradeResponseWithListener:
        path, _, query = request.path.decode("latin-1").partition("?")
        if config.test_hooks and request.headers.get(hooks.HEADER) and (page := hooks.answer(path, query)):
            return http_answer(page)
        return http_answer(gateway.page(path, admin=True) or NOWHERE)

    server = await open_door(route, HOST, config.admin_port, 1024)
    return Server(server, f"http://{HOST}:{{port}}")

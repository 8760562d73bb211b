"""How clients reach the daemon. ``TRANSPORTS`` names the implementations.

A transport owns sockets and framing and nothing else: it tells a ``Gateway`` who came
and a ``Peer`` what arrived, and does what it is told through the ``Link`` it gave.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from ..config import Config
from .base import Gateway, Listening
from .websocket import listen_websocket


class Listen(Protocol):
    """Begin to accept connections; None: this configuration has the transport off.

    Raises ``OSError`` when the address cannot be had.
    """

    async def __call__(self, config: Config, gateway: Gateway) -> Listening | None: ...


async def listen_fallbacks(config: Config, gateway: Gateway) -> Listening | None:
    """Server-sent events, long polling, POST and the page, on a port of their own."""
    if config.http_port == 0:
        return None
    from .http import listen_http  # only here: without it, aiohttp is not loaded

    return await listen_http(config, gateway)


TRANSPORTS: Final[Mapping[str, Listen]] = {
    "websocket": listen_websocket,  # the first one: its url is the node's
    "http": listen_fallbacks,
}

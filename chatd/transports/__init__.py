"""How clients reach the daemon. ``TRANSPORTS`` names the implementations.

A transport owns sockets and framing and nothing else: it tells a ``Gateway`` who came
and a ``Peer`` what arrived, and does what it is told through the ``Link`` it gave.
"""

from __future__ import annotations

import errno
import socket
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


def cannot_listen(config: Config, transport: str, bad: OSError) -> str:
    """One line: which setting asks for an address that cannot be had, and what to do."""
    name = {"http": "http_port", "admin": "admin_port"}.get(transport, "port")
    port, host = getattr(config, name), "127.0.0.1" if transport == "admin" else config.host
    if transport != "admin" and (isinstance(bad, socket.gaierror) or bad.errno == errno.EADDRNOTAVAIL):
        why = bad.strerror if isinstance(bad, socket.gaierror) else "this machine has no such address"
        return (
            f"host is {host!r}: it cannot be listened on: {why}; give an address of this machine with --host"
        )
    where = f"{name} is {config.port + 1 if port == 'auto' else port}: on {host} it "
    if bad.errno == errno.EADDRINUSE:
        flag = "--" + name.replace("_", "-") + (" (0 for none)" if transport == "http" else "")
        return where + f"is in use; choose another with {flag}, or stop the program that has it"
    remedy = "; take one from 1024 on, or give chatd the right" if bad.errno == errno.EACCES else ""
    return where + f"cannot be listened on: {bad.strerror or bad}{remedy}"

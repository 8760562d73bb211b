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
    """Begin to accept connections. Raises ``OSError`` when the address cannot be had.

    None: the configuration does not ask for this one.
    """

    async def __call__(self, config: Config, gateway: Gateway) -> Listening | None: ...


TRANSPORTS: Final[Mapping[str, Listen]] = {
    "websocket": listen_websocket,
}

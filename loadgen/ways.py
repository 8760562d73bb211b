"""By what a client reaches the server: a WebSocket, or, where that is refused, HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic_ns
from typing import Final

from reports.history import Transport

from .client import Client
from .connection import HANDSHAKE_S, Failed, Wires, open_websocket
from .http_connection import FIRST_WORD_S, open_http
from .personas import Way

WAYS: Final[Mapping[Way, tuple[Transport, ...]]] = {
    "websocket": (Transport.WEBSOCKET,),
    "sse": (Transport.SSE,),
    "poll": (Transport.POLL,),
    "fallback": (Transport.WEBSOCKET, Transport.SSE, Transport.POLL),
}


async def reach(client: Client, urls: Mapping[Transport, str], wires: Wires) -> None:
    """Connect a client, or record why not; ``wires.ended`` hears of every end, this one included.

    Each way that is tried is a dial, with a record of its own.
    """
    await wires.trust.prepare(client.name)
    *others, last = WAYS[client.persona.transport]
    for way in others:
        client.dialling(monotonic_ns(), way)
        # A stream that says nothing is held back by somebody, and there is another way.
        failed = await _open(client, way, urls[way], wires, patience_s=FIRST_WORD_S)
        if failed is None:
            return
        client.turned_away(failed.status, monotonic_ns())
    client.dialling(monotonic_ns(), last)
    failed = await _open(client, last, urls[last], wires, patience_s=HANDSHAKE_S)
    if failed is not None:
        wires.ended(client, client.dial_failed(failed.status, monotonic_ns(), failed.asked_s))


async def _open(
    client: Client, way: Transport, url: str, wires: Wires, *, patience_s: float
) -> Failed | None:
    if way is Transport.WEBSOCKET:
        return await open_websocket(client, url, wires)
    return await open_http(client, url, wires, patience_s=patience_s)

"""The door: TCP and TLS connections from their first byte to the upgrade, or to the refusal.

picows parses the handshake but does not say who asks, and its own deadline lets a peer that
takes no answer stay. Here each connection has an address and one deadline for everything
before the upgrade, after which it is aborted; and only so many may stand at the door at once.

Nor does picows say when it has sent a close frame of its own, over a frame that breaks RFC 6455: it
hangs up 10 ms later, and until then whatever is pushed would follow that frame. So each read asks.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from picows import WSAutoPingStrategy, WSTransport, WSUpgradeRequest, WSUpgradeResponseWithListener


class HearsOfClose(Protocol):
    """What a listener of ``Route`` has besides picows' own."""

    def close_sent(self) -> None:
        """picows has sent a close frame: nothing may follow it. Called at each read from then on."""
        ...


if TYPE_CHECKING:

    class WSProtocol(asyncio.BufferedProtocol):  # picows publishes no types for it
        transport: WSTransport
        listener: HearsOfClose | None  # None: not upgraded

        def __init__(self, *args: object) -> None: ...
else:
    from picows.picows import WSProtocol

BACKLOG: Final = 4096  # a whole node's clients may come at once
HANDSHAKE_S: Final = 10.0
HANDSHAKES: Final = 4096  # connections that have not been upgraded yet
BUSY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)

Route = Callable[[WSUpgradeRequest, "Guest"], WSUpgradeResponseWithListener]


class Waiting:
    """How many connections of one listening socket are not upgraded yet."""

    def __init__(self) -> None:
        self.count = 0


class Guest(WSProtocol):
    """One connection at the door. ``address`` is the peer's IP address."""

    __slots__ = ("_deadline", "_loop_", "_route", "_waiting", "address")

    def __init__(self, route: Route, waiting: Waiting, frame_bytes: int) -> None:
        self._route: Route | None = route
        self._waiting: Waiting | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._loop_ = (waiting, asyncio.get_running_loop())
        self.address = ""
        super().__init__(
            None,  # host_port and ws_path are for clients
            None,
            False,
            self._arrived,
            _LOGGER,
            True,  # disconnect_on_exception
            None,  # websocket_handshake_timeout: ours is below
            False,  # enable_auto_ping and its two times and strategy: the protocol has its own
            20,
            20,
            WSAutoPingStrategy.PING_WHEN_IDLE,
            False,  # enable_auto_pong
            frame_bytes,
            None,
            2048,  # read_buffer_init_size: idle connections are many
        )

    def _arrived(self, request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        route, self._route = self._route, None
        assert route is not None
        return route(request, self)

    def connection_made(self, transport: Any) -> None:
        self.address = str((transport.get_extra_info("peername") or ("",))[0])
        super().connection_made(transport)
        waiting, loop = self._loop_
        if waiting.count >= HANDSHAKES:
            transport.write(BUSY)
            transport.close()
            return
        self._waiting = waiting
        waiting.count += 1
        self._deadline = loop.call_later(HANDSHAKE_S, transport.abort)

    def buffer_updated(self, nbytes: int) -> None:
        super().buffer_updated(nbytes)
        if self.transport.is_close_frame_sent and self.listener is not None:
            self.listener.close_sent()

    def connection_lost(self, exc: Exception | None) -> None:
        self.entered()
        super().connection_lost(exc)

    def entered(self) -> None:
        """The upgrade is done, or will never be: the deadline no longer counts."""
        if self._waiting is not None:
            self._waiting.count -= 1
            self._waiting = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


async def open_door(
    route: Route, host: str, port: int, frame_bytes: int, *, tls: ssl.SSLContext | None = None
) -> Any:
    """Listen. ``route`` answers each whole request. Raises ``OSError``."""
    waiting = Waiting()
    options: dict[str, Any] = {}
    if tls is not None:
        options = {"ssl": tls, "ssl_handshake_timeout": HANDSHAKE_S, "ssl_shutdown_timeout": 2.0}
    return await asyncio.get_running_loop().create_server(
        lambda: Guest(route, waiting, frame_bytes),
        host,
        port,
        backlog=BACKLOG,
        reuse_address=True,
        **options,
    )


def _quiet_logger() -> logging.LoggerAdapter[logging.Logger]:
    """picows logs two INFO lines a connection and an ERROR for each frame that breaks RFC 6455, which
    any client could fill a disk with. Only what has a traceback is about us. (An adapter, because
    for a plain logger picows makes a child logger per connection.)"""
    logger = logging.getLogger("picows.chatd")
    logger.setLevel(logging.ERROR)
    logger.filters[:] = [lambda record: record.exc_info is not None]
    return logging.LoggerAdapter(logger, {})


_LOGGER: Final = _quiet_logger()

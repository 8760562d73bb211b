"""WebSocket, on picows. Frames come and go at the cost of the system call.

picows parses and unmasks; the rest of RFC 6455 is here: answer CLOSE and PING,
reassemble fragments, check UTF-8, refuse reserved bits. Pushes do not go through picows:
the hub builds their frames once, and they are written to the underlying transport.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from ..config import Config
from ..framing import pong_frame
from ..protocol.messages import SUBPROTOCOL
from .base import Gateway, Listening, Page, Peer

PATH: Final = "/ws"
HIGH_WATER_BYTES: Final = 64 * 1024  # in the transport's buffer, before frames are held by the daemon
BACKLOG: Final = 4096  # a whole node's clients may come at once
HANDSHAKE_S: Final = 10.0

# The kernel hides megabytes before user space sees that a peer does not read; keep that small.
SOCKET_OPTIONS: Final = (
    (socket.SOL_SOCKET, socket.SO_SNDBUF, 128 * 1024),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.IPPROTO_TCP, getattr(socket, "TCP_NOTSENT_LOWAT", None), 16 * 1024),
    (socket.IPPROTO_TCP, getattr(socket, "TCP_USER_TIMEOUT", None), 20_000),  # ms
)

TEXT, BINARY, CONTINUATION = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION
CLOSE, PING, PONG = WSMsgType.CLOSE, WSMsgType.PING, WSMsgType.PONG


class _Connection(WSListener):
    """One upgraded connection: the transport's side (``Link``)."""

    def __init__(self, gateway: Gateway, limit_bytes: int) -> None:
        self._gateway = gateway
        self._limit = limit_bytes
        self._fragments: list[bytes] = []
        self._fragments_bytes = 0
        self._ending = False
        self.write: Callable[[bytes], None]  # the transport's own, once connected
        self._peer: Peer
        self._transport: Any  # uvloop's or asyncio's

    # Called by picows -------------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport.underlying_transport
        self._transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        _tune(self._transport.get_extra_info("socket"))
        self.write = self._transport.write
        self._peer = self._gateway.accept(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if transport.is_close_frame_sent and not self._ending:
            # picows closed this connection over a malformed or too large frame. It parses on all
            # the same, and would hand over even the frame that it found too large.
            self._ending = True
            self._peer.cut()
        if self._ending:
            if kind == CLOSE:
                self._transport.close()
        elif frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._peer.broken(1002, "a reserved bit is set")
        elif kind == TEXT and frame.fin and not self._fragments:
            self._message(frame.get_payload_as_bytes())
        elif kind in (TEXT, CONTINUATION):
            self._fragment(kind == CONTINUATION, frame)
        elif kind == PING:
            self._peer.reply(pong_frame(frame.get_payload_as_bytes()))
        elif kind == CLOSE:
            payload = frame.get_payload_as_bytes()  # picows has checked it
            self._peer.leaving(b"\x88%c%b" % (len(payload), payload))
            self._ending = True
            self._transport.close()  # after what is written
        elif kind == BINARY:
            self._peer.broken(1003, "frames are text, not binary")

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._ending = True
        self._peer.lost()

    def pause_writing(self) -> None:
        self._peer.blocked()

    def resume_writing(self) -> None:
        self._peer.unblocked()

    def _fragment(self, continues: bool, frame: WSFrame) -> None:
        if continues != bool(self._fragments):
            self._peer.broken(1002, "a continuation frame without a first one, or the reverse")
            return
        self._fragments.append(frame.get_payload_as_bytes())
        self._fragments_bytes += len(self._fragments[-1])
        if self._fragments_bytes > self._limit or len(self._fragments) > 1024:
            self._peer.broken(1009, f"a message has more than {self._limit} bytes or 1024 fragments")
        elif frame.fin:
            payload = b"".join(self._fragments)
            self._fragments, self._fragments_bytes = [], 0
            self._message(payload)

    def _message(self, payload: bytes) -> None:
        if not payload.isascii():
            try:
                payload.decode()
            except UnicodeDecodeError:
                self._peer.broken(1007, "text is not UTF-8")
                return
        self._peer.received(payload)

    # Called by the daemon ---------------------------------------------------------------------------

    def hang_up(self) -> None:
        self._ending = True
        self._fragments = []

    def abort(self) -> None:
        self._transport.abort()

    def pause_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()


def _tune(sock: socket.socket) -> None:
    for level, option, value in SOCKET_OPTIONS:
        if option is not None:
            try:
                sock.setsockopt(level, option, value)
            except OSError as refused:  # not every kernel has every option; none is needed for correctness
                if refused.errno not in (errno.ENOPROTOOPT, errno.EINVAL):
                    raise


class _Server:
    def __init__(self, server: Any, host: str) -> None:
        self._server = server
        self.port: int = server.sockets[0].getsockname()[1]
        self.url = f"ws://{f'[{host}]' if ':' in host else host}:{self.port}{PATH}"

    def close(self) -> None:
        self._server.close()


async def listen_websocket(config: Config, gateway: Gateway) -> Listening:
    """Accept WebSocket connections on ``/ws`` and answer the gateway's pages to a plain GET."""

    def route(request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        path = request.path.partition(b"?")[0].decode("latin-1")
        page = _refusal(request, gateway) if path == PATH else gateway.page(path)
        if path == PATH and page is None:
            offered = request.headers.get("Sec-WebSocket-Protocol")
            headers = {"Sec-WebSocket-Protocol": SUBPROTOCOL} if offered else {}
            accepted = WSUpgradeResponse.create_101_response(headers)
            return WSUpgradeResponseWithListener(accepted, _Connection(gateway, config.frame_bytes))
        return _http(page or Page(404, f"no such page: {PATH}, /healthz, /readyz and /metrics are here\n"))

    server = await ws_create_server(
        route,
        config.host,
        config.port,
        websocket_handshake_timeout=HANDSHAKE_S,
        logger_name=_quiet_logger(),
        enable_auto_pong=False,
        max_frame_size=config.frame_bytes,
        read_buffer_init_size=2048,
        use_aiofastnet=False,
        backlog=BACKLOG,
        reuse_address=True,
    )
    return _Server(server, config.host)


def _refusal(request: WSUpgradeRequest, gateway: Gateway) -> Page | None:
    headers = request.headers
    if "websocket" not in headers.get("Upgrade", "").lower():
        return Page(426, f"{PATH} speaks WebSocket: connect with a WebSocket client\n")
    origin = headers.get("Origin")
    if origin is not None and urlsplit(origin).hostname not in ("localhost", "127.0.0.1", "::1"):
        # Nobody is asked to log in, so a page from elsewhere must not reach in through a browser.
        return Page(403, f"Origin is {origin!r}: must be on this machine\n")
    offered = headers.get("Sec-WebSocket-Protocol")
    if offered is not None and SUBPROTOCOL not in [name.strip() for name in offered.split(",")]:
        return Page(400, f"Sec-WebSocket-Protocol is {offered!r}: must offer {SUBPROTOCOL}\n")
    return gateway.refuse()


def _http(page: Page) -> WSUpgradeResponseWithListener:
    headers = {"Content-Type": page.content_type, "Cache-Control": "no-store"}
    if page.retry_after_s is not None:
        headers["Retry-After"] = str(page.retry_after_s)
    body = page.body.encode()
    if page.status == HTTPStatus.OK:
        response = WSUpgradeResponse.create_ok_response(body, headers)
    else:
        response = WSUpgradeResponse.create_error_response(page.status, body, headers)
    return WSUpgradeResponseWithListener(response, None)


def _quiet_logger() -> logging.LoggerAdapter[logging.Logger]:
    """picows logs two INFO lines a connection and an ERROR for each frame that breaks RFC 6455, which
    any client could fill a disk with. Only what has a traceback is about us. (An adapter, because
    for a plain logger picows makes a child logger per connection.)"""
    logger = logging.getLogger("picows.chatd")
    logger.setLevel(logging.ERROR)
    logger.filters[:] = [lambda record: record.exc_info is not None]
    return logging.LoggerAdapter(logger, {})

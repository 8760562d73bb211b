"""WebSocket, on picows. Frames come and go at the cost of the system call.

picows parses and unmasks; the rest of RFC 6455 is here: answer CLOSE and PING,
reassemble fragments, check UTF-8, refuse reserved bits. Pushes do not go through picows:
the hub builds their frames once, and they are written to the underlying transport.
"""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)

from ..config import Config
from ..flush import PIECE_BYTES, SLOW_BYTES
from ..framing import pong_frame
from ..protocol.errors import CloseCode
from ..protocol.messages import SUBPROTOCOL
from ..tls import server_context
from .base import Gateway, Listening, Page, Peer
from .door import Guest, open_door
from .origins import origin_allowed

PATH: Final = "/ws"
# Beyond this the reader is a slow consumer. The write that goes beyond is at most a piece, or one frame.
HIGH_WATER_BYTES: Final = SLOW_BYTES - PIECE_BYTES
# Up to this many times the limit, a frame that is too long is answered with 413 and the connection lives.
SLACK: Final = 2
NOWHERE: Final = Page(404, f"no such page: {PATH}, /healthz and /readyz are here\n")
TOKEN_IN_QUERY: Final = re.compile(rb"[?&](?:access_)?token=", re.IGNORECASE)

USER_TIMEOUT: Final = getattr(socket, "TCP_USER_TIMEOUT", None)
USER_TIMEOUT_MS: Final = 20_000

# The kernel hides megabytes before user space sees that a peer does not read; keep that small.
# Set on a listening socket: those that it accepts inherit them, and setting them takes 6 µs each.
SOCKET_OPTIONS: Final = (
    (socket.SOL_SOCKET, socket.SO_SNDBUF, 128 * 1024),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.IPPROTO_TCP, getattr(socket, "TCP_NOTSENT_LOWAT", None), 16 * 1024),
)

TEXT, BINARY, CONTINUATION = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION
NEVER_SENT: Final = (1004, 1005, 1006, 1015)  # RFC 6455 § 7.4.1
CLOSE, PING, PONG = WSMsgType.CLOSE, WSMsgType.PING, WSMsgType.PONG


class _Connection(WSListener):
    """One upgraded connection: the transport's side (``Link``)."""

    def __init__(self, gateway: Gateway, guest: Guest, token: str | None, config: Config) -> None:
        self._gateway = gateway
        self._guest: Guest | None = guest
        self._token = token
        self._limit = config.frame_bytes * SLACK
        self._patience_ms = patience_ms(config)
        self.refusal: tuple[int, str] | None = None  # close with this at once
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
        self.write = self._transport.write
        guest, self._guest = self._guest, None  # nothing may hold its own protocol
        assert guest is not None
        guest.entered()
        self._peer = self._gateway.accept(self, address=guest.address, token=self._token)
        self._token = None
        if self.refusal is not None:
            self._peer.broken(*self.refusal)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if transport.is_close_frame_sent:
            # It parses on all the same, and would hand over even the frame that it found too large.
            self.close_sent()
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
            payload = frame.get_payload_as_bytes()
            code = int.from_bytes(payload[:2], "big")
            if payload and (code in NEVER_SENT or code < 1000 or code > 4999):
                self._peer.broken(1002, f"{code} is no code to close with")  # picows checks the others
                return
            self._peer.leaving(b"\x88%c%b" % (len(payload), payload))
            self._ending = True
            self._transport.close()  # after what is written
        elif kind == BINARY:
            self._peer.broken(1003, "frames are text, not binary")

    def close_sent(self) -> None:
        """picows has closed this connection over a frame that is malformed or too large: no data may
        follow a close frame (RFC 6455 § 5.5.1), neither what waits nor what is still pushed.
        """
        if not self._ending:
            self._ending = True
            self._peer.cut()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._ending = True
        self._peer.lost()

    def pause_writing(self) -> None:
        # To the kernel a peer that does not read is as good as dead, however alive: it would break
        # the connection before the daemon's own, longer patience with slow consumers ends.
        self._be_patient(self._patience_ms)
        self._peer.blocked()

    def resume_writing(self) -> None:
        self._be_patient(USER_TIMEOUT_MS)
        self._peer.unblocked()

    def _be_patient(self, timeout_ms: int) -> None:
        _set(self._transport.get_extra_info("socket"), socket.IPPROTO_TCP, USER_TIMEOUT, timeout_ms)

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

    @property
    def buffered(self) -> int:
        size: int = self._transport.get_write_buffer_size()
        return size

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


def _set(sock: socket.socket, level: int, option: int | None, value: int) -> None:
    """Set a socket option that is good to have: not every kernel has every one."""
    if option is not None:
        try:
            sock.setsockopt(level, option, value)
        except OSError as refused:
            if refused.errno not in (errno.ENOPROTOOPT, errno.EINVAL, errno.EBADF):  # EBADF: gone already
                raise


def tune(sock: socket.socket, user_timeout_ms: int = USER_TIMEOUT_MS) -> None:
    """Set what keeps the kernel from hiding a reader that does not read, or is gone."""
    for option in SOCKET_OPTIONS:
        _set(sock, *option)
    _set(sock, socket.IPPROTO_TCP, USER_TIMEOUT, user_timeout_ms)


def patience_ms(config: Config) -> int:
    """TCP_USER_TIMEOUT of a full socket: the kernel counts a reader that does not read as gone."""
    return max(USER_TIMEOUT_MS, int(config.slow_s * 1000) + 5000)


class Server:
    """A listening socket. ``url`` has ``{port}`` where its port goes."""

    def __init__(self, server: Any, url: str) -> None:
        self._server = server
        self.port: int = server.sockets[0].getsockname()[1]
        self.url = url.format(port=self.port)

    def close(self) -> None:
        self._server.close()

    async def closed(self) -> None:
        """The daemon has aborted whatever was open."""


async def listen_websocket(config: Config, gateway: Gateway) -> Listening:
    """Accept WebSocket connections on ``/ws`` and answer the gateway's pages to a plain GET."""

    def route(request: WSUpgradeRequest, guest: Guest) -> WSUpgradeResponseWithListener:
        path = request.path.partition(b"?")[0].decode("latin-1")
        if path != PATH:
            return http_answer(gateway.page(path) or NOWHERE)
        if (page := _refusal(request, config) or gateway.refuse(guest.address)) is not None:
            return http_answer(page)
        offered = request.headers.getall("Sec-WebSocket-Protocol", [])
        spoken = not offered or SUBPROTOCOL in [name.strip() for name in ",".join(offered).split(",")]
        headers = {"Sec-WebSocket-Protocol": SUBPROTOCOL} if offered and spoken else {}
        listener = _Connection(gateway, guest, _bearer(request), config)
        if not spoken:
            # After the upgrade, because only a close code tells a client not to come back.
            listener.refusal = CloseCode.VERSION, f"this server speaks {SUBPROTOCOL} only"
        accepted = WSUpgradeResponse.create_101_response(headers)
        return WSUpgradeResponseWithListener(accepted, listener)

    tls = server_context(config.tls_cert, config.tls_key) if config.tls_cert else None
    server = await open_door(route, config.host, config.port, config.frame_bytes * SLACK, tls=tls)
    for listener in server.sockets:
        tune(listener)
    scheme, host = "wss" if tls else "ws", f"[{config.host}]" if ":" in config.host else config.host
    return Server(server, f"{scheme}://{host}:{{port}}{PATH}")


def _refusal(request: WSUpgradeRequest, config: Config) -> Page | None:
    headers = request.headers
    if "websocket" not in headers.get("Upgrade", "").lower():
        return Page(426, f"{PATH} speaks WebSocket: connect with a WebSocket client\n")
    origin = headers.get("Origin")
    if origin is not None and not origin_allowed(origin, config.origins):
        # A page from elsewhere must not reach in through a browser of this machine.
        return Page(403, f"Origin is {origin!r}: must be on this machine, or named in chatd's origins\n")
    if TOKEN_IN_QUERY.search(request.path):
        return Page(400, "a token in a URL ends in logs: put it into connect, or the Authorization header\n")
    if len(headers.getall("Authorization", [])) > 1:
        return Page(400, "Authorization is given more than once: give it once\n")
    return None


def _bearer(request: WSUpgradeRequest) -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def http_answer(page: Page) -> WSUpgradeResponseWithListener:
    """A page as an HTTP answer; the connection ends with it."""
    headers = {"Content-Type": page.content_type, "Cache-Control": "no-store"}
    if page.retry_after_s is not None:
        headers["Retry-After"] = str(page.retry_after_s)
    body = page.body.encode()
    if page.status == HTTPStatus.OK:
        response = WSUpgradeResponse.create_ok_response(body, headers)
    else:
        response = WSUpgradeResponse.create_error_response(page.status, body, headers)
    return WSUpgradeResponseWithListener(response, None)

"""A client's socket: picows on one side, ``Client`` on the other.

The hot path of a worker is ``_Socket.on_ws_frame``: one pushed message, on one of many
connections. A server that encodes a message once sends the same bytes to every
subscriber, so what they say is worked out once per worker and remembered by those bytes (``Memo``);
a repeat costs a dictionary look-up instead of a JSON decode and a digest.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import ssl
from collections.abc import Callable
from socket import IPPROTO_TCP, SO_RCVBUF, SOL_SOCKET, TCP_INFO, socket
from time import monotonic_ns
from typing import Final, Generic, NamedTuple, TypeVar

from picows import (
    WSCloseCode,
    WSFrame,
    WSHandshakeError,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    ws_connect,
)

from reports.history import CONN_ERRNO, BadReason

from .client import ABNORMAL, Client
from .drivers.base import Capability
from .publisher import MAX_SERIAL, Delivery, Shared
from .trust import Trust

HANDSHAKE_S: Final = 10.0  # from the dial to the upgrade's answer
_LEAVE_S: Final = 1.0  # a close frame that is not answered for so long is given up
_WRITE_BUFFER_BYTES: Final = 65_536  # uvloop's own low-water mark is 16 bytes
_READ_BUFFER_BYTES: Final = 4_096  # per connection; grows when frames need it
_MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
_MEMO_SIZE: Final = 4_096
_SLOW_S: Final = 0.1  # between two looks at what a slow reader may take
_SLOW_BUFFER_BYTES: Final = 16_384
_USUAL_BUFFER_BYTES: Final = 1 << 20
ESTABLISHED: Final = 1  # TCP_ESTABLISHED of linux/include/net/tcp_states.h

_TEXT: Final = WSMsgType.TEXT

T = TypeVar("T")

# picows says one INFO line per connection, and a warning when a write buffer fills up.
logging.getLogger("picows").setLevel(logging.ERROR)


class Failed(NamedTuple):
    """Why a dial failed: CONN's serial, and how long the server asks to stay away, in seconds."""

    status: int
    asked_s: float


class Memo(Generic[T]):
    """What frames say, by their bytes. Bounded: it is emptied when it is full."""

    __slots__ = ("known",)

    def __init__(self) -> None:
        self.known: dict[bytes, T] = {}

    def remember(self, payload: bytes, said: T) -> None:
        if len(self.known) >= _MEMO_SIZE:
            self.known.clear()
        self.known[payload] = said


class Wires:
    """What the sockets of a worker share.

    Args:
        ended: called when a connection is over, with the client and how long it waits before it comes
            back (None: never).
        crashed: called with an exception of ours; picows would log it and go on.
        trust: how to dial; by default without TLS of its own and without tokens.
    """

    def __init__(
        self,
        shared: Shared,
        *,
        ended: Callable[[Client, float | None], None],
        crashed: Callable[[BaseException], None],
        trust: Trust | None = None,
    ) -> None:
        self.trust = trust or Trust()
        self.shared, self.ended, self.crashed = shared, ended, crashed
        self.memo: Memo[Delivery] = Memo()
        self.noise: Memo[Capability] = Memo()  # of frames that have no place in a stream
        self.remembers = shared.driver.pure_deliveries
        self._delivery = shared.driver.delivery
        self.learn = self._learn if self.remembers else _nothing

    def _learn(self, payload: bytes) -> Delivery | None:
        """What a text frame that was not seen before delivers; None: it is something else.

        It is remembered where others here will get it too.
        """
        if (plain := self._delivery(payload)) is None:
            return None
        channel, serial, body, about = plain
        if not 0 <= serial <= MAX_SERIAL:
            return None
        shared = self.shared
        said = shared.delivered(channel, serial, body, about)
        if shared.audience[channel] > 1:
            self.memo.remember(payload, said)
        return said


def _nothing(_payload: bytes) -> None:
    """Frames of this driver have to be read by ``feed``."""


def feed(client: Client, wires: Wires, payload: bytes) -> None:
    """Give a client a frame that is no delivery, unless it is known to have no place in a stream."""
    if (what := wires.noise.known.get(payload)) is not None:
        client.heard_ns = monotonic_ns()
        wires.shared.tally.note(what)
        return
    client.feed(payload, monotonic_ns())
    if wires.remembers and (notice := wires.shared.take_notice()) is not None:
        wires.noise.remember(payload, notice)


class _Socket(WSListener):
    """One open WebSocket; the ``Link`` of its client."""

    # What thousands of sockets are made of is cold each time: the less of it, the better.
    __slots__ = (
        "_answers", "_client", "_code", "_fragments", "_held", "_is_closing", "_known", "_learn", "_over",
        "_transport", "_wires",
    )  # fmt: skip

    def __init__(self, client: Client, wires: Wires) -> None:
        super().__init__()
        self._client, self._wires = client, wires
        self._known, self._learn = wires.memo.known, wires.learn
        self._answers = wires.shared.driver.answers
        self._transport: WSTransport | None = None
        self._is_closing: Callable[[], bool] = bool  # of the open socket
        self._fragments: list[bytes] = []
        self._code = 0  # of the close frame; 0: none yet
        self._over = False

    # What picows calls --------------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        transport.underlying_transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        self._transport = transport
        self._is_closing = transport.underlying_transport.is_closing
        self._client.opened(self, monotonic_ns())

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if self._over:  # what comes behind a close frame is discarded (RFC 6455 § 1.4)
            return
        try:
            payload, known = frame.get_payload_as_bytes(), self._known
            delivery = known.get(payload) if known else None
            if delivery is None and frame.msg_type is _TEXT and frame.fin:
                if payload.startswith(self._answers):
                    self._client.feed(payload, monotonic_ns())
                    return
                delivery = self._learn(payload)
            if delivery is not None:
                client = self._client
                client.heard_ns = monotonic_ns()
                client.deliver(delivery)
            else:
                self._read(frame, payload)
        except Exception as error:
            self._wires.crashed(error)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        try:
            self._end(ABNORMAL)
        except Exception as error:
            self._wires.crashed(error)

    def pause_writing(self) -> None:
        """Writes are never dropped here: what the server does not take shows as latency."""

    def resume_writing(self) -> None:
        """See ``pause_writing``."""

    # What the client calls ----------------------------------------------------------------------------

    def send(self, frame: bytes) -> bool:
        transport = self._transport
        # The socket is closing from when the connection is lost or given up.
        if transport is None or self._over or transport.is_close_frame_sent or self._is_closing():
            return False
        transport.send(_TEXT, frame)
        return True

    def hold(self) -> None:
        if self._transport is not None:
            self._transport.underlying_transport.pause_reading()

    def release(self) -> None:
        if self._transport is not None and not self._over:
            self._transport.underlying_transport.resume_reading()

    @property
    def cut(self) -> bool:
        """Linux tells the state of a connection that nobody reads: struct tcp_info begins with it."""
        if self._transport is None or self._over:
            return True
        socket = self._transport.underlying_transport.get_extra_info("socket")
        return bool(socket.getsockopt(IPPROTO_TCP, TCP_INFO, 1)[0] != ESTABLISHED)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.send_close(WSCloseCode.OK)
            asyncio.get_running_loop().call_later(_LEAVE_S, self.abort)

    def abort(self) -> None:
        if self._transport is not None and not self._transport.is_disconnected:
            self._transport.disconnect(graceful=False)

    # Frames that are no delivery -----------------------------------------------------------------------

    def _read(self, frame: WSFrame, payload: bytes) -> None:
        kind = frame.msg_type
        if kind is _TEXT and frame.fin:
            feed(self._client, self._wires, payload)
        elif kind is WSMsgType.CLOSE:
            self._closing(payload)
        elif kind in (_TEXT, WSMsgType.CONTINUATION):
            self._fragments.append(payload)
            if frame.fin:
                whole = b"".join(self._fragments)
                self._fragments.clear()
                feed(self._client, self._wires, whole)
        elif kind is WSMsgType.BINARY:
            self._client.heard_ns = monotonic_ns()
            self._client.bad(BadReason.UNDECODABLE)

    def _closing(self, payload: bytes) -> None:
        code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
        if self._transport is not None:
            self._transport.send_close(WSCloseCode.OK)
            self._transport.disconnect()
        self._end(code)

    def _end(self, code: int) -> None:
        """The first sign that the connection is over; others follow and say nothing new."""
        if self._over:
            return
        self._over = True
        self._wires.ended(self._client, self._client.disconnected(code, monotonic_ns()))


class Appetite:
    """Of a reader that takes ``persona.read_per_s`` frames, and leaves the rest to the kernel's buffers.

    Args:
        reads: called with whether the socket is to be read, when that changes.
    """

    def __init__(self, client: Client, reads: Callable[[bool], None]) -> None:
        assert client.persona.read_per_s is not None
        self._client, self._reads, self._per_s = client, reads, client.persona.read_per_s
        self._due, self._full = self._per_s * _SLOW_S, False
        self._socket: socket  # once connected
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, transport: asyncio.BaseTransport) -> None:
        """The connection is made; its buffer is small, so that what waits is seen by the server and not
        hidden by the kernel.
        """
        self._socket = transport.get_extra_info("socket")
        self._socket.setsockopt(SOL_SOCKET, SO_RCVBUF, _SLOW_BUFFER_BYTES)
        self._refill()

    def _refill(self) -> None:
        """A frame's worth of patience for each 1 / per_s; what was read at one go beyond it is a debt."""
        step_s = _SLOW_S if self._per_s * _SLOW_S >= 1 else 1 / self._per_s
        self._due = min(max(1.0, self._per_s * step_s), self._due + self._per_s * step_s)
        if self._full and not self._client.deaf and (self._due >= 1 or not self._client.slow):
            self._full = False
            self._reads(True)
        if not self._client.slow:  # it has to catch up: a small window would take ten times as long
            self._socket.setsockopt(SOL_SOCKET, SO_RCVBUF, _USUAL_BUFFER_BYTES)
            return
        self._timer = asyncio.get_running_loop().call_later(step_s, self._refill)

    def took(self) -> None:
        """A frame was read."""
        self._due -= 1
        if self._due < 1 and not self._full and self._client.slow:
            self._full = True
            self._reads(False)

    def released(self) -> None:
        """The client hears again, and its socket is read."""
        self._full = False

    def end(self) -> None:
        """The connection is over."""
        if self._timer is not None:
            self._timer.cancel()


class _SlowSocket(_Socket):
    """One whose reader has an ``Appetite``."""

    def __init__(self, client: Client, wires: Wires) -> None:
        super().__init__(client, wires)
        self._appetite = Appetite(client, self._read_on)

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._appetite.begin(transport.underlying_transport)
        super().on_ws_connected(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        super().on_ws_frame(transport, frame)
        self._appetite.took()

    def release(self) -> None:
        self._appetite.released()
        super().release()

    def _read_on(self, on: bool) -> None:
        if self._transport is not None and not self._over:
            read = self._transport.underlying_transport
            (read.resume_reading if on else read.pause_reading)()

    def _end(self, code: int) -> None:
        self._appetite.end()
        super()._end(code)


async def open_websocket(client: Client, url: str, wires: Wires) -> Failed | None:
    """Connect a client by WebSocket. None: its socket is open, or was and has ended already.

    Raises:
        AuthFailed: the server is not the one that is trusted.
    """

    def listener(_request: WSUpgradeRequest, _response: WSUpgradeResponse) -> _Socket:
        return (_Socket if client.persona.read_per_s is None else _SlowSocket)(client, wires)

    try:
        _, socket = await ws_connect(
            listener,
            url,
            websocket_handshake_timeout=HANDSHAKE_S,
            extra_headers=wires.trust.headers(wires.shared.driver.subprotocol),
            max_redirects=0,  # a redirect could lead away from the allowed targets
            max_frame_size=_MAX_FRAME_BYTES,
            read_buffer_init_size=_READ_BUFFER_BYTES,
            use_aiofastnet=False,
            **wires.trust.of(url),
        )
    except ssl.SSLCertVerificationError as error:
        raise wires.trust.stranger(url, error) from None
    except (OSError, WSHandshakeError) as error:
        return failure(error)
    # picows gives no listener when the server closed the connection before it answered the upgrade.
    return None if isinstance(socket, _Socket) else Failed(CONN_ERRNO + errno.ECONNRESET, 0.0)


def failure(error: OSError | WSHandshakeError) -> Failed:
    """What a dial that raised this comes to."""
    if not isinstance(error, WSHandshakeError):
        number = error.errno
        if isinstance(error, ssl.SSLError):
            number = errno.EPROTO  # it has a number of its own there
        elif number is None and isinstance(error, TimeoutError):
            number = errno.ETIMEDOUT
        return Failed(CONN_ERRNO + (number if number is not None and number > 0 else errno.EIO), 0.0)
    if error.response is None:
        return Failed(CONN_ERRNO + errno.EPROTO, 0.0)
    return Failed(int(error.response.status), retry_after_s(error.response.headers.get("Retry-After")))


def retry_after_s(field: str | None) -> float:
    """How long a Retry-After asks to stay away; a date is none, and nobody waits for more than a minute."""
    return min(float(field), 60.0) if field and field.isascii() and field.isdigit() else 0.0

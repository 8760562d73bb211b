"""Driver for chatd over HTTP: server-sent events, long polling, and publishes in bodies.

The frames are those of ``chatd.v1``, byte for byte (PROTOCOL.md § Fallback transports), so that what they
mean is read by ``ChatdDriver``. What is here is how requests are put, and which frames of a poll's answer
say nothing new.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final
from urllib.parse import quote, urlencode

import msgspec

from chatd.protocol import messages as wire
from reports.history import BadReason, Transport

from .base import Buffer, Capability, Position, Sink, Want, Welcome
from .chatd import ChatdDriver, welcome_of

POLL_S: Final = 25.0  # that a poll may wait, where the server does not say how often it is heard
MAX_POLL_S: Final = 60.0  # that the server lets it wait
PATIENCE_S: Final = 8.0  # beyond that
GENERIC: Final = 4000  # of a close that cannot be read
UNSAID: Final = Welcome(node="", ping_s=POLL_S, pong_s=PATIENCE_S, retry_s=(0.5, 30.0), contract={})
_ON_A_CONNECTION: Final = frozenset(
    {Capability.CHANNELS, Capability.PRESENCE, Capability.TYPING, Capability.RECEIPT}
)

_decode_error = msgspec.json.Decoder(wire.Error).decode
_decode_position = msgspec.json.Decoder(dict[str, tuple[str, int]]).decode


class _Close(msgspec.Struct):
    """The data of the event ``close``."""

    code: int


_decode_close = msgspec.json.Decoder(_Close).decode


class _Piece(msgspec.Struct):
    """The answer to a poll."""

    position: msgspec.Raw
    frames: list[msgspec.Raw]


_decode_piece = msgspec.json.Decoder(_Piece).decode


class ChatdHttpDriver(ChatdDriver):
    """One connection's codec; see ``drivers.base.HttpDriver``."""

    name: ClassVar[str] = "chatd_http"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability) - _ON_A_CONNECTION
    subprotocol: ClassVar[str | None] = None
    frame_view: ClassVar[str] = ""
    connect_subscribes: ClassVar[bool] = True
    pipelines: ClassVar[bool] = False
    most_channels: ClassVar[int] = 32

    def __init__(self, transport: Transport = Transport.SSE, known: Welcome | None = None) -> None:
        super().__init__()
        self._polls, self._known = transport is Transport.POLL, known
        self.goodbye_code = 0
        self._ordinal, self._client = 0, ""
        self._token: str | None = None
        self._channels: list[str] = []
        self._accepted = self._goes_on = False
        self._position = b""  # the map with which the next poll asks
        self._asked: Mapping[str, Position] = {}  # the map with which the poll at hand asked
        self._quiet: set[str] = set()  # channels whose subscription the answer at hand just carries on

    @staticmethod
    def path(ordinal: int) -> str:
        return f"/sse?c={ordinal}"

    def at(self, ordinal: int) -> None:
        self._ordinal = ordinal

    def connect(self, client: str, wanted: Sequence[Want], token: str | None = None) -> bytes:
        self._client, self._token = client, token
        self._channels = [want.channel for want in wanted]
        self._asked = {want.channel: want.start for want in wanted if isinstance(want.start, tuple)}
        start = "first" if any(want.start == "first" for want in wanted) else "new"
        if self._polls:
            return self._poll(json.dumps(self._asked, separators=(",", ":")).encode(), start, wait_s=0.0)
        places = f"Last-Event-ID: {json.dumps(self._asked)}\r\n" if self._asked else ""
        return self._get("/sse", {"from": start}, f"Accept: text/event-stream\r\n{places}")

    def poll(self) -> tuple[bytes, Mapping[str, Position]]:
        wait_s = min((self._known or UNSAID).ping_s or POLL_S, MAX_POLL_S)
        self._asked = _decode_position(self._position)
        self._goes_on = True
        return self._poll(self._position, "new", wait_s), self._asked

    def publish(self, channel: str, message: str, body: bytes, tag: object) -> bytes:
        return self._post(super().publish(channel, message, body, tag))

    def react(self, channel: str, about: int, message: str, body: bytes, tag: object) -> bytes:
        return self._post(super().react(channel, about, message, body, tag))

    def history(self, channel: str, limit: int) -> bytes:
        return self._post(super().history(channel, limit))

    def closing(self, kind: bytes, data: bytes) -> int | None:
        if kind != b"close":
            return None
        try:
            return _decode_close(data).code
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return GENERIC

    def frames(self, body: Buffer, sink: Sink) -> Sequence[Buffer]:
        try:
            piece = _decode_piece(body)
            _decode_position(piece.position)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            sink.bad(BadReason.UNDECODABLE)
            return ()
        self._position = bytes(piece.position)
        if not self._accepted:
            # `connected` is there only where a channel had no position: then it is the first of the frames.
            first = bytes(piece.frames[0]) if piece.frames else b""
            if not first.startswith(b'{"type":"connected"'):
                self._accepted = True
                sink.connected(self._known or UNSAID)
        return [memoryview(frame) for frame in piece.frames]

    def answered(self, status: int, body: Buffer, sink: Sink) -> None:
        if status == 200:
            self.feed(body, sink)
            return
        try:
            error = _decode_error(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # Not the server: somebody between, who does not know whether it was placed.
            error = wire.Error(id=None, code=status, reason="", temporary=status >= 500, definite=False)
        waiting = self._open.keys() | self._published.keys()
        if error.id not in waiting:
            error = msgspec.structs.replace(error, id=min(waiting, default=None))
        self._error(error, sink)

    def _rare(self, frame: object, sink: Sink) -> None:
        match frame:
            case wire.Connected():
                if self._polls and self._accepted:
                    return  # of another session of the same client: a channel was not in the map
                self._accepted, self._known = True, welcome_of(frame)
                sink.connected(self._known)
            case wire.Goodbye():
                self.goodbye_code = frame.code
                super()._rare(frame, sink)
            case wire.Subscribed() if self._carries_on(frame):
                self._quiet.add(frame.channel)
            case wire.Live() if frame.channel in self._quiet:
                self._quiet.discard(frame.channel)
            case _:
                super()._rare(frame, sink)

    def _carries_on(self, frame: wire.Subscribed) -> bool:
        """Whether a later poll's subscription begins just where the one before ended."""
        if not self._goes_on or not frame.resumed or frame.gap is not None:
            return False
        return self._asked.get(frame.channel) == (frame.position[0], frame.start)

    def _poll(self, position: bytes, start: str, wait_s: float) -> bytes:
        asked = {"from": start, "wait_s": f"{wait_s:g}"}
        return self._get("/poll", asked | ({"position": position.decode()} if position != b"{}" else {}))

    def _get(self, path: str, asked: Mapping[str, str], fields: str = "") -> bytes:
        query = urlencode(
            [("c", self._ordinal), ("client", self._client), *asked.items()]
            + [("channel", channel) for channel in self._channels],
            quote_via=quote,
        )
        return f"GET {path}?{query} HTTP/1.1\r\n{self._login()}{fields}\r\n".encode()

    def _post(self, frame: bytes) -> bytes:
        body = frame[:-1] + b',"client":%b}' % msgspec.json.encode(self._client)
        head = (
            f"POST /publish?c={self._ordinal} HTTP/1.1\r\n{self._login()}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def _login(self) -> str:
        return "" if self._token is None else f"Authorization: Bearer {self._token}\r\n"

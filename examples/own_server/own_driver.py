"""The driver of ``own_server.py``: what chatproof has to know to load it and to hold it to its promises."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import ClassVar, Final

import msgspec

from loadgen.drivers.base import Buffer, Capability, Sink, Subscribed, Want, Welcome
from reports.history import BadReason

EPOCH: Final = "1"  # this server promises that numbers never begin anew, so a room has one life


class _Kept(msgspec.Struct, gc=False):
    seq: int
    text: msgspec.Raw


class _Frame(msgspec.Struct, gc=False):
    """Every frame that the server sends."""

    op: str
    room: str = ""
    seq: int = 0
    text: msgspec.Raw = msgspec.Raw()
    since: int = 0
    oldest: int = 0
    messages: list[_Kept] = []
    id: int = 0
    nonce: str = ""
    again: bool = False
    heartbeat_s: float = 0.0
    code: int = 0
    retry: bool = False


_decode = msgspec.json.Decoder(_Frame).decode
_encode = msgspec.json.Encoder().encode


class OwnDriver:
    """One connection's codec; its members are those of ``loadgen.drivers.base.Driver``."""

    name: ClassVar[str] = "own"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.ACK,
            Capability.ACK_POSITION,
            Capability.SERIAL,
            Capability.CHANNEL_ORDER,
            Capability.RESUME,
            Capability.DEDUPE,
            Capability.HISTORY,
            Capability.CHANNELS,
        }
    )
    subprotocol: ClassVar[str | None] = None
    frame_view: ClassVar[str] = ""
    connect_subscribes: ClassVar[bool] = False  # a join is a frame of its own
    pipelines: ClassVar[bool] = True
    pure_deliveries: ClassVar[bool] = False
    answers: ClassVar[tuple[bytes, ...]] = ()

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._open: dict[int, object] = {}  # id of a send -> its tag
        self._since: dict[str, bool] = {}  # room -> whether its join asked for what came after a message

    @staticmethod
    def path(ordinal: int) -> str:
        return f"/?c={ordinal}"

    @staticmethod
    def delivery(payload: bytes) -> None:
        """None: ``feed`` reads everything."""

    @staticmethod
    def may_return(close_code: int) -> bool:
        return close_code not in (4000, 4001)

    def connect(self, client: str, wanted: Sequence[Want], token: str | None = None) -> bytes:
        return _encode({"op": "hello", "name": client, "token": token})

    def subscribe(self, want: Want) -> bytes:
        self._since[want.channel] = isinstance(want.start, tuple)
        join: dict[str, object] = {"op": "join", "room": want.channel}
        if want.start != "new":
            join["since"] = 0 if want.start == "first" else want.start[1]
        return _encode(join)

    def unsubscribe(self, channel: str) -> bytes:
        return _encode({"op": "leave", "room": channel})

    def publish(self, channel: str, message: str, body: bytes, tag: object) -> bytes:
        ident = next(self._ids)
        self._open[ident] = tag
        text = msgspec.Raw(body)
        return _encode({"op": "send", "id": ident, "room": channel, "nonce": message, "text": text})

    def history(self, channel: str, limit: int) -> bytes:
        return _encode({"op": "page", "room": channel, "limit": limit})

    def pong(self) -> bytes:
        return b'{"op":"pong"}'

    def feed(self, payload: Buffer, sink: Sink) -> None:
        try:
            frame = _decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            sink.bad(BadReason.UNDECODABLE)
            return
        match frame.op:
            case "message" if frame.seq > 0 and bytes(frame.text):
                sink.message(frame.room, frame.seq, bytes(frame.text))
            case "ack":
                tag = self._open.pop(frame.id, None)
                sink.ack(tag, frame.nonce, EPOCH, frame.seq, frame.again)
            case "error":
                tag = self._open.pop(frame.id, None)
                sink.nack(tag, frame.code, temporary=frame.retry, definite=not frame.retry, after_s=None)
            case "joined":
                self._joined(frame, sink)
            case "left" if frame.room:
                sink.unsubscribed(frame.room)
            case "welcome":
                beat_s = frame.heartbeat_s
                sink.connected(Welcome("", beat_s, beat_s, (0.2, 2.0), {"echo": True}))
            case "page":
                sink.noticed(Capability.HISTORY, answer=True)
            case "ping":
                sink.ping()
            case _:
                sink.bad(BadReason.UNEXPECTED)

    def _joined(self, frame: _Frame, sink: Sink) -> None:
        """The answer to a join brings all that the client has missed."""
        sink.subscribed(
            Subscribed(
                channel=frame.room,
                epoch=EPOCH,
                start=frame.since,
                top=frame.seq,
                floor=frame.oldest,
                resumed=self._since.get(frame.room, False),
                hole=None,
                lineage=(),
            )
        )
        for one in frame.messages:
            sink.message(frame.room, one.seq, bytes(one.text))
        sink.live(frame.room, EPOCH, frame.seq)

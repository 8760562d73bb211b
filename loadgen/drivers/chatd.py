"""Driver for chatd (``chatd.v1``, chatd/protocol/PROTOCOL.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Final

import msgspec

from chatd.protocol import messages as wire
from chatd.protocol.errors import OutOfOrder, may_return
from reports.history import BadReason, GapReason

from .base import Buffer, Capability, Delivered, Hole, Position, Sink, Subscribed, Want, Welcome

_WHY: Final[Mapping[str, GapReason]] = {reason.name.lower(): reason for reason in GapReason}


class _Delivery(msgspec.Struct, tag_field="type", tag="message", frozen=True, gc=False):
    """A ``message`` push of any kind, less what a load client does not look at: decoded once per delivery."""

    channel: str
    serial: int
    data: msgspec.Raw
    kind: str = "text"
    to: int | None = None


class _Ack(msgspec.Struct, tag_field="type", tag="ack", frozen=True, gc=False):
    """Likewise an ``ack``, the other frame that comes often."""

    id: int
    message: str
    position: Position
    duplicate: bool


class _Reaction(msgspec.Struct, gc=False):
    """``data`` of a reaction; the load puts what identifies it into the emoji."""

    emoji: str


_Reply = (
    _Delivery
    | _Ack
    | wire.Connected
    | wire.Subscribed
    | wire.Live
    | wire.Gap
    | wire.Presence
    | wire.Typing
    | wire.Receipt
    | wire.HistoryPage
    | wire.Unsubscribed
    | wire.Reset
    | wire.Goodbye
    | wire.Error
)
_decode: Callable[[Buffer], object] = msgspec.json.Decoder(_Reply).decode
_decode_reaction: Callable[[Buffer], _Reaction] = msgspec.json.Decoder(_Reaction).decode
_text: Callable[[str], bytes] = wire.encode


class ChatdDriver:
    """One connection's codec; see ``drivers.base.Driver``."""

    __slots__ = ("_last_id", "_open", "_published")

    name: ClassVar[str] = "chatd"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability)
    subprotocol: ClassVar[str | None] = wire.SUBPROTOCOL
    frame_view: ClassVar[str] = "loadgen.drivers.chatd_view:FRAME_VIEW"
    pure_deliveries: ClassVar[bool] = True
    connect_subscribes: ClassVar[bool] = True
    pipelines: ClassVar[bool] = True
    answers: ClassVar[tuple[bytes, ...]] = (b'{"type":"ack"',)

    def __init__(self) -> None:
        self._last_id = 0
        # Open requests by id. Of a publish: its tag.
        self._published: dict[int, object] = {}
        # Of any other: what was asked, the channel of a (un)subscribe, or None for connect.
        self._open: dict[int, Capability | str | None] = {}

    @staticmethod
    def path(ordinal: int) -> str:
        return f"/ws?c={ordinal}"

    @staticmethod
    def delivery(payload: bytes) -> Delivered | None:
        try:
            frame = _decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if type(frame) is not _Delivery:
            return None
        if frame.kind == "text":
            return frame.channel, frame.serial, frame.data, 0
        return frame.channel, frame.serial, _identity(frame), frame.to or 0

    @staticmethod
    def may_return(close_code: int) -> bool:
        return may_return(close_code)

    def connect(self, client: str, wanted: Sequence[Want], token: str | None = None) -> bytes:
        subscribe = [_channel_from(want) for want in wanted]
        first = wire.Connect(id=self._next_id(None), client=client, token=token, subscribe=subscribe)
        return wire.encode(first)

    def subscribe(self, want: Want) -> bytes:
        request = self._next_id(want.channel)
        return wire.encode(
            wire.Subscribe(id=request, channel=want.channel, from_=want.start, presence=want.presence)
        )

    def unsubscribe(self, channel: str) -> bytes:
        return wire.encode(wire.Unsubscribe(id=self._next_id(channel), channel=channel))

    def publish(self, channel: str, message: str, body: bytes, tag: object) -> bytes:
        self._last_id = request = self._last_id + 1
        self._published[request] = tag
        # What `wire.encode` makes of a `Publish`, at half the price.
        return b'{"type":"publish","id":%d,"channel":%b,"message":%b,"data":%b}' % (
            request,
            _text(channel),
            _text(message),
            body,
        )

    def react(self, channel: str, about: int, message: str, body: bytes, tag: object) -> bytes:
        self._last_id = request = self._last_id + 1
        self._published[request], emoji = tag, body[1:-1].decode()
        return wire.encode(
            wire.React(id=request, channel=channel, to=about, message=message, emoji=emoji, op="add")
        )

    def typing(self, channel: str) -> bytes:
        return wire.encode(wire.TypingNotice(channel=channel, on=True))

    def receipt(self, channel: str, serial: int) -> bytes:
        return wire.encode(wire.ReceiptNotice(channel=channel, serial=serial, kind="read"))

    def presence(self, channel: str, enter: bool) -> bytes:
        request = self._next_id(Capability.PRESENCE)
        return wire.encode(
            wire.PresenceRequest(id=request, channel=channel, op="enter" if enter else "leave")
        )

    def history(self, channel: str, limit: int) -> bytes:
        request = self._next_id(Capability.HISTORY)
        return wire.encode(wire.HistoryRequest(id=request, channel=channel, limit=limit))

    def pong(self) -> bytes:
        return wire.PING

    def feed(self, payload: Buffer, sink: Sink) -> None:
        try:
            frame = _decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if payload == wire.PING:
                sink.ping()
            else:
                sink.bad(BadReason.UNDECODABLE)
            return
        if type(frame) is _Ack:
            epoch, serial = frame.position
            sink.ack(self._published.pop(frame.id, None), frame.message, epoch, serial, frame.duplicate)
        elif type(frame) is _Delivery:
            if frame.kind == "text":
                sink.message(frame.channel, frame.serial, frame.data)
            else:
                sink.message(frame.channel, frame.serial, _identity(frame), frame.to or 0)
        else:
            self._rare(frame, sink)

    def _next_id(self, what: Capability | str | None) -> int:
        self._last_id += 1
        self._open[self._last_id] = what
        return self._last_id

    def _rare(self, frame: object, sink: Sink) -> None:
        match frame:
            case wire.Connected():
                self._open.pop(frame.id, None)
                sink.connected(welcome_of(frame))
            case wire.Subscribed():
                if frame.id is not None:
                    self._open.pop(frame.id, None)
                sink.subscribed(_subscribed(frame))
            case wire.Live():
                sink.live(frame.channel, *frame.position)
            case wire.Gap():
                sink.gap(frame.channel, Hole(_WHY[frame.why], frame.from_, frame.to))
            case wire.Reset():
                sink.reset(frame.channel, frame.position[0], frame.fork, frame.epochs)
            case wire.Unsubscribed():
                self._open.pop(frame.id, None)
                sink.unsubscribed(frame.channel)
            case wire.Goodbye():
                low_ms, high_ms = frame.after_ms
                sink.goodbye(frame.code, (low_ms / 1000, high_ms / 1000), frame.to)
            case wire.Error():
                self._error(frame, sink)
            case wire.Presence() | wire.HistoryPage() if frame.id is not None:
                asked = self._open.pop(frame.id, None)
                if isinstance(asked, Capability):
                    sink.noticed(asked, answer=True)
                else:
                    sink.bad(BadReason.UNEXPECTED)
            case wire.Presence():  # what others do in the channel: it has no place in the stream
                sink.noticed(Capability.PRESENCE)
            case wire.Typing():
                sink.noticed(Capability.TYPING)
            case wire.Receipt():
                sink.noticed(Capability.RECEIPT)
            case _:
                sink.bad(BadReason.UNEXPECTED)

    def _error(self, frame: wire.Error, sink: Sink) -> None:
        known = frame.id is None or frame.id in self._open
        request = self._open.pop(frame.id, None) if frame.id is not None else None
        if isinstance(request, Capability):
            sink.failed(request, frame.code)
        elif frame.id is not None and not known:
            sink.nack(
                self._published.pop(frame.id, None),
                frame.code,
                # 412 says that an earlier publish has to go first: this one is sent again after it.
                temporary=frame.temporary or frame.code == OutOfOrder.code,
                definite=frame.definite,
                after_s=None if frame.after_ms is None else frame.after_ms / 1000,
            )
        else:
            sink.refused(request, frame.code, frame.reason, temporary=frame.temporary)


def _channel_from(want: Want) -> wire.ChannelFrom:
    return wire.ChannelFrom(channel=want.channel, from_=want.start, presence=want.presence)


def _identity(frame: _Delivery) -> Buffer:
    """The body that says whose a reaction is; the data as it is where that cannot be read."""
    if frame.kind != "react":
        return frame.data
    try:
        return b'"%b"' % _decode_reaction(frame.data).emoji.encode()
    except (msgspec.DecodeError, UnicodeError):
        return frame.data


def welcome_of(frame: wire.Connected) -> Welcome:
    """What `connected` says."""
    base_ms, cap_ms = frame.retry_ms
    return Welcome(
        node=frame.node,
        ping_s=frame.ping_s,
        pong_s=frame.pong_s,
        retry_s=(base_ms / 1000, cap_ms / 1000),
        contract=msgspec.to_builtins(frame.contract),
    )


def _subscribed(frame: wire.Subscribed) -> Subscribed:
    epoch, top = frame.position
    lineage: Sequence[Position] = frame.epochs or ()
    hole = None if frame.gap is None else Hole(_WHY[frame.gap.why], frame.gap.from_, frame.gap.to)
    return Subscribed(
        channel=frame.channel,
        epoch=epoch,
        start=frame.start,
        top=top,
        floor=frame.floor,
        resumed=frame.resumed,
        hole=hole,
        lineage=lineage,
    )

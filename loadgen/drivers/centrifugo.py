"""Driver for Centrifugo, and for servers on its engine centrifuge: their JSON protocol over WebSocket.

Source: https://centrifugal.dev/docs/transports/client_protocol. A frame holds one or more JSON objects, one
a line. A position is (epoch, offset) of the channel's history, so channels must keep one and be recoverable.

What the protocol does not have, and so is not promised: an id of a message (a publish that is sent again is
placed again), the position of what was just published, the oldest offset still held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Final

import msgspec

from reports.history import BadReason, GapReason

from .base import Buffer, Capability, Hole, Position, Sink, Subscribed, Want, Welcome

PONG_S: Final = 10.0  # patience beyond a ping that the project's own client libraries have
RETRY_S: Final = (0.5, 20.0)  # base and cap of their backoff
_INTERNAL: Final = 100  # the one error after which a publish may have been placed all the same
_RESUBSCRIBE: Final = 2500  # an unsubscribe of this code or above asks to subscribe again
_NO_HISTORY: Final = (
    "it is not recoverable: its namespace must have history_size, history_ttl, force_recovery"
)
_EMPTY: Final = b"{}"  # a ping, and its answer


class _Unread(msgspec.Struct, gc=False):
    """An object of which only the presence counts."""


class _Publication(msgspec.Struct, gc=False):
    data: msgspec.Raw = msgspec.Raw()
    offset: int = 0


class _Code(msgspec.Struct, gc=False):
    """An error, or why something ends."""

    code: int = 0
    message: str = ""
    reason: str = ""
    temporary: bool = False


class _Push(msgspec.Struct, gc=False):
    channel: str = ""
    pub: _Publication | None = None
    unsubscribe: _Code | None = None
    disconnect: _Code | None = None
    join: _Unread | None = None
    leave: _Unread | None = None


class _Connected(msgspec.Struct, gc=False):
    version: str = ""
    ping: int = 0


class _Subscribed(msgspec.Struct, gc=False):
    epoch: str = ""
    offset: int = 0
    recovered: bool = False
    positioned: bool = False
    publications: list[_Publication] = []


class _Reply(msgspec.Struct, gc=False):
    """An answer, which has an id, or a push."""

    push: _Push | None = None
    id: int = 0
    error: _Code | None = None
    connect: _Connected | None = None
    subscribe: _Subscribed | None = None
    unsubscribe: _Unread | None = None
    publish: _Unread | None = None
    history: _Unread | None = None


class _Publish(msgspec.Struct):
    """An open publish request."""

    tag: object
    message: str


class _Leave(msgspec.Struct):
    """An open unsubscribe request."""

    channel: str


_Request = _Publish | _Leave | Want | Capability | None  # None: connect
_decode: Callable[[Buffer], _Reply] = msgspec.json.Decoder(_Reply).decode
_encode: Final = msgspec.json.Encoder().encode


class CentrifugoDriver:
    """One connection's codec; see ``drivers.base.Driver``."""

    name: ClassVar[str] = "centrifugo"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.ACK,
            Capability.SERIAL,
            Capability.CHANNEL_ORDER,
            Capability.RESUME,
            Capability.HISTORY,
            Capability.CHANNELS,
        }
    )
    subprotocol: ClassVar[str | None] = None
    frame_view: ClassVar[str] = ""
    connect_subscribes: ClassVar[bool] = True
    pipelines: ClassVar[bool] = True
    answers: ClassVar[tuple[bytes, ...]] = ()
    pure_deliveries: ClassVar[bool] = False  # a frame may hold several messages, and answers of its own

    def __init__(self) -> None:
        self._last_id = 0
        self._open: dict[int, _Request] = {}

    @staticmethod
    def path(ordinal: int) -> str:
        return f"/connection/websocket?c={ordinal}"

    @staticmethod
    def delivery(payload: bytes) -> None:
        """None: see ``pure_deliveries``."""

    @staticmethod
    def may_return(close_code: int) -> bool:
        return not (3500 <= close_code <= 3999 or 4500 <= close_code <= 4999)

    def connect(self, client: str, wanted: Sequence[Want], token: str | None = None) -> bytes:
        who = {"name": client} if token is None else {"name": client, "token": token}
        first = self._command("connect", who, None)
        return b"\n".join([first, *map(self.subscribe, wanted)])

    def subscribe(self, want: Want) -> bytes:
        wish: dict[str, object] = {"channel": want.channel, "positioned": True, "recoverable": True}
        if want.start != "new":
            epoch, offset = ("", 0) if want.start == "first" else want.start
            wish |= {"recover": True, "epoch": epoch, "offset": offset}
        return self._command("subscribe", wish, want)

    def unsubscribe(self, channel: str) -> bytes:
        return self._command("unsubscribe", {"channel": channel}, _Leave(channel))

    def publish(self, channel: str, message: str, body: bytes, tag: object) -> bytes:
        data = {"channel": channel, "data": msgspec.Raw(body)}
        return self._command("publish", data, _Publish(tag, message))

    def history(self, channel: str, limit: int) -> bytes:
        wish = {"channel": channel, "limit": limit, "reverse": True}
        return self._command("history", wish, Capability.HISTORY)

    def pong(self) -> bytes:
        return _EMPTY

    def feed(self, payload: Buffer, sink: Sink) -> None:
        frame = bytes(payload)
        for line in frame.removesuffix(b"\n").split(b"\n"):
            if line == _EMPTY:
                sink.ping()
                continue
            try:
                reply = _decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                sink.bad(BadReason.UNDECODABLE)  # where the next object begins is not known
                return
            if reply.push is not None:
                _push(reply.push, sink)
            elif reply.id > 0:
                self._answer(reply, sink)
            else:
                sink.bad(BadReason.UNEXPECTED)

    def _command(self, name: str, content: object, request: _Request) -> bytes:
        self._last_id += 1
        self._open[self._last_id] = request
        return _encode({"id": self._last_id, name: content})

    def _answer(self, reply: _Reply, sink: Sink) -> None:
        known = reply.id in self._open
        request = self._open.pop(reply.id, None)
        if reply.error is not None:
            _refusal(reply.error, request, sink, known=known)
        elif reply.publish is not None and (not known or isinstance(request, _Publish)):
            tag, message = (request.tag, request.message) if isinstance(request, _Publish) else (None, "")
            sink.ack(tag, message, "", 0, False)
        elif reply.subscribe is not None and isinstance(request, Want):
            _subscription(reply.subscribe, request, sink)
        elif reply.unsubscribe is not None and isinstance(request, _Leave):
            sink.unsubscribed(request.channel)
        elif reply.history is not None and isinstance(request, Capability):
            sink.noticed(request, answer=True)
        elif reply.connect is not None and known and request is None:
            sink.connected(_welcome(reply.connect))
        else:
            sink.bad(BadReason.UNEXPECTED)


def _welcome(answer: _Connected) -> Welcome:
    return Welcome(
        node="",
        ping_s=float(answer.ping),
        pong_s=PONG_S if answer.ping else 0.0,
        retry_s=RETRY_S,
        contract={"echo": True, "version": answer.version},
    )


def _push(push: _Push, sink: Sink) -> None:
    if (pub := push.pub) is not None:
        if pub.offset > 0 and bytes(pub.data):
            sink.message(push.channel, pub.offset, bytes(pub.data))
        else:
            sink.bad(BadReason.UNEXPECTED)
    elif (end := push.unsubscribe) is not None:
        sink.unsubscribed(push.channel)
        if end.code >= _RESUBSCRIBE:
            sink.refused(push.channel, end.code, end.reason, temporary=True)
    elif (end := push.disconnect) is not None:
        sink.goodbye(end.code, (0.0, 0.0), ())
    elif push.join is not None or push.leave is not None:
        sink.noticed(Capability.PRESENCE)
    else:
        sink.bad(BadReason.UNEXPECTED)


def _refusal(error: _Code, request: _Request, sink: Sink, *, known: bool) -> None:
    if isinstance(request, _Publish) or not known:
        sink.nack(
            request.tag if isinstance(request, _Publish) else None,
            error.code,
            temporary=error.temporary,
            definite=error.code != _INTERNAL,
            after_s=None,
        )
    elif isinstance(request, Capability):
        sink.failed(request, error.code)
    else:
        channel = None if request is None else request.channel
        sink.refused(channel, error.code, error.message, temporary=error.temporary)


def _subscription(answer: _Subscribed, want: Want, sink: Sink) -> None:
    """The answer to a subscription brings the whole replay with it."""
    if not answer.positioned:
        sink.refused(want.channel, 0, _NO_HISTORY, temporary=False)
        return
    # Of a recovered one the offset is the one that was asked for, else the newest.
    start, found = answer.offset, answer.publications if answer.recovered else []
    top = max([start, *(pub.offset for pub in found)])
    asked = want.start if isinstance(want.start, tuple) else None
    sink.subscribed(
        Subscribed(
            channel=want.channel,
            epoch=answer.epoch,
            start=start,
            top=top,
            floor=start + 1,  # it may hold older ones; it does not say
            resumed=answer.recovered and asked is not None,
            hole=None if asked is None or answer.recovered else _hole(asked, (answer.epoch, top)),
            lineage=(),
        )
    )
    for pub in found:
        sink.message(want.channel, pub.offset, bytes(pub.data))
    sink.live(want.channel, answer.epoch, top)


def _hole(asked: Position, start: Position) -> Hole | None:
    """What a subscription that was not recovered lacks: ``recovered: false`` declares it."""
    if asked == start:
        return None
    if asked[0] != start[0]:
        return Hole(GapReason.EPOCH, asked, start)
    return Hole(GapReason.TRIMMED if asked[1] < start[1] else GapReason.AHEAD, asked, start)

"""The frames of `chatd.v1`: one Struct per frame, and the only place that knows JSON.

WebSocket text frames, one JSON object each. A request has an ``id`` that its
reply echoes; a push has none. ``{}`` is the server's ping and the client's pong
and is no Struct: compare the payload with ``PING``. Unknown fields are ignored.
PROTOCOL.md § Frames shows every frame; its examples are decoded by a test.

``data`` stays raw JSON (``msgspec.Raw``) from publisher to subscriber: the server
never parses a body, so that a resend is the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import msgspec

SUBPROTOCOL: Final = "chatd.v1"
PING: Final = b"{}"
MAX_SERIAL: Final = 2**53 - 1  # JSON numbers are exact up to here in every client language

Buffer = bytes | bytearray | memoryview
NULL: Final = msgspec.Raw(b"null")
Position = tuple[str, int]  # (epoch, serial): a place in one life of a channel's stream
GapWhy = Literal["trimmed", "epoch", "fork", "ahead", "lag"]


class Last(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``{"last": n}``: begin with the newest n messages."""

    last: int


From = Position | Literal["new", "first"] | Last


class _Frame(msgspec.Struct, tag_field="type", omit_defaults=True, frozen=True, kw_only=True):
    pass


# Client to server -------------------------------------------------------------------------------------


class ChannelFrom(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry of ``connect.subscribe``."""

    channel: str
    from_: From = msgspec.field(default="new", name="from")
    echo: bool = True
    presence: bool = False


class Connect(_Frame, frozen=True, tag="connect"):
    id: int
    token: str | None = None
    client: str | None = None
    subscribe: list[ChannelFrom] = []


class Subscribe(_Frame, frozen=True, tag="subscribe"):
    id: int
    channel: str
    from_: From | None = msgspec.field(default=None, name="from")  # None: "new", and 405 when already open
    echo: bool = True
    presence: bool = False  # push who is present, and who comes and goes


class Unsubscribe(_Frame, frozen=True, tag="unsubscribe"):
    id: int
    channel: str


class Publish(_Frame, frozen=True, tag="publish"):
    id: int
    channel: str
    message: str  # the publisher's own id: the same in every retry
    data: msgspec.Raw


class React(_Frame, frozen=True, tag="react"):
    id: int
    channel: str
    to: int  # the serial of the message that this is about
    message: str
    emoji: str
    op: Literal["add", "remove"]


class Edit(_Frame, frozen=True, tag="edit"):
    id: int
    channel: str
    to: int
    message: str
    data: msgspec.Raw  # what stands instead


class Delete(_Frame, frozen=True, tag="delete"):
    id: int
    channel: str
    to: int
    message: str


Write = Publish | React | Edit | Delete  # what becomes a message of the log


class Auth(_Frame, frozen=True, tag="auth"):
    """A fresh token in place of the one that this connection came with."""

    id: int
    token: str


class HistoryRequest(_Frame, frozen=True, tag="history"):
    id: int
    channel: str
    before: int | None = None
    after: Position | None = None
    limit: int = 100


class PresenceRequest(_Frame, frozen=True, tag="presence"):
    id: int
    channel: str
    op: Literal["enter", "leave", "update", "get"]
    data: msgspec.Raw = NULL  # of enter and update: what the others see of this member


class _Notice(_Frame, frozen=True):
    """A client's frame without ``id``: it gets no answer but an error."""

    @property
    def id(self) -> None:
        return None


class TypingNotice(_Notice, frozen=True, tag="typing"):
    channel: str
    on: bool


ReceiptKind = Literal["delivered", "read"]


class ReceiptNotice(_Notice, frozen=True, tag="receipt"):
    channel: str
    serial: int
    kind: ReceiptKind


class Abandon(_Notice, frozen=True, tag="abandon"):
    """The client gives up on a publish that failed temporarily."""

    message: str


Notice = TypingNotice | ReceiptNotice
Request = (
    Connect | Subscribe | Unsubscribe | Write | HistoryRequest | PresenceRequest | Notice | Auth | Abandon
)


# Server to client -------------------------------------------------------------------------------------


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The retention of one namespace's channels."""

    retain_n: int
    retain_s: float
    retain_bytes: int


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """What the server promises; a run copies it into its manifest and the checker holds the server to it."""

    profile: str  # "effectively-once"
    echo: bool
    durability: str  # memory | process | fsync | replicated: what an ack means
    retain_n: int
    retain_s: float
    retain_bytes: int
    dedupe_s: float
    test_hooks: list[str] = []
    namespaces: dict[str, Kept] = {}  # those whose channels have another retention


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    frame_bytes: int
    channels: int
    in_flight: int = 256  # publishes without an answer, before the server reads on
    publish_per_s: float = 0.0  # of one connection; 0: no limit
    publish_burst: int = 0


class Connected(_Frame, frozen=True, tag="connected"):
    id: int
    node: str
    user: str
    contract: Contract
    limits: Limits
    ping_s: float
    pong_s: float
    retry_ms: tuple[int, int]
    token_s: float | None = None  # until the token expires; None: there is none to expire


class Authorized(_Frame, frozen=True, tag="authorized"):
    """Answer to auth."""

    id: int
    user: str
    token_s: float | None = None


class GapInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A declared hole. Missing are the serials ``from`` + 1 .. ``to``, both inclusive; ``to`` + 1 is next."""

    why: GapWhy
    from_: Position = msgspec.field(name="from")
    to: Position


class Subscribed(_Frame, frozen=True, tag="subscribed"):
    """Answer to subscribe: delivery starts after ``from`` (resumed), or after the gap, or as `from` asked."""

    channel: str
    position: Position  # the head when subscribed; replay up to here, then `live`
    resumed: bool
    count: int  # messages that the replay will carry
    floor: int  # the oldest serial still retained (top + 1 when nothing is)
    start: int  # the serial after which delivery starts
    id: int | None = None  # None for a subscription asked in `connect.subscribe`
    gap: GapInfo | None = None
    epochs: list[Position] | None = None  # (epoch, first serial), when the epoch is not the one asked


class Live(_Frame, frozen=True, tag="live"):
    """The replay is over; what follows arrives as it is published."""

    channel: str
    position: Position


class Gap(_Frame, frozen=True, tag="gap"):
    channel: str
    why: GapWhy
    from_: Position = msgspec.field(name="from")
    to: Position


class Message(_Frame, frozen=True, tag="message"):
    channel: str
    serial: int
    message: str
    user: str
    time: int  # ms since 1970, the server's clock
    data: msgspec.Raw
    kind: str = "text"  # or the type of the request that it came from
    to: int | None = None  # the serial of the message that it is about


class Ack(_Frame, frozen=True, tag="ack", omit_defaults=False):
    """The message has its place; ``duplicate``: it had this one already. PROTOCOL.md § Publishing."""

    id: int
    message: str
    position: Position
    duplicate: bool
    durability: str


class Member(msgspec.Struct, frozen=True, omit_defaults=True):
    """Somebody who is present, and what he says of himself."""

    user: str
    data: msgspec.Raw = NULL


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    op: Literal["enter", "leave", "update"]
    user: str
    data: msgspec.Raw = NULL


class Presence(_Frame, frozen=True, tag="presence"):
    """Who is present: all (``members``), what changed since ``version`` - 1 (``changes``), or how many."""

    channel: str
    version: int
    count: int
    id: int | None = None
    members: list[Member] | None = None
    changes: list[Change] | None = None


class Typing(_Frame, frozen=True, tag="typing"):
    channel: str
    user: str
    on: bool
    ttl_ms: int  # without another push by then, he has stopped


class Mark(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a user has got; 0: not reported."""

    user: str
    delivered: int = 0
    read: int = 0


class Receipt(_Frame, frozen=True, tag="receipt"):
    channel: str
    marks: list[Mark]


class HistoryPage(_Frame, frozen=True, tag="history", omit_defaults=False):
    id: int
    channel: str
    position: Position
    floor: int
    epochs: list[Position]
    messages: list[msgspec.Raw]  # each a `message` frame, the same bytes as when it was live
    more: bool


class Unsubscribed(_Frame, frozen=True, tag="unsubscribed"):
    id: int
    channel: str


class Reset(_Frame, frozen=True, tag="reset"):
    """The stream's epoch changed under an open subscription; the client's position becomes
    (new epoch, min(last, fork))."""

    channel: str
    position: Position
    fork: int
    epochs: list[Position]
    why: str


class Goodbye(_Frame, frozen=True, tag="goodbye"):
    code: int
    why: str
    after_ms: tuple[int, int] = (0, 0)
    to: list[str] = []


class Error(_Frame, frozen=True, tag="error", omit_defaults=False):
    code: int
    reason: str
    temporary: bool
    definite: bool
    id: int | None = None
    after_ms: int | None = None


Reply = (
    Connected
    | Authorized
    | Subscribed
    | Live
    | Gap
    | Message
    | Ack
    | Presence
    | Typing
    | Receipt
    | HistoryPage
    | Unsubscribed
    | Reset
    | Goodbye
    | Error
)

encode = msgspec.json.Encoder().encode
_decode_request: Callable[[Buffer], Request] = msgspec.json.Decoder(Request).decode
_decode_reply: Callable[[Buffer], Reply] = msgspec.json.Decoder(Reply).decode


class _Head(msgspec.Struct):
    type: str | None = None
    id: int | None = None


_decode_head = msgspec.json.Decoder(_Head).decode
REQUEST_TYPES: Final = frozenset(cls.__struct_config__.tag for cls in Request.__args__)


class Undecodable(Exception):
    """A frame from a client that is no request.

    ``request_id`` is the frame's id where it could be read, so that the error can
    be sent as an answer. ``unknown_type`` tells 404 from 400.
    """

    def __init__(self, reason: str, *, request_id: int | None, unknown_type: bool) -> None:
        super().__init__(reason)
        self.reason, self.request_id, self.unknown_type = reason, request_id, unknown_type


def decode_request(payload: Buffer) -> Request:
    """Read a client's frame (not ``PING``). Raises ``Undecodable``, and nothing else."""
    try:
        request = _decode_request(payload)
        if (number := request.id) is not None and not 0 <= number < 2**32:
            raise Undecodable(
                f"id is {number}: must be from 0 to 2^32 - 1", request_id=None, unknown_type=False
            )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as bad:
        raise _explain(payload, str(bad)) from None
    return request


def request_id(payload: Buffer) -> int | None:
    """The ``id`` of a frame that is not looked into any further; None: it has none that can be read."""
    try:
        found = _decode_head(payload).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if found is not None and 0 <= found < 2**32 else None


def _explain(payload: Buffer, reason: str) -> Undecodable:
    try:
        head = _decode_head(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Undecodable(reason, request_id=None, unknown_type=False)
    request_id = head.id if head.id is not None and 0 <= head.id < 2**32 else None
    unknown = head.type is not None and head.type not in REQUEST_TYPES
    if unknown:
        reason = f"type is {head.type!r}: must be one of {', '.join(sorted(map(str, REQUEST_TYPES)))}"
    return Undecodable(reason, request_id=request_id, unknown_type=unknown)


def decode_reply(payload: Buffer) -> Reply:
    """Read a server's frame (not ``PING``).

    Raises:
        msgspec.DecodeError: it is not a frame of this protocol. A client records
            that as data; it is the server's misbehaviour, not the caller's.
    """
    try:
        return _decode_reply(payload)
    except (UnicodeDecodeError, RecursionError) as bad:
        raise msgspec.DecodeError(str(bad)) from None

"""What a session decides, as values: the server carries them out. PROTOCOL.md § Frames."""

from __future__ import annotations

from typing import Final

import msgspec

from .namespaces import Namespaces
from .protocol.errors import ChatdError
from .protocol.messages import (
    Connected,
    Contract,
    Error,
    From,
    HistoryRequest,
    Limits,
    Notice,
    PresenceRequest,
    Write,
    encode,
)
from .store.base import Append, Retention

ANY: Final = Namespaces({}, Retention(0, 0, 0))  # every name is a channel


class Terms(msgspec.Struct, frozen=True):
    """What the server tells every client, fixed at start."""

    node: str
    contract: Contract
    limits: Limits
    ping_s: float
    pong_s: float
    retry_ms: tuple[int, int]
    namespaces: Namespaces = ANY

    def connected(self, request_id: int, user: str, token_s: float | None) -> Connected:
        """The answer to `connect`."""
        return Connected(
            id=request_id,
            node=self.node,
            user=user,
            contract=self.contract,
            limits=self.limits,
            ping_s=self.ping_s,
            pong_s=self.pong_s,
            retry_ms=self.retry_ms,
            token_s=token_s,
        )


class Subscription:
    """One subscription of one connection, from the request to its end.

    ``active`` turns false once, when it is replaced, left or its connection ends;
    whoever works for it in the background looks there first.
    """

    __slots__ = (
        "active",
        "answered",
        "asked",
        "channel",
        "cursor",
        "echo",
        "presence",
        "request_id",
        "told_live",
        "user",
    )

    def __init__(
        self,
        channel: str,
        asked: From,
        *,
        echo: bool,
        user: str,
        request_id: int | None,
        presence: bool = False,
    ) -> None:
        self.channel = channel
        self.asked = asked
        self.echo = echo
        self.presence = presence
        self.user = user
        self.request_id = request_id
        self.cursor = 0  # the serial that was sent last; meaningful once answered
        self.active = True
        self.answered = False  # `subscribed` was sent
        self.told_live = False  # `live` was sent


# Effects ----------------------------------------------------------------------------------------------


class Send(msgspec.Struct, frozen=True):
    """Write one text frame."""

    payload: bytes


class Ping(msgspec.Struct, frozen=True):
    """Write the protocol's ping."""


class Close(msgspec.Struct, frozen=True):
    """Write what is queued, then the close frame, then end the connection."""

    code: int
    reason: str


class Store(msgspec.Struct, frozen=True):
    """Append to the log; tell ``placed`` or ``failed``."""

    request: Write
    append: Append


class Join(msgspec.Struct, frozen=True):
    """Find the channel's head; tell ``subscribed``; replay; go live."""

    subscription: Subscription


class Leave(msgspec.Struct, frozen=True):
    """Deliver nothing more of the channel."""

    channel: str


class Read(msgspec.Struct, frozen=True):
    """Read a page of history and send it."""

    request: HistoryRequest


class Share(msgspec.Struct, frozen=True):
    """Presence, typing or a receipt: tell those who are concerned, and answer what has an id."""

    request: PresenceRequest | Notice


class Depart(msgspec.Struct, frozen=True):
    """The user is no longer present in the channel over this connection."""

    channel: str


Effect = Send | Ping | Close | Store | Join | Leave | Read | Share | Depart
Effects = list[Effect]


def error_frame(error: ChatdError, request_id: int | None) -> Send:
    """The answer to a request that failed; without an id, a push."""
    answer = Error(
        id=request_id,
        code=error.code,
        reason=error.reason,
        temporary=error.temporary,
        definite=error.definite,
        after_ms=error.after_ms,
    )
    return Send(encode(answer))

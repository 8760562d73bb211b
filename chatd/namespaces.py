"""Channels by the first part of their name: what is kept, and who may do what. PROTOCOL.md § Namespaces.

The namespace of ``room:1`` is ``room``, that of ``lobby`` is the empty one. Without any
configured, every name is a channel; with some, a name outside of them is unknown. Channels
of a *private* namespace, as ``dm`` is by default, belong to the two users in their name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from .checks import check_name
from .protocol.errors import BadRequest, Forbidden, Unknown
from .protocol.messages import (
    Delete,
    Edit,
    HistoryRequest,
    Kept,
    PresenceRequest,
    Publish,
    React,
    ReceiptNotice,
    Request,
    Subscribe,
    TypingNotice,
)
from .store.base import Retention

Action = Literal["subscribe", "publish", "history", "presence"]
Who = Literal["everyone", "moderators", "nobody"]
Prefix = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{0,32}$")]

ACTIONS: Final[Mapping[type[Request], Action]] = {
    Subscribe: "subscribe",
    ReceiptNotice: "subscribe",
    Publish: "publish",
    React: "publish",
    Edit: "publish",
    Delete: "publish",
    TypingNotice: "publish",
    HistoryRequest: "history",
    PresenceRequest: "presence",
}
"""What a request does to its channel. Those that are not here give something up, or name no channel."""


class Namespace(BaseModel):
    """Settings of one namespace; what is None is as for the whole daemon."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    retain_n: int | None = Field(None, ge=1, le=2**53)
    retain_s: float | None = Field(None, gt=0)
    retain_bytes: int | None = Field(None, ge=1, le=2**53)
    private: bool | None = None  # None: only `dm` is
    subscribe: Who = "everyone"
    publish: Who = "everyone"
    history: Who = "everyone"
    presence: Who = "everyone"


def read_table(value: object) -> object:
    """A flag gives the table as JSON text. Raises ``ValueError``."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError) as bad:
        raise ValueError(f"must be a JSON object of namespaces: {bad}") from None


class Namespaces:
    """The namespaces of a daemon. ``retention``: of channels whose namespace says nothing else."""

    def __init__(self, table: Mapping[str, Namespace], retention: Retention) -> None:
        self._open = not table
        self._table = dict(table)
        self._default = Namespace()
        self._retention = retention
        self._kept = {prefix: _retention(space, retention) for prefix, space in table.items()}

    def of(self, channel: str) -> Retention:
        """Contract: ``Retain`` (chatd/store/base.py)."""
        return self._kept.get(_prefix(channel), self._retention)

    def kept(self) -> dict[str, Kept]:
        """The retention of each namespace that has one of its own."""
        return {
            prefix: Kept(retain_n=kept.n, retain_s=kept.s, retain_bytes=kept.bytes)
            for prefix, kept in self._kept.items()
            if kept != self._retention
        }

    def check(self, action: Action, channel: str, user: str, moderates: Callable[[str], bool]) -> None:
        """May this user do that? ``moderates(channel)``: is he a moderator there?

        Raises:
            Unknown: there is no such namespace.
            BadRequest: the name of a private channel does not name its users.
            Forbidden: he is none of them, or the namespace does not give him the right.
        """
        if self._open and not channel.startswith("dm:"):
            return
        prefix = _prefix(channel)
        space = self._default if self._open else self._table.get(prefix)
        if space is None:
            check_name("channel", channel)  # before it is repeated in an answer
            known = ", ".join(sorted(f"{name}:" if name else "names without a colon" for name in self._table))
            raise Unknown(f"channel is {channel!r}: no such namespace; there are {known}")
        if space.private or (space.private is None and prefix == "dm"):
            _check_member(channel, prefix, user)
        who: Who = getattr(space, action)
        if who == "everyone" or (who == "moderators" and moderates(channel)):
            return
        whom = "moderators only" if who == "moderators" else "nobody"
        raise Forbidden(f"channel is {check_name('channel', channel)!r}: {action} is for {whom}")


def _prefix(channel: str) -> str:
    prefix, colon, _ = channel.partition(":")
    return prefix if colon else ""


def _check_member(channel: str, prefix: str, user: str) -> None:
    users = check_name("channel", channel)[len(prefix) + 1 :].split(",")
    if len(users) != 2 or not all(users) or users != sorted(users):
        raise BadRequest(
            f"channel is {channel!r}: must be {prefix}: and the names of two users with a comma between"
            " them, in the order of their code points, so that both find the same channel"
        )
    if user not in users:
        raise Forbidden(f"channel is {channel!r}: it is for the two users in its name only")


def _retention(space: Namespace, default: Retention) -> Retention:
    return Retention(
        n=default.n if space.retain_n is None else space.retain_n,
        s=default.s if space.retain_s is None else space.retain_s,
        bytes=default.bytes if space.retain_bytes is None else space.retain_bytes,
    )

"""What a request of a fallback transport asks for: channels, where to start, who asks. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

import msgspec

from ..protocol.errors import BadRequest
from ..protocol.messages import ChannelFrom, Connect, From, Last, Position
from .positions import parse_positions

CHANNELS: Final = 32  # of one request: their positions must fit into a header
MAX_WAIT_S: Final = 60.0
DEFAULT_WAIT_S: Final = 25.0


class Query(Protocol):
    """The query of a URL, or the headers: keys may repeat."""

    def getall(self, key: str, default: list[str]) -> list[str]: ...


Headers = Query


class Asked(msgspec.Struct, frozen=True):
    """Which streams, and from where."""

    connect: Connect
    channels: list[str]
    positions: dict[str, Position]


def asked_for(query: Query, headers: Mapping[str, str]) -> Asked:
    """Read ``channel``, ``position`` (or the header ``Last-Event-ID``), ``from``, ``echo`` and ``client``.

    Raises:
        BadRequest: with the field, its value and the rule.
    """
    if query.getall("token", []) or query.getall("access_token", []):
        raise BadRequest("a token in a URL ends in logs: put it into the Authorization header")
    text = headers.get("Last-Event-ID") or _one(query, "position")
    positions = parse_positions(text) if text else {}
    channels = list(dict.fromkeys(query.getall("channel", []))) or list(positions)
    if not 1 <= len(channels) <= CHANNELS:
        raise BadRequest(f"channel is given {len(channels)} times: must be from 1 to {CHANNELS}")
    start = _start(_one(query, "from") or "new")
    echo = _one(query, "echo") != "0"
    wishes = [
        ChannelFrom(channel=channel, from_=positions.get(channel, start), echo=echo) for channel in channels
    ]
    connect = Connect(id=0, client=_one(query, "client") or None, subscribe=wishes)
    return Asked(connect, channels, positions)


def wait_of(query: Query) -> float:
    """How long a poll may wait, in seconds."""
    text = _one(query, "wait_s")
    if not text:
        return DEFAULT_WAIT_S
    try:
        wait_s = float(text)
    except ValueError:
        wait_s = -1.0
    if not 0 <= wait_s <= MAX_WAIT_S:
        raise BadRequest(f"wait_s is {text!r}: must be a number of seconds from 0 to {MAX_WAIT_S:g}")
    return wait_s


def token_of(headers: Headers) -> str | None:
    """The token of the Authorization header; None without one. Raises ``BadRequest``."""
    values = headers.getall("Authorization", [])
    if not values:
        return None
    scheme, _, token = values[0].strip().partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise BadRequest("Authorization must be `Bearer TOKEN`, once")
    return token.strip()


def _one(query: Query, key: str) -> str:
    values = query.getall(key, [])
    if len(values) > 1:
        raise BadRequest(f"{key} is given {len(values)} times: give it once")
    return values[0] if values else ""


def _start(text: str) -> From:
    if text == "new":
        return "new"
    if text == "first":
        return "first"
    kind, _, count = text.partition(":")
    if kind == "last" and count.isascii() and count.isdigit() and len(count) < 16:
        return Last(int(count))
    raise BadRequest(f"from is {text!r}: must be new, first or last:N")

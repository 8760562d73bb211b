"""The position map: the whole state of a client that has no WebSocket. No I/O.

``{"room:1": ["E1", 41], …}`` says where the client is in each of its channels. The server keeps
nothing between two requests, so any node can serve the next one. PROTOCOL.md § Fallback transports.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ..protocol.errors import BadRequest
from ..protocol.messages import Position

_decode_map = msgspec.json.Decoder(dict[str, Position]).decode


class _Peek(msgspec.Struct):
    """What of a frame can move a position."""

    type: str
    channel: str = ""
    serial: Any = 0
    start: int = 0
    fork: int = 0
    position: Any = None
    to: Any = None


_peek = msgspec.json.Decoder(_Peek).decode


def parse_positions(text: str) -> dict[str, Position]:
    """Read a position map. Raises ``BadRequest``; the session checks names and numbers."""
    try:
        return _decode_map(text.encode("utf-8", "surrogateescape"))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as bad:
        raise BadRequest(f'position is no map of the form {{"room:1":["E1",41]}}: {bad}') from None


class Positions:
    """Follows the frames of a stream and says where its client is after each.

    >>> places = Positions({"a": ("E1", 4)}, ["a"])
    >>> places.take(b'{"type":"message","channel":"a","serial":5,"data":1}')
    ('message', True)
    >>> places.text
    '{"a":["E1",5]}'
    """

    def __init__(self, known: Mapping[str, Position], channels: Iterable[str]) -> None:
        self._places = {channel: known[channel] for channel in channels if channel in known}
        self._names: dict[str, str] = {}
        self.channel = ""  # of the frame that was taken last

    def take(self, payload: bytes) -> tuple[str, bool]:
        """The type of a frame of the server, and whether a position moved."""
        frame = _peek(payload)
        self.channel = frame.channel
        place: Position | None = None
        match frame.type:
            case "message":
                if (before := self._places.get(frame.channel)) is not None:
                    place = (before[0], frame.serial)
            case "subscribed":
                place = (frame.position[0], frame.start)
            case "live":
                place = (frame.position[0], frame.position[1])
            case "gap":
                place = (frame.to[0], frame.to[1])
            case "reset":
                before = self._places.get(frame.channel, ("", frame.fork))
                place = (frame.position[0], min(before[1], frame.fork))
        if place is None or self._places.get(frame.channel) == place:
            return frame.type, False
        self._places[frame.channel] = place
        return frame.type, True

    @property
    def text(self) -> str:
        """The map as JSON in ASCII, on one line: fit for a header and for an event's id."""
        return "{" + ",".join([self._entry(*place) for place in self._places.items()]) + "}"

    def _entry(self, channel: str, place: Position) -> str:
        name = self._names.get(channel) or self._names.setdefault(channel, json.dumps(channel))
        return f"{name}:[{json.dumps(place[0])},{place[1]}]"

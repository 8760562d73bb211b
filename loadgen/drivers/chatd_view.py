"""How the fault proxy reads chatd's frames (chaos/proxy/frame_view.py says what a view is).

Only the envelope is read: what is inside ``data`` stays the bytes that it was. Works on what chatd and
its clients write; other JSON that means the same may not be recognised, and then passes unread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from chatd.protocol import messages as wire

PING_TYPE: Final = "ping"  # the view's own name for `{}`, which has no type


class _Envelope(msgspec.Struct, gc=False):
    """The two fields that a rule may ask for."""

    type: str
    channel: str = ""


_envelope: Callable[[bytes], _Envelope] = msgspec.json.Decoder(_Envelope).decode
_fields: Callable[[bytes], dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode: Final = msgspec.json.Encoder().encode
_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_DATA: Final = "data"


class Seen(NamedTuple):
    """As ``chaos.proxy.frame_view.Seen``."""

    type: str
    channel: str = ""


class ChatdView:
    """A ``FrameView`` of ``chatd.v1``."""

    types: Sequence[str] = (
        "abandon", "ack", "auth", "authorized", "connect", "connected", "delete", "edit", "error", "gap",
        "goodbye", "history", "live", "message", PING_TYPE, "presence", "publish", "react", "receipt",
        "reset", "subscribe", "subscribed", "typing", "unsubscribe", "unsubscribed",
    )  # fmt: skip
    liveness: Sequence[str] = (PING_TYPE,)

    def read(self, payload: bytes) -> Seen | None:
        if payload == wire.PING:
            return _PING
        try:
            seen = _envelope(payload)
        except _ERRORS:
            return None
        return Seen(seen.type, seen.channel)

    def body(self, payload: bytes) -> tuple[int, int] | None:
        raw = _read(payload).get(_DATA)
        if raw is None:
            return None
        body = bytes(raw)
        # A field of that name may stand inside of another value; the body is the last that looks like it.
        start = payload.rfind(b'"data":' + body)
        return None if start < 0 else (start + 7, start + 7 + len(body))

    def changed(self, payload: bytes, changes: Sequence[Any]) -> bytes | None:
        fields = _read(payload)
        for change in changes:
            name, *rest = change.field.split(".")
            if not rest and change.how == "set" and fields:
                fields[name] = msgspec.Raw(_encode(change.value))
                continue
            if name not in fields:
                return None
            if not rest and change.how == "remove":
                del fields[name]
                continue
            value = _change(msgspec.json.decode(fields[name]), rest, change)
            if value is _UNFIT:
                return None
            fields[name] = msgspec.Raw(_encode(value))
        return _encode(fields) if fields else None

    def moved(self, payload: bytes, channel: str) -> bytes | None:
        return self._with(payload, "channel", _encode(channel))

    def with_body(self, payload: bytes, body: bytes) -> bytes | None:
        return self._with(payload, _DATA, body)

    def _with(self, payload: bytes, name: str, raw: bytes) -> bytes | None:
        fields = _read(payload)
        if name not in fields:
            return None
        fields[name] = msgspec.Raw(raw)
        return _encode(fields)


def _read(payload: bytes) -> dict[str, msgspec.Raw]:
    """The fields of a frame, unread; none when it is no JSON object."""
    try:
        return _fields(payload)
    except _ERRORS:
        return {}


_UNFIT: Final = object()


def _change(value: Any, path: list[str], change: Any) -> Any:
    """``value`` with the change made at ``path``; _UNFIT where it cannot be."""
    if not path:
        if change.how == "add":
            whole = isinstance(value, int) and not isinstance(value, bool)
            return value + change.value if whole else _UNFIT
        return change.value if change.how == "set" else _UNFIT
    key: Any = path[0]
    if isinstance(value, list):
        key = int(key) if key.isdigit() and int(key) < len(value) else None
    elif not isinstance(value, dict) or key not in value:
        key = None
    if key is None:
        return _UNFIT
    if len(path) == 1 and change.how == "remove":
        del value[key]
        return value
    inner = _change(value[key], path[1:], change)
    if inner is _UNFIT:
        return _UNFIT
    value[key] = inner
    return value


_PING: Final = Seen(PING_TYPE)
FRAME_VIEW: Final = ChatdView()

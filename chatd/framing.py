"""WebSocket frames from server to client: unmasked, one text frame per message. RFC 6455 § 5.2."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

TEXT: Final = 0x1
CLOSE: Final = 0x8
PING_FRAME: Final = b"\x81\x02{}"  # the protocol's own ping, a text frame (PROTOCOL.md § Liveness)


def text_frame(payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return b"\x81%c%b" % (size, payload)
    if size < 65536:
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), payload)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), payload)


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame. The reason is cut to what a control frame holds (123 bytes of UTF-8)."""
    text = reason.encode()[:123].decode(errors="ignore").encode()
    return b"\x88%c%b%b" % (2 + len(text), code.to_bytes(2, "big"), text)


def pong_frame(payload: bytes) -> bytes:
    return b"\x8a%c%b" % (len(payload), payload)


def unframe(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The (opcode, payload) of each of the whole, unmasked frames in ``data``: what the functions above made.

    >>> list(unframe(text_frame(b"{}") + close_frame(4101, "drain")))
    [(1, b'{}'), (8, b'\\x10\\x05drain')]
    """
    at, end = 0, len(data)
    while at < end:
        opcode, size = data[at] & 0x0F, data[at + 1]
        at += 2
        if size == 126:
            size, at = int.from_bytes(data[at : at + 2], "big"), at + 2
        elif size == 127:
            size, at = int.from_bytes(data[at : at + 8], "big"), at + 8
        yield opcode, data[at : at + size]
        at += size

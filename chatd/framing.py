"""WebSocket frames from server to client: unmasked, one text frame per message. RFC 6455 § 5.2."""

from __future__ import annotations

from typing import Final

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

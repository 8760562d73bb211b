"""What a load client puts inside a message: who it is from, when it was due, and a digest.

The body is a JSON string of 64 hex characters and a padding. The hex characters are 32 bytes::

    nonce u64 | channel u32 | publisher u32 | pub_seq u32 | scheduled_ns i64 | crc32 u32     (little endian)

``crc32`` is over the padding and then over the first 28 bytes, so that a reader can tell a message that
was sent to another channel, by another run, or damaged on its way. Identity travels here because no
field of the server alone is trusted.
"""

from __future__ import annotations

import struct
from binascii import a2b_hex, b2a_hex
from typing import Final, NamedTuple
from zlib import crc32

from reports.history import Flag

Raw = bytes | bytearray | memoryview

_LANE: Final = struct.Struct("<QII")
_MESSAGE: Final = struct.Struct("<Iq")
_BODY: Final = struct.Struct("<QIIIqI")
_pack: Final = _MESSAGE.pack
_unpack: Final = _BODY.unpack
_HEAD_BYTES: Final = _LANE.size + _MESSAGE.size
_HEX: Final = _BODY.size * 2
_DIGITS_END: Final = _HEX + 1
_QUOTE: Final = 0x22
_SHORTEST: Final = _HEX + 2  # both quotes, no padding
_HEX_DIGITS: Final = frozenset(b"0123456789abcdef")
_FOREIGN: Final = int(Flag.FOREIGN)
_BAD_DIGEST: Final = int(Flag.BAD_DIGEST)
_PAD: Final = b"."


class Body(NamedTuple):
    """A body that could be read. ``digest_ok`` False: some byte of it is not what was sent."""

    nonce: int
    channel: int
    publisher: int
    pub_seq: int
    scheduled_ns: int  # CLOCK_MONOTONIC: when the message was due
    digest_ok: bool


Identity = tuple[int, int, int, int]
"""What a record says of a body: publisher, pub_seq, scheduled_ns, flags (BAD_DIGEST, FOREIGN)."""

_DAMAGED: Final[Identity] = (0, 0, 0, _BAD_DIGEST)
_STRANGE: Final[Identity] = (0, 0, 0, _FOREIGN)


def encode_body(
    *, nonce: int, channel: int, publisher: int, pub_seq: int, scheduled_ns: int, body_bytes: int
) -> bytes:
    """The JSON text of a body, quotes included.

    Args:
        body_bytes: length of the padding; the text is 66 bytes longer.
    Raises:
        struct.error: a number does not fit its field.
    """
    padding, digest = padding_of(body_bytes)
    digits, digest = begun(nonce, channel, publisher, digest)
    return completed(digits, digest, pub_seq, scheduled_ns, padding)


def padding_of(body_bytes: int) -> tuple[bytes, int]:
    """The padding of so many bytes, and its digest."""
    padding = _PAD * body_bytes
    return padding, crc32(padding)


def begun(nonce: int, channel: int, publisher: int, digest: int) -> tuple[bytes, int]:
    """How all bodies of a publisher on a channel begin: hex digits, and the digest so far.

    Args:
        digest: of their padding.
    """
    lane = _LANE.pack(nonce, channel, publisher)
    return b2a_hex(lane), crc32(lane, digest)


def completed(digits: bytes, digest: int, pub_seq: int, scheduled_ns: int, padding: bytes) -> bytes:
    """``encode_body`` from where ``begun`` ended, at a third of the price."""
    said = _pack(pub_seq, scheduled_ns)
    return b'"%b%b%b"' % (digits, b2a_hex(said + crc32(said, digest).to_bytes(4, "little")), padding)


def decode_body(raw: Raw) -> Body | None:
    """Read a body; None when it is not one of ours, or so damaged that it has no identity.

    A body whose hex is not the lower-case text that was sent counts as damaged although it decodes.
    """
    text = bytes(raw)
    if len(text) < _SHORTEST or text[0] != _QUOTE or text[-1] != _QUOTE:
        return None
    digits = text[1:_DIGITS_END]
    try:
        packed = a2b_hex(digits)
    except ValueError:
        return None
    nonce, channel, publisher, pub_seq, scheduled_ns, digest = _BODY.unpack(packed)
    good = crc32(packed[:_HEAD_BYTES], crc32(text[_DIGITS_END:-1])) == digest
    # An upper-case digit decodes to the same byte, so the digest alone would not see that it was changed.
    return Body(
        nonce,
        channel,
        publisher,
        pub_seq,
        scheduled_ns,
        good and (digits.islower() or digits == packed.hex().encode()),
    )


def identify(raw: Raw, nonce: int, padding: bytes = b"", digested: int = 0) -> Identity:
    """What the record of an arriving body says, for the run with this nonce (below 2^64).

    A sound body of this run is told in one go, because it comes once for each delivery; ``doubted``
    says what any other is, and would say the same of a sound one.

    Args:
        padding: what most bodies have, so that it is compared and not digested anew.
        digested: the digest of this padding.
    """
    text = bytes(raw)
    digits, rest = text[1:_DIGITS_END], text[_DIGITS_END:-1]
    try:
        packed = a2b_hex(digits)
        said, _, publisher, pub_seq, scheduled_ns, digest = _unpack(packed)
    except (ValueError, struct.error):
        return doubted(text, nonce)
    if (
        said == nonce
        and crc32(packed[:_HEAD_BYTES], digested if rest == padding else crc32(rest)) == digest
        and digits.islower()
        and text[0] == text[-1] == _QUOTE
        and len(text) >= _SHORTEST
    ):
        return publisher, pub_seq, scheduled_ns, 0
    return doubted(text, nonce)


def doubted(text: bytes, nonce: int) -> Identity:
    """What ``identify`` answers, for any body.

    A wrong digest makes every field doubtful, the nonce too, so such a body is damaged and never
    foreign. A body without a readable identity is damaged when it still looks like one of ours, and
    foreign when it does not; its publisher and pub_seq are 0.
    """
    body = decode_body(text)
    if body is None:
        return _DAMAGED if _looks_like_ours(text) else _STRANGE
    if not body.digest_ok:
        return body.publisher, body.pub_seq, body.scheduled_ns, _BAD_DIGEST
    return body.publisher, body.pub_seq, body.scheduled_ns, _FOREIGN if body.nonce != nonce else 0


def _looks_like_ours(text: bytes) -> bool:
    """Whether nearly all of the first characters are our hex digits: a few were changed on the way."""
    digits = text[1:_DIGITS_END]
    if len(digits) < _HEX:
        return False
    return sum(digit in _HEX_DIGITS for digit in digits) >= _HEX - 4

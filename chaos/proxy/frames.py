"""WebSocket frames (RFC 6455) in a byte stream: cut out of it, and put together anew. No I/O.

    bytes ─► Cutter.feed ─► bytes       what is no frame, or too long to hold: passes as it is
                        └─► Message     a message or a control frame, with its bytes as they came

``b"".join(part.wire or part)`` over everything that comes out, and ``left()``, is what went in, in
order: whoever changes nothing passes the bytes on unchanged, masks and fragments included.

A stream is followed from its HTTP upgrade. A cutter that meets a stream in its middle waits for a
chunk that is made of whole frames, to the last byte; until then, and whenever something
cannot be a frame, bytes pass and are counted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum, IntEnum
from typing import Final

LONGEST: Final = 1 << 18  # bytes: a longer message passes in pieces and is not looked at
LONGEST_HEAD: Final = 1 << 16  # of an HTTP head; what is longer is none
_CONTROL: Final = 0x8
_OPCODES: Final = frozenset({0x0, 0x1, 0x2, 0x8, 0x9, 0xA})
_UPGRADE: Final = re.compile(rb"\r\nupgrade:[ \t]*websocket", re.IGNORECASE)
_DOWN_STARTS: Final = (b"HTTP/1.",)
_UP_STARTS: Final = (b"GET ", b"POST ", b"HEAD ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ")
# None of these can begin a frame: the first letter has a reserved opcode, or is a fragmented control frame,
# or has an RSV bit set, which a cutter that has not seen the upgrade does not take.


class Opcode(IntEnum):
    """RFC 6455 § 5.2."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


class Message:
    """A whole message (all its fragments), or a control frame.

    ``wire``: its bytes as they came, with control frames that came between its fragments.
    """

    __slots__ = ("_payload", "_raw", "between", "mask", "opcode", "rsv1", "wire")

    def __init__(
        self, opcode: int, wire: bytes, raw: tuple[bytes, ...], mask: bytes | None, rsv1: bool
    ) -> None:
        self.opcode = opcode
        self.wire = wire
        self.mask = mask  # of its first frame; None: not masked
        self.rsv1 = rsv1  # set by an extension, such as compression: the payload is not what was sent
        self.between: tuple[Message, ...] = ()  # control frames between its fragments
        self._raw = raw  # its frames
        self._payload: bytes | None = None

    @property
    def payload(self) -> bytes:
        """Unmasked and joined."""
        if self._payload is None:
            self._payload = (
                b"".join(map(payload_of, self._raw)) if len(self._raw) > 1 else payload_of(self._raw[0])
            )
        return self._payload

    @property
    def own(self) -> bytes:
        """Its frames as they came, without the control frames between them."""
        return b"".join(self._raw) if self.between else self.wire

    def remade(self, payload: bytes) -> bytes:
        """The same message with another payload, in one frame."""
        return frame(self.opcode, payload, mask=self.mask, rsv1=self.rsv1)


Part = bytes | Message


class _State(Enum):
    UNKNOWN = "looks for an HTTP head, or for a chunk of whole frames"
    HEAD = "in an HTTP head"
    FRAMES = "at a frame, or inside one"


class Cutter:
    """Cuts one direction of one connection.

    Args:
        masked: whether frames of this direction are masked: those of a client are.
    """

    __slots__ = (
        "_head", "_held", "_held_bytes", "_masked", "_needed", "_passing", "_pieces", "_size", "_skip",
        "_state", "too_long", "unparsed",
    )  # fmt: skip

    def __init__(self, *, masked: bool) -> None:
        self.unparsed = 0  # bytes that passed because they were no frames; HTTP heads are not counted
        self.too_long = 0  # messages that passed because they were longer than LONGEST
        self._masked = masked
        self._state = _State.UNKNOWN
        self._held: list[bytes] = []  # what cannot be told yet: the beginning of a frame or of a head
        self._held_bytes = self._needed = 0
        self._head = b""
        self._pieces: list[Message] = []  # an unfinished message: fragments, and control frames between
        self._size = 0  # bytes in them
        self._skip = 0  # bytes that are still to come of a frame that passes
        self._passing = False  # an unfinished message passes

    def feed(self, data: bytes) -> list[Part]:
        """Everything that is whole now, in order."""
        parts: list[Part] = []
        while data:
            if self._state is _State.FRAMES:
                data = self._frames(data, parts)
            elif self._state is _State.HEAD:
                data = self._in_head(data, parts)
            else:
                data = self._look(data, parts)
        return parts

    @property
    def between(self) -> bool:
        """Whether no message is under way. Of a stream met in its middle, not before a chunk of whole
        frames; of one on which nothing has come yet, it is taken to be so.
        """
        if self._pieces or self._held or self._skip or self._passing or self._state is _State.HEAD:
            return False
        return self._state is _State.FRAMES or not self.unparsed

    def left(self) -> bytes:
        """What is held of a frame, message or head that is not whole; the cutter then holds nothing."""
        held = b"".join((*(piece.wire for piece in self._pieces), *self._held))
        self._pieces, self._size, self._held, self._held_bytes = [], 0, [], 0
        self._state = _State.UNKNOWN
        return held

    def _look(self, data: bytes, parts: list[Part]) -> bytes:
        if self._held:
            data = self._take_held() + data
        for start in _UP_STARTS if self._masked else _DOWN_STARTS:
            if data.startswith(start):
                self._state, self._head = _State.HEAD, b""
                return data
            if start.startswith(data):
                return self._hold(data, 0)
        if _whole_frames(data, masked=self._masked):
            self._state, self._passing = _State.FRAMES, False
            return data
        self.unparsed += len(data)
        parts.append(data)
        return b""

    def _in_head(self, data: bytes, parts: list[Part]) -> bytes:
        """Bytes of a head pass at once; a copy is kept to see what it says."""
        before = len(self._head)
        self._head += data
        end = self._head.find(b"\r\n\r\n", max(before - 3, 0))
        if end < 0:
            parts.append(data)
            if len(self._head) > LONGEST_HEAD:
                self._state, self._head = _State.UNKNOWN, b""
            return b""
        head, self._head = self._head[:end], b""
        cut = end + 4 - before
        parts.append(data[:cut])
        self._state = _State.FRAMES if _upgrades(head, request=self._masked) else _State.UNKNOWN
        self._passing = False
        return data[cut:]

    def _frames(self, data: bytes, parts: list[Part]) -> bytes:
        """Cut frames; what comes back is to be looked at in another state."""
        if self._skip:
            passed, data = data[: self._skip], data[self._skip :]
            parts.append(passed)
            self._skip -= len(passed)
        if self._held:
            self._held.append(data)
            self._held_bytes += len(data)
            if self._held_bytes < self._needed:
                return b""
            data = self._take_held()
        at, size = 0, len(data)
        while at < size:
            head = _header_size(data[at + 1]) if size - at > 1 else 2
            if head > size - at:
                return self._hold(data[at:], head)
            length = _length(data, at)
            if not self._legal(data[at], data[at + 1], length):
                parts.extend(piece.wire for piece in self._pieces)
                self._pieces, self._size, self._passing, self._state = [], 0, False, _State.UNKNOWN
                return data[at:]
            end = at + head + length
            if self._passing or head + length + self._size > LONGEST:
                self._release(parts)
                if data[at] & 0xF < _CONTROL:
                    at = self._pass(data, at, end, parts)
                    continue
            if end > size:
                return self._hold(data[at:], head + length)
            self._whole(data[at:end], parts)
            at = end
        return b""

    def _hold(self, data: bytes, needed: int) -> bytes:
        """Keep the beginning of a frame until ``needed`` bytes of it are there."""
        self._held, self._held_bytes, self._needed = [data], len(data), needed
        return b""

    def _take_held(self) -> bytes:
        held = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        self._held, self._held_bytes = [], 0
        return held

    def _legal(self, first: int, second: int, length: int) -> bool:
        """Whether this can be the next frame of the stream."""
        opcode, final = first & 0xF, first & 0x80
        if opcode not in _OPCODES or first & 0x30 or bool(second & 0x80) != self._masked or length >> 63:
            return False
        if opcode >= _CONTROL:
            return bool(final) and length < 126 and not first & 0x40
        begun = bool(self._pieces) or self._passing
        return (opcode == Opcode.CONTINUATION) == begun and not (begun and first & 0x40)

    def _whole(self, raw: bytes, parts: list[Part]) -> None:
        first = raw[0]
        opcode = first & 0xF
        head = _header_size(raw[1])
        mask = raw[head - 4 : head] if raw[1] & 0x80 else None
        made = Message(opcode, raw, (raw,), mask, bool(first & 0x40))
        if first & 0x80 and not self._pieces:
            parts.append(made)
        elif opcode >= _CONTROL or not first & 0x80:
            self._pieces.append(made)
            self._size += len(raw)
        else:
            parts.append(_joined([*self._pieces, made]))
            self._pieces, self._size = [], 0

    def _pass(self, data: bytes, at: int, end: int, parts: list[Part]) -> int:
        """Let a frame pass, of a message that is too long; where the next one begins."""
        self._passing = not data[at] & 0x80
        parts.append(data[at:end])
        self._skip = max(end - len(data), 0)
        return min(end, len(data))

    def _release(self, parts: list[Part]) -> None:
        """Let go of an unfinished message, control frames and all, as it came; its rest will pass."""
        parts.extend(piece.wire for piece in self._pieces)
        if not self._passing:
            self.too_long += 1
        self._pieces, self._size, self._passing = [], 0, True


def frame(
    opcode: int, payload: bytes, *, mask: bytes | None = None, final: bool = True, rsv1: bool = False
) -> bytes:
    """One frame.

    Args:
        mask: four bytes; None for a frame that is not masked.
    """
    size = len(payload)
    bit = 0x80 if mask is not None else 0
    head = bytearray((opcode | (0x80 if final else 0) | (0x40 if rsv1 else 0),))
    if size < 126:
        head.append(bit | size)
    elif size < 1 << 16:
        head += bytes((bit | 126,)) + size.to_bytes(2, "big")
    else:
        head += bytes((bit | 127,)) + size.to_bytes(8, "big")
    return bytes(head) + (payload if mask is None else mask + masked(payload, mask))


def masked(payload: bytes, mask: bytes) -> bytes:
    """RFC 6455 § 5.3; its own inverse."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


def payload_of(raw: bytes) -> bytes:
    """The unmasked payload of one whole frame."""
    head = _header_size(raw[1])
    return masked(raw[head:], raw[head - 4 : head]) if raw[1] & 0x80 else raw[head:]


def _joined(pieces: list[Message]) -> Message:
    data = [piece for piece in pieces if piece.opcode < _CONTROL]
    wire = b"".join(piece.wire for piece in pieces)
    made = Message(data[0].opcode, wire, tuple(piece.wire for piece in data), data[0].mask, data[0].rsv1)
    made.between = tuple(piece for piece in pieces if piece.opcode >= _CONTROL)
    return made


_EXTENDED: Final[Mapping[int, int]] = {126: 2, 127: 8}


def _header_size(second: int) -> int:
    """Bytes of a frame's header, by its second byte."""
    return 2 + _EXTENDED.get(second & 0x7F, 0) + (4 if second & 0x80 else 0)


def _length(data: bytes, at: int) -> int:
    """Bytes of the payload of the frame at ``at``, whose header is there whole."""
    short = data[at + 1] & 0x7F
    return int.from_bytes(data[at + 2 : at + 2 + _EXTENDED[short]], "big") if short > 125 else short


def _whole_frames(data: bytes, *, masked: bool) -> bool:
    """Whether a chunk is frames that begin no earlier and end no later: then a frame begins after it.

    A chunk that begins inside of a frame passes for that with a probability far below 1e-6: every
    header must fit, the lengths must add up, and the first text must be UTF-8.
    """
    at, open_message = 0, False
    while at < len(data):
        first = data[at]
        opcode = first & 0xF
        if first & 0x70 or opcode not in _OPCODES or len(data) - at < 2:
            return False
        if bool(data[at + 1] & 0x80) != masked or _header_size(data[at + 1]) > len(data) - at:
            return False
        end = at + _header_size(data[at + 1]) + _length(data, at)
        if end > len(data) or (opcode >= _CONTROL and (not first & 0x80 or data[at + 1] & 0x7F > 125)):
            return False
        if opcode < _CONTROL:
            if (opcode == Opcode.CONTINUATION) != open_message:
                return False
            open_message = not first & 0x80
            if first == 0x81 and not _is_utf8(payload_of(data[at:end])):
                return False
        at = end
    return not open_message


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def _upgrades(head: bytes, *, request: bool) -> bool:
    """Whether frames follow an HTTP head."""
    if request:
        return _UPGRADE.search(head) is not None
    return head.split(b" ", 2)[1:2] == [b"101"]

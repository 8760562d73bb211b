"""Answers of an HTTP/1.1 server, read from bytes as they come. No I/O (RFC 9112).

``Answers`` takes whatever a socket gave and says what it was: the head of an answer, pieces of its body,
its end. Bodies come by Content-Length, in chunks, or up to the end of the connection. Only what a load
client meets is read: no trailers' values, no compression, which it does not ask for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Final, NamedTuple

MAX_HEAD_BYTES: Final = 64 * 1024
_MAX_SIZE_LINE: Final = 256  # a chunk's size, in hexadecimal, and its extensions
_BODILESS: Final = frozenset({204, 304})


class BadAnswer(Exception):
    """What came is no HTTP/1.1."""


class Head(NamedTuple):
    """Status line and header fields; names are in lower case, of a repeated one the last value counts."""

    status: int
    fields: Mapping[str, str]

    @property
    def keeps(self) -> bool:
        """Whether the connection may be used for another request."""
        return self.fields.get("connection", "").lower() != "close"


def addressed(request: bytes, host: str) -> bytes:
    """A request of an ``HttpDriver``, which does not know where it goes, with the header Host."""
    first, rest = request.split(b"\r\n", 1)
    return b"%b\r\nHost: %b\r\n%b" % (first, host.encode(), rest)


class Done(Enum):
    """The answer at hand is whole."""

    DONE = 0


DONE: Final = Done.DONE
Part = Head | bytes | Done


class _State(Enum):
    HEAD = 0
    SIZED = 1  # a body, or a chunk, of so many bytes more
    SIZE_LINE = 2  # of the next chunk
    CHUNK_END = 3  # CRLF behind a chunk
    TRAILER = 4
    TO_THE_END = 5


class Answers:
    """One connection's answers, one after the other."""

    __slots__ = ("_buffer", "_chunked", "_left", "_state")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._state = _State.HEAD
        self._left = 0  # bytes of the body, or of the chunk, that are still to come
        self._chunked = False

    @property
    def idle(self) -> bool:
        """Whether nothing of an answer has come since the last one was whole."""
        return self._state is _State.HEAD and not self._buffer

    def feed(self, data: bytes) -> Iterator[Part]:
        """What these bytes complete, in order. Bodies are not collected: each piece is told as it comes.

        Raises:
            BadAnswer: while it is iterated; the connection is worth nothing any more.
        """
        self._buffer += data
        while True:
            before = len(self._buffer)
            part = self._step()
            if part is not None:
                yield part
            elif len(self._buffer) == before:
                return

    def ended(self) -> Part | None:
        """The server has closed: the end of a body that lasts up to it; None: nothing was whole by that."""
        if self._state is _State.TO_THE_END:
            self._state = _State.HEAD
            return DONE
        return None

    def _step(self) -> Part | None:
        match self._state:
            case _State.HEAD:
                return self._head()
            case _State.SIZED:
                return self._sized()
            case _State.TO_THE_END:
                return self._take(len(self._buffer)) or None
            case _:
                return self._between_chunks()

    def _head(self) -> Part | None:
        raw = self._until(b"\r\n\r\n", MAX_HEAD_BYTES)
        if raw is None:
            return None
        status_line, *lines = raw.decode("latin-1").split("\r\n")
        version, _, rest = status_line.partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
            raise BadAnswer(f"status line is {status_line[:80]!r}: must be as HTTP/1.1 200 OK")
        fields = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
        }
        head = Head(int(rest[:3]), fields)
        if 100 <= head.status < 200 and head.status != 101:
            return self._head()  # an interim answer: the real one follows
        self._begin_body(head)
        return head

    def _begin_body(self, head: Head) -> None:
        self._chunked = head.fields.get("transfer-encoding", "").lower() == "chunked"
        length = head.fields.get("content-length", "")
        if self._chunked:
            self._state = _State.SIZE_LINE
        elif head.status in _BODILESS:
            self._left, self._state = 0, _State.SIZED
        elif length:
            if not (length.isascii() and length.isdigit()):
                raise BadAnswer(f"Content-Length is {length[:80]!r}: must be a number")
            self._left, self._state = int(length), _State.SIZED
        else:
            self._state = _State.TO_THE_END

    def _sized(self) -> Part | None:
        if self._left:
            data = self._take(min(self._left, len(self._buffer)))
            self._left -= len(data)
            return data or None
        if self._chunked:
            self._state = _State.CHUNK_END
            return self._between_chunks()
        self._state = _State.HEAD
        return DONE

    def _between_chunks(self) -> Part | None:
        if self._state is _State.CHUNK_END:
            if len(self._buffer) < 2:
                return None
            if self._take(2) != b"\r\n":
                raise BadAnswer("a chunk is longer than its size")
            self._state = _State.SIZE_LINE
        line = self._until(b"\r\n", _MAX_SIZE_LINE if self._state is _State.SIZE_LINE else MAX_HEAD_BYTES)
        if line is None:
            return None
        if self._state is _State.TRAILER:
            if line:
                return self._between_chunks()
            self._state = _State.HEAD
            return DONE
        try:
            self._left = int(line.split(b";")[0], 16)
        except ValueError:
            raise BadAnswer(f"a chunk's size is {line[:80]!r}: must be hexadecimal") from None
        self._state = _State.SIZED if self._left else _State.TRAILER
        return self._sized() if self._left else self._between_chunks()

    def _until(self, end: bytes, limit: int) -> bytes | None:
        """What stands before ``end``, which is taken too; None: it has not come yet."""
        at = self._buffer.find(end, 0, limit + len(end))
        if at < 0:
            if len(self._buffer) > limit:
                raise BadAnswer(f"more than {limit} bytes without the end of a line or head")
            return None
        found = bytes(self._buffer[:at])
        del self._buffer[: at + len(end)]
        return found

    def _take(self, count: int) -> bytes:
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data


class Event(NamedTuple):
    """One server-sent event. ``data`` has the line ends between its lines that it was sent with: LF."""

    kind: bytes
    data: bytes


class Events:
    """Server-sent events, read from a body (HTML, § Server-sent events); line ends are LF.

    Comments, ids and retry times are left out: positions are the client's own.
    """

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events that these bytes complete."""
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        for block in blocks:
            # Nearly every event is two or three short lines, data last: no need to look at each.
            kind, lines = b"message", []
            for line in block.split(b"\n"):
                if line.startswith(b"data: "):
                    lines.append(line[6:])
                elif line.startswith(b"event: "):
                    kind = line[7:]
            if lines:
                yield Event(kind, lines[0] if len(lines) == 1 else b"\n".join(lines))

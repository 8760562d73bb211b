"""cut: the connection ends, in one of four ways, at a time, after bytes or messages, or inside a message."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from chaos.proxy.draws import Draws
from chaos.proxy.frames import Cutter, Message, Opcode, frame
from chaos.proxy.silence import RULE, can_be_silent
from chaos.proxy.toxics.base import MS, NEVER, Chunk, End, Place, Release

HOW = {"fin": End.CLOSE, "rst": End.RESET, "silent": End.VANISH, "ws_close": End.CLOSE}
DATA = (Opcode.TEXT, Opcode.BINARY)
PATIENCE_S = 1.0  # for the end of a message, before a close frame
MASK = (
    b"\x00\x00\x00\x00"  # of what goes to a server: masked, as it must be, with a mask that changes nothing
)


@dataclass(slots=True)
class Cut:
    """Ends the connection ``after`` ms, or behind ``bytes`` bytes, or behind the ``messages``-th message
    of the direction, or with half of the next one delivered (with ``messages``: of the one behind those).
    Messages are texts and binaries, however many frames each has; control frames are not counted.

    ``how``: fin, rst (to both peers), silent (both sockets go, and the kernel sends nothing), or
    ws_close (a close frame with ``code`` between two messages, then FIN). Where there is no Linux or no
    right for it, silent is refused.
    """

    how: str = "fin"
    after: int = 0  # ms
    bytes: int = 0  # 0: not by bytes
    messages: int = 0  # 0: not by messages
    mid_frame: int = 0  # 1: inside the next message
    code: int = 0  # of ws_close
    _passed: int = field(default=0, init=False)  # bytes, or messages
    _cutter: Cutter | None = field(default=None, init=False)
    _masked: bool = field(default=False, init=False)
    _late_at: float = field(default=NEVER, init=False)  # when a close frame is waited for no longer

    def begin(self, place: Place) -> None:
        """Cut messages out where they are asked for."""
        self._masked = place.direction == "upstream"
        if self.messages or self.mid_frame or self.how == "ws_close":
            self._cutter = Cutter(masked=self._masked)

    def flow(self, data: Chunk, t: float, draws: Draws) -> Iterator[Release]:
        """All of it, until the end."""
        if self.bytes:
            yield from self._by_bytes(data, t)
        elif self._cutter is None:
            yield t, data
        else:
            for part in self._cutter.feed(data):
                wire = part.wire if isinstance(part, Message) else part
                if not isinstance(part, Message) or part.opcode not in DATA or not self._by_messages:
                    yield t, wire
                elif self.mid_frame and self._passed == self.messages:
                    yield t, wire[: max(1, len(wire) // 2)]
                    yield t, HOW[self.how]
                    return
                else:
                    self._passed += 1
                    yield t, wire
                    if self._passed == self.messages and not self.mid_frame:
                        if self.how == "ws_close":
                            yield t, self._farewell()
                        yield t, HOW[self.how]
                        return

    def deadline(self, started: float) -> Release | None:
        """The end, unless it comes by bytes or messages."""
        if self.bytes or self._by_messages:
            return None
        return started + self.after * MS, HOW[self.how]

    def last_words(self, now: float) -> Chunk | None:
        """A close frame, once no message is under way; nothing after a second of waiting for that."""
        if self.how != "ws_close":
            return b""
        assert self._cutter is not None
        self._late_at = min(self._late_at, now + PATIENCE_S)
        if self._cutter.between:
            return self._farewell()
        return b"" if now >= self._late_at else None

    def left(self) -> Chunk:
        """What is held of a message that is not whole."""
        return self._cutter.left() if self._cutter else b""

    def broken_rule(self) -> str | None:
        """How, and one time only."""
        if self.how not in HOW:
            return f"how is {self.how!r}: must be one of {', '.join(HOW)}"
        if self.how == "silent" and not can_be_silent():
            return f"how is 'silent': {RULE}"
        if self.mid_frame not in (0, 1):
            return f"mid_frame is {self.mid_frame}: must be 0 or 1"
        if sum(map(bool, (self.after, self.bytes, self._by_messages))) > 1:
            return "after, bytes, and messages or mid_frame: at most one can say when"
        if self.how == "ws_close" and not 1000 <= self.code <= 4999:
            return f"code is {self.code}: must be a close code, from 1000 to 4999"
        if self.how == "ws_close" and (self.bytes or self.mid_frame):
            return "how is 'ws_close': goes between two messages, so neither bytes nor mid_frame can say when"
        return None

    @property
    def _by_messages(self) -> bool:
        return bool(self.messages or self.mid_frame)

    def _by_bytes(self, data: Chunk, t: float) -> Iterator[Release]:
        left = self.bytes - self._passed
        self._passed += len(data[:left])
        yield t, data[:left]
        if self._passed >= self.bytes:
            yield t, HOW[self.how]

    def _farewell(self) -> Chunk:
        mask = MASK if self._masked else None
        return frame(Opcode.CLOSE, self.code.to_bytes(2, "big"), mask=mask)

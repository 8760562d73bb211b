"""A peer that was left without a word, when the other one's connection ended: what it does from then on."""

from time import monotonic
from typing import TYPE_CHECKING

from chaos.proxy.frames import Cutter, Message, Opcode
from chaos.proxy.toxics.base import Leave

if TYPE_CHECKING:
    from chaos.proxy.connection import Connection, Side


class LeftBehind:
    """Reads what the peer sends, drops it, and sees when it gives up: by a close frame, or by FIN or RST.

    After a close frame a peer may wait for the answer before it ends the connection, so the frame counts.
    """

    __slots__ = ("_cutter", "_gave_up", "_since", "leave", "side")

    def __init__(self, connection: "Connection", leave: Leave) -> None:
        self.leave = leave
        self.side: Side = connection.client if leave.peer == "client" else connection.upstream
        self._since = monotonic()
        self._gave_up = False
        self._cutter = Cutter(masked=leave.peer == "client")
        self._tell(event="left", peer=leave.peer)
        self._count("left")

    def take(self, data: bytes) -> None:
        """What the peer sends."""
        self.side.withheld += len(data)
        if not self._gave_up and any(
            isinstance(part, Message) and part.opcode == Opcode.CLOSE for part in self._cutter.feed(data)
        ):
            self.gives_up()

    def gives_up(self) -> None:
        """The peer holds the connection for dead."""
        if self._gave_up:
            return
        self._gave_up = True
        waited_ms = round((monotonic() - self._since) * 1000)
        self._tell(event="gave_up", peer=self.leave.peer, waited_ms=waited_ms)
        self._count("gave_up", waited_ms)

    def _tell(self, **event: object) -> None:
        connection = self.side.connection
        connection.proxy.tell(connection, toxic=self.leave.toxic, **event)

    def _count(self, what: str, waited_ms: int = 0) -> None:
        if toxic := self.side.connection.proxy.toxic(self.leave.toxic):
            toxic.counts[what] += 1
            longest = f"{what}_max_ms"
            if waited_ms > toxic.counts[longest]:
                toxic.counts[longest] = waited_ms

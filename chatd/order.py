"""Which publishes must come first: those of a channel that failed temporarily, oldest first.

PROTOCOL.md § Publishing: while one of them has no final answer, every other publish of this
connection on the channel is refused with 412. No I/O.
"""

from __future__ import annotations

from bisect import insort
from typing import Final

from .protocol.errors import OutOfOrder

BLOCKS: Final = 1024  # publishes of one connection that may wait to be sent again


class Order:
    """The blocks of one connection.

    >>> order = Order()
    >>> order.failed("room", "m1", 7); order.failed("room", "m2", 8)
    >>> order.check("room", "m1", 9); order.settled("room", "m1"); order.check("room", "m2", 10)
    """

    __slots__ = ("_failed", "count")

    def __init__(self) -> None:
        # By channel: (id of the request that failed first, message). The ids rise as the client sent, and
        # answers may come in another order: what was sent first must be sent again first.
        self._failed: dict[str, list[tuple[int, str]]] = {}
        self.count = 0

    @property
    def overfull(self) -> bool:
        """The client goes on publishing and sends nothing again: its memory here is at an end."""
        return self.count > BLOCKS

    def check(self, channel: str, message: str, request_id: int) -> None:
        """Raises ``OutOfOrder`` when a message that was sent before this one must come first."""
        failed = self._failed.get(channel)
        if failed is None:
            return
        first_id, first = failed[0]
        if first != message and first_id < request_id:
            raise OutOfOrder(f"message {first!r} failed temporarily on this channel: send it again first")

    def failed(self, channel: str, message: str, request_id: int) -> None:
        """A temporary failure. A message that failed before keeps its place."""
        failed = self._failed.setdefault(channel, [])
        if all(message != known for _, known in failed):
            insort(failed, (request_id, message))
            self.count += 1

    def settled(self, channel: str, message: str) -> None:
        """A final answer, whichever."""
        failed = self._failed.get(channel)
        if failed is None:
            return
        left = [entry for entry in failed if entry[1] != message]
        self.count -= len(failed) - len(left)
        if left:
            self._failed[channel] = left
        else:
            del self._failed[channel]

    def abandon(self, message: str) -> None:
        """The client gives up on a message, on whatever channel: what came after it may go on."""
        for channel in list(self._failed):
            self.settled(channel, message)

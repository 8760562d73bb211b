"""How far each user of one channel has read. No I/O, no clock.

A mark only rises. Changes are gathered and pushed at most every ``GATHER_S``, whatever is
reported meanwhile; who begins to listen gets all marks. PROTOCOL.md § Receipts.
"""

from __future__ import annotations

from typing import Final

from .protocol.messages import Mark, ReceiptKind

GATHER_S: Final = 0.2
USERS: Final = 200  # whose marks are kept; beyond it the one who reported longest ago goes


class Marks:
    """The marks of a channel.

    >>> marks = Marks()
    >>> marks.report("ann", "read", 5, now=0.0), marks.report("ann", "read", 3, now=0.1)
    (True, False)
    >>> marks.due, marks.take(0.2)
    (0.0, [Mark(user='ann', delivered=0, read=5)])
    """

    def __init__(self) -> None:
        self.due: float | None = None  # when ``take`` has something to push
        self._marks: dict[str, Mark] = {}  # who reported last stands last
        self._changed: dict[str, None] = {}
        self._pushed_at = -GATHER_S

    def __len__(self) -> int:
        return len(self._marks)

    def report(self, user: str, kind: ReceiptKind, serial: int, now: float) -> bool:
        """Raise a mark; False: it was as high already."""
        old = self._marks.get(user) or Mark(user)
        new = Mark(
            user,
            delivered=max(old.delivered, serial) if kind == "delivered" else old.delivered,
            read=max(old.read, serial) if kind == "read" else old.read,
        )
        if new == old:
            return False
        self._marks.pop(user, None)
        self._marks[user] = new
        if len(self._marks) > USERS:
            gone = next(iter(self._marks))
            del self._marks[gone]
            self._changed.pop(gone, None)
        self._changed[user] = None
        if self.due is None:
            self.due = max(now, self._pushed_at + GATHER_S)
        return True

    def all(self) -> list[Mark]:
        return list(self._marks.values())

    def take(self, now: float) -> list[Mark]:
        """The marks that rose since the last push, once ``due``."""
        if self.due is None or now < self.due:
            return []
        self.due, self._pushed_at = None, now
        changed, self._changed = self._changed, {}
        return [self._marks[user] for user in changed]

    def again(self, when: float) -> None:
        """Somebody missed a push: push everything then."""
        self._changed = dict.fromkeys(self._marks)
        if self._marks:
            self.due = max(when, self.due or 0.0)

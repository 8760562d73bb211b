"""Who is present in one channel: members in, frames for those who asked out. No I/O, no clock.

Changes are gathered for ``GATHER_S`` and pushed as their net effect, so that a client that
comes back within that time is not seen to leave. Above ``CROWD`` members only their number
is pushed, once a second, and the list again when they are few. PROTOCOL.md § Presence.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

import msgspec

from .protocol.messages import NULL, Change, Member, Presence

CROWD: Final = 200  # members; above it nobody is told who they are, only how many
GATHER_S: Final = 0.1
COUNT_S: Final = 1.0

K = TypeVar("K", bound=Hashable)


class Roster(Generic[K]):
    """The members of a channel. ``K`` is a connection: a user is present while one of his is.

    >>> roster = Roster[str]("room")
    >>> roster.enter("ann", "socket 1", msgspec.Raw(b"null"), now=0.0); roster.due
    0.1
    >>> [(change.op, change.user) for change in roster.take(0.1).changes]
    [('enter', 'ann')]
    >>> roster.leave("ann", "socket 1", now=5.0); roster.empty
    True
    """

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.version = 0  # of what was pushed last
        self.due: float | None = None  # when ``take`` has something to push
        self._members: dict[str, dict[K, msgspec.Raw]] = {}  # the connection that spoke last stands last
        self._before: dict[str, Member | None] = {}  # users that were touched since the last push
        self._told: set[str] = set()  # of these, whom a ``sync`` has shown as they were in between
        self._crowded = False  # as the last push said
        self._pushed_at = -COUNT_S
        self._sync: Presence | None = None

    def __len__(self) -> int:
        return len(self._members)

    @property
    def empty(self) -> bool:
        return not self._members

    def enter(self, user: str, key: K, data: msgspec.Raw, now: float) -> None:
        """The user is present over this connection, with this data in place of what he had."""
        self._touch(user, now)
        keys = self._members.setdefault(user, {})
        keys.pop(key, None)
        keys[key] = NULL if data == NULL else data  # the encoder leaves out the default object, not its like

    def leave(self, user: str, key: K, now: float) -> None:
        """The connection is no longer present; the user only goes with his last one."""
        keys = self._members.get(user)
        if keys is None or key not in keys:
            return
        self._touch(user, now)
        del keys[key]
        if not keys:
            del self._members[user]

    def said(self, user: str, chosen: Callable[[K], bool]) -> msgspec.Raw | None:
        """What a user said last of himself over the chosen connections; None: he is not present over any."""
        return next(
            (data for key, data in reversed(self._members.get(user, {}).items()) if chosen(key)), None
        )

    def over(self, chosen: Callable[[K], bool]) -> list[Member]:
        """Who is present over the chosen connections."""
        found = ((user, self.said(user, chosen)) for user in self._members)
        return [Member(user, data) for user, data in found if data is not None]

    def _touch(self, user: str, now: float) -> None:
        self._sync = None
        if not self._crowded:
            self._before.setdefault(user, self._member(user))
        if self.due is None:
            self.due = max(now, self._pushed_at + COUNT_S) if self._crowded else now + GATHER_S

    def _member(self, user: str) -> Member | None:
        keys = self._members.get(user)
        return None if keys is None else Member(user, next(reversed(keys.values())))

    def sync(self, request_id: int | None = None) -> Presence:
        """All there is to know now. What is gathered and not pushed yet is in it, and is pushed all the
        same: changes may be applied twice."""
        self._told.update(self._before)
        if len(self) > CROWD:
            self._crowded = True  # who learns only the number now cannot do anything with changes later
        if self._sync is None:
            self._sync = Presence(
                channel=self.channel,
                version=self.version,
                count=len(self),
                members=None if len(self) > CROWD else [m for u in self._members if (m := self._member(u))],
            )
        return self._sync if request_id is None else msgspec.structs.replace(self._sync, id=request_id)

    def take(self, now: float) -> Presence | None:
        """What to push to everybody who watches, once ``due``; None: nothing after all."""
        if self.due is None or now < self.due:
            return None
        self.due = None
        before, self._before = self._before, {}
        told, self._told = self._told, set()
        was_crowded, self._crowded = self._crowded, len(self) > CROWD
        changes = None if was_crowded or self._crowded else self._changes(before, told)
        if changes is not None and not changes:
            return None
        self.version += 1
        self._pushed_at = now
        self._sync = None
        if changes is None:
            return self.sync()
        return Presence(channel=self.channel, version=self.version, count=len(self), changes=changes)

    def _changes(self, before: dict[str, Member | None], told: set[str]) -> list[Change]:
        """The net effect. Who was shown in between is in it even if nothing has come of that."""
        changes = []
        for user, old in before.items():
            new = self._member(user)
            if new == old and user not in told:
                continue
            if new is None:
                changes.append(Change("leave", user))
            else:
                changes.append(Change("enter" if old is None else "update", user, new.data))
        return changes

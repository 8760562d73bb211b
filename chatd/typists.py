"""Who is typing in one channel. No I/O, no clock.

Nothing is stored and nothing is repeated: a typist who is not heard of for ``TTL_S`` has stopped.
What changes is pushed at once if the last push about this user is ``THROTTLE_S`` old, and else
then; so the last state always comes through. PROTOCOL.md § Typing.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

import msgspec

TTL_S: Final = 6.0
THROTTLE_S: Final = 1.0
TYPISTS: Final = 20  # shown at a time; who begins when so many type is not shown

K = TypeVar("K", bound=Hashable)


class Turn(msgspec.Struct, frozen=True):
    """Somebody began, goes on, or stopped: to be told to everybody but him."""

    user: str
    on: bool
    senders: frozenset[Hashable] = frozenset()  # the connections that it came from


class _Typist(Generic[K]):
    __slots__ = ("keys", "news", "not_before", "senders", "shown")

    def __init__(self) -> None:
        self.keys: dict[K, float] = {}  # connections on which he types → when that expires
        self.senders: set[K] = set()  # those on which he did since he is here
        self.shown = False  # as the last push said
        self.news = False  # he was heard of since
        self.not_before = 0.0  # of the next push

    def due(self) -> float:
        if self.news or bool(self.keys) != self.shown:
            return self.not_before
        return min(self.keys.values()) if self.keys else self.not_before


class Typists(Generic[K]):
    """The typists of a channel. ``K`` is a connection.

    >>> typists = Typists[str]()
    >>> typists.type("ann", "socket 1", now=0.0); [turn.on for turn in typists.take(0.0)]
    [True]
    >>> typists.due, [turn.on for turn in typists.take(6.0)]
    (6.0, [False])
    """

    def __init__(self) -> None:
        self._users: dict[str, _Typist[K]] = {}

    @property
    def due(self) -> float | None:
        """When ``take`` has something to do. None: there is nobody."""
        return min((typist.due() for typist in self._users.values()), default=None)

    def type(self, user: str, key: K, now: float) -> None:
        typist = self._users.get(user)
        if typist is None:
            if len(self._users) >= TYPISTS:
                return
            typist = self._users[user] = _Typist()
            typist.not_before = now
        typist.keys[key] = now + TTL_S
        typist.senders.add(key)
        typist.news = True

    def stop(self, user: str, key: K) -> None:
        """He says so, or his connection is gone."""
        typist = self._users.get(user)
        if typist is not None:
            typist.keys.pop(key, None)

    def take(self, now: float) -> list[Turn]:
        """What to push now."""
        turns = []
        for user, typist in list(self._users.items()):
            for key in [key for key, until in typist.keys.items() if until <= now]:
                del typist.keys[key]
            on = bool(typist.keys)
            if now >= typist.not_before:
                if on != typist.shown or (on and typist.news):
                    turns.append(Turn(user, on, frozenset(typist.senders)))
                    typist.shown, typist.news = on, False
                    typist.not_before = now + THROTTLE_S
                elif not on:
                    del self._users[user]  # nothing is shown of him, and the throttle has run out
        return turns

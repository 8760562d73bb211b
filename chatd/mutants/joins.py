"""Mutants of how a subscription begins: stand-ins for ``Joins``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from msgspec import structs

from ..connection import Connection
from ..effects import Send, Subscription
from ..hub import Channel, Hub
from ..joins import Joins, Spawn
from ..protocol.messages import GapInfo, Subscribed, encode
from ..store.base import Store
from .chosen import Trigger


class Altered(Joins, ABC):
    """Answers a subscription otherwise than the session would, or begins to deliver elsewhere."""

    def __init__(
        self,
        store: Store,
        hub: Hub,
        spawn: Spawn,
        caught_up: Callable[[Connection], None],
        *,
        trigger: Trigger,
    ) -> None:
        super().__init__(store, hub, spawn, caught_up)
        self._fires = trigger.fires

    def _answer(self, connection: Connection, channel: Channel, subscription: Subscription) -> None:
        _, answer = connection.session.subscribed(subscription, channel.head)
        answer = self.alter(connection, channel, subscription, answer)
        connection.apply([Send(encode(answer))])
        self._hub.metrics.resumes += answer.resumed
        self._hub.metrics.gaps += answer.gap is not None

    @abstractmethod
    def alter(
        self, connection: Connection, channel: Channel, subscription: Subscription, answer: Subscribed
    ) -> Subscribed:
        """The answer to give. ``subscription.cursor`` is where delivery begins: it may be moved."""


class ResumeLate(Altered):
    """Leaves out the first message after the position."""

    def alter(
        self, connection: Connection, channel: Channel, subscription: Subscription, answer: Subscribed
    ) -> Subscribed:
        if answer.resumed and subscription.cursor < channel.head.top and self._fires():
            subscription.cursor += 1
        return answer


class ResumeEarly(Altered):
    """Begins with the message at the position, which the client has."""

    def alter(
        self, connection: Connection, channel: Channel, subscription: Subscription, answer: Subscribed
    ) -> Subscribed:
        if answer.resumed and subscription.cursor >= channel.head.floor and self._fires():
            subscription.cursor -= 1
        return answer


class NewWithHead(Altered):
    """Begins with the newest message where only later ones were asked for."""

    def alter(
        self, connection: Connection, channel: Channel, subscription: Subscription, answer: Subscribed
    ) -> Subscribed:
        head = channel.head
        if subscription.asked == "new" and head.top >= head.floor and self._fires():
            subscription.cursor -= 1
        return answer


class ResumeTruncated(Altered):
    """Says `resumed` where messages after the position are gone."""

    def alter(
        self, connection: Connection, channel: Channel, subscription: Subscription, answer: Subscribed
    ) -> Subscribed:
        if answer.gap is not None and answer.gap.why == "trimmed" and self._fires():
            return structs.replace(answer, resumed=True, gap=None)
        return answer


class ShortGaps(Altered):
    """Leaves the last missing message out of the notice of a gap; delivery goes on where it should."""

    def alter(
        self, connection: Connection, channel: Channel, subscription: Subscription, answer: Subscribed
    ) -> Subscribed:
        if answer.gap is None or not self._fires():
            return answer
        epoch, serial = answer.gap.to
        return structs.replace(answer, gap=structs.replace(answer.gap, to=(epoch, max(0, serial - 1))))


class NoResume(Altered):
    """Goes on with what comes next, wherever the client left off, and declares what that leaves out."""

    def alter(
        self, connection: Connection, channel: Channel, subscription: Subscription, answer: Subscribed
    ) -> Subscribed:
        if not answer.resumed or not self._fires():
            return answer
        top = answer.position[1]
        gap = {"why": "lag", "from": subscription.asked, "to": answer.position}
        lost = subscription.cursor < top
        subscription.cursor = top
        return structs.replace(
            answer, resumed=False, start=top, count=0, gap=msgspec.convert(gap, GapInfo) if lost else None
        )


class BeforeSubscribed(Altered):
    """Delivers the newest message ahead of the answer to `subscribe`."""

    def alter(
        self, connection: Connection, channel: Channel, subscription: Subscription, answer: Subscribed
    ) -> Subscribed:
        tail = channel.tail
        if tail is not None and tail.floor <= tail.top and subscription.asked != "first" and self._fires():
            (newest,) = tail.after(tail.top - 1, 1, 1)
            connection.outlet.send(newest.frame)
        return answer


JOINS: Final[Mapping[str, type[Altered]]] = {
    "resume-late": ResumeLate,
    "resume-early": ResumeEarly,
    "resume-truncated": ResumeTruncated,
    "gap-off-by-one": ShortGaps,
    "new-with-head": NewWithHead,
    "before-subscribed": BeforeSubscribed,
    "no-resume": NoResume,
}

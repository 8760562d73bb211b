"""Mutants of publishing: stand-ins for ``Ingest``, which sees every publish, its place and its answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, cast

from msgspec import structs

from ..connection import Connection
from ..effects import Effects
from ..hub import Hub, push
from ..ingest import Ingest, Item, entry_of
from ..metrics import Metrics
from ..protocol.errors import ChatdError, Forbidden
from ..protocol.messages import Write
from ..session import Session
from ..store.base import Append, Duplicate, Outcome, Placed, Store, StoreUnavailable, StoreUncertain
from .chosen import Trigger
from .hub import Doubled

Answer = Callable[[Session, Write, Outcome, str], Effects]  # what `Session.placed` would be asked for


class _Otherwise:
    """A connection of which one publish is answered otherwise."""

    def __init__(self, connection: Connection, answer: Answer) -> None:
        self._connection, self._answer = connection, answer
        self.session = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def overtakes(self, request: Write) -> Effects | None:
        return self._connection.session.overtakes(request)

    def failed(self, request: Write, error: ChatdError) -> Effects:
        return self._connection.session.failed(request, error)

    def placed(self, request: Write, outcome: Outcome, epoch: str) -> Effects:
        return self._answer(self._connection.session, request, outcome, epoch)


def _otherwise(item: Item, answer: Answer) -> Item:
    connection, request, append = item
    return cast(Connection, _Otherwise(connection, answer)), request, append


def _silent(session: Session, request: Write, outcome: Outcome, epoch: str) -> Effects:
    return []


class Broken(Ingest):
    """What all of them share."""

    def __init__(
        self,
        store: Store,
        hub: Hub,
        clock: Callable[[], float],
        wall_ms: Callable[[], int],
        metrics: Metrics,
        *,
        trigger: Trigger,
    ) -> None:
        super().__init__(store, hub, clock, wall_ms, metrics)
        self._fires = trigger.fires

    async def _add(self, append: Append) -> None:
        """Place a message that nobody waits for."""
        with suppress(StoreUnavailable, StoreUncertain):
            (outcome,) = await self._store.append([append], self._wall_ms())
            if isinstance(outcome, Placed) and self._store.bus is None:
                self._hub.committed(append.channel, [entry_of(append, outcome)])


# Another answer -----------------------------------------------------------------------------------------


class Misanswering(Broken, ABC):
    """Answers publishes that were placed as ``answer`` says."""

    def _placed(self, batch: Sequence[Item], outcomes: Sequence[Outcome]) -> None:
        told = [
            _otherwise(item, self.answer) if self.chosen(item[2], outcome) else item
            for item, outcome in zip(batch, outcomes, strict=True)
        ]
        super()._placed(told, outcomes)

    def chosen(self, append: Append, outcome: Outcome) -> bool:
        return isinstance(outcome, Placed) and self._fires()

    @abstractmethod
    def answer(self, session: Session, request: Write, outcome: Outcome, epoch: str) -> Effects:
        """What is told in the place of the true answer."""


class NackCommitted(Misanswering):
    """Refuses for certain what is in the log."""

    def answer(self, session: Session, request: Write, outcome: Outcome, epoch: str) -> Effects:
        return session.failed(request, Forbidden("refused, says a mutant"))


class AckTwice(Misanswering):
    def answer(self, session: Session, request: Write, outcome: Outcome, epoch: str) -> Effects:
        return session.placed(request, outcome, epoch) * 2


class AckWrongSerial(Misanswering):
    """Acks at the serial before the message's."""

    def chosen(self, append: Append, outcome: Outcome) -> bool:
        return outcome_serial(outcome) > 1 and super().chosen(append, outcome)

    def answer(self, session: Session, request: Write, outcome: Outcome, epoch: str) -> Effects:
        assert isinstance(outcome, Placed)
        return session.placed(request, structs.replace(outcome, serial=outcome.serial - 1), epoch)


class NoAck(Misanswering):
    """Answers a publish never, nor any retry of it."""

    def __init__(self, *args: Any, trigger: Trigger) -> None:
        super().__init__(*args, trigger=trigger)
        self._unanswered: set[tuple[str, str]] = set()

    def chosen(self, append: Append, outcome: Outcome) -> bool:
        message = (append.user, append.message)
        if super().chosen(append, outcome):
            self._unanswered.add(message)
        return message in self._unanswered

    def answer(self, session: Session, request: Write, outcome: Outcome, epoch: str) -> Effects:
        return []


def outcome_serial(outcome: Outcome) -> int:
    return outcome.serial if isinstance(outcome, Placed) else 0


# Another order ------------------------------------------------------------------------------------------


class RacePublishes(Broken):
    """Lets the next publish of a connection on a channel overtake one, as concurrent handlers would."""

    def __init__(self, *args: Any, trigger: Trigger) -> None:
        super().__init__(*args, trigger=trigger)
        self._held: dict[tuple[Connection, str], tuple[Write, Append]] = {}

    def submit(self, connection: Connection, request: Write, append: Append) -> None:
        place = (connection, append.channel)
        held = self._held.pop(place, None)
        if held is None and self._fires():
            self._held[place] = request, append
            return
        super().submit(connection, request, append)
        if held is not None:
            super().submit(connection, *held)


class LateSerial(Broken):
    """Acks a message at the serial after the next, and places it when another one has come before it."""

    def __init__(self, *args: Any, trigger: Trigger) -> None:
        super().__init__(*args, trigger=trigger)
        self._held: dict[str, Item] = {}

    def submit(self, connection: Connection, request: Write, append: Append) -> None:
        held = self._held.pop(append.channel, None)
        channel = self._hub.channel(append.channel)
        known = held is None and self.is_idle and channel is not None and channel.open
        if known and self._fires():
            assert channel is not None
            promised = Placed(channel.head.top + 2, self._wall_ms())
            connection.apply(connection.session.placed(request, promised, self._store.epoch))
            connection.answered()
            self._held[append.channel] = _otherwise((connection, request, append), _silent)
            return
        super().submit(connection, request, append)
        if held is not None:
            super().submit(*held)


class DedupeByUser(Broken):
    """Takes a new message for the last one of its publisher on the channel: acks that one's place."""

    def __init__(self, *args: Any, trigger: Trigger) -> None:
        super().__init__(*args, trigger=trigger)
        self._last: dict[tuple[str, str], int] = {}
        self._mistaken: dict[tuple[str, str, str], int] = {}

    def submit(self, connection: Connection, request: Write, append: Append) -> None:
        message = (append.channel, append.user, append.message)
        last = self._last.get(message[:2], 0)
        if last and message not in self._mistaken and self._fires():
            self._mistaken[message] = last
        if (serial := self._mistaken.get(message)) is None:
            super().submit(connection, request, append)
            return
        connection.apply(connection.session.placed(request, Duplicate(serial), self._store.epoch))
        connection.answered()

    def _placed(self, batch: Sequence[Item], outcomes: Sequence[Outcome]) -> None:
        for (_, _, append), outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Placed):
                self._last[append.channel, append.user] = outcome.serial
        super()._placed(batch, outcomes)


class RaceSerial(Broken):
    """Gives two messages of a batch the same serial. The log keeps the first; both are acked."""

    async def _commit(self, batch: Sequence[Item]) -> None:
        first: dict[str, Item] = {}
        kept: list[Item] = []
        self._pairs: list[tuple[Item, Item]] = []
        for item in batch:
            earlier = first.get(item[2].channel)
            if earlier is not None and self._fires():
                self._pairs.append((earlier, item))
                del first[item[2].channel]
            else:
                kept.append(item)
                first.setdefault(item[2].channel, item)
        await super()._commit(kept)

    def _placed(self, batch: Sequence[Item], outcomes: Sequence[Outcome]) -> None:
        assert isinstance(self._hub, Doubled)
        placed = {id(item): outcome for item, outcome in zip(batch, outcomes, strict=True)}
        alike: list[tuple[Item, Placed]] = []
        for earlier, item in self._pairs:
            outcome = placed[id(earlier)]
            if isinstance(outcome, Placed):
                alike.append((item, outcome))
                channel = item[2].channel
                self._hub.twins[channel, outcome.serial] = push(channel, entry_of(item[2], outcome))
        super()._placed(batch, outcomes)
        for (connection, request, _), outcome in alike:
            connection.apply(connection.session.placed(request, outcome, self._store.epoch))
            connection.answered()


# Another message ----------------------------------------------------------------------------------------


class CrossPost(Broken):
    """Places a message in another channel as well."""

    async def _commit(self, batch: Sequence[Item]) -> None:
        await super()._commit(batch)
        for _, _, append in batch:
            other = next((name for name in self._hub.names if name != append.channel), None)
            if other is not None and self._fires():
                await self._add(structs.replace(append, channel=other))


class LeftOver(Broken):
    """Places a message that nobody published, as one that an earlier run has left in the channel."""

    async def _commit(self, batch: Sequence[Item]) -> None:
        await super()._commit(batch)
        for _, _, append in batch:
            if self._fires():
                name = f"left-over:{self._wall_ms()}:{append.message}"
                await self._add(Append(append.channel, "nobody", name, b'"left over"'))


class DoubleFanout(Broken):
    """Delivers what this node places at once, though it comes over the bus too."""

    def _placed(self, batch: Sequence[Item], outcomes: Sequence[Outcome]) -> None:
        super()._placed(batch, outcomes)
        for (_, _, append), outcome in zip(batch, outcomes, strict=True):
            channel = self._hub.channel(append.channel)
            if isinstance(outcome, Placed) and channel is not None and channel.open and self._fires():
                self._hub.deliver(channel, [push(append.channel, entry_of(append, outcome))])


INGESTS: Final[Mapping[str, type[Broken]]] = {
    "nack-committed": NackCommitted,
    "ack-twice": AckTwice,
    "ack-wrong-serial": AckWrongSerial,
    "no-ack": NoAck,
    "race-publishes": RacePublishes,
    "late-serial": LateSerial,
    "dedupe-by-user": DedupeByUser,
    "race-serial": RaceSerial,
    "cross-post": CrossPost,
    "left-over": LeftOver,
    "double-fanout": DoubleFanout,
}

"""The toxics at work on one direction of one connection, in a row. No sockets, no clock.

    feed ─► Stage ─► Stage ─► run() yields what leaves now; due() says when to run again

Bytes are never lost, repeated or reordered by a change of the row: a stage that
goes gives what it holds to its successor, in order, before anything newer.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import chain
from typing import Any

from chaos.proxy.draws import Draws
from chaos.proxy.frame_view import FrameView
from chaos.proxy.toxics.base import (
    NEVER,
    Door,
    Ending,
    EndsOnRemoval,
    HoldsEnd,
    Item,
    Keeps,
    LastWords,
    Place,
    Placed,
    Release,
    StopsReading,
    Toxic,
)

ASK_AGAIN_S = 0.02  # of a toxic that has not said its last words
CHUNK_COST = 64  # bytes a held chunk counts beyond its own, so that many tiny ones are bounded too


@dataclass(slots=True, eq=False)
class ActiveToxic:
    """A toxic of a proxy, as the API knows it."""

    name: str
    type: str
    stream: str  # as it was given; Toxiproxy keeps its case
    toxicity: float  # share of connections that it works on
    toxic: Toxic  # its attributes; each stage has a copy
    ordinals: frozenset[int] | None = None  # of the clients that it hits; None: all
    live: bool = False  # it hits only connections that are there when it is added
    there: frozenset[int] = frozenset()  # their ids
    since: float = 0.0  # when it was added, monotonic seconds
    counts: Counter[str] = field(default_factory=Counter)  # what it tells of its work, over all connections

    @property
    def direction(self) -> str:
        """``upstream`` or ``downstream``."""
        return self.stream.lower()

    @property
    def by_client(self) -> bool:
        """Whether whom it hits depends on whose a connection is, which its first bytes tell."""
        return self.ordinals is not None or isinstance(self.toxic, Door)

    def hits(self, seed: int, *connection: object) -> bool:
        """Whether its toxicity takes a connection: fixed for the connection's life.

        Toxics whose names differ only in ``_upstream`` and ``_downstream`` hit the same
        connections, so a fault on both directions is one fault.
        """
        fault = self.name.removesuffix("_upstream").removesuffix("_downstream")
        return self.toxicity >= 1 or Draws(seed, fault, *connection).uniform(0, 1) < self.toxicity

    def attributes(self) -> dict[str, Any]:
        """As in the API."""
        return attributes(self.toxic)


def attributes(toxic: Toxic) -> dict[str, Any]:
    """The attributes of a toxic, without its state."""
    dataclass_toxic: Any = toxic  # a Protocol cannot ask for a dataclass
    return {field.name: getattr(toxic, field.name) for field in fields(dataclass_toxic) if field.init}


class Stage:
    """One toxic at work: what it was given and has not let go."""

    __slots__ = (
        "_came", "_deadline", "_draws", "_inbox", "_place", "_releases", "_started", "active", "head", "held",
        "toxic",
    )  # fmt: skip

    def __init__(self, active: ActiveToxic, now: float, place: Place) -> None:
        self.active = active
        dataclass_toxic: Any = active.toxic
        self.toxic: Toxic = replace(dataclass_toxic)  # same attributes, fresh state
        self.held = 0  # bytes, with CHUNK_COST
        self.head: Release | None = None  # the next to leave
        self._came = now  # when the item came that head is a piece of
        self._place = place
        self._draws: Draws | None = None  # made at the first chunk: by then it is known whose it is
        self._inbox: deque[Release] = deque()
        self._releases = self._pieces()
        self._started = now
        if isinstance(self.toxic, Placed):
            self.toxic.begin(place)
        self._deadline = self._ask_deadline()

    def put(self, t: float, item: Item) -> None:
        """Take an item that came at ``t``."""
        self.held += _cost(item)
        self._inbox.append((t, item))

    def take(self, now: float) -> Iterator[Release]:
        """What leaves by ``now``, in order, each with the time it was due."""
        if self._deadline and self._deadline[0] <= now:
            yield from self._end(*self._deadline, now)
        while True:
            if self.head is None:
                self.head = next(self._releases, None)
                if self.head is None:
                    self._releases = self._pieces()  # a spent generator stays spent
                    return
            if self.head[0] > now:
                return
            released, self.head = self.head, None
            yield released

    def _end(self, t: float, end: Item, now: float) -> Iterator[Release]:
        """The deadline has come: the toxic's last words, if it has any, and the end."""
        self._deadline = None
        if isinstance(self.toxic, LastWords):
            if (words := self.toxic.last_words(now)) is None:
                self._deadline = (now + ASK_AGAIN_S, end)
                return
            if words:
                yield t, words
        yield t, end

    def due(self) -> float:
        """When the next item leaves; ``inf`` when none does by itself."""
        head = self.head[0] if self.head else NEVER
        return min(head, self._deadline[0]) if self._deadline else head

    def update(self) -> None:
        """Take over changed attributes, for the piece that waits too."""
        for name, value in self.active.attributes().items():
            setattr(self.toxic, name, value)
        self._deadline = self._ask_deadline()
        if self.head is not None and not isinstance(self.toxic, Keeps):
            self._releases = chain(self._flow(self._came, self.head[1]), self._releases)
            self.head = None

    def flush(self, now: float) -> Iterator[Release]:
        """Everything held, at once and in order; then the end, if the removal is one."""
        data = bytearray()
        held = [self.head] if self.head else []
        for _, item in (*held, *self._releases, *self._left(now)):
            if isinstance(item, bytes):
                data += item
                continue
            if data:
                yield now, bytes(data)
                data.clear()
            yield now, item
        if data:
            yield now, bytes(data)
        if isinstance(self.toxic, EndsOnRemoval) and (end := self.toxic.removed()):
            yield now, end

    def _pieces(self) -> Iterator[Release]:
        """The pieces of each item in turn; an item counts as held until its last piece left."""
        while self._inbox:
            self._came, item = self._inbox.popleft()
            yield from self._flow(self._came, item)
            self.held -= _cost(item)

    def _flow(self, t: float, item: Item) -> Iterator[Release]:
        if isinstance(item, bytes):
            if self._draws is None:
                place = self._place
                self._draws = Draws(place.seed, place.name, *place.whose(), place.direction)
            return self.toxic.flow(item, t, self._draws)
        end = self.toxic.end(t) if isinstance(self.toxic, HoldsEnd) else t
        return chain(self._left(t), ((end, item),))

    def _left(self, t: float) -> Iterator[Release]:
        """What the toxic itself keeps."""
        if isinstance(self.toxic, Keeps) and (left := self.toxic.left()):
            yield t, left

    def _ask_deadline(self) -> Release | None:
        return self.toxic.deadline(self._started) if isinstance(self.toxic, Ending) else None


class Chain:
    """The stages of one direction.

    Args:
        seed, connection, direction: what the stages' draws depend on.
        view, whose, emit: for the toxics that ask (``toxics.base.Place``).
    """

    __slots__ = ("_direction", "_emit", "_seed", "_view", "_whose", "stages", "stopped")

    def __init__(
        self,
        seed: int,
        connection: int,
        direction: str,
        *,
        view: FrameView | None = None,
        whose: Callable[[], tuple[object, ...]] | None = None,
        emit: Callable[..., None] = lambda **_: None,
    ) -> None:
        self._seed = seed
        self._direction = direction
        self._view, self._emit = view, emit
        self._whose = whose or (lambda: (connection,))
        self.stages: list[Stage] = []
        self.stopped = False  # some stage has the source not read

    @property
    def held(self) -> int:
        """Bytes inside, a little more for each chunk."""
        return sum(stage.held for stage in self.stages)

    def feed(self, item: Item, now: float) -> None:
        """Take an item; call ``run`` after. There must be a stage."""
        self.stages[0].put(now, item)

    def run(self, now: float) -> Iterator[Item]:
        """Everything that leaves the last stage by ``now``, in order."""
        for stage, successor in zip(self.stages, self.stages[1:], strict=False):
            for t, item in stage.take(now):
                successor.put(t, item)
        if self.stages:
            for _, item in self.stages[-1].take(now):
                yield item

    def due(self) -> float:
        """When to run again, monotonic seconds."""
        return min((stage.due() for stage in self.stages), default=NEVER)

    def change(self, wanted: Sequence[ActiveToxic], now: float) -> list[Item]:
        """Make the stages those of ``wanted``, in that order; keep those that are there.

        Returns:
            What leaves the row because of it, before anything that ``run`` yields later.
        """
        left: list[Item] = []
        for stage in [stage for stage in self.stages if stage.active not in wanted]:
            place = self.stages.index(stage)
            del self.stages[place]
            for t, item in stage.flush(now):
                if place < len(self.stages):
                    self.stages[place].put(t, item)
                else:
                    left.append(item)
        for place, active in enumerate(wanted):
            if place == len(self.stages) or self.stages[place].active is not active:
                self.stages.insert(place, Stage(active, now, self._place(active)))
        self.stopped = any(isinstance(stage.toxic, StopsReading) for stage in self.stages)
        return left

    def _place(self, active: ActiveToxic) -> Place:
        return Place(
            name=active.name,
            since=active.since,
            seed=self._seed,
            direction=self._direction,
            whose=self._whose,
            view=self._view,
            counts=active.counts,
            emit=partial(self._emit, toxic=active.name),
        )

    def update(self, active: ActiveToxic) -> None:
        """Let the stage of ``active``, if there is one, take over changed attributes."""
        for stage in self.stages:
            if stage.active is active:
                stage.update()


def _cost(item: Item) -> int:
    return len(item) + CHUNK_COST if isinstance(item, bytes) else 0

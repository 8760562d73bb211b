"""A simulated history to be edited: its records, indexed, and changes that are made all at once."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from reports.history import CONN_OK, Flag, Kind
from tests.builders import Message, Story

from .expect import Place, Row, canonical, lineage_of, rows_of
from .simulate import Simulated

T, T2, CLIENT, CHANNEL, PUBLISHER, PUB_SEQ, SERIAL, EPOCH, KIND, FLAGS = range(10)
_FIELDS = ("t", "t2", "client", "channel", "publisher", "pub_seq", "serial", "epoch", "kind", "flags")
Ref = tuple[int, int]  # worker, position


@dataclass(slots=True)
class Window:
    """One subscription, from its SUB (or the EPOCH that changed its life) to its end."""

    client: int
    channel: int
    sub: Ref
    epoch: int
    start: int
    asked: tuple[int, int]
    resumed: bool
    derived: bool
    recvs: list[Ref] = field(default_factory=list)
    gaps: list[Ref] = field(default_factory=list)
    live: Ref | None = None
    end: Ref | None = None  # its UNSUB, CLOSE, or what replaced it


class Draft:
    """A copy of a simulated story. Nothing changes before ``done``."""

    def __init__(self, simulated: Simulated, rng: random.Random) -> None:
        self.params, self.rng = simulated.params, rng
        story = simulated.story
        self.story: Story = replace(
            story, faults=[dict(line) for line in story.faults], contract=copy.deepcopy(story.contract)
        )
        self.logs: dict[int, list[Row]] = {worker: list(log) for worker, log in story.logs.items()}
        self._dropped: set[Ref] = set()
        self._added: dict[Ref, list[Row]] = {}
        self._changed: dict[Ref, Row] = {}

    # ── changes ───────────────────────────────────────────────────────────────────────────────

    def row(self, ref: Ref) -> Row:
        return self.logs[ref[0]][ref[1]]

    def drop(self, *refs: Ref) -> None:
        self._dropped.update(refs)

    def change(self, ref: Ref, **fields: int) -> None:
        self._changed[ref] = changed(self._changed.get(ref, self.row(ref)), **fields)

    def add(self, after: Ref, row: Row) -> None:
        """A row behind another one of the same client, seen when that was."""
        self._added.setdefault(after, []).append(changed(row, t=self.row(after)[T]))

    def done(self) -> Story:
        self.story.logs = {worker: list(self._rows(worker)) for worker in self.logs}
        self.story.subscriptions = dict(self.story.subscriptions)
        return self.story

    def left(self) -> list[Row]:
        """The records that are left as they were."""
        touched = self._dropped | self._changed.keys()
        return [
            row
            for worker, log in self.logs.items()
            for at, row in enumerate(log)
            if (worker, at) not in touched
        ]

    def _rows(self, worker: int) -> list[Row]:
        rows: list[Row] = []
        for at in range(len(self.logs[worker])):
            ref = worker, at
            if ref not in self._dropped:
                rows.append(self._changed.get(ref, self.row(ref)))
            rows += self._added.get(ref, [])
        return sorted(rows, key=lambda row: row[T])

    # ── index ─────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def refs(self) -> dict[Kind, list[Ref]]:
        """Records by kind."""
        found: dict[Kind, list[Ref]] = {kind: [] for kind in Kind}
        for worker, log in self.logs.items():
            for at, row in enumerate(log):
                found[Kind(row[KIND])].append((worker, at))
        return found

    @cached_property
    def lineage(self) -> dict[tuple[int, int], tuple[int, int]]:
        return lineage_of(rows_of(self.story))

    def place(self, ref: Ref) -> Place:
        row = self.row(ref)
        return canonical(self.lineage, (row[CHANNEL], row[EPOCH], row[SERIAL]))

    @cached_property
    def places(self) -> dict[Place, dict[Kind, list[Ref]]]:
        """What showed each place: RECV, READ and ACK records."""
        found: dict[Place, dict[Kind, list[Ref]]] = {}
        for kind in (Kind.RECV, Kind.READ, Kind.ACK):
            for ref in self.refs[kind]:
                by_kind = found.setdefault(self.place(ref), {k: [] for k in (Kind.RECV, Kind.READ, Kind.ACK)})
                by_kind[kind].append(ref)
        return found

    def message(self, ref: Ref) -> Message:
        row = self.row(ref)
        return row[PUBLISHER], row[PUB_SEQ]

    def by_message(self, kind: Kind) -> dict[Message, list[Ref]]:
        found: dict[Message, list[Ref]] = {}
        for ref in self.refs[kind]:
            found.setdefault(self.message(ref), []).append(ref)
        return found

    @cached_property
    def sends(self) -> dict[Message, list[Ref]]:
        return self.by_message(Kind.SEND)

    @cached_property
    def acks(self) -> dict[Message, list[Ref]]:
        return self.by_message(Kind.ACK)

    @cached_property
    def nacks(self) -> dict[Message, list[Ref]]:
        return self.by_message(Kind.NACK)

    @cached_property
    def stands(self) -> dict[Message, set[Place]]:
        """Where each message was seen, or acked."""
        found: dict[Message, set[Place]] = {}
        for place, shown in self.places.items():
            for refs in shown.values():
                for ref in refs:
                    found.setdefault(self.message(ref), set()).add(place)
        return found

    def holds(self, place: Place) -> Message:
        shown = self.places[place]
        return self.message((*shown[Kind.RECV], *shown[Kind.READ], *shown[Kind.ACK])[0])

    def epochs(self, channel: int) -> set[int]:
        """All lives of a channel that anything tells of."""
        kinds = (Kind.SUB, Kind.LIVE, Kind.RECV, Kind.READ, Kind.ACK, Kind.EPOCH)
        return {
            self.row(ref)[EPOCH]
            for kind in kinds
            for ref in self.refs[kind]
            if self.row(ref)[CHANNEL] == channel
        }

    @cached_property
    def of_client(self) -> dict[int, list[Ref]]:
        """Each client's records, in their order."""
        found: dict[int, list[Ref]] = {}
        for worker, log in self.logs.items():
            for at, row in enumerate(log):
                found.setdefault(row[CLIENT], []).append((worker, at))
        return found

    def next_close(self, ref: Ref) -> Ref | None:
        """The end of the connection on which a record was made."""
        client = self.row(ref)[CLIENT]
        closes = (r for r in self.of_client[client] if r > ref and self.row(r)[KIND] == Kind.CLOSE)
        return next(closes, None)

    def connected_at(self, client: int, t: int) -> bool:
        is_open = False
        for ref in self.of_client.get(client, []):
            row = self.row(ref)
            if row[T] > t:
                break
            if row[KIND] == Kind.CONN:
                is_open = row[SERIAL] == CONN_OK
            elif row[KIND] == Kind.CLOSE:
                is_open = False
        return is_open

    @cached_property
    def windows(self) -> list[Window]:
        """All subscriptions of load clients."""
        found: list[Window] = []
        for client, refs in self.of_client.items():
            if client:
                found += self._windows_of(client, refs)
        return found

    def _windows_of(self, client: int, refs: list[Ref]) -> list[Window]:
        found: list[Window] = []
        current: dict[int, Window] = {}
        for ref in refs:
            row = self.row(ref)
            kind, channel = row[KIND], row[CHANNEL]
            if kind == Kind.CLOSE:
                for window in current.values():
                    window.end = ref
                current = {}
                continue
            open_ = current.get(channel)
            turns = kind == Kind.EPOCH and open_ is not None and open_.epoch != row[EPOCH]
            if kind == Kind.SUB or turns or (kind == Kind.UNSUB and open_ is not None):
                if open_ is not None:
                    open_.end = ref
                    del current[channel]
                if kind != Kind.UNSUB:
                    asked = row[PUBLISHER], row[PUB_SEQ]
                    resumed = bool(row[FLAGS] & Flag.RESUMED) and not turns
                    window = Window(client, channel, ref, row[EPOCH], row[SERIAL], asked, resumed, turns)
                    found.append(window)
                    current[channel] = window
            elif open_ is not None and kind == Kind.RECV:
                open_.recvs.append(ref)
            elif open_ is not None and kind == Kind.GAP:
                open_.gaps.append(ref)
            elif open_ is not None and kind == Kind.LIVE:
                open_.live = ref
        return found


def changed(row: Row, **fields: int) -> Row:
    """A row with other values in some fields."""
    values: list[Any] = list(row)
    for name, value in fields.items():
        values[_FIELDS.index(name)] = int(value)
    return tuple(values)

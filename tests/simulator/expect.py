"""What a valid history shows all the same: messages placed twice where nothing forbids it (L2x)."""

from __future__ import annotations

from collections.abc import Iterable

from reports.history import Flag, Kind
from tests.builders import Message, Story

Place = tuple[int, int, int]  # channel, epoch, serial
Row = tuple[int, ...]  # the fields of RECORD


def rows_of(story: Story) -> list[Row]:
    """All records of a story."""
    return [row for log in story.logs.values() for row in log]


def lineage_of(rows: Iterable[Row]) -> dict[tuple[int, int], tuple[int, int]]:
    """(channel, epoch) -> (parent, fork), as EPOCH records tell it."""
    return {(row[3], row[7]): (row[4], row[6]) for row in rows if row[8] == Kind.EPOCH and row[4]}


def canonical(lineage: dict[tuple[int, int], tuple[int, int]], place: Place) -> Place:
    """The oldest name of a place."""
    channel, epoch, serial = place
    while (up := lineage.get((channel, epoch))) is not None and serial <= up[1]:
        epoch = up[0]
    return channel, epoch, serial


def repeated_places(rows: list[Row]) -> dict[str, int]:
    """How many places beyond its first each message was seen at. In a valid history they are on
    branches of which neither goes on from the other. A message that a torn log has lost is not known."""
    lineage, places = lineage_of(rows), dict[Message, set[Place]]()
    sent = {(row[4], row[5]) for row in rows if row[8] == Kind.SEND}
    for row in rows:
        if row[8] in (Kind.RECV, Kind.READ) and not row[9] & (Flag.BAD_DIGEST | Flag.FOREIGN):
            seen = places.setdefault((row[4], row[5]), set())
            seen.add(canonical(lineage, (row[3], row[7], row[6])) if lineage else (row[3], row[7], row[6]))
    again = sum(len(seen) - 1 for message, seen in places.items() if message in sent)
    return {"L2x": again} if again else {}

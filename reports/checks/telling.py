"""How findings are worded: names, times, places, and which of many are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .facts import ranges_text
from .part import Part
from .result import CAP, Finding, Range, Reference
from .rows import Index, Int, Rows


def earliest_of(t: Int, rows: Rows) -> Index:
    """Positions of the CAP earliest records; ties by (file, row), so that every order of parts agrees."""
    return np.lexsort((rows.row, rows.file, t))[:CAP]


def messages_text(part: Part, places: Int, *, most: int = 3) -> str:
    """Which messages are at some places: ``c4:17, c4:18 and 3 more``."""
    known = [part.message_at(int(place)) for place in places[:most]]
    names = [part.facts.message(message) for message in known if message is not None]
    more = len(places) - len(names)
    if not names:
        return f"{more} messages" if more > 1 else "a message"
    return ", ".join(names) + (f" and {more} more" if more else "")


def place_text(part: Part, channel: int, epoch: int, ranges: Sequence[Range]) -> str:
    """``room:1 E1 41–43``: channel, epoch and serials."""
    names = part.facts.names
    return f"{names.channel(channel)} {names.epoch(epoch)} {ranges_text(ranges)}"


def finding(
    part: Part,
    cls: str,
    sentence: str,
    *,
    channel: int,
    epoch: int,
    ranges: Sequence[Range],
    first_t: int,
    last_t: int,
    records: Sequence[Reference],
    clients: Sequence[int] = (),
    message: int | None = None,
    **extra: Any,
) -> Finding:
    """A finding about one channel; the faults in force are looked up and said."""
    facts = part.facts
    return Finding(
        cls=cls,
        sentence=sentence + facts.under(first_t, last_t),
        channel=facts.names.channel(channel),
        epoch=facts.names.epoch(epoch) if epoch else "",
        serials=tuple(ranges),
        clients=tuple(facts.names.client(int(client)) for client in clients),
        message="" if message is None else facts.message(message),
        first_t=int(first_t),
        last_t=int(last_t),
        faults=facts.active(first_t, last_t),
        records=tuple(records),
        **extra,
    )

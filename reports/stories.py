"""The timeline of one message: everything that anybody recorded about it, in order of time.

Shown beside an anomaly's examples, so that a reader can judge the judgement.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from reports.checks.result import Finding
from reports.history import Flag, Kind
from reports.periods import seconds, start_ns

if TYPE_CHECKING:
    from reports.history import History

MAX_MESSAGES: Final = 12
MAX_LINES: Final = 20  # of one message: a fan-out to thousands is not a story


@dataclass(frozen=True, slots=True)
class Line:
    """``at_s``: seconds since the start of the schedule. ``place``: channel, epoch, serial."""

    at_s: float
    who: str
    what: str
    place: str


@dataclass(frozen=True, slots=True)
class Story:
    message: str
    lines: tuple[Line, ...]
    left_out: int  # records beyond MAX_LINES


def stories(history: History, findings: Iterable[Finding]) -> dict[str, Story]:
    """Timelines of the first messages that findings name, by message ("c7:12")."""
    wanted: dict[tuple[int, int], str] = {}
    ordinals = {name: ordinal for ordinal, name in enumerate(history.names.clients) if name}
    for finding in findings:
        name, _, serial = finding.message.rpartition(":")
        if len(wanted) < MAX_MESSAGES and name in ordinals and serial.isdecimal():
            wanted[ordinals[name], int(serial)] = finding.message
    if not wanted:
        return {}
    keys = pl.LazyFrame(
        {"publisher": [p for p, _ in wanted], "pub_seq": [n for _, n in wanted]},
        schema={"publisher": pl.UInt32, "pub_seq": pl.UInt32},
    )
    told = [int(k) for k in (Kind.SEND, Kind.ACK, Kind.NACK, Kind.RECV, Kind.READ)]
    rows = (
        history.scan()
        .filter(pl.col("kind").is_in(told))
        .join(keys, on=["publisher", "pub_seq"], how="semi")
        .sort("t", "file", "row")
        .collect()
        .to_dicts()
    )
    made: dict[str, Story] = {}
    for (publisher, number), message in wanted.items():
        own = [r for r in rows if r["publisher"] == publisher and r["pub_seq"] == number]
        lines = tuple(_line(history, row) for row in own[:MAX_LINES])
        made[message] = Story(message, lines, max(0, len(own) - MAX_LINES))
    return made


def _line(history: History, row: dict[str, Any]) -> Line:
    names, kind, flags = history.names, row["kind"], row["flags"]
    place = names.channel(row["channel"]) if row["channel"] else ""
    if row["epoch"]:
        place += f" {names.epoch(row['epoch'])}:{row['serial']}"
    return Line(
        seconds(row["t"], start_ns(history.run)) or 0.0,
        names.client(row["client"]),
        _what(kind, flags, row["t2"]),
        place.strip(),
    )


def _what(kind: int, flags: int, code: int) -> str:
    if kind == Kind.SEND:
        return "sends it again" if flags & Flag.RETRY else "sends it"
    if kind == Kind.ACK:
        return "gets the ack" + (", marked duplicate" if flags & Flag.DUPLICATE else "")
    if kind == Kind.NACK:
        how = "definite" if flags & Flag.DEFINITE else "not definite"
        return f"gets a nack, code {code}, {how}" if code else "could not write it"
    arrived = "receives it" if kind == Kind.RECV else "reads it back"
    notes = [
        *(["replayed"] if flags & Flag.REPLAYED else []),
        *(["its own echo"] if kind == Kind.RECV and flags & Flag.OWN_ECHO else []),
        *(["damaged"] if flags & Flag.BAD_DIGEST else []),
        *(["of another run"] if flags & Flag.FOREIGN else []),
    ]
    return arrived + (f" ({', '.join(notes)})" if notes else "")

"""Publishes that were written while a fault swallowed data, and answered by nobody for long: V4's proof.

Looked for only where a fault of such a kind was in force for longer than a dead peer may go unnoticed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from reports.effects import affected
from reports.history import Kind
from reports.periods import NS, FaultWindow

from .rows import COLUMNS, NEVER, Rows, next_after, pack, rows_of, runs

if TYPE_CHECKING:
    from reports.history import History

SWALLOWING: Final = frozenset(  # kinds that keep a connection through which nothing goes, one way at least
    {"timeout", "pause", "blackhole", "half_open", "partition", "stall"}
)
SLACK_NS: Final = NS  # for a close to be sent and seen
_ANSWERS: Final = (Kind.ACK, Kind.NACK, Kind.SUB, Kind.LIVE, Kind.UNSUB)


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """The first publish on a connection that nothing answered for ``limit_ns``."""

    client: int
    since_t: int
    until_t: int  # end of the fault
    record: tuple[int, int]  # the SEND


def silences(
    history: History, windows: Sequence[FaultWindow], closes: Rows, *, limit_ns: int, last_t: int
) -> tuple[Silence, ...]:
    """All, by fault. ``closes``: of load clients, by (client, row)."""
    found: list[Silence] = []
    for window in windows:
        begin_t = window.applied_ns
        if window.behind_nodes:
            continue  # what waits for the broker is answered late, by a node that answers pings
        if window.kind in SWALLOWING and begin_t is not None and window.until(last_t) - begin_t > limit_ns:
            found += _of_fault(history, window, closes, begin_t, window.until(last_t), limit_ns)
    return tuple(found)


def _of_fault(
    history: History, window: FaultWindow, closes: Rows, begin_t: int, until_t: int, limit_ns: int
) -> Iterator[Silence]:
    kinds = [int(kind) for kind in (Kind.SEND, *_ANSWERS)]
    # A NACK without a code is our own: the write was never made.
    told = pl.col("kind").is_in(kinds) & ((pl.col("kind") != int(Kind.NACK)) | (pl.col("t2") != 0))
    frame = (
        history.scan()
        .filter(told & pl.col("t").is_between(begin_t, until_t) & (pl.col("client") != 0) & affected(window))
        .select("kind", *COLUMNS)
        .collect()
    )
    rows, is_send = rows_of(frame), frame["kind"].to_numpy() == int(Kind.SEND)
    order = np.lexsort((rows.row, rows.client))
    rows, is_send = rows.where(order), is_send[order]
    connection = next_after(pack(rows.client, rows.row), pack(closes.client, closes.row))
    for begin, end in zip(*runs(pack(rows.client, connection)), strict=True):
        sends = np.arange(begin, end)[is_send[begin:end]]
        answered = np.append(rows.t[begin:end][~is_send[begin:end]], NEVER)
        following = answered[np.searchsorted(answered, rows.t[sends])]
        dead = sends[following > rows.t[sends] + limit_ns]
        if len(dead):
            first = int(dead[0])
            yield Silence(
                client=int(rows.client[first]),
                since_t=int(rows.t[first]),
                until_t=until_t,
                record=rows.reference(first),
            )

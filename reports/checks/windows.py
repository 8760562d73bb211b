"""Windows and segments: when a client was subscribed, and how far its continuity reaches.

A *window* is one subscription of one client to one channel: from SUB to the first of UNSUB,
CLOSE, the SUB that replaces it, and the end of the client's records. A *segment* is a run of
windows chained by ``resumed`` from exactly where the one before stood, in the same epoch or one
that goes on from it: inside a segment every serial is owed once and in order. An EPOCH record
inside an open window, or a GAP into another epoch, opens a window of its own, which is chained
when the new epoch goes on from where the client stood.

Where a client stands is the highest of: start, serials received, end of a declared gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from reports.history import Flag

from .lineage import Lineage
from .rows import NEVER, Bool, Column, Index, Int, Rows, distinct, high, joined, next_after, pack, runs

_LAST_ROW = (1 << 32) - 1
_PLAIN = (  # columns of Windows that are made as they stay
    *("client", "channel", "file", "row", "t", "asked_t", "end_t", "end"),
    *("epoch", "start", "asked_epoch", "asked", "gap_end", "top"),
)


class End(IntEnum):
    """What ended a window."""

    OPEN = 0  # nothing: it lasted to the end of the client's records
    REPLACED = 1  # by another SUB, or by an EPOCH
    UNSUB = 2
    CLOSE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Windows by (channel, client, row). Equally long columns, then what belongs to a window."""

    client: Int
    channel: Int
    file: Int
    row: Int  # of the record that opened it
    t: Int
    asked_t: Int  # when the request was sent
    end_t: Int  # NEVER while open
    end: Int  # End
    epoch: Int
    start: Int  # delivery starts after this serial
    asked_epoch: Int
    asked: Int
    resumed: Bool
    derived: Bool  # from an EPOCH or GAP record, not a SUB
    live: Int  # position of its LIVE; -1: its replay never ended
    live_epoch: Int
    gap_end: Int  # highest serial that a GAP in it declared; 0: none
    lo: Index  # its arrivals: positions lo to hi
    hi: Index
    top: Int  # where the client stood at its end
    chained: Bool  # to the window before it
    segment: Index  # number of its segment, rising
    sequel: Bool  # per arrival: of an epoch that the window serves
    window: Index  # per arrival: its window; -1: outside of any
    gaps: Rows  # GAP records, by window
    gap_window: Index
    strays: dict[str, int]  # records that belong to no window

    def __len__(self) -> int:
        return len(self.client)

    def first_of(self, segment: Index) -> Index:
        """First window of each segment."""
        return np.searchsorted(self.segment, segment)

    def reference(self, w: int) -> tuple[int, int]:
        return int(self.file[w]), int(self.row[w])


def without_arrivals(windows: Windows) -> Windows:
    """Windows without what belongs to single arrivals."""
    nothing, nowhere = np.zeros(0, np.bool_), np.zeros(0, np.int64)
    begin = np.zeros(len(windows), np.int64)
    return replace(windows, lo=begin, hi=begin, sequel=nothing, window=nowhere)


def together(several: Sequence[Windows]) -> Windows:
    """Windows of several ranges of clients of a channel, by rising clients, ``without_arrivals``."""
    names = [name for name in Windows.__slots__ if name not in ("segment", "gaps", "gap_window", "strays")]
    columns = {name: np.concatenate([getattr(windows, name) for windows in several]) for name in names}
    strays: dict[str, int] = {}
    for windows in several:
        for why, count in windows.strays.items():
            strays[why] = strays.get(why, 0) + count
    begins = np.cumsum([0, *(len(windows) for windows in several)])
    gap_window = [w.gap_window + begin for w, begin in zip(several, begins[:-1], strict=True)]
    return Windows(
        **columns,
        segment=np.cumsum(~columns["chained"]) - 1,
        gaps=joined(*(windows.gaps for windows in several)),
        gap_window=np.concatenate(gap_window),
        strays=strays,
    )


def build(
    *,
    subs: Rows,
    lives: Rows,
    unsubs: Rows,
    gaps: Rows,
    epochs: Rows,
    arrivals: Rows,
    closes: Rows,
    lineage: Lineage,
) -> Windows:
    """All windows of some channels.

    Args:
        arrivals: RECV, by (channel, client, row).
        closes: CLOSE of all clients, by (client, row). The others in any order; all of load clients.
    """
    pair = arrivals.pair
    begins, ends = runs(pair)
    known = [rows.pair for rows in (subs, lives, unsubs, gaps, epochs)]
    keys = _Keys(distinct(np.concatenate([*known, pair[begins]])))
    arrival_key = pack(np.repeat(keys.dense(pair[begins]), ends - begins), arrivals.row)
    turns = joined(epochs, gaps)
    declared = np.arange(len(turns)) >= len(epochs)
    table = _opened(_by_key(subs, keys), turns, declared, keys, _by_key(unsubs, keys), closes)
    lo, hi = np.searchsorted(arrival_key, table["key"]), np.searchsorted(arrival_key, table["end_key"])
    window = np.full(len(arrivals), -1, np.int64)
    window[_spread(lo, hi)] = np.repeat(np.arange(len(lo)), hi - lo)
    sequel = _sequels(table, arrivals, window, lineage)
    lives, gaps = _by_key(lives, keys), _by_key(gaps, keys)
    live_window = _inside(keys.of(lives), table)
    gap_window = _inside(keys.of(gaps), table, or_next=True)
    _stand(table, arrivals, lo, hi, sequel, gaps, gap_window, lineage)
    live, live_epoch = _lives(table, lives, live_window)
    chained = _chain(table, lineage)
    inside = gap_window >= 0
    return Windows(
        **{name: table[name] for name in _PLAIN},
        resumed=table["resumed"] != 0,
        derived=table["derived"] != 0,
        lo=lo,
        hi=hi,
        live=live,
        live_epoch=live_epoch,
        chained=chained,
        segment=np.cumsum(~chained) - 1,
        sequel=sequel,
        window=window,
        gaps=gaps.where(inside),
        gap_window=gap_window[inside],
        strays=_strays(table, chained, window, sequel, live_window, gap_window),
    )


class _Keys:
    """Orders the records of a (channel, client) pair by row: dense pair << 32 | row."""

    def __init__(self, pairs: Int) -> None:
        self.pairs = pairs

    def dense(self, pair: Int) -> Int:
        return np.asarray(np.searchsorted(self.pairs, pair))

    def of(self, rows: Rows) -> Int:
        return pack(self.dense(rows.pair), rows.row)


def _by_key(rows: Rows, keys: _Keys) -> Rows:
    return rows.where(np.argsort(keys.of(rows), kind="stable"))


def _spread(lo: Index, hi: Index) -> Index:
    """All positions in the slices lo to hi, which do not overlap and rise."""
    lengths = hi - lo
    total = int(lengths.sum())
    return np.asarray(np.arange(total) + np.repeat(lo - (np.cumsum(lengths) - lengths), lengths))


def _opened(
    subs: Rows, turns: Rows, declared: Bool, keys: _Keys, unsubs: Rows, closes: Rows
) -> dict[str, Int]:
    """Windows with their beginnings and ends.

    Args:
        turns: records that may change the epoch of an open window: EPOCH, and GAP where ``declared``.
    """
    table: dict[str, Int] = {
        name: np.asarray(column, np.int64) for name, column in _from_subs(subs, keys).items()
    }
    table |= _ends(table, keys, unsubs, closes)
    order = np.argsort(keys.of(turns), kind="stable")
    turns, declared = turns.where(order), declared[order]
    splits = _splits(turns, keys.of(turns), table)
    if len(splits):
        derived = _from_turns(turns.where(splits), declared[splits], keys)
        table = {name: np.concatenate([table[name], derived[name]]) for name in derived}
        order = np.argsort(table["key"], kind="stable")
        table = {name: column[order] for name, column in table.items()}
        table |= _ends(table, keys, unsubs, closes)
    return table


def _from_subs(subs: Rows, keys: _Keys) -> dict[str, Int]:
    columns: dict[str, Column] = {
        "key": keys.of(subs),
        "client": subs.client,
        "channel": subs.channel,
        "file": subs.file,
        "row": subs.row,
        "t": subs.t,
        "asked_t": subs.t2,
        "epoch": subs.epoch,
        "start": subs.serial,
        "asked_epoch": subs.publisher,
        "asked": subs.pub_seq,
        "resumed": subs.flag(Flag.RESUMED),
        "derived": np.zeros(len(subs)),
        "fork": np.zeros(len(subs)),
        "declared": np.zeros(len(subs)),
    }
    return {name: np.asarray(column, np.int64) for name, column in columns.items()}


def _from_turns(turns: Rows, declared: Bool, keys: _Keys) -> dict[str, Int]:
    """Windows that an EPOCH or a GAP opens. Where the client stood is not known yet: ``start`` is 0."""
    zeros = np.zeros(len(turns))
    columns: dict[str, Column] = {
        "key": keys.of(turns),
        "client": turns.client,
        "channel": turns.channel,
        "file": turns.file,
        "row": turns.row,
        "t": turns.t,
        "asked_t": turns.t,
        "epoch": turns.epoch,
        "start": zeros,
        "asked_epoch": turns.publisher,
        "asked": turns.serial,
        "resumed": zeros,
        "derived": zeros + 1,
        "fork": turns.serial,
        "declared": declared,
    }
    return {name: np.asarray(column, np.int64) for name, column in columns.items()}


def _splits(turns: Rows, key: Int, table: dict[str, Int]) -> Index:
    """Positions of the records that change the epoch of an open window."""
    at = _inside(key, table)
    current: dict[int, int] = {}
    splits = []
    for i in np.flatnonzero((at >= 0) & (turns.epoch != 0)).tolist():
        window, epoch = int(at[i]), int(turns.epoch[i])
        if current.get(window, int(table["epoch"][window])) != epoch:
            splits.append(i)
        current[window] = epoch
    return np.array(splits, np.intp)


def _ends(table: dict[str, Int], keys: _Keys, unsubs: Rows, closes: Rows) -> dict[str, Int]:
    """What ended each window, and when."""
    key, count = table["key"], len(table["key"])
    end_key = np.concatenate([key[1:], [NEVER]])[:count]
    end_t = np.concatenate([table["t"][1:], [NEVER]])[:count]
    end = np.full(count, End.REPLACED, np.int64)
    unsub_key = keys.of(unsubs)
    at = next_after(key, unsub_key)
    for other_key, other_t, kind in (
        (_at(unsub_key, at), _at(unsubs.t, at), End.UNSUB),
        (*_closes(table, closes), End.CLOSE),
    ):
        sooner = other_key < end_key
        end_key, end_t = np.where(sooner, other_key, end_key), np.where(sooner, other_t, end_t)
        end[sooner] = kind
    foreign = high(end_key) != high(key)  # the next record of some kind is another pair's
    end_key = np.where(foreign, (key | _LAST_ROW) + 1, end_key)
    return {
        "end_key": end_key,
        "end_t": np.where(foreign, NEVER, end_t),
        "end": np.where(foreign, End.OPEN, end),
    }


def _at(column: Column, position: Index) -> Int:
    """``column[position]``, NEVER past its end."""
    return np.concatenate([np.asarray(column, np.int64), [NEVER]])[position]


def _closes(table: dict[str, Int], closes: Rows) -> tuple[Int, Int]:
    """Key and time of the first CLOSE of the window's client after its beginning."""
    mine = pack(closes.client, closes.row)
    at = next_after(pack(table["client"], table["row"]), mine)
    found = _at(mine, at)
    same = (found != NEVER) & (high(found) == table["client"])
    pair = table["key"] & ~_LAST_ROW
    return np.where(same, pair | (found & _LAST_ROW), NEVER), np.where(same, _at(closes.t, at), NEVER)


def _inside(key: Int, table: dict[str, Int], *, or_next: bool = False) -> Int:
    """The window that each record lies in; -1 where none is open.

    ``or_next``: where none is open, the next window of the same pair, if there is one.
    """
    if not len(table["key"]):
        return np.full(len(key), -1, np.int64)
    after = next_after(key, table["key"])
    at = np.maximum(after - 1, 0)
    inside = (after > 0) & (key < table["end_key"][at])
    found = np.where(inside, at, -1)
    if or_next:
        following = np.minimum(after, len(table["key"]) - 1)
        ahead = ~inside & (after < len(table["key"])) & (high(table["key"][following]) == high(key))
        found = np.where(ahead, following, found)
    return found.astype(np.int64)


def _sequels(table: dict[str, Int], arrivals: Rows, window: Int, lineage: Lineage) -> Bool:
    """Arrivals of the stream that their window serves: its epoch, or one that goes on from it."""
    inside = window >= 0
    sequel = inside & (arrivals.epoch == _at(table["epoch"], window))
    for i in np.flatnonzero(inside & ~sequel).tolist():
        w, epoch = int(window[i]), int(arrivals.epoch[i])
        channel, own, start = int(table["channel"][w]), int(table["epoch"][w]), int(table["start"][w])
        sequel[i] = lineage.same(channel, own, epoch, int(arrivals.serial[i])) or lineage.goes_on(
            channel, own, epoch, max(start, int(table["fork"][w]))
        )
    return np.asarray(sequel)


def _stand(
    table: dict[str, Int],
    arrivals: Rows,
    lo: Index,
    hi: Index,
    sequel: Bool,
    gaps: Rows,
    gap_window: Int,
    lineage: Lineage,
) -> None:
    """Fill in ``gap_end`` and ``top``, and ``start`` where no SUB opened the window."""
    count = len(lo)
    gap_end = np.zeros(count, np.int64)
    placed = gap_window >= 0
    np.maximum.at(gap_end, gap_window[placed], gaps.serial[placed].astype(np.int64))
    top = np.maximum(table["start"], gap_end)
    filled = np.flatnonzero(hi > lo)
    if len(filled):
        serials = np.where(sequel, arrivals.serial, 0).astype(np.int64)
        bounds = np.stack([lo[filled], hi[filled]], axis=1).ravel()
        best = np.maximum.reduceat(np.append(serials, 0), bounds)[::2]
        top[filled] = np.maximum(top[filled], best)
    for w in np.flatnonzero(table["derived"]).tolist():
        stood, channel = int(top[w - 1]), int(table["channel"][w])
        goes_on = lineage.goes_on(channel, int(table["epoch"][w - 1]), int(table["epoch"][w]), stood)
        fork = int(table["fork"][w])
        table["start"][w] = stood if goes_on else fork if table["declared"][w] else min(stood, fork)
        top[w] = max(int(top[w]), int(table["start"][w]))
    table |= {"gap_end": gap_end, "top": top}


def _lives(table: dict[str, Int], lives: Rows, live_window: Int) -> tuple[Int, Int]:
    """Position and epoch of the LIVE of each window; -1 and 0 where none came."""
    live = np.full(len(table["key"]), -1, np.int64)
    epoch = np.zeros(len(table["key"]), np.int64)
    inside = np.flatnonzero(live_window >= 0)[::-1]  # of several the first stays
    live[live_window[inside]] = lives.serial[inside]
    epoch[live_window[inside]] = lives.epoch[inside]
    return live, epoch


def _chain(table: dict[str, Int], lineage: Lineage) -> Bool:
    """Windows that go on exactly where the one before stood."""
    count = len(table["key"])
    if not count:
        return np.zeros(0, np.bool_)
    before = np.maximum(np.arange(count) - 1, 0)
    follows = (high(table["key"]) == high(table["key"][before])) & (np.arange(count) > 0)
    stood, derived = table["top"][before], table["derived"] != 0
    exact = follows & (table["resumed"] != 0) & (table["asked"] == stood) & (table["start"] == table["asked"])
    same = (table["asked_epoch"] == table["epoch"][before]) & (table["epoch"] == table["asked_epoch"])
    chained = exact & same
    for w in np.flatnonzero((exact & ~same) | (follows & derived)).tolist():
        channel, old, new = int(table["channel"][w]), int(table["epoch"][w - 1]), int(table["epoch"][w])
        at, asked = int(stood[w]), int(table["asked_epoch"][w])
        chained[w] = lineage.goes_on(channel, old, new, at) and (
            bool(derived[w]) or lineage.same(channel, asked, old, at)
        )
    return np.asarray(chained)


def _strays(
    table: dict[str, Int], chained: Bool, window: Int, sequel: Bool, live_window: Int, gap_window: Int
) -> dict[str, int]:
    return {
        "RECV of an epoch that its subscription does not serve": int(((window >= 0) & ~sequel).sum()),
        "LIVE outside of any subscription": int((live_window < 0).sum()),
        "GAP without a subscription": int((gap_window < 0).sum()),
        "resume from elsewhere than where the client stood": int(((table["resumed"] != 0) & ~chained).sum()),
    }

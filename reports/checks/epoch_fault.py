"""L12 epoch-fault: a stream's life changed, or went backwards, in a way that no correct server's does.

Per channel, one finding for each epoch that

- changed without a server exit: another epoch was certainly there before, and no process under test ended
  between then and when this one was first seen. Only where faults.jsonl tells of target processes' starts;
- came back: it was certainly there, then another one was, then it was again;
- had a head that went down: a final read, or a subscription that was not resumed, was told of a head
  below a serial that had been shown before it was asked for; or a client was told that it is ahead of
  the stream at a serial that something had shown before it asked. Of several nodes each answers a
  subscription as far as it has heard of the log, which may be less than another one has shown, and goes on
  from there: then only final reads, which come when all has been heard, are asked;
- gave a serial twice: a message was acked and seen at a place that had been shown to hold another one before
  it was first sent.

What was asked for, or first sent, at one time and answered, or shown, at another, tells that its epoch was
there at some time between the two. Clocks of clients may differ by ``clock.uncertainty_ns``: what is closer
together than that has no order. Positive evidence, so a torn log accuses as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from reports.history import GapReason
from reports.periods import NS

from .part import Part
from .result import CAP, Finding, Found, Reference
from .rows import NEVER, Bool, Int, Rows, distinct, member, pack, runs
from .telling import earliest_of, finding

EXIT_SLACK_NS: Final = NS  # an exit is written down when its supervisor hears of it


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fault:
    channel: int
    epoch: int
    first_t: int
    t: int
    what: str
    serials: tuple[int, ...] = ()
    records: tuple[Reference, ...] = ()


def epoch_fault(part: Part) -> Found:
    """Counts epochs."""
    guilty: dict[tuple[int, int], _Fault] = {}
    for fault in (*_changes(part), *_ahead(part), *_heads(part), *_given_twice(part)):
        known = guilty.get((fault.channel, fault.epoch))
        if known is None or fault.t < known.t:
            guilty[fault.channel, fault.epoch] = fault
    told = sorted(guilty.values(), key=lambda fault: (fault.t, fault.channel, fault.epoch))[:CAP]
    one, other = ([pair[i] for pair in ((f.first_t, f.t) for f in guilty.values())] for i in (0, 1))
    return Found(
        len(guilty),
        tuple(_tell(part, fault) for fault in told),
        spread=part.facts.spread(np.minimum(one, other), np.maximum(one, other)),
    )


# ── changes of epoch ──────────────────────────────────────────────────────────────────────────


def _changes(part: Part) -> Iterator[_Fault]:
    """Epochs that changed without an exit, or that came back."""
    r = part.records
    told = [r.subs, r.control_subs, r.lives, r.control_lives, part.placed_acks, r.epochs, r.reads]
    stream = np.concatenate([distinct(pack(rows.channel, rows.epoch)) for rows in told])
    arrived = pack(r.arrivals.channel, r.arrivals.epoch)
    stream = distinct(np.concatenate([stream, arrived[runs(arrived)[0]]]))
    stream = stream[stream & 0xFFFF_FFFF != 0]
    channel = stream >> 32
    begins, ends = runs(channel)
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        if end - begin > 1:
            yield from _changes_of(part, int(channel[begin]), (stream[begin:end] & 0xFFFF_FFFF).tolist())


def _changes_of(part: Part, channel: int, epochs: list[int]) -> Iterator[_Fault]:
    intervals = {epoch: _intervals(part, channel, epoch) for epoch in epochs}
    shown = sorted(
        (epoch for epoch in epochs if len(intervals[epoch][0])), key=lambda e: intervals[e][1].min()
    )
    for epoch in shown if part.facts.target_exits is not None else ():
        exits = np.array(sorted(part.facts.target_exits or ()), np.int64)
        if (change := _unexplained(intervals, epoch, exits, part.facts.contract.clock_ns)) is not None:
            other, other_t, t = change
            yield _Fault(
                channel=channel,
                epoch=epoch,
                first_t=other_t,
                t=t,
                what=f"took the place of {part.facts.names.epoch(other)}, which was there at or after "
                f"{part.facts.at(other_t)}, by {part.facts.at(t)}, without an exit of the server in between",
                records=_first_record(part, channel, epoch),
            )
    for epoch in shown:
        if (again := _came_back(intervals, epoch, part.facts.contract.clock_ns)) is not None:
            other, other_t, t = again
            yield _Fault(
                channel=channel,
                epoch=epoch,
                first_t=int(intervals[epoch][1].min()),
                t=t,
                what=f"was there again at {part.facts.at(t)}, after {part.facts.names.epoch(other)} had been "
                f"at {part.facts.at(other_t)}",
                records=_first_record(part, channel, epoch),
            )


def _intervals(part: Part, channel: int, epoch: int) -> tuple[Int, Int]:
    """Begin and end of stretches in which an epoch was in force at some time."""
    r, messages = part.records, part.messages
    begins, ends = [], []
    # Of several nodes one may not have heard of a failover yet: it answers as before, and tells of it then.
    for subs in (r.subs, r.control_subs) if part.facts.contract.nodes == 1 else (r.control_subs,):
        mine = (subs.channel == channel) & (subs.epoch == epoch) & (subs.t2 > 0)
        begins.append(subs.t2[mine])
        ends.append(subs.t[mine])
    for rows in (part.placed_acks, r.reads, r.arrivals):
        lo, hi = (
            np.searchsorted(rows.channel, [channel, channel + 1]) if rows is r.arrivals else (0, len(rows))
        )
        some = rows.where(slice(int(lo), int(hi)))
        some = some.where((some.channel == channel) & (some.epoch == epoch))
        at = np.searchsorted(messages.message, some.message)
        known = member(some.message, messages.message)
        known[known] = messages.channel[at[known]] == channel  # what strayed in says nothing of this stream
        begins.append(messages.sent_t[messages.begin[at[known]]])
        ends.append(some.t[known])
    return np.concatenate(begins), np.concatenate(ends)


def _latest_before(begins: Int, ends: Int, times: Int) -> Int:
    """Of the stretches that ended by each time the latest begin; -1: none had ended."""
    order = np.argsort(ends, kind="stable")
    latest = np.maximum.accumulate(begins[order])
    count = np.searchsorted(ends[order], times, side="right")
    return np.where(count > 0, np.append(latest, -1)[count - 1], -1)


def _unexplained(
    intervals: dict[int, tuple[Int, Int]], epoch: int, exits: Int, clock_ns: int
) -> tuple[int, int, int] | None:
    """Another epoch that was certainly there before, since when, and when this one was seen.

    None: an exit between the two may have been the cause, or nothing is certain.
    """
    begins, ends = intervals[epoch]
    found = []
    for other, (other_begins, other_ends) in intervals.items():
        if other == epoch or not len(other_begins):
            continue
        since = _latest_before(other_begins, other_ends, begins - clock_ns)
        exit_t = np.append(exits, NEVER)[np.searchsorted(exits, since - clock_ns)]
        guilty = np.flatnonzero((since >= 0) & (exit_t > ends + EXIT_SLACK_NS))
        found += [(int(ends[i]), other, int(since[i])) for i in guilty.tolist()]
    if not found:
        return None
    t, other, other_t = min(found)
    return other, other_t, t


def _came_back(
    intervals: dict[int, tuple[Int, Int]], epoch: int, clock_ns: int
) -> tuple[int, int, int] | None:
    """Another epoch that was certainly between two appearances of one, when, and when that came again."""
    begins, ends = intervals[epoch]
    for other, (other_begins, other_ends) in intervals.items():
        if other == epoch:
            continue
        between = other_ends[other_begins >= ends.min() + clock_ns]
        if len(between) and (again := ends[begins >= between.min() + clock_ns]).size:
            return other, int(between.min()), int(again.min())
    return None


def _first_record(part: Part, channel: int, epoch: int) -> tuple[Reference, ...]:
    r = part.records
    found = []
    for rows in (r.subs, part.placed_acks, r.arrivals, r.epochs, r.control_subs):
        mine = rows.where(np.flatnonzero((rows.channel == channel) & (rows.epoch == epoch)))
        if len(mine):
            first = int(earliest_of(mine.t, mine)[0])
            found.append((int(mine.t[first]), mine.reference(first)))
    return (min(found)[1],) if found else ()


# ── heads and serials ─────────────────────────────────────────────────────────────────────────


def _ahead(part: Part) -> Iterator[_Fault]:
    """Clients that were told they are ahead of a stream, at a serial that was really there."""
    gaps = part.windows.gaps
    told = np.flatnonzero((gaps.t2 == GapReason.AHEAD) & (gaps.publisher == gaps.epoch) & (gaps.pub_seq > 1))
    if not len(told):
        return
    some, asked_t = gaps.where(told), part.windows.asked_t[part.windows.gap_window[told]]
    place = part.places.of(some.channel, some.epoch, some.pub_seq.astype(np.int64) - 1)
    shown_place, shown_t = _shown(part)
    for i in np.flatnonzero(member(place, distinct(shown_place))).tolist():
        if shown_t[shown_place == place[i]].min() >= asked_t[i] - part.facts.contract.clock_ns:
            continue
        t, serial, client = int(some.t[i]), int(some.pub_seq[i]) - 1, int(some.client[i])
        yield _Fault(
            channel=int(some.channel[i]),
            epoch=int(some.epoch[i]),
            first_t=t,
            t=t,
            what=f"ended at {int(some.serial[i])}, as {part.facts.names.client(client)} was told "
            f"at {part.facts.at(t)}, though {serial} had been shown: its head went down",
            serials=(serial,),
            records=(some.reference(i),),
        )


def _heads(part: Part) -> Iterator[_Fault]:
    """Heads that were told, below a serial that had been shown before they were asked for."""
    channel, epoch, head, asked_t, t, file, row = _told_heads(part)
    place = part.places.own(channel, epoch, head)  # what it inherited cannot be lost by going down
    shown_place, shown_t = _shown(part)
    by_t = asked_t - part.facts.contract.clock_ns
    order = np.lexsort((shown_t, shown_place >> 32))
    shown_place, shown_t = shown_place[order], shown_t[order]
    begins, ends = runs(shown_place >> 32)
    streams = shown_place[begins] >> 32
    for stream in distinct(place[place >= 0] >> 32).tolist():
        at = int(np.searchsorted(streams, stream))
        if at == len(streams) or streams[at] != stream:
            continue
        places, times = shown_place[begins[at] : ends[at]], shown_t[begins[at] : ends[at]]
        highest = np.maximum.accumulate(places)
        mine = np.flatnonzero((place >> 32 == stream) & (place < highest[-1]))
        before = np.searchsorted(times, by_t[mine])
        low = mine[(before > 0) & (highest[np.maximum(before - 1, 0)] > place[mine])]
        if not len(low):
            continue
        first = int(low[np.argmin(t[low])])
        passed = int(highest[np.searchsorted(times, by_t[first]) - 1])
        seen_t = int(times[np.searchsorted(highest, passed)])
        yield _Fault(
            channel=int(channel[first]),
            epoch=int(epoch[first]),
            first_t=seen_t,
            t=int(t[first]),
            what=f"had its head at {int(head[first])}, asked for at {part.facts.at(int(asked_t[first]))}, "
            f"though {passed & 0xFFFF_FFFF} had been shown at {part.facts.at(seen_t)}: its head went down",
            serials=(passed & 0xFFFF_FFFF,),
            records=((int(file[first]), int(row[first])),),
        )


def _told_heads(part: Part) -> tuple[Int, ...]:
    """Heads of final reads and, where there is one node, of subscriptions that were not resumed."""
    windows = part.windows
    begun = (windows.live >= 0) & ~windows.resumed & ~windows.derived & (windows.asked_t > 0)
    w = np.flatnonzero(begun & (part.facts.contract.nodes == 1))
    reads = [read for several in part.final_reads.by_channel.values() for read in several]
    load = (
        windows.channel,
        windows.live_epoch,
        windows.live,
        windows.asked_t,
        windows.t,
        windows.file,
        windows.row,
    )
    more = [(r.channel, r.epoch, r.head, r.asked_t, r.t, *r.record) for r in reads]
    table = np.array(more, np.int64).reshape(-1, len(load)).T
    return tuple(
        np.concatenate([np.asarray(column[w], np.int64), extra])
        for column, extra in zip(load, table, strict=True)
    )


def _shown(part: Part) -> tuple[Int, Int]:
    """Places, and when each was first known to hold something."""
    entries, placed = part.entries, part.placed
    home = np.flatnonzero(part.at_home)
    acked = np.flatnonzero(placed.acked_t < np.iinfo(np.int64).max)
    return (
        np.concatenate([entries.place[home], placed.place[acked]]),
        np.concatenate([entries.first_t[home], placed.acked_t[acked]]),
    )


def _given_twice(part: Part) -> Iterator[_Fault]:
    """Messages acked and seen at a place that held another one before they were first sent."""
    entries, acks, messages = part.entries, part.acks, part.messages
    home = np.flatnonzero(part.at_home)
    places = entries.place[home]
    double = np.flatnonzero(member(places, distinct(places[1:][places[1:] == places[:-1]])))
    for begin, end in zip(*runs(places[double]), strict=True):
        mine = home[double[begin:end]]
        place, first = int(entries.place[mine[0]]), int(mine[np.argmin(entries.first_t[mine])])
        for i in mine.tolist():
            message = int(entries.message[i])
            sent_t = int(messages.sent(messages.find(message))[0])
            ack: Bool = (part.ack_place == place) & (acks.message == message)
            early = sent_t <= entries.first_t[first] + part.facts.contract.clock_ns
            if i == first or early or not ack.any():
                continue
            channel, epoch = part.places.stream(place)
            serial = place & 0xFFFF_FFFF
            yield _Fault(
                channel=channel,
                epoch=epoch,
                first_t=int(entries.first_t[first]),
                t=sent_t,
                what=f"gave {serial}, which held {part.facts.message(int(entries.message[first]))} at "
                f"{part.facts.at(int(entries.first_t[first]))}, to {part.facts.message(message)} as well, "
                f"first sent at {part.facts.at(sent_t)}: its serials started again",
                serials=(serial,),
                records=(_ack(acks, ack),),
            )


def _ack(acks: Rows, which: Bool) -> Reference:
    return acks.reference(int(np.flatnonzero(which)[0]))


def _tell(part: Part, fault: _Fault) -> Finding:
    names = part.facts.names
    return finding(
        part,
        "L12",
        f"{names.channel(fault.channel)}: epoch {names.epoch(fault.epoch)} {fault.what}",
        channel=fault.channel,
        epoch=fault.epoch,
        ranges=[(serial, serial) for serial in fault.serials],
        first_t=min(fault.first_t, fault.t),
        last_t=max(fault.first_t, fault.t),
        records=fault.records,
    )

"""D3 bad-gap-notice: continuity broke and no gap was declared, or the one declared is not the real hole.

Continuity breaks where a client asked to go on from a position and delivery starts elsewhere, or in
another life of the stream. The GAP of that subscription must then say exactly that: from the
serial after the one asked for, in its epoch, to the one after which delivery starts, in its epoch.

A GAP inside an open subscription stands in the stream where the messages would: it must begin
after the last thing that the client has, nothing that it declares may arrive, and what comes next
follows on its end. Serials that nothing showed are no part of a hole, nor are one's own
messages where echo is off. What such a GAP leaves out is missing, and D1's as well.

A GAP that was not declared, or is too short, proves something only if the client's log is whole.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from reports.history import GapReason

from .facts import ranges_text
from .part import Part
from .result import CAP, Finding, Found, Range
from .telling import finding

_Fault = tuple[int, int, str]  # window, position of the GAP (-1: none), what is wrong


def bad_gap_notice(part: Part) -> Found:
    """Counts notices: those that are wrong, and those that are lacking."""
    guilty = [*_openings(part), *_inside(part)]
    guilty.sort(key=lambda fault: (_time(part, fault), _reference(part, fault)))
    opened = part.windows.t[np.array([w for w, _, _ in guilty], np.intp)]
    told = np.array([_time(part, fault) for fault in guilty], np.int64)
    return Found(
        len(guilty),
        tuple(_tell(part, fault) for fault in guilty[:CAP]),
        spread=part.facts.spread(opened, np.maximum(opened, told)),
    )


def _openings(part: Part) -> Iterator[_Fault]:
    """Subscriptions that do not start where they were asked to."""
    windows, gaps, owners = part.windows, part.windows.gaps, part.facts.owners
    first_gap = _first_gaps(part)
    followed = (windows.live >= 0) | (windows.hi > windows.lo)  # else its GAP may just not have come yet
    trusted = ~owners.broken(windows.client)
    for w in np.flatnonzero(_broken_off(part)).tolist():
        at, start = int(first_gap[w]), int(windows.start[w])
        if at < 0:
            if followed[w] and trusted[w]:
                yield w, -1, "no gap was declared"
            continue
        said = tuple(int(c[at]) for c in (gaps.publisher, gaps.pub_seq, gaps.epoch, gaps.serial))
        if said != (int(windows.asked_epoch[w]), int(windows.asked[w]) + 1, int(windows.epoch[w]), start):
            yield w, at, f"the gap declared is {_gap_text(part, at)}"


def _broken_off(part: Part) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Windows that asked for a position and were given another one."""
    windows, lineage = part.windows, part.facts.lineage
    moved = windows.start != windows.asked
    asked = ~windows.derived & (windows.asked_epoch != 0)
    broken = asked & moved & (~windows.resumed | (windows.epoch == windows.asked_epoch))
    for w in np.flatnonzero(
        asked & ~moved & ~windows.resumed & (windows.epoch != windows.asked_epoch)
    ).tolist():
        own, epoch, at = (int(c[w]) for c in (windows.asked_epoch, windows.epoch, windows.asked))
        broken[w] = not lineage.goes_on(int(windows.channel[w]), own, epoch, at)
    return np.asarray(broken)


def _first_gaps(part: Part) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The first GAP of each window; -1: it has none."""
    first = np.full(len(part.windows), -1, np.int64)
    first[part.windows.gap_window[::-1]] = np.arange(len(part.windows.gaps))[::-1]
    return first


def _inside(part: Part) -> Iterator[_Fault]:
    """Gaps in an open stream."""
    opening = _first_gaps(part)[np.flatnonzero(_broken_off(part))]
    told = np.ones(len(part.windows.gaps), np.bool_)
    told[opening[opening >= 0]] = False
    for at in np.flatnonzero(told).tolist():
        if wrong := _judge(part, int(part.windows.gap_window[at]), at):
            yield int(part.windows.gap_window[at]), at, wrong


def _judge(part: Part, w: int, at: int) -> str:
    """What is wrong with a gap in an open stream; "" when it is the real hole."""
    windows, gaps, arrivals = part.windows, part.windows.gaps, part.records.arrivals
    turns = bool(windows.derived[w]) and int(windows.row[w]) == int(gaps.row[at])
    home = w - 1 if turns else w  # the window whose stream the gap breaks off
    first, last, row = int(gaps.pub_seq[at]), int(gaps.serial[at]), int(gaps.row[at])
    lo, hi = int(windows.lo[home]), int(windows.hi[home])
    serials = np.where(windows.sequel[lo:hi], arrivals.serial[lo:hi], 0).astype(np.int64)
    before = int(np.searchsorted(arrivals.row[lo:hi], row))
    earlier = (windows.gap_window == home) & (gaps.row < row)
    stood = max(
        int(windows.start[home]),
        int(serials[:before].max(initial=0)),
        int(gaps.serial[earlier].max(initial=0)),
    )
    if int(gaps.publisher[at]) != int(windows.epoch[home]):
        return f"the stream was {part.facts.names.epoch(int(windows.epoch[home]))}'s"
    if first <= stood:
        return f"the client had everything up to {stood} or was told so"
    if _owed(part, home, stood + 1, first - 1, serials):
        return f"the client had nothing after {stood}"
    if turns:
        return ""
    if last < first and int(gaps.t2[at]) != GapReason.AHEAD:
        return "it declares nothing"
    came = np.unique(serials[(serials >= first) & (serials <= last)])
    if len(came):
        return f"{ranges_text([(int(came[0]), int(came[0]))])} arrived all the same"
    after = serials[before:]
    following = int(after[after > last][0]) if (after > last).any() else 0
    if _owed(part, home, last + 1, following - 1, serials):
        return f"the next message that came is {following}"
    return ""


def _owed(
    part: Part, w: int, first: int, last: int, came: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> bool:
    """Whether a client with a whole log was owed something in a range that never came."""
    if first > last or part.facts.owners.broken(part.windows.client[w : w + 1])[0]:
        return False
    serials = part.ledger.owed(w, first, last) & 0xFFFF_FFFF
    return bool((~np.isin(serials, came)).any())


def _time(part: Part, fault: _Fault) -> int:
    w, at, _ = fault
    return int(part.windows.t[w] if at < 0 else part.windows.gaps.t[at])


def _reference(part: Part, fault: _Fault) -> tuple[int, int]:
    w, at, _ = fault
    return part.windows.reference(w) if at < 0 else part.windows.gaps.reference(at)


def _gap_text(part: Part, at: int) -> str:
    gaps, names = part.windows.gaps, part.facts.names
    first, last = int(gaps.pub_seq[at]), int(gaps.serial[at])
    one, other = names.epoch(int(gaps.publisher[at])), names.epoch(int(gaps.epoch[at]))
    if one == other and first <= last:
        return f"{one} {ranges_text([(first, last)])}"
    return f"{one} {first} to {other} {last}"


def _tell(part: Part, fault: _Fault) -> Finding:
    w, at, wrong = fault
    windows, facts, names = part.windows, part.facts, part.facts.names
    channel, client = int(windows.channel[w]), int(windows.client[w])
    who, where, t = names.client(client), names.channel(channel), _time(part, fault)
    references = [windows.reference(w)]
    ranges: tuple[Range, ...] = ()
    if at >= 0:
        references.append(windows.gaps.reference(at))
        first, last = int(windows.gaps.pub_seq[at]), int(windows.gaps.serial[at])
        ranges = ((first, last),) if first <= last else ()
    if windows.derived[w] or not windows.asked_epoch[w] or (at >= 0 and wrong[:11] != "the gap dec"):
        said = f"a gap {_gap_text(part, at)} in {where} was declared to {who} at {facts.at(t)}, and {wrong}"
    else:
        how = "resumed" if windows.resumed[w] else "subscribed to"
        said = (
            f"{who} {how} {where} after {names.epoch(int(windows.asked_epoch[w]))} {int(windows.asked[w])}, "
            f"was given what follows {names.epoch(int(windows.epoch[w]))} {int(windows.start[w])} "
            f"at {facts.at(t)}, and {wrong}"
        )
    return finding(
        part,
        "D3",
        said,
        channel=channel,
        epoch=int(windows.epoch[w]),
        ranges=ranges,
        first_t=int(windows.t[w]),
        last_t=max(t, int(windows.t[w])),
        records=list(dict.fromkeys(references)),
        clients=[client],
    )

"""D4 retention-breach: something was declared trimmed though it was certainly still retained.

Declared trimmed is what a GAP says (why: trimmed), and what lies below the floor of a channel's last
final read. Of it the newest message whose place is known is judged. It was certainly retained if
at that time it was, with every doubt in the server's favour, within all three of retain_n, retain_s and
retain_bytes:

- no more than retain_n - 1 newer ones: every attempt to publish in the channel counts that was
  written by then and is not known to stand at or before it; and so do serials that hold nothing;
- younger than retain_s since the first attempt, by 1 % and 0.1 s less;
- its size and that of all newer ones within retain_bytes, with 512 bytes a message more than its body.

A contract without all three is not judged. Where a log is torn, or another run's message was seen in
the channel, how much was published is not known, and nothing is said of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from reports.history import Flag, GapReason
from reports.periods import NS

from .contract import Retention
from .part import Part
from .result import CAP, Finding, Found
from .rows import Bool, Int, distinct
from .telling import finding, place_text

CLOCK_SHARE: Final = 0.01  # by which the server's clock may run faster than ours
CLOCK_SLACK_NS: Final = NS // 10  # and its granularity
OVERHEAD_BYTES: Final = 512  # of a message, that a server may count besides the body


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trimmed:
    """Ranges that were declared trimmed. Equally long columns."""

    channel: Int
    epoch: Int
    first: Int
    last: Int
    t: Int  # when that was seen
    client: Int
    file: Int
    row: Int


def retention_breach(part: Part) -> Found:
    """Counts notices: gaps, and floors of final reads."""
    if part.facts.owners.any_broken or not _promised(part):
        return Found()
    said = _declared(part)
    newest = _newest_known(part, said)
    guilty = np.zeros(len(said.t), np.bool_)
    for channel in distinct(said.channel[newest >= 0]).tolist():
        kept = part.facts.contract.retention(part.facts.names.channel(channel))
        mine = np.flatnonzero((said.channel == channel) & (newest >= 0))
        if kept is not None:
            guilty[mine] = _retained(part, channel, newest[mine], said.t[mine], kept)
    found = np.flatnonzero(guilty)
    told = found[np.lexsort((said.row[found], said.file[found], said.t[found]))[:CAP]]
    messages = part.messages
    sent = messages.sent_t[messages.begin[part.placed.at[newest[found]]]]
    return Found(
        len(found),
        tuple(_tell(part, said, int(i), int(newest[i])) for i in told),
        spread=part.facts.spread(sent, said.t[found]),
    )


def _promised(part: Part) -> bool:
    contract = part.facts.contract
    return contract.kept is not None or any(contract.namespaces.values())


def _declared(part: Part) -> _Trimmed:
    gaps = part.windows.gaps
    trimmed = np.flatnonzero((gaps.t2 == GapReason.TRIMMED) & (gaps.publisher == gaps.epoch))
    gaps = gaps.where(trimmed)
    reads = [several[-1] for several in part.final_reads.by_channel.values()]
    columns = {
        "channel": (gaps.channel, [read.channel for read in reads]),
        "epoch": (gaps.epoch, [read.epoch for read in reads]),
        "first": (gaps.pub_seq, [1 for _ in reads]),
        "last": (gaps.serial, [read.floor - 1 for read in reads]),
        "t": (gaps.t, [read.t for read in reads]),
        "client": (gaps.client, [0 for _ in reads]),
        "file": (gaps.file, [read.record[0] for read in reads]),
        "row": (gaps.row, [read.record[1] for read in reads]),
    }
    return _Trimmed(
        **{
            name: np.concatenate([np.asarray(column, np.int64), np.array(more, np.int64)])
            for name, (column, more) in columns.items()
        }
    )


def _newest_known(part: Part, said: _Trimmed) -> Int:
    """Position in ``part.placed`` of the newest message in each range; -1: none is known there."""
    last = part.places.of(said.channel, said.epoch, np.maximum(said.last, 0))
    at = np.searchsorted(part.placed.place, last, side="right") - 1
    found = (at >= 0) & (last >= 0) & (said.last >= said.first)
    place = part.placed.place[np.maximum(at, 0)] if len(part.placed) else np.zeros(len(at), np.int64)
    found &= (place >> 32 == last >> 32) & (place & 0xFFFF_FFFF >= said.first)
    return np.where(found, at, -1)


def _retained(part: Part, channel: int, newest: Int, t: Int, kept: Retention) -> Bool:
    """Which messages, by position in ``part.placed``, were certainly retained at a time."""
    messages, sends, placed = part.messages, part.records.sends, part.placed
    foreign = part.records.arrivals.flag(Flag.FOREIGN) & (part.records.arrivals.channel == channel)
    if foreign.any():
        return np.zeros(len(newest), np.bool_)
    mine = np.flatnonzero(sends.channel == channel)
    mine = mine[np.argsort(sends.t[mine], kind="stable")]
    sizes = np.concatenate([[0], np.cumsum(sends.serial[mine].astype(np.int64) + OVERHEAD_BYTES)])
    apart = part.facts.contract.clock_ns  # what may have come before is counted as if it had
    written = np.searchsorted(sends.t[mine], t + apart, side="right")
    older, older_bytes, above = (np.zeros(len(newest), np.int64) for _ in range(3))
    size = messages.sent_bytes + OVERHEAD_BYTES * messages.attempts
    stream = placed.place[newest] >> 32
    for own in distinct(stream).tolist():
        here = np.flatnonzero(stream == own)
        begin, end = np.searchsorted(placed.place, [own << 32, (own + 1) << 32]).tolist()
        at = placed.at[begin:end]
        done = np.maximum.accumulate(messages.sent_t[messages.begin[at] + messages.attempts[at] - 1])
        counted = np.minimum(newest[here] - begin + 1, np.searchsorted(done, t[here] - apart, side="right"))
        older[here] = np.concatenate([[0], np.cumsum(messages.attempts[at])])[counted]
        older_bytes[here] = np.concatenate([[0], np.cumsum(size[at])])[counted]
        begun = messages.sent_t[messages.begin[at]]
        by_time = np.argsort(begun, kind="stable")
        highest = np.maximum.accumulate(placed.place[begin:end][by_time])
        known = np.searchsorted(begun[by_time], t[here] + apart, side="right") - 1
        above[here] = highest[np.maximum(known, 0)] - placed.place[newest[here]]
    first_sent = messages.sent_t[messages.begin[placed.at[newest]]]
    age = (t - first_sent + apart) * (1 + CLOCK_SHARE) + CLOCK_SLACK_NS
    room = sizes[written] - older_bytes + size[placed.at[newest]]
    newer = np.maximum(written - older, above)
    return np.asarray((newer < kept.n) & (age < kept.ns) & (room <= kept.bytes))


def _tell(part: Part, said: _Trimmed, i: int, newest: int) -> Finding:
    facts, names, messages = part.facts, part.facts.names, part.messages
    message, place = int(part.placed.message[newest]), int(part.placed.place[newest])
    serial, sent_t = place & 0xFFFF_FFFF, int(messages.sent(int(part.placed.at[newest]))[0])
    channel, epoch, client, t = (int(c[i]) for c in (said.channel, said.epoch, said.client, said.t))
    kept = facts.contract.retention(names.channel(channel))
    assert kept is not None
    how = f"to {names.client(client)}" if client else "by the floor of the final read"
    return finding(
        part,
        "D4",
        f"{place_text(part, channel, epoch, [(int(said.first[i]), int(said.last[i]))])} was declared trimmed "
        f"{how} at {facts.at(t)}, though {facts.message(message)} at {serial}, "
        f"sent at {facts.at(sent_t)}, was within retention "
        f"({kept.n} messages, {kept.ns / NS:g} s, {kept.bytes} bytes)",
        channel=channel,
        epoch=epoch,
        ranges=[(serial, serial)],
        first_t=sent_t,
        last_t=t,
        records=[(int(said.file[i]), int(said.row[i]))],
        clients=[client],
        message=message,
    )

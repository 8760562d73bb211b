"""Some channels of a history, and what the checks share about them.

Every derived thing is computed when a check first asks for it, by a module of its own, and
kept while the part is judged. Parts are independent of each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from reports.history import Kind

from .continuity import Continuity, measure, strange
from .facts import CONTROL, Facts
from .fate import Fate, fate
from .messages import Entries, Messages, Outcome, Places, entries, fold
from .owed import Ledger, Missing, holes
from .passed import Passed, passed_over
from .placing import Placed, lines, located, placed, unsaid
from .reads import FinalReads, final_reads
from .result import Coverage, Reference
from .rows import Bool, Index, Int, Rows, distinct, member, pack, runs
from .shards import Some
from .tails import Sentinel, Stalled, sentinels, stalled
from .windows import Windows, build


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """The records of a part by kind. Client 0's subscriptions are final reads and kept apart."""

    arrivals: Rows  # RECV of load clients, by (channel, client, row)
    subs: Rows
    lives: Rows
    unsubs: Rows
    gaps: Rows
    epochs: Rows
    sends: Rows
    acks: Rows
    nacks: Rows
    reads: Rows
    control_subs: Rows
    control_lives: Rows
    control_gaps: Rows
    control_arrivals: int  # RECV of client 0, which has no business to get any


def split(some: Some) -> Records:
    """Records by kind."""
    kind, rows = some.kind, some.rows
    load = rows.client != CONTROL

    def of(which: Kind, *, control: bool | None = False) -> Rows:
        mine = kind == which
        return rows.where(np.flatnonzero(mine if control is None else mine & (load != control)))

    return Records(
        arrivals=by_pair(rows, np.flatnonzero((kind == Kind.RECV) & load)),
        subs=of(Kind.SUB),
        lives=of(Kind.LIVE),
        unsubs=of(Kind.UNSUB),
        gaps=of(Kind.GAP),
        epochs=of(Kind.EPOCH),
        sends=of(Kind.SEND, control=None),
        acks=of(Kind.ACK, control=None),
        nacks=of(Kind.NACK, control=None),
        reads=of(Kind.READ, control=True),
        control_subs=of(Kind.SUB, control=True),
        control_lives=of(Kind.LIVE, control=True),
        control_gaps=of(Kind.GAP, control=True),
        control_arrivals=int(((kind == Kind.RECV) & ~load).sum()),
    )


def by_pair(rows: Rows, which: Index) -> Rows:
    """Some rows by (channel, client), and otherwise in their order."""
    if not len(which):
        return rows.where(which)
    client, channel = rows.client[which], rows.channel[which].astype(np.int64)
    channel -= channel.min()
    width, place = int(client.max()).bit_length(), len(which).bit_length()
    if int(channel.max()).bit_length() + width + place < 64:
        key = (channel << width | client) << place  # with its position in it, a number sorts fastest
        order = np.sort(key | np.arange(len(which))) & ((1 << place) - 1)
    else:
        order = np.argsort(pack(channel, client), kind="stable")
    return rows.where(which[order])


class Part:
    """Derived facts about some channels."""

    def __init__(self, facts: Facts, records: Records) -> None:
        self.facts, self.records = facts, records

    @cached_property
    def windows(self) -> Windows:
        r = self.records
        return build(
            subs=r.subs,
            lives=r.lives,
            unsubs=r.unsubs,
            gaps=r.gaps,
            epochs=r.epochs,
            arrivals=r.arrivals,
            closes=self.facts.closes,
            lineage=self.facts.lineage,
        )

    @cached_property
    def continuity(self) -> Continuity:
        return measure(self.records.arrivals, self.windows, echo=self.facts.contract.echo)

    @cached_property
    def places(self) -> Places:
        r = self.records
        return Places(self.facts.lineage, r.arrivals, r.acks.where(~unsaid(r.acks)), r.reads)

    @cached_property
    def strange(self) -> Bool:
        """Arrivals with a wrong digest or of another run."""
        return np.asarray(strange(self.records.arrivals))

    @cached_property
    def arrival_place(self) -> Int:
        return self._place(self.records.arrivals)

    @cached_property
    def read_place(self) -> Int:
        return self._place(self.records.reads)

    @cached_property
    def acks(self) -> Rows:
        """All acks. Where the server does not say a message's place, it is where that was first seen."""
        return located(self.records.acks, self.entries, self.at_home, self.places)

    @cached_property
    def placed_acks(self) -> Rows:
        return self.acks.where(self.ack_place >= 0)

    @cached_property
    def ack_place(self) -> Int:
        """Of each of ``acks``; -1: it is not known."""
        return np.where(unsaid(self.acks), -1, self._place(self.acks))

    def _place(self, rows: Rows) -> Int:
        return self.places.of(rows.channel, rows.epoch, rows.serial)

    @cached_property
    def entries(self) -> Entries:
        """Distinct (place, message) that intact arrivals and reads showed."""
        arrivals, read = self.records.arrivals, self.records.reads
        intact, intact_read, weight = ~self.strange, ~strange(read), self._weights()

        def both(one: Int, other: Int) -> Int:
            return np.concatenate([one[intact], other[intact_read]])

        return entries(
            both(self.arrival_place, self.read_place),
            both(arrivals.message, read.message),
            both(arrivals.t, read.t),
            None if weight is None else both(weight, np.ones(len(read), np.int64)),
        )

    def _weights(self) -> Int | None:
        """How many deliveries each arrival stands for; None: for itself."""
        return None

    @cached_property
    def sent_to(self) -> Int:
        """The channel that the message of each entry was sent to; 0: it never was."""
        return self.facts.sends.channel_of(self.entries.message)

    @cached_property
    def entry_known(self) -> Bool:
        """Entries whose message was sent in this run."""
        return self.facts.sends.known(self.entries.message)

    @cached_property
    def ack_known(self) -> Bool:
        """Acks whose message was sent in this run."""
        return self.facts.sends.known(self.records.acks.message)

    @cached_property
    def at_home(self) -> Bool:
        """Entries in the channel that their message was sent to; what stands elsewhere is L6's or L5's."""
        return np.asarray(self.places.channels(self.entries.place) == self.sent_to)

    @cached_property
    def observed(self) -> Int:
        """Sorted messages that an intact arrival or read showed in their channel."""
        return distinct(self.entries.message[self.at_home])

    @cached_property
    def seen(self) -> Int:
        """Sorted places that an arrival or a read showed, damaged ones too."""
        odd = self.arrival_place[self.strange]
        odd_read = self.read_place[strange(self.records.reads)]
        return distinct(np.concatenate([self.entries.place, odd, odd_read]))

    @cached_property
    def shown(self) -> Int:
        """Sorted places that an ack, an arrival or a read showed."""
        return distinct(np.concatenate([self.seen, self.ack_place[self.ack_place >= 0]]))

    @cached_property
    def messages(self) -> Messages:
        r = self.records
        return fold(r.sends, r.acks, r.nacks, self.observed)

    @cached_property
    def placed(self) -> Placed:
        """Messages with one known place."""
        return placed(self.messages, self.entries, self.at_home, self.acks, self.ack_place)

    @cached_property
    def lines(self) -> tuple[Int, Index]:
        """Placed messages by line of epochs and serial."""
        return lines(self.placed, self.places, self.facts.lineage)

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(
            windows=self.windows,
            continuity=self.continuity,
            places=self.places,
            shown=self.shown,
            lineage=self.facts.lineage,
            own=self.own,
        )

    @cached_property
    def own(self) -> dict[int, Int]:
        """By client, the sorted places of its own messages, where echo is off: nobody owes it those.

        They stand where they were seen; where nothing was seen, an ack says that they stand there.
        """
        if self.facts.contract.echo:
            return {}
        unseen = ~member(self.ack_place, distinct(self.entries.place[self.at_home])) & (self.ack_place >= 0)
        place = np.concatenate([self.entries.place, self.ack_place[unseen]])
        message = np.concatenate([self.entries.message, self.acks.message[unseen]])
        order = np.lexsort((place, message >> 32))
        place, publisher = place[order], message[order] >> 32
        begins, ends = runs(publisher)
        return {
            int(publisher[begin]): distinct(place[begin:end])
            for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)
        }

    @cached_property
    def channels(self) -> list[int]:
        """Channels in which a load client published or subscribed."""
        r = self.records
        used = np.concatenate([r.subs.channel, r.sends.channel[r.sends.client != CONTROL]])
        return [int(channel) for channel in distinct(used)]

    @cached_property
    def sentinels(self) -> dict[int, Sentinel]:
        return sentinels(self.facts.marks, self.channels, self.acks, self.messages)

    @cached_property
    def stalled(self) -> list[Stalled]:
        return stalled(
            windows=self.windows,
            arrivals=self.records.arrivals,
            by_channel=self.sentinels,
            marks=self.facts.marks,
            lineage=self.facts.lineage,
            ledger=self.ledger,
            owners=self.facts.owners,
        )

    @cached_property
    def missing(self) -> list[Missing]:
        """All serials that subscribers with a whole log were owed and never got."""
        found = holes(self.windows, self.continuity, self.ledger)
        found += [missing for behind in self.stalled for missing in behind.lost]
        at = np.array([missing.window for missing in found], np.int64)
        torn = self.facts.owners.broken(self.windows.client[at]) if len(at) else ()
        return [missing for missing, broken in zip(found, torn, strict=True) if not broken]

    @cached_property
    def owed(self) -> Int:
        """Sorted places that some subscriber was owed and never got."""
        return distinct(np.concatenate([np.empty(0, np.int64), *(m.places for m in self.missing)]))

    @cached_property
    def passed(self) -> Passed:
        """Places that nothing showed and some subscriber's stream went over."""
        return passed_over(
            self.windows,
            self.continuity,
            self.ledger,
            self.places,
            arrivals=self.records.arrivals,
            shown=self.shown,
            published=None if self.facts.contract.echo else distinct(self.records.sends.pair),
        )

    @cached_property
    def final_reads(self) -> FinalReads:
        r = self.records
        return final_reads(r.control_subs, r.control_lives, r.reads, r.control_gaps)

    @cached_property
    def one_life(self) -> Int:
        """Sorted channels of which nobody ever saw more than one epoch."""
        r = self.records
        rows = (r.subs, r.lives, r.control_subs, r.control_lives, r.arrivals, r.reads)
        streams = [distinct(pack(some.channel, some.epoch)[some.epoch != 0]) for some in rows]
        channels, lives = np.unique(distinct(np.concatenate(streams)) >> 32, return_counts=True)
        return np.asarray(channels[lives == 1])

    @cached_property
    def fate(self) -> Fate:
        """What became of acked messages."""
        owners, acks = self.facts.owners, self.acks
        return fate(
            acks,
            self.ack_place,
            sent=self.messages.message,
            seen=self.seen,
            observed=self.observed,
            hidden=(acks.publisher == CONTROL) & (not self.facts.contract.echo),
            owed=self.owed,
            one_life=self.one_life,
            reads=self.final_reads,
            lineage=self.facts.lineage,
            trusted=~owners.broken(acks.publisher) & (not owners.control_broken),
            clock_ns=self.facts.contract.clock_ns,
        )

    def send_of(self, message: int) -> Reference:
        """The first attempt of a message that was sent."""
        sends = self.records.sends
        return sends.reference(int(np.flatnonzero(sends.message == message)[0]))

    def message_at(self, place: int) -> int | None:
        """A message that an entry or an ack puts at a place."""
        at = int(np.searchsorted(self.entries.place, place))
        if at < len(self.entries.place) and self.entries.place[at] == place:
            return int(self.entries.message[at])
        acked = np.flatnonzero(self.ack_place == place)
        return int(self.acks.message[acked[0]]) if len(acked) else None

    def coverage(self) -> Coverage:
        """This part's share of the coverage that needs derived facts."""
        cover = Coverage(
            acked=self.messages.count(Outcome.OK),
            failed=self.messages.count(Outcome.FAIL),
            recovered=self.messages.count(Outcome.COMMITTED),
            unresolved=self.messages.count(Outcome.INFO),
            unwitnessed=self.fate.unwitnessed,
            sentinels=len(self.sentinels),
            reads=self.final_reads.complete(),
        )
        for why, count in self.windows.strays.items():
            cover.unexplain(why, count)
        cover.unexplain("READ outside of a complete final read", self.final_reads.outside)
        cover.unexplain("RECV of client 0", self.records.control_arrivals)
        return cover


def channels_without(part: Part, having: Iterable[int]) -> list[str]:
    """Names of the part's channels that are not among some."""
    have = set(having)
    return [part.facts.names.channel(channel) for channel in part.channels if channel not in have]

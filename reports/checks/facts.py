"""What checks need to know of the run as a whole: contract, marks, connections, sends, faults.

Read once, in memory that grows with messages and connections, never with deliveries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from reports.by_phase import Course, Span, Spread
from reports.history import Kind, Mark
from reports.periods import NS, FaultWindow, fault_windows, phases, start_ns

from .contract import Contract
from .lineage import Lineage
from .result import Range
from .rows import COLUMNS, NEVER, Bool, Column, Int, Rows, member, pack, rows_of
from .silence import SLACK_NS, Silence, silences

if TYPE_CHECKING:
    from reports.history import History
    from reports.rundir import Names

CONTROL: Final = 0  # client 0 is `chatproof run` itself: sentinels and final reads, no load
_RUN_WIDE: Final = (Kind.CONN, Kind.CLOSE, Kind.EPOCH, Kind.MARK, Kind.LOST_LOG)


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """Times of the marks of a run; None where a mark was not recorded."""

    heal_t: int | None = None
    drain_t: int | None = None
    forced_t: int | None = None  # clients still behind were told to reconnect
    reads_t: int | None = None
    end_t: int | None = None
    sentinels: tuple[tuple[int, int], ...] = ()  # (channel, message)
    silent: frozenset[tuple[int, int]] = frozenset()  # (client, channel) meant to publish nothing
    deaf: tuple[tuple[int, int, int], ...] = ()  # (client, from, until): it read nothing; NEVER: to the end

    @property
    def drained_t(self) -> int | None:
        """When waiting for deliveries was over: after it nothing counts as late."""
        return self.reads_t if self.reads_t is not None else self.end_t

    @property
    def deadline_t(self) -> int | None:
        """By when everything up to the sentinel is owed, before anything is forced."""
        return self.forced_t if self.forced_t is not None else self.drained_t

    @classmethod
    def of(cls, marks: Rows) -> Marks:
        """Client 0's marks count; another client's only where client 0 made none."""

        def first(mark: Mark) -> int | None:
            own = marks.t[(marks.serial == mark) & (marks.client == CONTROL)]
            times = own if len(own) else marks.t[marks.serial == mark]
            return int(times.min()) if len(times) else None

        sentinels = marks.where(marks.serial == Mark.SENTINEL)
        silent = marks.where(marks.serial == Mark.SILENT)
        return cls(
            heal_t=first(Mark.HEAL),
            drain_t=first(Mark.DRAIN),
            forced_t=first(Mark.FORCED_RECONNECT),
            reads_t=first(Mark.FINAL_READS),
            end_t=first(Mark.END),
            sentinels=tuple(zip(sentinels.channel.tolist(), sentinels.message.tolist(), strict=True)),
            silent=frozenset(zip(silent.client.tolist(), silent.channel.tolist(), strict=True)),
            deaf=_deaf(marks.where((marks.serial == Mark.DEAF) | (marks.serial == Mark.HEARS))),
        )

    def was_deaf(self, client: int, first_t: int, last_t: int) -> bool:
        """Whether a client read nothing at some time between the two."""
        return any(who == client and begin <= last_t and end >= first_t for who, begin, end in self.deaf)


def _deaf(marks: Rows) -> tuple[tuple[int, int, int], ...]:
    """Stretches of deafness, from DEAF and HEARS marks."""
    found: list[tuple[int, int, int]] = []
    since: dict[int, int] = {}
    for at in np.lexsort((marks.row, marks.client)).tolist():
        client, t = int(marks.client[at]), int(marks.t[at])
        if marks.serial[at] == Mark.DEAF:
            since.setdefault(client, t)
        elif client in since:
            found.append((client, since.pop(client), t))
    return (*found, *((client, t, int(NEVER)) for client, t in since.items()))


class Owners:
    """Which clients' records cannot be trusted to be all there."""

    def __init__(self, history: History) -> None:
        control = history.run.get("control", 0)
        named = history.run.get("workers") or [w for w in history.ingest.logs if w != control]
        self._workers = sorted(set(named) - {control}) or [1]
        broken = history.ingest.broken
        by_residue = {worker % len(self._workers): worker for worker in self._workers}
        self._broken = np.array(
            [by_residue.get(residue) in broken for residue in range(len(self._workers))], np.bool_
        )
        self.control_broken = control in broken
        self.any_broken = bool(broken)

    def broken(self, clients: Column) -> Bool:
        """Clients whose worker's log is torn, missing or short, so that their silence proves nothing."""
        clients = np.asarray(clients).astype(np.int64)
        return np.where(clients == CONTROL, self.control_broken, self._broken[clients % len(self._workers)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Sends:
    """Every message that the run sent: identity and channel, sorted by identity."""

    message: Int
    channel: Column
    resent_elsewhere: int  # messages sent to more than one channel: our own fault

    def known(self, messages: Column) -> Bool:
        return member(messages, self.message)

    def channel_of(self, messages: Column) -> Int:
        """The channel that each message was sent to; 0 for a message never sent."""
        if not len(self.message):
            return np.zeros(len(messages), np.int64)
        at = np.minimum(np.searchsorted(self.message, messages), len(self.message) - 1)
        return np.where(self.message[at] == messages, self.channel[at], 0).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The run as a whole. Shared by all parts of a history and never changed."""

    names: Names
    zero_ns: int
    contract: Contract
    marks: Marks
    connects: Rows  # CONN of load clients
    control_connects: Rows  # CONN of client 0
    closes: Rows  # CLOSE of load clients, by client and row
    lineage: Lineage
    sends: Sends
    owners: Owners
    faults: tuple[FaultWindow, ...]
    exits: tuple[dict[str, Any], ...]  # lines of faults.jsonl about ended processes
    target_exits: tuple[int, ...] | None  # when processes under test ended; None: nobody watched them
    silences: tuple[Silence, ...]
    course: Course
    last_t: int  # of the last record

    def active(self, first_t: int, last_t: int) -> tuple[str, ...]:
        """Ids of the faults in force at some time between the two."""
        return tuple(
            w.id
            for w in self.faults
            if w.applied_ns is not None and w.applied_ns <= last_t and w.until(self.last_t) >= first_t
        )

    def spread(
        self,
        first_t: Int | Sequence[int],
        last_t: Int | Sequence[int],
        *,
        at: Int | Sequence[int] | None = None,
        weight: Int | None = None,
    ) -> Spread:
        """By stretch of the run, anomalies that each lie between two times, as in their findings.

        Args:
            at: when each fell; None: at ``last_t``, when it was seen. What never came has no such time:
                it falls where it began to be missing.
            weight: for how many anomalies each stands; None: for itself.
        """
        first, last = np.asarray(first_t, np.int64), np.asarray(last_t, np.int64)
        return self.course.spread(last if at is None else np.asarray(at, np.int64), first, last, weight)

    def quiet_ns(self, first_t: int, last_t: int) -> int:
        """The longest stretch between two times in which no fault was in force."""
        longest, since = 0, first_t
        for begin, until in sorted(
            (w.applied_ns, w.until(self.last_t)) for w in self.faults if w.applied_ns is not None
        ):
            longest = max(longest, min(begin, last_t) - since)
            since = max(since, until)
        return max(longest, last_t - since)

    def under(self, first_t: int, last_t: int) -> str:
        """``active`` as a clause that ends a sentence."""
        active = self.active(first_t, last_t)
        return f"; in force: {', '.join(active)}" if active else "; no fault in force"

    def at(self, t: int) -> str:
        """A time as people read it: seconds from the start of the schedule."""
        return f"{(t - self.zero_ns) / NS:.3f} s"

    def message(self, message: int) -> str:
        """The id of a message on the wire."""
        return f"{self.names.client(message >> 32)}:{message & 0xFFFF_FFFF}"


def read_facts(history: History, spans: Iterable[Span] = ()) -> Facts:
    """Scan the run-wide records, and the identity and channel of every send.

    Args:
        spans: in which anomalies are counted, beside the phases.
    """
    scan = history.scan()
    run_wide = pl.col("kind").is_in([int(kind) for kind in _RUN_WIDE])
    sent = pl.col("kind") == int(Kind.SEND)
    # One after the other: each reads ahead as far as its own memory allows.
    wide = scan.filter(run_wide).select("kind", *COLUMNS).collect(engine="streaming")
    sends = scan.filter(sent).select("publisher", "pub_seq", "channel").unique().collect(engine="streaming")
    last_t = scan.select(pl.col("t").max()).collect(engine="streaming")
    kind = wide["kind"].to_numpy()
    rows = rows_of(wide)
    load = rows.client != CONTROL
    closes = rows.where((kind == Kind.CLOSE) & load)
    zero_ns = start_ns(history.run)
    closes = closes.where(np.argsort(pack(closes.client, closes.row), kind="stable"))
    contract, faults = Contract.of(history.run), tuple(fault_windows(history.faults))
    end_t = last_t.item() or zero_ns
    return Facts(
        names=history.names,
        zero_ns=zero_ns,
        contract=contract,
        marks=Marks.of(rows.where(kind == Kind.MARK)),
        connects=rows.where((kind == Kind.CONN) & load),
        control_connects=rows.where((kind == Kind.CONN) & ~load),
        closes=closes,
        lineage=Lineage.of(rows.where(kind == Kind.EPOCH)),
        sends=_sends(sends),
        owners=Owners(history),
        faults=faults,
        exits=tuple(line for line in history.faults if line.get("kind") == "exit"),
        target_exits=_target_exits(history.faults),
        silences=silences(history, faults, closes, limit_ns=contract.detect_ns + SLACK_NS, last_t=end_t)
        if contract.detect_ns is not None
        else (),
        course=Course(phases(history.run), faults, end_t, spans),
        last_t=end_t,
    )


def _target_exits(lines: Iterable[Mapping[str, Any]]) -> tuple[int, ...] | None:
    target = [line for line in lines if line.get("role") == "target"]
    if not any(line.get("kind") == "start" for line in target):
        return None
    return tuple(line["t"] for line in target if line.get("kind") == "exit" and type(line.get("t")) is int)


def _sends(frame: pl.DataFrame) -> Sends:
    message = pack(frame["publisher"].to_numpy(), frame["pub_seq"].to_numpy())
    channel = frame["channel"].to_numpy()
    order = np.lexsort((channel, message))
    message, channel = message[order], channel[order]
    first = np.ones(len(message), np.bool_)
    first[1:] = message[1:] != message[:-1]
    return Sends(
        message=message[first], channel=channel[first], resent_elsewhere=int(len(message) - first.sum())
    )


def ranges_text(ranges: Sequence[Range], *, most: int = 4) -> str:
    """Serials as people read them: ``41–43, 50``."""
    parts = [str(a) if a == b else f"{a}–{b}" for a, b in ranges[:most]]
    return ", ".join(parts) + (f" and {len(ranges) - most} more ranges" if len(ranges) > most else "")


def ranges_of(serials: Iterable[int]) -> tuple[Range, ...]:
    """Sorted serials as inclusive ranges."""
    ranges: list[Range] = []
    for serial in serials:
        if ranges and serial == ranges[-1][1] + 1:
            ranges[-1] = ranges[-1][0], serial
        else:
            ranges.append((serial, serial))
    return tuple(ranges)


def never(t: int) -> bool:
    return t == NEVER

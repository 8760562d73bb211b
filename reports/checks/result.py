"""What the checks say: findings, one result a class, coverage, and the verdict over all.

``invalid`` outranks ``unknown`` outranks ``valid``. A count of zero is only worth what
``Coverage`` says was looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from reports.by_phase import NOTHING, Span, Spread, by_span

CAP: Final = 20  # findings kept per class; counts are exact

Range = tuple[int, int]  # of serials, both inclusive
Reference = tuple[int, int]  # (worker, row) of a record


class Verdict(StrEnum):
    """Of a history, for the contract that the run recorded."""

    VALID = "valid"
    INVALID = "invalid"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One anomaly: an observation that the contract forbids. Times are CLOCK_MONOTONIC nanoseconds."""

    cls: str  # "D1"
    sentence: str  # what happened to which message, when, to whom, under which faults
    channel: str = ""  # "": not about one channel
    epoch: str = ""
    serials: tuple[Range, ...] = ()
    clients: tuple[str, ...] = ()
    message: str = ""  # "c7:12": publisher and its count
    first_t: int = 0
    last_t: int = 0
    faults: tuple[str, ...] = ()  # ids of faults in force between the two
    records: tuple[Reference, ...] = ()  # what to look at, in order


@dataclass(frozen=True, slots=True)
class Found:
    """What one check found in one part of a history. Parts add up in any order."""

    count: int = 0
    findings: tuple[Finding, ...] = ()  # at most CAP, the earliest
    unknown: tuple[str, ...] = ()  # why it cannot say that there are no more; () = it can
    spread: Spread = NOTHING  # `count` by stretch of the run; its sum is `count`

    def __add__(self, other: Found) -> Found:
        return Found(
            self.count + other.count,
            earliest([*self.findings, *other.findings]),
            tuple(sorted({*self.unknown, *other.unknown})),
            self.spread + other.spread,
        )


def earliest(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The first CAP findings by time; ties by what they say, so that the order of parts is irrelevant."""
    return tuple(sorted(findings, key=lambda f: (f.first_t, f.records, f.channel, f.sentence))[:CAP])


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassResult:
    """One anomaly class over the whole history."""

    cls: str
    title: str  # "delivery-gap"
    unit: str  # what `count` counts, plural: "deliveries", "messages"
    count: int
    unknown: bool  # more may be there than `count` says
    findings: tuple[Finding, ...]
    gated: bool  # by the profile of the contract: a count above 0 makes the history invalid
    reasons: tuple[str, ...] = ()  # why it is unknown
    seen: int = 0  # of how many a count of 0 speaks; 0: that is not counted
    spread: Spread = NOTHING  # `count` by stretch of the run (reports.by_phase)
    lacks: tuple[str, ...] = ()  # capabilities that it rests on and the server does not promise: not judged

    @property
    def promised(self) -> bool:
        return not self.lacks


@dataclass(slots=True, kw_only=True)
class Coverage:
    """How much of the system was exercised and seen. Sums over parts of a history."""

    acked: int = 0  # messages with outcome OK
    failed: int = 0  # FAIL: every attempt definitely did not happen
    recovered: int = 0  # COMMITTED: never acked, yet observed
    unresolved: int = 0  # INFO: no final answer, never observed
    delivered: int = 0  # RECV records of load clients
    replayed: int = 0  # of them, before the LIVE of their subscription
    subscriptions: int = 0  # SUB records of load clients
    resumed: int = 0  # of them, resumed
    gaps: int = 0  # GAP records
    duplicate_acks: int = 0
    unwitnessed: int = 0  # acked, trimmed or lost with its epoch before any read or delivery showed it
    sentinels: int = 0  # channels whose sentinel was acked
    reads: int = 0  # complete final reads of a channel
    lost_log: int = 0  # records that a worker could not write
    unexplained: dict[str, int] = field(default_factory=dict)  # records that no class explains, by why

    def unexplain(self, why: str, count: int) -> None:
        if count:
            self.unexplained[why] = self.unexplained.get(why, 0) + count

    def add(self, other: Coverage) -> None:
        for name in self.figures():
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for why, count in other.unexplained.items():
            self.unexplain(why, count)

    def figures(self) -> dict[str, Any]:
        """All counts by name, without the unexplained."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "unexplained"}

    @property
    def messages(self) -> int:
        return self.acked + self.failed + self.recovered + self.unresolved


@dataclass(frozen=True, slots=True, kw_only=True)
class Integrity:
    """The judgement of a history."""

    classes: dict[str, ClassResult]
    coverage: Coverage
    verdict: Verdict
    reasons: tuple[str, ...]  # why it is invalid or unknown, worst first; () = valid
    spans: Mapping[str, Span] = field(
        default_factory=dict
    )  # what the classes' spreads count beside stretches

    def in_span(self, name: str, classes: Sequence[str]) -> int | None:
        """Anomalies of some classes that may have happened in a span; None: none of them was judged in it."""
        known = [self.classes[cls] for cls in classes if cls in self.classes and self.classes[cls].promised]
        if not known or name not in self.spans:
            return None
        return sum(by_span(result.spread, self.spans)[name] for result in known)

"""Judging a history: parts, checks, coverage, verdict.

A check that crashes leaves its class unknown and says where it broke; the others go on.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import polars as pl

from reports.by_phase import Span
from reports.history import HistoryError
from reports.progress import Progress, Step

from .facts import Facts, read_facts
from .part import Part, Records, split
from .result import ClassResult, Coverage, Found, Integrity, Verdict
from .shards import Shard, Shards
from .slices import Heads, Slice, Whole
from .survey import PART_ROWS, parted, survey
from .table import CHECKS, Check, gated, lacking
from .vacuity import Exercise, exercise, vacuous

if TYPE_CHECKING:
    from reports.history import History

T = TypeVar("T", Part, Facts)
_MOST_REASONS = 5  # of a class; they differ in names of channels
_TORN = "some clients' logs are torn or missing: only positive evidence accuses"


def run_checks(
    history: History,
    *,
    progress: Progress | None = None,
    checks: Mapping[str, Check] = CHECKS,
    part_rows: int = PART_ROWS,
    spans: Mapping[str, Span] | None = None,
) -> Integrity:
    """Judge a history by every class of ``checks``.

    Args:
        progress: called as records are sorted into parts, and after each part.
        part_rows: records judged at once; bounds the memory. Results do not depend on it.
        spans: stretches of time to count anomalies in, by name (``Integrity.in_span``).
    Raises:
        HistoryError: a sealed file is damaged inside.
    """
    try:
        return _run_checks(history, progress, checks, part_rows, spans or {})
    except (pl.exceptions.PolarsError, OSError) as error:
        raise HistoryError(f"{history.path}: the records cannot be read: {error}") from error


def _run_checks(
    history: History,
    progress: Progress | None,
    checks: Mapping[str, Check],
    part_rows: int,
    spans: Mapping[str, Span],
) -> Integrity:
    facts, first = read_facts(history, spans.values()), survey(history)
    judged = {cls: check for cls, check in checks.items() if not lacking(check, facts.contract)}
    shards = parted(history, first.channels, part_rows)
    told = _Told(progress, shards)
    bench = _Bench(facts, judged, first.coverage, told)
    with Shards(history, facts.sends, shards, told.sorted) as records:
        told.judged(0, 0)
        for number in range(len(shards)):
            bench.judge(records, number)
    found, coverage, seen = bench.found, bench.coverage, bench.seen
    for cls, check in judged.items():
        if check.run is not None:
            found[cls] += _judge(check.run, facts)
    classes = {
        cls: _result(cls, check, found[cls], facts, coverage)
        if cls in judged
        else _unjudged(cls, check, facts)
        for cls, check in checks.items()
    }
    coverage.unexplain("EPOCH records that contradict another", facts.lineage.conflicts)
    coverage.unexplain("message sent to several channels", facts.sends.resent_elsewhere)
    reasons = vacuous(
        coverage,
        seen,
        expect=history.run.get("expect") or {},
        marks=facts.marks,
        planned=history.names.subscriptions,
        channels=_channels(history, first.channels),
        offers=facts.contract.offers,
    )
    if first.unknown_kinds:
        reasons.append(f"{first.unknown_kinds} records are of a kind that this build does not know")
    reasons = history.ingest.reasons() + reasons
    return replace(_verdict(classes, coverage, reasons), spans=spans)


def _judge(check: Callable[[T], Found], subject: T) -> Found:
    try:
        return check(subject)
    except Exception as error:  # a fault in a check must not hide what the others found
        at = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{at.name}, line {at.lineno} of {at.filename.rsplit('/', 1)[-1]}"
        return Found(unknown=(f"the check broke: {type(error).__name__}: {error} (in {where})",))


class _Told:
    """Tells how far the judgement is."""

    def __init__(self, progress: Progress | None, shards: list[Shard]) -> None:
        self._progress = progress
        self._parts, self._of_parts = 0, sum(max(1, len(shard.clients)) for shard in shards)
        self._rows, self._of_rows = 0, sum(shard.rows for shard in shards)

    def sorted(self, rows: int) -> None:
        if self._progress is not None:
            self._progress(Step(what="sorting", rows=rows, of_rows=self._of_rows))

    def judged(self, rows: int, parts: int = 1) -> None:
        """One part more, with so many records."""
        self._rows, self._parts = self._rows + rows, self._parts + parts
        if self._progress is not None:
            self._progress(
                Step(
                    what="checking",
                    rows=self._rows,
                    of_rows=self._of_rows,
                    parts=self._parts,
                    of_parts=self._of_parts,
                )
            )


class _Bench:
    """Judges shard by shard and adds up."""

    def __init__(self, facts: Facts, checks: Mapping[str, Check], coverage: Coverage, told: _Told) -> None:
        self._facts, self._checks, self._told = facts, checks, told
        self.found = {cls: Found() for cls in checks}
        self.coverage, self.seen = coverage, Exercise()

    def judge(self, records: Shards, number: int) -> None:
        """Every channel-local class of one shard, and its coverage."""
        some = records.read(number)
        if records.shards[number].clients:
            part = self._slices(records, number, split(some))
        else:
            part = Part(self._facts, split(some))
            self._classes(part, by_client=True)
        self._classes(part, by_client=False)
        broken = _judge(self._account, part)  # where coverage breaks, nothing is known of any class
        self.found = {cls: found + broken for cls, found in self.found.items()}
        self._told.judged(len(some), 0 if records.shards[number].clients else 1)

    def _slices(self, records: Shards, number: int, rest: Records) -> Part:
        """A large channel, range by range of its clients."""
        clients, heads = records.shards[number].clients, Heads()
        for piece in range(1, len(clients) + 1):
            heads.add(records.read(number, piece).rows)
        whole = Whole(self._facts, rest, heads)
        for piece, mine in enumerate(clients, start=1):
            arrivals = records.read(number, piece).rows
            self._slice(whole, whole.slice(mine, arrivals))
            self._told.judged(len(arrivals))
        return whole

    def _slice(self, whole: Whole, some: Slice) -> None:
        def collect(_: Part) -> Found:
            whole.collect(some)
            return Found()

        self._classes(some, by_client=True)
        broken = _judge(collect, some)
        for cls, check in self._checks.items():
            if check.part is not None and not check.by_client:
                self.found[cls] += broken

    def _classes(self, part: Part, *, by_client: bool) -> None:
        for cls, check in self._checks.items():
            if check.part is not None and check.by_client == by_client:
                self.found[cls] += _judge(check.part, part)

    def _account(self, part: Part) -> Found:
        share, used = part.coverage(), exercise(part)
        self.coverage.add(share)
        self.seen.add(used)
        return Found()


def _result(cls: str, check: Check, found: Found, facts: Facts, coverage: Coverage) -> ClassResult:
    reasons = found.unknown
    if len(reasons) > _MOST_REASONS:
        reasons = (*reasons[:_MOST_REASONS], f"and {len(reasons) - _MOST_REASONS} reasons more")
    if check.absence and facts.owners.any_broken:
        reasons = (_TORN, *reasons)
    return ClassResult(
        seen=getattr(coverage, check.of) if check.of else 0,
        cls=cls,
        title=check.title,
        unit=check.unit,
        count=found.count,
        unknown=bool(reasons),
        findings=found.findings,
        spread=found.spread,
        gated=gated(cls, facts.contract.profile),
        reasons=reasons,
    )


def _unjudged(cls: str, check: Check, facts: Facts) -> ClassResult:
    """Of a class that the server does not promise enough for."""
    return ClassResult(
        cls=cls,
        title=check.title,
        unit=check.unit,
        count=0,
        unknown=False,
        findings=(),
        gated=False,
        lacks=lacking(check, facts.contract),
    )


def _channels(history: History, seen: Mapping[int, int]) -> set[int]:
    """All channels that the run has: named, planned or seen."""
    named = {ident for ident, name in enumerate(history.names.channels) if name is not None}
    planned = {channel for channels in history.names.subscriptions.values() for channel in channels}
    return named | planned | {channel for channel in seen if channel}


def _verdict(classes: dict[str, ClassResult], coverage: Coverage, vacuous: list[str]) -> Integrity:
    """invalid > unknown > valid."""
    accused = [f"{r.cls} {r.title}: {r.count} {r.unit}" for r in classes.values() if r.gated and r.count]
    unsure = [f"{r.cls} is unknown: {why}" for r in classes.values() if r.gated for why in r.reasons]
    verdict = Verdict.INVALID if accused else Verdict.UNKNOWN if vacuous or unsure else Verdict.VALID
    return Integrity(
        classes=classes, coverage=coverage, verdict=verdict, reasons=(*accused, *vacuous, *unsure)
    )

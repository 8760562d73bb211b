"""Judging a history: parts, checks, coverage, verdict.

A check that crashes leaves its class unknown and says where it broke; the others go on.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

import polars as pl

from reports.history import HistoryError

from .facts import Facts, read_facts
from .part import Part, read_records
from .result import ClassResult, Coverage, Found, Integrity, Verdict
from .survey import PART_ROWS, survey
from .table import CHECKS, Check, gated
from .vacuity import Exercise, exercise, vacuous

if TYPE_CHECKING:
    from reports.history import History

Progress = Callable[[int, int], None]  # (parts judged, of how many)
T = TypeVar("T", Part, Facts)
_MOST_REASONS = 5  # of a class; they differ in names of channels
_TORN = "some clients' logs are torn or missing: only positive evidence accuses"


def run_checks(
    history: History,
    *,
    progress: Progress | None = None,
    checks: Mapping[str, Check] = CHECKS,
    part_rows: int = PART_ROWS,
) -> Integrity:
    """Judge a history by every class of ``checks``.

    Args:
        progress: called after each part.
        part_rows: records judged at once, where channels allow it; bounds the memory.
    Raises:
        HistoryError: a sealed file is damaged inside.
    """
    try:
        return _run_checks(history, progress, checks, part_rows)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise HistoryError(f"{history.path}: the records cannot be read: {error}") from error


def _run_checks(
    history: History, progress: Progress | None, checks: Mapping[str, Check], part_rows: int
) -> Integrity:
    facts, first = read_facts(history), survey(history)
    found = {cls: Found() for cls in checks}
    coverage, seen = first.coverage, Exercise()
    parts = first.parts(part_rows)
    for number, (low, high) in enumerate(parts, start=1):
        of_part = _judge_part(
            Part(facts, read_records(history, facts.sends, low, high)), checks, coverage, seen
        )
        found = {cls: found[cls] + of_part[cls] for cls in checks}
        if progress is not None:
            progress(number, len(parts))
    for cls, check in checks.items():
        if check.run is not None:
            found[cls] += _judge(check.run, facts)
    classes = {cls: _result(cls, check, found[cls], facts, coverage) for cls, check in checks.items()}
    coverage.unexplain("EPOCH records that contradict another", facts.lineage.conflicts)
    coverage.unexplain("message sent to several channels", facts.sends.resent_elsewhere)
    reasons = vacuous(
        coverage,
        seen,
        expect=history.run.get("expect") or {},
        marks=facts.marks,
        planned=history.names.subscriptions,
        channels=_channels(history, first.channels),
    )
    if first.unknown_kinds:
        reasons.append(f"{first.unknown_kinds} records are of a kind that this build does not know")
    reasons = history.ingest.reasons() + reasons
    return _verdict(classes, coverage, reasons)


def _judge(check: Callable[[T], Found], subject: T) -> Found:
    try:
        return check(subject)
    except Exception as error:  # a fault in a check must not hide what the others found
        at = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{at.name}, line {at.lineno} of {at.filename.rsplit('/', 1)[-1]}"
        return Found(unknown=(f"the check broke: {type(error).__name__}: {error} (in {where})",))


def _judge_part(
    part: Part, checks: Mapping[str, Check], coverage: Coverage, seen: Exercise
) -> dict[str, Found]:
    """Every channel-local class of one part; its coverage is added to ``coverage`` and ``seen``."""

    def account(part: Part) -> Found:
        share, used = part.coverage(), exercise(part)
        coverage.add(share)
        seen.add(used)
        return Found()

    found = {cls: _judge(check.part, part) if check.part else Found() for cls, check in checks.items()}
    broken = _judge(account, part)  # where coverage breaks, nothing is known of any class
    return {cls: result + broken for cls, result in found.items()}


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
        gated=gated(cls, facts.contract.profile),
        reasons=reasons,
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

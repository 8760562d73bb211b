"""Two sides compared, as people and programs read it: a table a gate, in a terminal, in Markdown, in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from reports import wording
from reports.escape import for_markdown, for_terminal
from reports.gates import Regression
from reports.metrics import METRICS
from reports.regression import Comparison, Outcome
from reports.verdict import Exit

COMPARISON_VERSION: Final = 1
_SIGN: Final = {Outcome.PASS: "✓ pass", Outcome.FAIL: "✗ worse", Outcome.INCONCLUSIVE: "? undecided"}
_HEAD: Final = ("gate", "A", "B", "change", "between", "detectable", "verdict")


@dataclass(frozen=True, slots=True)
class Judged:
    """One regression gate and what the runs said."""

    gate: Regression
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class Sides:
    """What was compared. ``runs``: side and run directory, in the order in which they were made."""

    a: str
    b: str
    runs: Sequence[tuple[str, str]]


def status(judged: Sequence[Judged]) -> Exit:
    """1 when a gate failed, 4 when none did and one is undecided, else 0."""
    outcomes = {each.comparison.outcome for each in judged}
    if Outcome.FAIL in outcomes:
        return Exit.GATE
    return Exit.UNKNOWN if Outcome.INCONCLUSIVE in outcomes else Exit.PASS


def as_json(sides: Sides, judged: Sequence[Judged]) -> dict[str, Any]:
    """Plain values. Changes are ratios; figures are in the gate's ``unit``."""
    return {
        "schema_version": COMPARISON_VERSION,
        "a": sides.a,
        "b": sides.b,
        "exit": int(status(judged)),
        "runs": [{"side": side, "path": path} for side, path in sides.runs],
        "gates": [
            each.gate.model_dump(mode="json")
            | {"unit": str(METRICS[each.gate.metric].unit)}
            | each.comparison.as_json()
            for each in judged
        ],
    }


def as_text(sides: Sides, judged: Sequence[Judged]) -> str:
    """For a terminal: one table, then a sentence for each gate."""
    rows = [_HEAD, *(_row(each) for each in judged)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    told = [f"{each.gate.id}: {each.comparison.why}." for each in judged]
    return for_terminal("\n".join(["", _title(sides), "", *lines, "", *told]).replace(wording.NBSP, " "))


def as_markdown(sides: Sides, judged: Sequence[Judged]) -> str:
    """For a step summary."""
    table = ["| " + " | ".join(row) + " |" for row in (_HEAD, ("---",) * len(_HEAD))]
    table += ["| " + " | ".join(map(for_markdown, _row(each))) + " |" for each in judged]
    told = [f"- **{for_markdown(each.gate.id)}**: {for_markdown(each.comparison.why)}." for each in judged]
    return "\n".join([f"## {for_markdown(_title(sides))}", "", *table, "", *told, "", _METHOD, ""])


_METHOD: Final = (
    "Medians of the runs of each side, made in turn. *Between*: with 99 % and 95 % confidence (Welch, on "
    "logarithms of one figure a run). *Detectable*: the smallest change that so many runs of this spread "
    "would have shown in nine of ten cases."
)


def _title(sides: Sides) -> str:
    runs = {side: wording.plural(sum(1 for made, _ in sides.runs if made == side), "run") for side in "AB"}
    return f"A {sides.a} ({runs['A']}) against B {sides.b} ({runs['B']})"


def _row(judged: Judged) -> tuple[str, ...]:
    found, unit = judged.comparison, str(METRICS[judged.gate.metric].unit)
    between = f"{_change(found.low)} … {_change(found.high)}" if found.low is not None else wording.NONE
    return (
        f"{judged.gate.id}: {judged.gate.metric} {judged.gate.stat}",
        figure(median(found.a), unit),
        figure(median(found.b), unit),
        _change(found.change),
        between,
        _change(found.detectable),
        _SIGN[found.outcome],
    )


def figure(x: float | None, unit: str) -> str:
    """As ``wording.figure``; times of less than a tenth of a millisecond in microseconds."""
    if unit == "ms" and x is not None and x < 0.1:
        return f"{wording.decimal(x * 1000)}{wording.NBSP}µs"
    return wording.figure(x, unit)


def _change(ratio: float | None) -> str:
    return wording.NONE if ratio is None else f"{ratio:+.1%}"

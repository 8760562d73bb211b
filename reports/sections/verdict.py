"""The head: outcome, one sentence why, and the gates."""

from __future__ import annotations

from collections.abc import Sequence

from reports import wording
from reports.analysis import Analysis
from reports.blocks import Badge, Block, Code, Column, Para, Table, Text, Tone, Verdict, bullets
from reports.evaluate import GateResult, GateVerdict
from reports.verdict import Exit

TONES = {
    Exit.PASS: Tone.PASS,
    Exit.GATE: Tone.FAIL,
    Exit.INTEGRITY: Tone.FAIL,
    Exit.UNKNOWN: Tone.UNKNOWN,
    Exit.VOID: Tone.VOID,
}
_GATE_TONES = {GateVerdict.PASS: Tone.PASS, GateVerdict.FAIL: Tone.FAIL, GateVerdict.UNKNOWN: Tone.UNKNOWN}


def build(analysis: Analysis) -> tuple[Block, ...]:
    judged = analysis.judgement
    blocks: list[Block] = [Verdict(TONES.get(judged.exit, Tone.UNKNOWN), judged.word, judged.sentence)]
    if len(judged.void) > 1:
        blocks += [Para("Why the run is void:"), bullets(judged.void)]
    if judged.verdict == "unknown" and len(judged.reasons) > 1:
        blocks += [Para("Why the verdict on the history is unknown:"), bullets(judged.reasons)]
    none = (
        "The load was steered by hand, so no gate was judged."
        if analysis.run.get("interactive")
        else "No gate was set."
    )
    blocks.append(gate_table(analysis.results) if analysis.results else Para(none, quiet=True))
    return tuple(blocks)


def gate_table(results: Sequence[GateResult]) -> Table:
    """Every gate: result, condition, threshold, actual, margin."""
    noted = any(r.why for r in results)
    columns = (
        Column("Gate"),
        Column("Result"),
        Column("Condition"),
        Column("Threshold", align="right"),
        Column("Actual", align="right"),
        Column("Margin", align="right"),
        Column("Kind"),
        *([Column("Note", wide=True)] if noted else []),
    )
    return Table(columns, tuple(_row(r, noted) for r in results), caption="Gates")


def _row(result: GateResult, noted: bool) -> tuple[Text, ...]:
    return (
        Code(result.id),
        Badge(_GATE_TONES[result.verdict], str(result.verdict)),
        _condition(result),
        wording.figure(result.threshold, result.unit),
        wording.figure(result.actual, result.unit),
        _margin(result),
        result.kind,
        *([result.why] if noted else []),
    )


def _condition(result: GateResult) -> Text:
    where = ", ".join(f"{key} {value}" for key, value in result.where.items())
    phase = f"phase {result.phase}" if result.phase != "all" else ""
    narrowed = "; ".join(part for part in (phase, where) if part)
    return (f"{result.metric} {result.condition}", f" ({narrowed})" if narrowed else "")


def _margin(result: GateResult) -> str:
    if result.margin is None:
        return wording.NONE
    sign = "+" if result.margin > 0 else "−" if result.margin < 0 else ""
    return sign + wording.figure(abs(result.margin), result.unit)

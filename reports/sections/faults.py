"""Faults: what was planned, what it did by the records, and how the system came back."""

from __future__ import annotations

import re

from reports import figures, wording
from reports.analysis import Analysis
from reports.blocks import Badge, Block, Code, Column, Para, Picture, Table, Text, Tone, bullets
from reports.effects import FaultEffect
from reports.exposure import SPAN_S, Exposure, exposures
from reports.gates import objective_ms
from reports.metrics import COMBINED
from reports.periods import NS, fault_windows, start_ns
from reports.recovery import Recovery
from reports.recovery_stages import BEFORE_NS, IN_A_ROW, NO_OBJECTIVE
from reports.steady import counted, lost

MAX_ROWS = 100  # of faults
_UNITS = {"ms": wording.ms, "s": wording.span_s, "bytes": wording.size_bytes}
_HIDDEN = re.compile(r"_(before|control)_")  # what a shift was compared with: in summary.json


def build(analysis: Analysis) -> tuple[Block, ...]:
    if not analysis.effects:
        return (Para("No fault was planned."), *_steady(analysis))
    blocks: list[Block] = [Picture(figures.fault_lanes(analysis)), _table(analysis), *_steady(analysis)]
    errors = [f"{e.id}: {error}" for e in analysis.effects for error in e.errors]
    if errors:
        blocks += [Para("Errors while faults were applied or reverted:"), bullets(errors)]
    chart = figures.presence(analysis)
    if not chart.empty:
        blocks.append(Picture(chart))
    if analysis.recoveries:
        blocks += _recovery(analysis)
    around = _around(analysis)
    if around.rows:
        blocks.append(around)
    return tuple(blocks)


def _table(analysis: Analysis) -> Table:
    columns = (
        Column("No.", align="right"),
        Column("Fault"),
        Column("Kind"),
        Column("Target"),
        Column("Planned", "s", "right"),
        Column("Applied", "s", "right"),
        Column("Skew", "ms", "right"),
        Column("Reverted", "s", "right"),
        Column("Effect"),
        Column("Measured", wide=True),
    )
    rows = tuple(_row(number, effect) for number, effect in _numbered(analysis)[:MAX_ROWS])
    note = (
        "Effects are measured from the clients' records and the processes' exits, not taken from the engine. "
        "Numbers are those of the bands in the charts; times count from the start of the schedule. "
        "Skew: how much later than planned a fault was applied."
    )
    return Table(columns, rows, note=note + _left_out(len(analysis.effects)))


def _left_out(total: int) -> str:
    more = total - MAX_ROWS
    return f" {wording.plural(more, 'fault')} more in summary.json." if more > 0 else ""


def _numbered(analysis: Analysis) -> list[tuple[str, FaultEffect]]:
    """The number of each fault's band in the charts; those never applied have none."""
    labels = [band.label for band in figures.bands(analysis) if band.kind == "fault"]
    return [(str(labels.index(e.id) + 1) if e.id in labels else wording.NONE, e) for e in analysis.effects]


def _row(number: str, effect: FaultEffect) -> tuple[Text, ...]:
    return (
        number,
        Code(effect.id),
        effect.kind,
        effect.target,
        _at(effect.planned_s),
        _at(effect.applied_s),
        _skew(effect),
        _at(effect.reverted_s),
        Badge(Tone.PASS, "seen") if effect.had_effect else Badge(Tone.UNKNOWN, "none"),
        measured(effect),
    )


def _at(t: float | None) -> str:
    return wording.NONE if t is None else f"{t:,.2f}"


def _skew(effect: FaultEffect) -> str:
    """How late it was applied, ms."""
    if effect.planned_s is None or effect.applied_s is None:
        return wording.NONE
    return wording.decimal((effect.applied_s - effect.planned_s) * 1000)


def _steady(analysis: Analysis) -> tuple[Block, ...]:
    """The probes in a sentence, and what was still wrong after healing."""
    counts = counted(analysis.steadiness)
    told = [
        f"{when} " + ", ".join(f"{name} {c['ok']} of {c['asked']}" for name, c in by_name.items())
        for when, by_name in counts.items()
        if by_name
    ]
    if not told:
        return ()
    blocks: list[Block] = [Para(f"Steady state, probes that were well: {'; '.join(told)}.")]
    if why := lost(analysis.steadiness):
        blocks += [Para("After healing it did not come back, which fails the run:"), bullets(why)]
    return tuple(blocks)


def measured(effect: FaultEffect) -> str:
    """The figures of an effect in words: "closes 25, clients 25"."""
    shown = {k: v for k, v in effect.effects.items() if v is not None and not _HIDDEN.search(k)}
    told = ", ".join(_figure(name, value) for name, value in shown.items())
    if effect.why_not:
        return effect.why_not + (f" ({told})" if told else "")
    return told


def _figure(name: str, value: object) -> str:
    """``delivery_shift_p50_ms`` 12.3 → "delivery shift p50 12.3 ms"."""
    stem, _, unit = name.rpartition("_")
    if not isinstance(value, int | float):
        return f"{name.replace('_', ' ')} {value}"
    if stem and unit in _UNITS:
        return f"{stem.replace('_', ' ')} {_UNITS[unit](value)}"
    shown = wording.count(value) if isinstance(value, int) else wording.decimal(value)
    return f"{name.replace('_', ' ')} {shown}"


def _recovery(analysis: Analysis) -> list[Block]:
    """How soon all was as before, fault by fault, and of which stage that is not known and why."""
    objective = objective_ms(analysis.gates)
    slo = [] if objective is None else [Column(f"p99 ≤ {wording.ms(objective)}", "s", "right")]
    columns = (
        Column("Recovery after"),
        Column("All back", "s", "right"),
        *slo,
        Column("Backlog", "s", "right"),
    )
    rows = tuple(_recovered(r, bool(slo)) for r in analysis.recoveries[:MAX_ROWS])
    within = f"p99 of delivery: the first of {IN_A_ROW} seconds on end within its tightest gate. "
    note = (
        "From the revert; 0 means before it, or at once. All back: the last subscription that was cut is "
        f"live. {within if slo else ''}Backlog: no more publishes are due and not acked than at most in the "
        f"{BEFORE_NS // NS} s before the fault."
    )
    table = Table(columns, rows, note=note + _left_out(len(analysis.recoveries)))
    return [table, *_not_known(analysis, bool(slo)), _inside(analysis)]


def _inside(analysis: Analysis) -> Table:
    """Who was cut off by each fault, and what came of it."""
    columns = (
        Column("Until all back"),
        Column("Clients", "cut off", "right"),
        Column("Subscriptions", "cut off", "right"),
        Column("Never", "back", "right"),
        *(Column(name.capitalize(), align="right") for name in ("replayed", *COMBINED)),
    )
    rows = tuple(_counted(analysis, r) for r in analysis.recoveries[:MAX_ROWS])
    note = (
        "From the start of the fault until all are back. Lost, duplicated, reordered: all that may have "
        "happened in it, by the two times that a finding tells; where faults overlap, one counts for each."
    )
    return Table(columns, rows, note=note)


def _counted(analysis: Analysis, recovery: Recovery) -> tuple[Text, ...]:
    anomalies = [analysis.in_recovery(name, recovery.fault) for name in COMBINED]
    return (
        Code(recovery.fault),
        *(wording.count(n) for n in (recovery.cut_off, recovery.subscriptions, recovery.never_back)),
        wording.count(recovery.replayed),
        *(wording.NONE if n is None else wording.count(n) for n in anomalies),
    )


def _not_known(analysis: Analysis, with_slo: bool) -> list[Block]:
    """Which stages have no figure, and why: a line for each reason."""
    by_why: dict[tuple[str, str], list[str]] = {}
    for recovery in analysis.recoveries[:MAX_ROWS]:
        stages = [("p99", recovery.slo)] if with_slo else []
        for told, stage in (*stages, ("backlog", recovery.backlog)):
            if stage.after_s is None:
                by_why.setdefault((told, stage.why), []).append(recovery.fault)
    lines = [f"{told} after {', '.join(faults)}: {why}" for (told, why), faults in by_why.items()]
    if not with_slo:
        lines.append(f"p99 within an objective: {NO_OBJECTIVE}")
    return [Para("Not known:", quiet=True), bullets(lines)] if lines else []


def _around(analysis: Analysis) -> Table:
    """Latency before, during and after each fault."""
    windows = [w for w in fault_windows(analysis.history.faults) if w.applied_ns is not None]
    shown = exposures(analysis.seconds, analysis.intervals, windows[:MAX_ROWS], start_ns(analysis.run))
    spans = ("before", "during", "after")
    columns = (
        Column("Delivery latency around"),
        *(Column(f"{label} {span}", "ms", "right") for label in ("p50", "p99") for span in spans),
    )
    rows = tuple((Code(e.fault), *_points(e, 0.5), *_points(e, 0.99)) for e in shown)
    note = (
        f"Before and after: {SPAN_S} s each, without warm-ups and without seconds in which any fault was in "
        "force; – where there is none. A message counts where it was due, however late it came."
    )
    return Table(columns, rows, note=note + _left_out(len(windows)))


def _points(exposure: Exposure, q: float) -> tuple[str, str, str]:
    """A quantile before, during and after, ms."""
    before, during, after = (
        wording.decimal(h.quantile_ms(q)) for h in (exposure.before, exposure.during, exposure.after)
    )
    return before, during, after


def _recovered(recovery: Recovery, with_slo: bool) -> tuple[Text, ...]:
    back: Text = wording.decimal(recovery.all_back_s)
    if recovery.never_back:
        back = Badge(Tone.FAIL, "never")
    return (
        Code(recovery.fault),
        back,
        *([wording.decimal(recovery.slo.after_s)] if with_slo else []),
        wording.decimal(recovery.backlog.after_s),
    )

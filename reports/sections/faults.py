"""Faults: what was planned, what it did by the records, and how the system came back."""

from __future__ import annotations

import re

from reports import figures, wording
from reports.analysis import Analysis
from reports.blocks import Badge, Block, Code, Column, Para, Picture, Table, Text, Tone, bullets
from reports.effects import FaultEffect
from reports.exposure import SPAN_S, Exposure, exposures
from reports.periods import fault_windows, start_ns
from reports.recovery import Recovery
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
        blocks.append(_recovery(analysis))
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


def _recovery(analysis: Analysis) -> Table:
    columns = (
        Column("Recovery after"),
        Column("Clients cut off", align="right"),
        Column("Subscriptions", align="right"),
        Column("All back", "s after revert", "right"),
        Column("Never back", align="right"),
        Column("Replayed", align="right"),
        *(Column(name.capitalize(), "in examples", "right") for name in ("lost", "duplicated")),
    )
    rows = tuple(_recovered(analysis, r) for r in analysis.recoveries[:MAX_ROWS])
    note = (
        "Lost and duplicated: examples of anomalies that name the fault as in force; "
        "the integrity section has the exact totals. All back counts from the revert; 0 means before it."
    )
    return Table(columns, rows, note=note + _left_out(len(analysis.recoveries)))


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


def _recovered(analysis: Analysis, recovery: Recovery) -> tuple[Text, ...]:
    back: Text = wording.decimal(recovery.all_back_s)
    if recovery.never_back:
        back = Badge(Tone.FAIL, "never")
    return (
        Code(recovery.fault),
        wording.count(recovery.cut_off),
        wording.count(recovery.subscriptions),
        back,
        wording.count(recovery.never_back),
        wording.count(recovery.replayed),
        _named(analysis, recovery.fault, ("L3", "D1")),
        _named(analysis, recovery.fault, ("L2", "D5")),
    )


def _named(analysis: Analysis, fault: str, classes: tuple[str, ...]) -> str:
    found = [analysis.integrity.classes[c] for c in classes if c in analysis.integrity.classes]
    found = [c for c in found if c.promised]
    if not found:
        return wording.NONE
    n = sum(fault in finding.faults for c in found for finding in c.findings)
    capped = any(c.count > len(c.findings) for c in found)
    return ("≥ " if capped and n else "") + wording.count(n)

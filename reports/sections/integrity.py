"""Integrity: every anomaly class with its count, by phase, and examples with the message's timeline."""

from __future__ import annotations

from typing import Final

from reports import wording
from reports.analysis import Analysis
from reports.blocks import Badge, Block, Code, Column, Details, Para, Table, Text, Tone, bullets, pairs
from reports.by_phase import Share, Stretch, Where, shares, stretches
from reports.checks.result import ClassResult, Finding
from reports.periods import fault_windows, phases, seconds, start_ns
from reports.stories import Story

SHOWN: Final = 3  # findings of a class in the page; findings.jsonl has more
MAX_PHASES: Final = 10  # of a run, of which all have a column; of more, those in which something fell


def build(analysis: Analysis) -> tuple[Block, ...]:
    classes = list(analysis.integrity.classes.values())
    found = [c for c in classes if c.count]
    verdict = analysis.judgement.verdict
    blocks: list[Block] = [
        Para(
            (
                "For the contract that the run recorded, the history is ",
                Badge(
                    {"valid": Tone.PASS, "invalid": Tone.FAIL}.get(verdict, Tone.UNKNOWN),
                    verdict,
                ),
                ".",
            )
        )
    ]
    reasons = analysis.judgement.reasons
    if reasons:
        blocks.append(bullets(reasons))
    blocks.append(_table(classes))
    blocks += _by_phase(analysis, found)
    for place, result in enumerate(found):
        blocks.append(_examples(analysis, result, unfolded=place == 0))
    blocks.append(_coverage(analysis))
    return tuple(blocks)


def _table(classes: list[ClassResult]) -> Block:
    if not classes:
        return Para("No class was checked.")
    columns = (
        Column("Class"),
        Column("Count", align="right"),
        Column("Result"),
        Column("What it is", wrap=True),
        Column("Counted in"),
        Column("Gated"),
        Column("If none"),
    )
    note = "A class that is not gated by the contract's profile is counted and does not fail the run."
    if lacked := sorted({need for c in classes for need in c.lacks}):
        note += f" Not promised: the server does not offer what such a class rests on ({', '.join(lacked)})."
    note += (
        " If none: what zero proves. Of n that were looked at, none seen means a rate of at most 3/n with "
        f"95{wording.NBSP}% confidence."
    )
    return Table(columns, tuple(_row(c) for c in classes), caption="Anomaly classes", note=note)


def _row(result: ClassResult) -> tuple[Text, ...]:
    return (
        Code(result.cls),
        wording.count(result.count) if result.promised else wording.NONE,
        _badge(result),
        result.title,
        result.unit,
        "yes" if result.gated else "no",
        "" if result.count or result.unknown or not result.promised else wording.upper_bound(result.seen),
    )


def _badge(result: ClassResult) -> Badge:
    if not result.promised:
        return Badge(Tone.PLAIN, "not promised")
    if result.count:
        return Badge(Tone.FAIL, "found") if result.gated else Badge(Tone.UNKNOWN, "found, not gated")
    return Badge(Tone.UNKNOWN, "not decided") if result.unknown else Badge(Tone.PASS, "none")


def _by_phase(analysis: Analysis, found: list[ClassResult]) -> list[Block]:
    """What was found, by stretch of the run; nothing where the run had but one, and no fault."""
    known = phases(analysis.run)
    faulty = any(window.applied_ns is not None for window in fault_windows(analysis.history.faults))
    if not analysis.integrity.classes:
        return []
    if not found:
        return [Para("Nothing was found in any phase.")]
    if len(known) < 2 and not faulty:
        return []
    told = [shares(result.spread, known) for result in found]
    used = [any(own[place].count for own in told) for place in range(len(told[0]))]
    shown = [
        place
        for place, stretch in enumerate(stretches(known))
        if used[place] or stretch.where is Where.AFTER or (stretch.phase and len(known) <= MAX_PHASES)
    ]
    columns = (
        Column("Class"),
        *(_stretch(told[0][place].stretch) for place in shown),
        Column("All", align="right"),
        *([Column("Under a fault", "of all", "right")] if faulty else []),
    )
    rows = tuple(_fallen(c, own, shown, faulty) for c, own in zip(found, told, strict=True))
    note = (
        "What was seen falls where it was seen; what never came, where it began to be missing; "
        "a delivery that never came, where its message was first sent."
    )
    if faulty:
        note += " Under a fault: one was in force between the two times that the finding tells."
    if not all(used[place] or place in shown for place, s in enumerate(stretches(known)) if s.phase):
        note += " Phases in which nothing fell are left out."
    return [Table(columns, rows, caption="Anomalies by phase", note=note)]


def _stretch(stretch: Stretch) -> Column:
    if stretch.where is Where.PHASE:
        told = stretch.phase.lower().replace("-", "").startswith("warmup")
        return Column(stretch.phase, "warm-up" if stretch.warmup and not told else "", "right")
    head, unit = {
        Where.NO_TIME: ("No time", "known"),
        Where.BEFORE: ("Before", "the first phase"),
        Where.AFTER: ("After", "the last phase"),
    }[stretch.where]
    return Column(head, unit, "right")


def _fallen(result: ClassResult, own: list[Share], shown: list[int], faulty: bool) -> tuple[Text, ...]:
    return (
        Code(result.cls),
        *(wording.count(own[place].count) for place in shown),
        wording.count(result.count),
        *([wording.count(sum(share.in_fault for share in own))] if faulty else []),
    )


def _examples(analysis: Analysis, result: ClassResult, *, unfolded: bool) -> Block:
    inside: list[Block] = []
    for number, finding in enumerate(result.findings[:SHOWN], start=1):
        inside += [Para((f"{number}. ", finding.sentence)), _facts(analysis, finding)]
        story = analysis.stories.get(finding.message)
        if story:
            inside.append(_story(story))
    more = result.count - min(len(result.findings), SHOWN)
    if more > 0:
        inside.append(
            Para(f"{wording.count(more)} more; the first of them are in findings.jsonl.", quiet=True)
        )
    if result.reasons:
        inside.append(bullets(result.reasons))
    shown = min(len(result.findings), SHOWN)
    title = (
        f"{result.cls} {result.title}: {wording.plural(shown, 'example')} of {wording.count(result.count)}"
    )
    return Details(title, tuple(inside), unfolded)


def _facts(analysis: Analysis, finding: Finding) -> Block:
    zero = start_ns(analysis.run)
    first, last = seconds(finding.first_t, zero), seconds(finding.last_t, zero)
    serials = ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in finding.serials)
    records = ", ".join(f"w{worker} row {row}" for worker, row in finding.records[:8])
    rows: list[tuple[str, Text]] = []
    if finding.message:
        rows.append(("Message", Code(finding.message)))
    if finding.channel:
        rows.append(("Channel", Code(finding.channel)))
    if serials:
        rows.append(("Serials", (Code(finding.epoch), f" {serials}") if finding.epoch else serials))
    if finding.clients:
        rows.append(("Clients", ", ".join(finding.clients[:8]) + (" …" if len(finding.clients) > 8 else "")))
    rows.append(
        (
            "Time",
            wording.span_s(first) if first == last else f"{wording.span_s(first)} – {wording.span_s(last)}",
        )
    )
    rows.append(("Faults in force", ", ".join(finding.faults) or "none"))
    if records:
        rows.append(("Records", records))
    if finding.sentence in analysis.excerpts:
        run = analysis.run.get("run_id") or "RUN"
        rows.append(("Alone", Code(f"chatproof replay runs/{run}/{analysis.excerpts[finding.sentence]}")))
    return pairs(rows)


def _story(story: Story) -> Block:
    columns = (Column("Time", "s", "right"), Column("Who"), Column("What"), Column("Where", wide=True))
    rows = tuple((f"{line.at_s:,.3f}", line.who, line.what, line.place) for line in story.lines)
    note = f"{wording.plural(story.left_out, 'record')} more." if story.left_out else ""
    return Table(columns, rows, caption=f"Timeline of {story.message}", note=note)


_COVERED: Final = (
    ("acked", "Messages acked"),
    ("recovered", "Messages never acked, yet observed"),
    ("unresolved", "Messages with no answer, never observed"),
    ("failed", "Messages refused for certain"),
    ("delivered", "Deliveries"),
    ("replayed", "of them replayed"),
    ("subscriptions", "Subscriptions"),
    ("resumed", "of them resumed"),
    ("gaps", "Gaps declared by the server"),
    ("duplicate_acks", "Acks marked duplicate"),
    ("unwitnessed", "Messages trimmed before anyone owed saw them"),
    ("sentinels", "Channels closed by an acked sentinel"),
    ("reads", "Complete final reads"),
    ("lost_log", "Records that could not be written"),
)


def _coverage(analysis: Analysis) -> Block:
    figures = analysis.integrity.coverage.figures()
    rows = [(told, wording.count(figures[name])) for name, told in _COVERED if name in figures]
    rows += [
        (f"Records that no class explains: {why}", wording.count(n))
        for why, n in sorted(analysis.integrity.coverage.unexplained.items())
    ]
    return Table(
        (Column("Coverage", wrap=True), Column("Count", align="right")),
        tuple(rows),
        note="A count of zero anomalies is worth what was exercised.",
    )

"""Integrity: every anomaly class with its count, and examples with the message's own timeline."""

from __future__ import annotations

from typing import Final

from reports import wording
from reports.analysis import Analysis
from reports.blocks import Badge, Block, Code, Column, Details, Para, Table, Text, Tone, bullets, pairs
from reports.checks.result import ClassResult, Finding
from reports.periods import seconds, start_ns
from reports.stories import Story

SHOWN: Final = 3  # findings of a class in the page; findings.jsonl has more


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

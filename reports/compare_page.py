"""Runs side by side, as people read them: a page, Markdown, and the table in a terminal."""

from __future__ import annotations

from textwrap import wrap
from typing import Final

from reports import html, markdown, wording
from reports.blocks import Badge, Block, Bullets, Code, Column, Para, Picture, Section, Table, Text, Tone
from reports.charts import Axis, Chart, Panel, Point, Series, thin
from reports.compare import Compared, Row, Side
from reports.escape import for_terminal
from reports.sections.verdict import TONES
from reports.verdict import Exit

TITLE: Final = "Runs side by side"
CAUTION: Final = (
    "One run of each: a small difference may be chance. `chatproof ab` runs two sides in turn and decides."
)
_LEAST_CHANGE: Final = 0.005  # less is not worth a figure
_TIMES: Final = 2.0  # from here on, how many times as much says it better
_SHOWN: Final = 12  # settings that differ, in a terminal


def page(found: Compared) -> str:
    """compare.html."""
    return html.page(TITLE, _facts(found), sections(found), CAUTION.replace("`", ""))


def document(found: Compared) -> str:
    """compare.md."""
    return markdown.document(
        TITLE, _facts(found), sections(found), CAUTION.replace("`", ""), beside="compare.html"
    )


def sections(found: Compared) -> list[Section]:
    blocks: list[Block] = [_figures(found)]
    if found.warnings:
        blocks.insert(0, Bullets(tuple((Badge(Tone.UNKNOWN, "careful"), f" {w}") for w in found.warnings)))
    made = [
        Section("figures", "Figures", tuple(blocks)),
        Section("differs", "What differs in the scenarios", (_differs(found),)),
        Section("time", "Over time", tuple(Picture(chart) for chart in charts(found))),
        Section("runs", "The runs", (_runs(found),)),
    ]
    return [section for section in made if section.blocks]


def _facts(found: Compared) -> list[tuple[str, str]]:
    return [("runs", str(len(found.sides))), ("compared with", found.labels[0])]


def _figures(found: Compared) -> Table:
    heads = tuple(Column(label, align="right") for label in found.labels)
    rows = tuple((row.told, *_cells(row)) for row in found.rows)
    return Table(
        (Column(""), *heads), rows, note="In brackets: against the first run. ↓ less is better, ↑ more is."
    )


def _cells(row: Row) -> tuple[str, ...]:
    """Every value, with its change where there is one."""
    cells = []
    for number, (value, change) in enumerate(zip(row.values, row.changes(), strict=True)):
        text = wording.figure(value, row.unit)
        if number and change is not None and abs(change) >= _LEAST_CHANGE:
            text += f"{wording.NBSP}({change_told(change)})"
        cells.append(text)
    return tuple(cells)


def change_told(change: float) -> str:
    """0.07 → +7 %; 9.4 → × 10.4."""
    if change >= _TIMES:
        return f"×{wording.NBSP}{wording.decimal(1 + change)}"
    return f"{change * 100:+,.0f}{wording.NBSP}%"


def _differs(found: Compared) -> Table | Para:
    if not found.differs:
        return Para("Nothing: the same scenario was run several times.")
    heads = tuple(Column(label, wrap=True) for label in found.labels)
    rows: tuple[tuple[Text, ...], ...] = tuple(
        (Code(key), *(value or wording.NONE for value in values)) for key, values in found.differs
    )
    return Table((Column("setting"), *heads), rows)


def _runs(found: Compared) -> Table:
    rows: tuple[tuple[Text, ...], ...] = tuple(
        (label, _outcome(side), Code(str(side.path)), str(side.summary.get("started_utc") or wording.NONE))
        for label, side in zip(found.labels, found.sides, strict=True)
    )
    return Table((Column("run"), Column("outcome"), Column("directory", wrap=True), Column("started")), rows)


def _outcome(side: Side) -> Badge:
    tone = TONES.get(Exit(int(side.summary.get("exit", Exit.UNKNOWN))), Tone.UNKNOWN)
    return Badge(tone, str(side.summary.get("outcome")))


def charts(found: Compared) -> list[Chart]:
    """The same figure of every run over the seconds of its schedule."""
    wanted: list[tuple[str, str, Axis]] = [
        ("p99_ms", "p99 of delivery, by the second", Axis("p99 of delivery", "ms", "log")),
        ("delivered", "Deliveries, by the second", Axis("deliveries", "/s")),
        ("connected", "Connections", Axis("connections")),
    ]
    made = [_chart(found, column, title, axis) for column, title, axis in wanted]
    return [chart for chart in made if not chart.empty]


def _chart(found: Compared, column: str, title: str, axis: Axis) -> Chart:
    lines = tuple(
        Series(label, thin(_points(side, column)), slot=number)
        for number, (label, side) in enumerate(zip(found.labels, found.sides, strict=True))
    )
    return Chart(
        f"compare-{column}",
        title,
        Axis("time", "s"),
        (Panel(axis, lines),),
        f"{title}, a line for each of: {', '.join(found.labels)}",
        filed=False,
    )


def _points(side: Side, column: str) -> list[Point]:
    if column not in side.seconds.columns:
        return []
    return [
        (float(second), None if value is None else float(value))
        for second, value in side.seconds.select("second", column).iter_rows()
    ]


def text(found: Compared) -> str:
    """For a terminal."""
    table = [("", *found.labels), *((row.told, *_cells(row)) for row in found.rows)]
    lines = ["", *aligned([tuple(map(plain, row)) for row in table]), ""]
    if found.differs:
        told = [(key, *(value or wording.NONE for value in values)) for key, values in found.differs]
        lines += ["What differs:", *aligned([tuple(map(_short, row)) for row in told[:_SHOWN]])]
        lines += [f"  and {len(told) - _SHOWN} more, in the page", ""] if len(told) > _SHOWN else [""]
    lines += [f"careful: {plain(warning)}" for warning in found.warnings]
    return "\n".join([*lines, *wrap(CAUTION, 80)]) + "\n"


def aligned(table: list[tuple[str, ...]]) -> list[str]:
    """Lines of a table: names to the left, figures to the right."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = []
    for name, *figures in table:
        cells = [cell.rjust(width) for cell, width in zip(figures, widths[1:], strict=True)]
        lines.append("   ".join(["  " + name.ljust(widths[0]), *cells]).rstrip())
    return lines


def plain(told: str) -> str:
    """One line for a terminal."""
    return " ".join(for_terminal(told).replace(wording.NBSP, " ").split("\n"))


def _short(told: str, most: int = 48) -> str:
    line = plain(told)
    return line if len(line) <= most else line[: most - 1] + "…"

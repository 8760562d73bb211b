"""report.md: the report for a pull request or a step summary, at most MAX_BYTES.

Charts are links to the plot files beside it. Where the text would grow too long, whole
sections are left out and named, so that what is there is never cut in half.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from reports.blocks import (
    SIGNS,
    Badge,
    Block,
    Bullets,
    Code,
    Details,
    Pair,
    Para,
    Picture,
    Planner,
    Pre,
    Section,
    Table,
    Text,
    Tiles,
    Verdict,
)
from reports.escape import code_for_markdown, for_markdown

REPORT: Final = "report.html"
MAX_BYTES: Final = 60 * 1024
MAX_ROWS: Final = 40  # of a table
_ROOM: Final = 600  # for the line that names what was left out


def document(
    title: str, facts: Sequence[tuple[str, str]], sections: Sequence[Section], footer: str,
    *, beside: str = REPORT,
) -> str:  # fmt: skip
    """The whole document; arguments as of ``html.page``. ``beside``: the file that has all of it."""
    told = " · ".join(f"{for_markdown(name)} **{for_markdown(value)}**" for name, value in facts)
    text = f"# {for_markdown(title)}\n\n{told}\n\n"
    end = f"---\n{for_markdown(footer)}\n"
    left: list[str] = []
    for number, section in enumerate(sections):
        heading = f"## {number} {for_markdown(section.title)}\n\n" if number else ""
        part = heading + "".join(block(b, beside) for b in section.blocks)
        if len((text + part + end).encode()) > MAX_BYTES - _ROOM:
            left.append(section.title)
            continue
        text += part
    if left:
        text += f"Left out here for length, see {beside}: {for_markdown(', '.join(left))}.\n\n"
    return text + end


def block(given: Block, beside: str = REPORT) -> str:
    """One block as Markdown, ended by an empty line."""
    match given:
        case Para(text, _):
            return f"{_text(text)}\n\n"
        case Bullets(items):
            return "".join(f"- {_text(item)}\n" for item in items) + "\n"
        case Table():
            return _table(given, beside)
        case Tiles(tiles):
            rows = tuple((t.label, f"{SIGNS[t.tone]} {t.value} {t.unit}".strip(), t.note) for t in tiles)
            return _rows(["", "", ""], ["left", "right", "left"], rows)
        case Picture(chart):
            says = for_markdown(chart.says)
            return f"![{says}](plots/{chart.name}.png)\n\n" if chart.filed else ""
        case Pair(blocks):
            return "".join(block(b, beside) for b in blocks)
        case Pre(text):
            fence = "````" if "```" in text else "```"
            return f"{fence}\n{text}\n{fence}\n\n"
        case Verdict(tone, word, sentence):
            return f"**{SIGNS[tone]} {for_markdown(word.upper())}** – {for_markdown(sentence)}\n\n"
        case Details(summary, blocks, _):
            inside = "".join(block(b, beside) for b in blocks)
            return f"<details><summary>{for_markdown(summary)}</summary>\n\n{inside}</details>\n\n"
        case Planner(sentence=told, table=table):
            return f"{for_markdown(told)}\n\n{_table(table, beside)}" if table.rows else ""


def _text(text: Text) -> str:
    spans = text if isinstance(text, tuple) else (text,)
    return "".join(_span(span) for span in spans)


def _span(span: str | Code | Badge) -> str:
    if isinstance(span, Code):
        return code_for_markdown(span.text)
    if isinstance(span, Badge):
        return f"{SIGNS[span.tone]} {for_markdown(span.text)}".strip()
    return for_markdown(span)


def _table(table: Table, beside: str) -> str:
    caption = f"**{for_markdown(table.caption)}**\n\n" if table.caption else ""
    heads = [c.head + (f" ({c.unit})" if c.unit else "") for c in table.columns]
    note = f"{for_markdown(table.note)}\n\n" if table.note else ""
    more = len(table.rows) - MAX_ROWS
    if more > 0:
        note = f"… and {more} rows more, in {beside}.\n\n{note}"
    return caption + _rows(heads, [c.align for c in table.columns], table.rows[:MAX_ROWS]) + note


def _rows(heads: Sequence[str], aligns: Sequence[str], rows: Sequence[Sequence[Text]]) -> str:
    rule = ["---:" if align == "right" else "---" for align in aligns]
    lines = ["| " + " | ".join(for_markdown(h) for h in heads) + " |", "| " + " | ".join(rule) + " |"]
    lines += ["| " + " | ".join(_text(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n\n"

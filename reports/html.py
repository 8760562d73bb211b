"""report.html: one self-contained page that asks the network for nothing.

Style and script are one element each, allowed by their hashes; there is no style attribute
and no handler anywhere, so nothing in the page needs ``unsafe-inline``. Without a script
everything is there, charts as SVG; a page without a chart or a form has no script.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from reports import interactive, planner_html, svg
from reports.blocks import (
    SIGNS,
    Badge,
    Block,
    Bullets,
    Code,
    Column,
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
from reports.charts import Chart
from reports.escape import for_html

_STYLE: Final = Path(__file__).with_name("report.css")


def page(title: str, facts: Sequence[tuple[str, str]], sections: Sequence[Section], footer: str) -> str:
    """The whole document.

    Args:
        title: of the page, the scenario's name.
        facts: names and values under it.
        sections: the first is the verdict and gets no number and no heading.
    """
    charts = [chart for section in sections for chart in _charts(section.blocks)]
    style = _minified(interactive.style() + _STYLE.read_text(encoding="utf-8"))
    script = interactive.script() if charts else ""
    if any(isinstance(given, Planner) for section in sections for given in section.blocks):
        script += planner_html.script()
    policy = (
        f"default-src 'none'; script-src {_hashed(script)}; style-src {_hashed(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    live = f'<script type="text/plain" id="charts">{interactive.packed(charts)}</script>\n' if charts else ""
    live += f"<script>{script}</script>\n" if script else ""
    told = "".join(f"<li>{for_html(name)} <b>{for_html(value)}</b></li>" for name, value in facts)
    links = "".join(f'<li><a href="#{s.id}">{for_html(s.title)}</a></li>' for s in sections[1:])
    nav = f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n'
    body = "".join(
        _section(number, section) + (nav if number == 0 else "") for number, section in enumerate(sections)
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f"<title>{for_html(title)} – chatproof report</title>\n<style>{style}</style>\n</head>\n<body>\n"
        f'<div class="page">\n<header><p class="product">chatproof report</p><h1>{for_html(title)}</h1>'
        f'<ul class="facts">{told}</ul></header>\n<main>\n{body}</main>\n'
        f"<footer>{for_html(footer)}</footer>\n</div>\n{live}</body>\n</html>\n"
    )


def _charts(blocks: Sequence[Block]) -> Iterator[Chart]:
    for given in blocks:
        match given:
            case Picture(chart):
                yield chart
            case Pair(inner) | Details(blocks=inner):
                yield from _charts(inner)
            case _:
                pass


def _hashed(content: str) -> str:
    """The source expression of Content Security Policy that allows an element with this content."""
    if not content:
        return "'none'"
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _minified(css: str) -> str:
    css = re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)
    return re.sub(r"\s+", " ", css).strip()


def _section(number: int, section: Section) -> str:
    inside = "".join(block(b) for b in section.blocks)
    if number == 0:
        return f'<section id="{section.id}">{inside}</section>\n'
    heading = f'<h2><span class="no" aria-hidden="true">{number}</span>{for_html(section.title)}</h2>'
    return f'<section id="{section.id}">{heading}{inside}</section>\n'


def block(given: Block) -> str:
    """One block as HTML."""
    match given:
        case Para(text, quiet):
            kind = ' class="quiet"' if quiet else ""
            return f"<p{kind}>{_text(text)}</p>\n"
        case Bullets(items):
            return f'<ul class="list">{"".join(f"<li>{_text(item)}</li>" for item in items)}</ul>\n'
        case Table():
            return _table(given)
        case Tiles():
            return _tiles(given)
        case Picture(chart):
            return svg.chart(chart)
        case Pair(blocks):
            return f'<div class="pair">{"".join(block(b) for b in blocks)}</div>\n'
        case Pre(text):
            return f"<pre>{for_html(text)}</pre>\n"
        case Verdict(tone, word, sentence):
            return (
                f'<div class="verdict {tone}"><div class="sign" aria-hidden="true">{SIGNS[tone]}</div>'
                f'<div class="word">{for_html(word)}</div><p class="why">{for_html(sentence)}</p></div>\n'
            )
        case Details(summary, blocks, unfolded):
            inside = "".join(block(b) for b in blocks)
            start = "<details open>" if unfolded else "<details>"
            return f"{start}<summary>{for_html(summary)}</summary>{inside}</details>\n"
        case Planner():
            return planner_html.form(given, _table(given.table))


def _text(text: Text) -> str:
    spans = text if isinstance(text, tuple) else (text,)
    return "".join(_span(span) for span in spans)


def _span(span: str | Code | Badge) -> str:
    if isinstance(span, Code):
        return f"<code>{for_html(span.text)}</code>"
    if isinstance(span, Badge):
        sign = f'<span aria-hidden="true">{SIGNS[span.tone]}</span> ' if SIGNS[span.tone] else ""
        return f'<span class="badge {span.tone}">{sign}{for_html(span.text)}</span>'
    return for_html(span)


def _table(table: Table) -> str:
    caption = f"<caption>{for_html(table.caption)}</caption>" if table.caption else ""
    heads = "".join(
        f'<th scope="col"{_classes(c)}>{for_html(c.head)}{_small(c.unit)}</th>' for c in table.columns
    )
    head = f"<thead><tr>{heads}</tr></thead>" if any(c.head for c in table.columns) else ""
    rows = "".join(f"<tr>{_cells(row, table.columns)}</tr>\n" for row in table.rows)
    note = f'<p class="note">{for_html(table.note)}</p>' if table.note else ""
    kind = ' class="full"' if any(c.wide for c in table.columns) else "" if head else ' class="pairs"'
    label = for_html(table.caption or table.columns[0].head or "table")
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">'
        f"<table{kind}>{caption}{head}<tbody>{rows}</tbody></table></div>{note}\n"
    )


def _small(unit: str) -> str:
    return f"<small>{for_html(unit)}</small>" if unit else ""


def _cells(row: Sequence[Text], columns: Sequence[Column]) -> str:
    first = f'<th scope="row"{_classes(columns[0])}>{_text(row[0])}</th>'
    rest = "".join(
        f"<td{_classes(c)}>{_text(cell)}</td>" for cell, c in zip(row[1:], columns[1:], strict=True)
    )
    return first + rest


def _classes(column: Column) -> str:
    kinds = {"right": column.align == "right", "wide": column.wide, "wrap": column.wrap}
    names = [kind for kind, on in kinds.items() if on]
    return f' class="{" ".join(names)}"' if names else ""


def _tiles(tiles: Tiles) -> str:
    made = ""
    for tile in tiles.tiles:
        sign = f'<span aria-hidden="true">{SIGNS[tile.tone]}</span> ' if SIGNS[tile.tone] else ""
        note = f'<div class="note">{for_html(tile.note)}</div>' if tile.note else ""
        made += (
            f'<li class="tile {tile.tone}"><div class="label">{for_html(tile.label)}</div>'
            f'<div class="value">{sign}{for_html(tile.value)}{_small(tile.unit)}</div>{note}</li>'
        )
    return f'<ul class="tiles">{made}</ul>\n'

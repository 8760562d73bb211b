"""What a section of a report is made of, before it is HTML or Markdown.

Sections return blocks; renderers turn blocks into text and do all of the escaping, so that a
section never meets markup and a new output needs no change in any section.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal

from reports.charts import Chart


class Tone(StrEnum):
    """What a badge or a tile says, beside its words: shown by a sign and a colour, never by colour alone."""

    PASS = "pass"
    FAIL = "fail"
    UNKNOWN = "unknown"
    VOID = "void"
    PLAIN = "plain"


SIGNS = {Tone.PASS: "✓", Tone.FAIL: "✗", Tone.UNKNOWN: "?", Tone.VOID: "⊘", Tone.PLAIN: ""}


@dataclass(frozen=True, slots=True)
class Code:
    """A name or a piece of configuration, as it is."""

    text: str


@dataclass(frozen=True, slots=True)
class Badge:
    """A verdict in a word, with its sign."""

    tone: Tone
    text: str


Span = str | Code | Badge
Text = Span | tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Para:
    text: Text
    quiet: bool = False  # an explanation that a reader in a hurry may skip


@dataclass(frozen=True, slots=True)
class Bullets:
    items: tuple[Text, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """``unit`` stands under the head; figures are aligned right."""

    head: str
    unit: str = ""
    align: Literal["left", "right"] = "left"
    wide: bool = False  # holds sentences: takes what width is left
    wrap: bool = False  # may break its lines on a narrow screen


@dataclass(frozen=True, slots=True)
class Table:
    columns: tuple[Column, ...]
    rows: tuple[tuple[Text, ...], ...]
    caption: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Tile:
    label: str
    value: str
    unit: str = ""
    note: str = ""
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Tiles:
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """A chart; Markdown shows the plot file of the same name, where there is one."""

    chart: Chart


@dataclass(frozen=True, slots=True)
class Pair:
    """Blocks that stand beside each other where there is room."""

    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Pre:
    """Lines as they are: commands, excerpts."""

    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The head of the report: the outcome in a word and the sentence why."""

    tone: Tone
    word: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Details:
    """Blocks that are folded away until asked for; ``unfolded``: shown from the start."""

    summary: str
    blocks: Sequence[Block] = field(default_factory=tuple)
    unfolded: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """A field of a form. ``value``: what stands in it at first; ``rule``: what it takes, in words."""

    name: str
    label: str
    unit: str
    value: str
    rule: str
    required: bool = True


@dataclass(frozen=True, slots=True)
class Planner:
    """A plan of nodes, and in a page with a script a form to plan another.

    ``sentence`` and ``table`` are the plan that was asked for; "" and a table without rows where none was.
    """

    head: str
    entries: tuple[Entry, ...]
    node_deliveries_per_s: float
    currency: str
    sentence: str
    table: Table


Block = Para | Bullets | Table | Tiles | Picture | Pair | Pre | Verdict | Details | Planner


@dataclass(frozen=True, slots=True)
class Section:
    """``id``: the anchor in the page."""

    id: str
    title: str
    blocks: tuple[Block, ...]


MAX_BULLETS: Final = 20


def bullets(items: Sequence[Text]) -> Bullets:
    """A list of the first MAX_BULLETS items that says how many more there are."""
    more = len(items) - MAX_BULLETS
    return Bullets((*items[:MAX_BULLETS], *([f"… and {more:,} more"] if more > 0 else [])))


def pairs(rows: Sequence[tuple[str, Text]], *, caption: str = "") -> Table:
    """A table of names and values."""
    return Table((Column(""), Column("")), tuple(rows), caption=caption)

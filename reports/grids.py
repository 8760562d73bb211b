"""What is drawn in rows: a heat map's cells, and lanes of what happened when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final

SHADES: Final = 8  # of a heat map, from few to many: classes h0 … h7


@dataclass(frozen=True, slots=True)
class Cells:
    """A heat map: how many samples lie in each cell.

    ``counts``: a tuple a column, from left to right, of one count a row, from below. ``levels``: the least
    count of each shade, ascending, the first 1.
    """

    x_edges: tuple[float, ...]
    y_edges: tuple[float, ...]
    counts: tuple[tuple[int, ...], ...]
    levels: tuple[int, ...]
    unit: str  # what is counted: "deliveries"

    def shade(self, count: int) -> int | None:
        """0 (few) … SHADES - 1 (many); None: nothing is there."""
        if count < 1:
            return None
        level = sum(count >= least for least in self.levels) - 1
        return shade(level, len(self.levels))

    def stretches(self) -> Iterator[tuple[int, int, int, int]]:
        """(shade, row, first column, columns): neighbours in a row that have one shade, rows from below."""
        for row in range(len(self.y_edges) - 1):
            shades = [self.shade(column[row]) for column in self.counts]
            at = 0
            for one, alike in groupby(shades):
                width = len(list(alike))
                if one is not None:
                    yield one, row, at, width
                at += width


def shade(level: int, levels: int) -> int:
    """Shade of a level, spread over all of them; that of a lone level is the strongest."""
    return SHADES - 1 if levels < 2 else round(level * (SHADES - 1) / (levels - 1))


def levels(most: int) -> tuple[int, ...]:
    """Least counts of at most SHADES levels up to ``most``: steps of 1-2-5, of 1-3-10, or of powers of ten.

    >>> levels(60), levels(900), levels(2_000_000)
    ((1, 2, 5, 10, 20, 50), (1, 3, 10, 30, 100, 300), (1, 10, 100, 1000, 10000, 100000, 1000000))
    """
    for steps in ((1, 2, 5), (1, 3), (1,)):
        made = [m * 10**e for e in range(len(str(most))) for m in steps if m * 10**e <= most]
        if len(made) <= SHADES:
            return tuple(made)
    return tuple(100**e for e in range(SHADES) if 100**e <= most)


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that was planned and lasted; seconds. ``told``: it in words.

    ``begin``: None: it never began. ``end``: None: it never ended. A mark that stands for several has no
    ``planned``.
    """

    planned: float | None
    begin: float | None
    end: float | None
    told: str


@dataclass(frozen=True, slots=True)
class Lane:
    """A row of marks on the time axis. ``aside``: what stands at its right end; ``number``: in the axis."""

    label: str
    marks: tuple[Mark, ...]
    aside: str = ""
    number: str = ""

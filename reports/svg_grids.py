"""Heat maps and lanes as inline SVG: what ``reports.svg`` puts into a plot of theirs.

The cells are a drawing of a cell a unit, stretched to the plot; cells of one shade are one path, so that
thousands of them take little room. Lanes have a height in pixels, whatever the width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from reports.charts import Scale
from reports.escape import for_html
from reports.grids import Cells, Lane, Mark, shade

LANE_PX: Final = 30  # a line of text, and a bar below it
_BAR_PX: Final = 9
_BAR_AT_PX: Final = 17
_SWATCH: Final = '<li><svg class="swatch" aria-hidden="true">'
_FORCE: Final = 'y="1.5" width="26" height="9"/></svg>'
LANES_KEY: Final = (
    f'<ul class="key">{_SWATCH}<circle class="planned" cx="19" cy="6" r="4"/></svg>planned</li>'
    f'{_SWATCH}<rect class="force" {_FORCE}applied to reverted</li>'
    f'{_SWATCH}<rect class="force endless" {_FORCE}never reverted</li></ul>'
)


def cells(drawn: Cells, x: Scale) -> str:
    """The cells; empty ones are left out. The y axis ends where they do, and a row is as high as another."""
    rows = len(drawn.y_edges) - 1
    paths: dict[int, str] = {}
    for one, row, first, width in drawn.stretches():
        left, right = (x.at(drawn.x_edges[at]) * 1000 for at in (first, first + width))
        path = f"M{left:.1f} {rows - 1 - row}H{right:.1f}v1H{left:.1f}z"
        paths[one] = paths.get(one, "") + path
    shapes = "".join(f'<path class="h{one}" d="{d}"/>' for one, d in sorted(paths.items()))
    return (
        f'<svg class="cells" viewBox="0 0 1000 {rows}" preserveAspectRatio="none" width="100%" height="100%">'
        f"{shapes}</svg>"
    )


def legend(drawn: Cells | None) -> str:
    """Which shade stands for how many; empty for a panel that is no heat map."""
    if drawn is None:
        return ""
    steps = "".join(
        f'<li><svg class="swatch shade" aria-hidden="true"><rect class="h{shade(n, len(drawn.levels))}" '
        f'width="100%" height="100%"/></svg>{least:,}</li>'
        for n, least in enumerate(drawn.levels)
    )
    return f'<ol class="key shades"><li>{for_html(drawn.unit)} in a cell, from</li>{steps}</ol>'


def lanes_px(drawn: Sequence[Lane]) -> int:
    return LANE_PX * len(drawn)


def lanes(drawn: Sequence[Lane], x: Scale) -> str:
    """One row a lane: its name and what is said aside above its marks."""
    return "".join(_lane(lane, n * LANE_PX, x) for n, lane in enumerate(drawn))


def _lane(lane: Lane, top: int, x: Scale) -> str:
    rule = f'<line class="grid" x1="0" x2="100%" y1="{top}" y2="{top}"/>' if top else ""
    aside = f'<text class="last aside" x="100%" dx="-4" y="{top + 12}">{for_html(lane.aside)}</text>'
    name = f'<text class="lane" x="4" y="{top + 12}">{for_html(lane.label)}</text>'
    return f"{rule}{name}{aside}" + "".join(_mark(mark, top + _BAR_AT_PX, x) for mark in lane.marks)


def _mark(mark: Mark, top: int, x: Scale) -> str:
    drawn = ""
    if mark.begin is not None:
        left = x.at(mark.begin) * 100
        right = 100 if mark.end is None else x.at(mark.end) * 100
        kind = "force endless" if mark.end is None else "force"
        drawn += (
            f'<rect class="{kind}" x="{left:.2f}%" y="{top}" width="{max(right - left, 0.4):.2f}%" '
            f'height="{_BAR_PX}"/>'
        )
    if mark.planned is not None:
        drawn += f'<circle class="planned" cx="{x.at(mark.planned) * 100:.2f}%" cy="{top + 4.5}" r="4"/>'
    return f'<g role="img"><title>{for_html(mark.told)}</title>{drawn}</g>'

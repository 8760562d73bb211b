"""scaling.html: the law over the points that it was fitted to, drawn no further than it is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from reports import html
from reports.blocks import Block, Column, Para, Picture, Section, Table, pairs
from reports.charts import Axis, Chart, Panel, Series
from reports.scaling_report import REFUSED, facts, rows

_STEPS: Final = 120  # of a curve


def page(told: Mapping[str, Any]) -> str:
    """The page.

    Args:
        told: the content of scaling.json.
    """
    head, *points = rows(told)
    table = Table(tuple(Column(name, align="right") for name in head), tuple(points), caption="Deliveries/s")
    answer: tuple[Block, ...] = (Para(told["headline"]), Picture(chart(told)), table)
    sections = [
        Section("scaling", "How capacity grows", answer),
        Section("law", "The law", (pairs(facts(told)), Para("X(N) = λN / (1 + σ(N−1) + κN(N−1))"))),
    ]
    about = [("searches", str(len(told["points"]))), ("varied", f"number of {told['of']}")]
    return html.page(f"Scaling: {told['scenario']}", about, sections, REFUSED)


def chart(told: Mapping[str, Any]) -> Chart:
    """What was measured, the law, and what as many times one alone would be."""
    one, sigma, kappa = (told[key]["value"] for key in ("rate_of_one", "contention", "coherency"))
    least, reach = told["points"][0]["n"], told["reach"]
    ns = [float(n) for n in np.linspace(least, reach, _STEPS)]
    law = tuple((n, one * n / (1 + sigma * (n - 1) + kappa * n * (n - 1))) for n in ns)
    measured = tuple((float(p["n"]), float(p["holds_at"])) for p in told["points"])
    lines = (
        Series("by the law", law, slot=1),
        Series("linear", ((float(least), one * least), (float(reach), one * reach)), slot=2),
        Series("measured", measured, 5, "dots"),
    )
    return Chart(
        "scaling",
        f"Deliveries/s by number of {told['of']}",
        Axis(str(told["of"]), whole=True),
        (Panel(Axis("deliveries", "/s"), lines),),
        f"What each number of {told['of']} held, the law that fits best, and linear growth, up to {reach}",
        filed=False,
        x_range=(float(least), float(reach)),
    )

"""What the script of the page draws with: data that is true and small, and a library that is what it says."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from reports import interactive, planner_html
from reports.charts import Axis, Band, Chart, Panel, Point, Series
from reports.grids import Cells, Lane, Mark
from reports.render import report_html
from tests.reports.long_run import an_hour

VENDORED = Path(interactive.__file__).parent / "vendor/uplot"


def unpacked(*charts: Chart) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = json.loads(gzip.decompress(base64.b64decode(interactive.packed(charts))))
    return made


def chart(*points: Point, **more: Any) -> Chart:
    series = Series("p99", points, 1, **more)
    bands = (Band(0, 1.5, "cut <b>"),)
    return Chart(
        "speed", "Speed", Axis("time", "s"), (Panel(Axis("latency", "ms"), (series,)),), "says", bands
    )


def test_the_data_are_the_charts_points_with_their_holes() -> None:
    (made,) = unpacked(chart((0.5, 12.3456789), (1.5, None), (2.5, 100_000.0)))
    (series,) = made["panels"][0]["series"]
    assert (series["x"], series["y"]) == ([0.5, 1.5, 2.5], [12.346, None, 100_000])
    assert made["bands"] == [[0, 1.5, "cut <b>", "fault"]]
    assert made["panels"][0]["y"]["ticks"][0] == [0, "0"]


def test_of_several_points_at_one_place_the_last_is_drawn() -> None:
    (made,) = unpacked(chart((1.0, 5.0), (1.0, 3.0), (2.0, 4.0), kind="step"))
    assert made["panels"][0]["series"][0]["y"] == [3, 4]


def test_high_percentiles_keep_their_distance() -> None:
    (made,) = unpacked(chart((0.999_998, 1.0), (0.999_999, 2.0)))
    assert len(made["panels"][0]["series"][0]["x"]) == 2


def test_a_heat_map_and_lanes_come_with_what_the_script_paints_and_says() -> None:
    cells = Cells((0, 2), (1, 10.00001), ((3,),), (1, 3), "deliveries")
    lanes = (Lane("cut", (Mark(1.0, 1.1, None, "told"),), "late", "1"),)
    panels = (Panel(Axis("latency", "ms", "log"), cells=cells), Panel(Axis("faults"), lanes=lanes))
    (made,) = unpacked(Chart("c", "C", Axis("time", "s"), panels, "says"))
    heat, rows = made["panels"]
    assert heat["cells"] == {
        "x": [0, 2], "y": [1, 10], "counts": [[3]], "levels": [[1, 0], [3, 7]], "unit": "deliveries"
    }  # fmt: skip
    assert rows["lanes"] == [{"label": "cut", "aside": "late", "marks": [[1, 1.1, None, "told"]]}]
    assert rows["y"]["ticks"] == [[0.5, "1"]]


def test_the_same_charts_give_the_same_text() -> None:
    made = chart((0.0, 1.0), (1.0, 2.0))
    assert interactive.packed([made]) == interactive.packed([made])


def test_the_script_cannot_end_its_element() -> None:
    for script in (interactive.script(), planner_html.script()):
        assert "</script" not in script.lower()
        assert "<!--" not in script


def test_the_library_is_the_one_that_its_readme_names_and_comes_with_its_licence() -> None:
    table = (VENDORED / "README.md").read_text(encoding="utf-8")
    digests = {Path(name).name: digest for name, digest in re.findall(r"\| `(\S+)` \| `(\w{64})` \|", table)}
    for name in ("uPlot.iife.min.js", "uPlot.min.css", "LICENSE"):
        assert hashlib.sha256((VENDORED / name).read_bytes()).hexdigest() == digests[name]
    assert "uPlot (v1.6.32)" in interactive.script()
    assert (VENDORED / "LICENSE").read_text(encoding="utf-8").strip() in interactive.script()


@pytest.fixture(scope="module")
def hour() -> str:
    return report_html(an_hour(200))


def test_a_page_of_an_hour_with_two_hundred_faults_is_less_than_a_megabyte(hour: str) -> None:
    assert 200_000 < len(hour.encode()) < 1_000_000


def test_the_page_is_the_same_each_time(hour: str) -> None:
    assert report_html(an_hour(200)) == hour

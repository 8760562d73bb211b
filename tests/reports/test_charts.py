"""Charts as data, and both renderings of them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from reports import plots, svg
from reports.charts import (
    MAX_POINTS,
    Axis,
    Band,
    Chart,
    Panel,
    Point,
    Series,
    bins,
    exact,
    log_bins,
    merged,
    scale,
    thin,
    y_scale,
)
from reports.grids import Cells, Lane, Mark


def labels(values: list[float], axis: Axis) -> list[str]:
    return [label for _, label in scale(values, axis).ticks]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        pytest.param(
            [3, 97], "linear", ["0", "20", "40", "60", "80", "100"], id="from zero to a round figure"
        ),
        pytest.param(
            [0.002, 0.011], "linear", ["0", "0.0025", "0.005", "0.0075", "0.01", "0.0125"], id="small"
        ),
        pytest.param([0, 48_000], "linear", ["0", "10k", "20k", "30k", "40k", "50k"], id="thousands"),
        pytest.param([0, 3_200_000], "linear", ["0", "1M", "2M", "3M", "4M"], id="millions"),
        pytest.param([5, 5], "linear", ["0", "1", "2", "3", "4", "5"], id="one value"),
        pytest.param([], "linear", ["0", "0.2", "0.4", "0.6", "0.8", "1"], id="no value"),
        pytest.param([-4, 4], "linear", ["-4", "-2", "0", "2", "4"], id="negative"),
        pytest.param([0.8, 45], "log", ["0.5", "1", "2", "5", "10", "20", "50"], id="log"),
        pytest.param([0.8, 4500], "log", ["1", "10", "100", "1,000"], id="log over many decades"),
        pytest.param([0.0], "log", ["1", "2"], id="log of nothing positive"),
        pytest.param([0.5, 0.9993], "quantile", ["50", "90", "99", "99.9"], id="quantile"),
    ],
)
def test_ticks_are_round(values: list[float], kind: str, expected: list[str]) -> None:
    assert labels(values, Axis("x", "", kind)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["linear", "log", "quantile"])
def test_a_scale_holds_all_of_its_values_in_order(kind: str) -> None:
    values = [0.1, 0.5, 0.77, 0.9, 0.999]
    made = scale(values, Axis("x", "", kind))  # type: ignore[arg-type]
    places = [made.at(v) for v in values]
    assert places == sorted(places)
    assert all(0 <= place <= 1 for place in places)


def test_each_nine_is_as_far_as_the_one_before() -> None:
    made = scale([0.9999], Axis("percentile", "%", "quantile"))
    steps = [made.at(q) for q in (0.9, 0.99, 0.999, 0.9999)]
    assert steps == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_an_exact_scale_ends_where_it_is_told() -> None:
    made = exact(0, 63)
    assert (made.at(0), made.at(63)) == (0, 1)
    assert [label for _, label in made.ticks] == ["0", "10", "20", "30", "40", "50", "60"]


def test_thinning_keeps_spikes_holes_and_order() -> None:
    points: list[Point] = [(float(i), 1.0) for i in range(100_000)]
    points[54_321] = (54_321.0, 999.0)
    points[77_777] = (77_777.0, 0.0)
    points[20_000:30_000] = [(float(i), None) for i in range(20_000, 30_000)]
    kept = thin(points)
    assert len(kept) <= MAX_POINTS
    assert points[54_321] in kept
    assert points[77_777] in kept
    assert any(y is None for _, y in kept)
    assert [x for x, _ in kept] == sorted(x for x, _ in kept)


def test_many_bands_become_few_that_say_how_many_they_are() -> None:
    many = [Band(n, n + 0.5, f"f{n}") for n in range(10)] + [Band(50, 51, "late")]
    assert [(b.start, b.end, b.label) for b in merged(many, 3)] == [
        (0, 0.5, "f0"),
        (1, 9.5, "9 faults"),
        (50, 51, "late"),
    ]
    assert merged(many[:3], 3) == tuple(many[:3])


def test_few_points_are_left_alone() -> None:
    assert thin([(0, 1), (1, None)]) == ((0, 1), (1, None))


@pytest.mark.parametrize("cut", [bins, log_bins], ids=["linear", "log"])
def test_bins_hold_every_value_once(cut: object) -> None:
    values = [1.0, 1.0, 2.5, 9.99, 10.0, 47.3, 50.0]
    points, widths = cut(values)  # type: ignore[operator]
    assert sum(n for _, n in points) == len(values)
    for value in values:
        assert any(left <= value * 1.0000001 and value <= (left + w) * 1.0000001
                   for (left, _), w in zip(points, widths, strict=True))  # fmt: skip


def test_bins_of_nothing_are_none() -> None:
    assert bins([]) == ((), ())
    assert log_bins([0.0]) == ((), ())


def test_bins_of_one_value_have_a_width() -> None:
    points, widths = bins([12.5, 12.5])
    assert [n for _, n in points] == [2]
    assert widths[0] > 0


def chart(**more: object) -> Chart:
    line = Series("p99 <b>", ((0.0, 1.0), (1.0, 4.0), (2.0, None), (3.0, 2.0)), 1)
    bars = Series("count", ((0.0, 3.0), (1.0, 0.0)), 0, "bars", (1.0, 1.0))
    known = {
        "name": "a-chart",
        "title": "A & B",
        "x": Axis("time", "s"),
        "panels": (
            Panel(Axis("latency", "ms"), (line, Series("p50", ((0.0, 1.0),), 2))),
            Panel(Axis("n"), (bars,)),
        ),
        "says": "what it shows",
        "bands": (Band(0, 1, "warm-up", "warmup"), Band(1.5, 2.5, "cut <b>")),
    }
    return Chart(**(known | more))  # type: ignore[arg-type]


def test_an_inline_chart_is_well_formed_and_has_no_style_and_no_script() -> None:
    text = svg.chart(chart())
    root = ET.fromstring(text)
    assert root.tag == "figure"
    assert not [e for e in root.iter() if "style" in e.attrib or e.tag in ("script", "style")]
    assert "cut &lt;b&gt;" in text
    assert "p99 &lt;b&gt;" in text


def test_a_hole_in_a_line_stays_a_hole_and_a_lone_point_is_a_dot() -> None:
    text = svg.chart(chart())
    (path,) = [p.get("d") for p in ET.fromstring(text).iter("path") if "s1" in str(p.get("class"))]
    assert path is not None
    assert path.count("M") == 2
    assert text.count('class="dot s1"') == 1  # after the hole
    assert text.count('class="dot s2"') == 1  # a series of one point


def heat_map() -> Chart:
    cells = Cells((0, 2, 4), (1, 10, 100), ((3, 0), (3, 40)), (1, 10), "deliveries")
    return chart(panels=(Panel(Axis("latency", "ms", "log"), cells=cells),), x_range=(0.0, 4.0))


def test_a_heat_map_is_one_path_a_shade_with_its_legend_and_the_faults_over_it() -> None:
    root = ET.fromstring(svg.chart(heat_map()))
    (plot,) = [e for e in root.iter("svg") if e.get("class") == "cells"]
    assert plot.get("viewBox") == "0 0 1000 2"
    assert {e.get("class"): e.get("d") for e in plot} == {
        "h0": "M0.0 1H1000.0v1H0.0z",
        "h7": "M500.0 0H1000.0v1H500.0z",
    }
    (key,) = [e for e in root.iter("ol") if "shades" in str(e.get("class"))]
    assert ["".join(item.itertext()) for item in key] == ["deliveries in a cell, from", "1", "10"]
    assert [e.get("x1") for e in root.iter("line") if e.get("class") == "edge"][-2:] == ["37.50%", "62.50%"]
    assert not heat_map().empty


def test_lanes_tell_their_marks_in_words_and_have_a_height_for_each() -> None:
    marks = (Mark(1.0, 1.1, 2.0, "cut <b>: told"), Mark(3.0, None, None, "never"))
    lanes = (Lane("cut <b>", marks, "late", "1"), Lane("endless", (Mark(None, 1.0, None, "on"),)))
    root = ET.fromstring(svg.chart(chart(panels=(Panel(Axis("faults"), lanes=lanes),), x_range=(0.0, 4.0))))
    assert [e.text for e in root.iter("title")] == ["cut <b>: told", "never", "on"]
    bars = [e for e in root.iter("rect") if "force" in str(e.get("class")) and "%" in str(e.get("x"))]
    assert [(e.get("class"), e.get("x"), e.get("width")) for e in bars] == [
        ("force", "27.50%", "22.50%"),
        ("force endless", "25.00%", "75.00%"),
    ]
    assert [e.get("height") for e in root.iter("svg") if "lanes" in str(e.get("class"))] == ["60"]


def test_every_chart_says_what_it_shows_for_those_who_cannot_see_it() -> None:
    plotted = [e for e in ET.fromstring(svg.chart(chart())).iter("svg") if e.get("role") == "img"]
    assert [e.get("aria-label") for e in plotted] == [
        "latency (ms). what it shows",
        "n. what it shows",
    ]


def test_series_differ_by_more_than_their_colour() -> None:
    dashes = [str(dash) for dash in plots.DASHES]
    assert len(set(dashes)) == len(dashes) == len(plots.COLOURS)


def test_plot_files_are_the_same_each_time_and_carry_no_date() -> None:
    made = chart()
    first, second = plots.files(made), plots.files(made)
    assert first == second
    assert first["png"].startswith(b"\x89PNG")
    assert b"dc:date" not in first["svg"]
    assert b"matplotlib" not in first["png"].lower()
    ET.fromstring(first["svg"])


def test_a_plot_takes_any_name_for_text() -> None:
    odd = chart(bands=(Band(0, 1, "$x^2$ \x1b[31m 漢字 </svg>"),), title="$\\frac")
    ET.fromstring(plots.files(odd)["svg"])


def test_a_chart_without_a_value_is_empty() -> None:
    assert not chart().empty
    assert chart(panels=(Panel(Axis("y"), (Series("s", ((0.0, None),)),)),)).empty


def test_numbers_of_faults_do_not_cover_each_other() -> None:
    many = tuple(Band(start, start + 0.01, f"f{start}") for start in (0.1, 0.11, 0.2, 1.5, 2.5))
    text = svg.chart(chart(bands=many))
    texts = [e for e in ET.fromstring(text).iter("text") if "number" in str(e.get("class"))]
    assert [(e.text, e.get("class")) for e in texts] == [
        ("1", "number"),
        ("3", "number crowded"),
        ("4", "number"),
        ("5", "number"),
    ]


def test_counts_have_no_ticks_between_them() -> None:
    assert [label for _, label in scale([0, 1], Axis("channels", whole=True)).ticks] == ["0", "1"]
    assert [label for _, label in scale([0, 12], Axis("channels", whole=True)).ticks] == [
        "0",
        "3",
        "6",
        "9",
        "12",
    ]


def test_things_that_are_counted_along_x_have_whole_numbers() -> None:
    assert [label for _, label in exact(0.5, 20.5, whole=True).ticks] == ["3", "6", "9", "12", "15", "18"]


def test_an_axis_that_need_not_begin_at_zero_does_not() -> None:
    lines = (Series("a", ((1.0, 40.0), (2.0, 44.0))),)
    assert y_scale(Panel(Axis("a", "ms", zero=False), lines)).low == 40
    assert y_scale(Panel(Axis("a", "ms"), lines)).low == 0


def test_dots_are_drawn_at_every_point_and_no_line_between_them() -> None:
    dots = Series("run", ((1.0, 4.0), (2.0, 2.0), (3.0, None), (4.0, 3.0)), 5, "dots")
    drawn = svg.chart(Chart("a", "A", Axis("run"), (Panel(Axis("a"), (dots,)),), "three"))
    assert drawn.count('class="dot s5"') == 3
    assert "<path" not in drawn
    line = svg.chart(Chart("a", "A", Axis("run"), (Panel(Axis("a"), (replace(dots, kind="line"),)),), "a"))
    assert line.count('class="dot s5"') == 1
    assert "<path" in line
    assert plots.files(Chart("a", "A", Axis("run"), (Panel(Axis("a"), (dots,)),), "three"))["svg"]

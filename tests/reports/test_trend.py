"""Trends: what is one series, what is told of its changes, and what is new and worse."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reports
from reports.charts import x_scale, y_scale
from reports.markdown import MAX_BYTES
from reports.trend import METRICS, Left, Limits, NoTrend, Trend, TrendRun, trend
from reports.trend_page import as_json, chart, document, page, text
from reports.verdict import Exit
from tests.reports.schema_check import violations

STEADY = [10 + n * 7 % 5 / 10 for n in range(20)]  # 10.0 to 10.4
SERIES = "0123456789ab"


def night(number: int, figures: dict[str, float], **others: Any) -> TrendRun:
    """The run of a night; the first is that of 1 January."""
    started = f"2026-{number // 28 + 1:02}-{number % 28 + 1:02}T02:00:00.000+00:00"
    told: dict[str, Any] = {"run_id": f"run-{number:04}", "scenario": "nightly", "series": SERIES}
    return TrendRun(
        **(told | {"started_utc": started, "label": f"c{number:03}", "figures": figures} | others)
    )


def nights(values: Sequence[float], name: str = "cpu_per_delivery") -> list[TrendRun]:
    return [night(number, {name: value}) for number, value in enumerate(values)]


def of(values: Sequence[float], name: str = "cpu_per_delivery", **limits: Any) -> Trend:
    return trend(nights(values, name), Limits(**limits))


def worse() -> Trend:
    """Twenty steady nights and five that are half as slow again, on another host."""
    slow = [replace(run, host="8 cores") for run in nights([*STEADY, *(x * 1.5 for x in STEADY[:5])])[20:]]
    steady = [replace(run, host="4 cores") for run in nights(STEADY)]
    return trend([*slow, *steady], Limits(), left=[Left("run-x", "is void")])


def test_a_change_is_between_two_runs_with_both_levels() -> None:
    (line,) = worse().lines
    (change,) = line.changes
    assert (change.last, change.first) == (19, 20)
    assert (change.before, change.after) == (pytest.approx(10.2), pytest.approx(15.3))
    assert change.change == pytest.approx(0.5)
    assert change.p <= 0.01
    assert change.worse
    assert change.also == ("host 4 cores → 8 cores",)


def test_what_got_worse_lately_is_the_status_of_the_command() -> None:
    assert worse().exit is Exit.GATE
    assert [line.name for line in worse().worse] == ["cpu_per_delivery"]


@pytest.mark.parametrize(
    ("values", "name", "new"),
    [
        (STEADY, "cpu_per_delivery", False),
        ([*STEADY, *(x / 2 for x in STEADY[:8])], "cpu_per_delivery", False),
        ([*STEADY, *(x / 2 for x in STEADY[:8])], "deliveries_per_s", True),
        ([*STEADY, *(x * 2 for x in STEADY[:8])], "deliveries_per_s", False),
        ([*STEADY, *(x * 1.5 for x in STEADY[:11])], "cpu_per_delivery", False),  # no longer new
        ([0.0] * 20 + [1.0, 2.0, 1.0, 3.0], "lost", True),
    ],
    ids=["steady", "less", "slower", "faster", "long ago", "from none"],
)
def test_only_a_figure_that_is_worse_than_before_the_newest_runs_is_new(
    values: list[float], name: str, new: bool
) -> None:
    (line,) = of(values, name).lines
    assert line.new is new


@pytest.mark.parametrize("before", [1, 2], ids=["as before", "less than before"])
def test_what_was_taken_back_within_the_newest_runs_is_not_new(before: int) -> None:
    """Worse and mended; or much better, and then a little worse."""
    values = [x * before for x in STEADY] + [x * (2 - before / 2) for x in STEADY[:10]] + STEADY[:10]
    if before == 2:
        values[30:] = [x * 1.5 for x in STEADY[:10]]
    (line,) = of(values, recent=20).lines
    assert len(line.changes) == 2
    assert any(change.worse for change in line.changes)
    assert not line.new


def test_a_change_that_is_too_small_is_not_told_and_its_runs_join_the_level() -> None:
    values = [*STEADY, *(x * 1.06 for x in STEADY)]
    assert len(of(values).lines[0].changes) == 1
    (line,) = of(values, min_change=0.07).lines
    assert line.changes == ()
    assert len(line.levels) == 1
    assert not line.new


def test_a_run_without_a_figure_lies_between_two_that_have_it() -> None:
    runs = nights([*STEADY, 0.0, *(x * 1.5 for x in STEADY)])
    runs[20] = replace(runs[20], figures={"lost": 3.0})
    found = trend(runs, Limits())
    line = next(each for each in found.lines if each.name == "cpu_per_delivery")
    assert [(change.last, change.first) for change in line.changes] == [(19, 21)]
    assert line.values[20] is None


def test_runs_are_in_order_of_their_start_and_the_same_run_counts_once() -> None:
    runs = nights(STEADY)
    found = trend([*reversed(runs), *runs], Limits())
    assert [run.run_id for run in found.runs] == [run.run_id for run in runs]


def test_runs_that_were_planned_otherwise_are_left_out_and_told_apart() -> None:
    runs = nights(STEADY)
    settings = {"workload.clients": "40", "server.store": "memory"}
    runs = [replace(run, settings=settings) for run in runs]
    runs[3] = replace(runs[3], series="f" * 12, settings=settings | {"workload.clients": "80"})
    runs[4] = replace(runs[4], series="e" * 12, settings={})
    runs[5] = replace(runs[5], scenario="smoke")
    found = trend(runs, Limits())
    assert [(each.name, each.why) for each in found.left] == [
        ("run-0003", "something else was planned: workload.clients 80 in place of 40"),
        ("run-0004", f"something else was planned: series eeeeeeeeeeee, not {SERIES}"),
        ("run-0005", "is of scenario smoke"),
    ]
    assert trend(runs, Limits(), series="f" * 12).runs == (runs[3],)
    assert trend(runs, Limits(), scenario="smoke").runs == (runs[5],)
    with pytest.raises(NoTrend, match=f"no run is of scenario none: .*smoke, series {SERIES}"):
        trend(runs, Limits(), scenario="none")


def test_where_no_run_is_left_there_is_no_trend() -> None:
    with pytest.raises(NoTrend, match="no run can be used") as found:
        trend([], Limits(), left=[Left("a", "is void")])
    assert found.value.left == (Left("a", "is void"),)


def test_too_few_runs_are_said_to_be_too_few() -> None:
    assert "✓ NOTHING NEW GOT WORSE" in text(of(STEADY[:8]))
    assert "? TOO FEW RUNS  7 of 8" in text(of(STEADY[:7]))
    assert of(STEADY[:7]).exit is Exit.PASS


def test_the_lines_for_a_terminal_say_when_and_by_how_much() -> None:
    told = text(worse())
    assert "✗ GOT WORSE  CPU per delivery 15.3 µs (+50 %) since run 21." in told
    assert "between run 20, 2026-01-20 02:00 c019 and run 21, 2026-01-21 02:00 c020" in told
    assert "also host 4 cores → 8 cores" in told
    assert "    1  is void" in told
    assert "\x1b" not in told
    assert "\x1b[1;31m✗ GOT WORSE\x1b[0m" in text(worse(), colour=True)


def test_the_json_is_that_of_its_schema() -> None:
    path = Path(reports.__file__).parent / "schemas" / "trend.schema.json"
    schema = json.loads(path.read_text(encoding="utf-8"))
    for found in (worse(), of([0.0] * 20 + [1.0, 2.0, 1.0, 3.0], "lost"), of(STEADY[:1])):
        made = json.loads(json.dumps(as_json(found), allow_nan=False))
        assert violations(made, schema) == []
    assert violations({}, schema)
    assert as_json(worse())["figures"][0]["changes"][0]["first"] == "run-0020"


def test_the_chart_marks_the_change_by_number_words_and_place() -> None:
    found = worse()
    drawn = chart(found, found.lines[0])
    (band,) = drawn.bands
    assert (band.start, band.end, band.label) == (20.0, 21.0, "run 21: +50\u00a0%, worse")
    assert y_scale(drawn.panels[0]).low > 0
    assert all(float(value).is_integer() for value, _ in x_scale(drawn).ticks)
    dots, level = drawn.panels[0].series
    assert len(dots.points) == 25
    assert [y for _, y in level.points] == [
        *[pytest.approx(10.2)] * 2, *[pytest.approx(15.3)] * 2,
    ]  # fmt: skip
    made = page(found)
    assert made.count('class="dot s5"') >= 25
    assert 'aria-label="Changes"' in made
    assert "run 21: +50\u00a0%, worse" in made


def test_what_hardly_moves_is_drawn_from_zero() -> None:
    found = of(STEADY)
    assert y_scale(chart(found, found.lines[0]).panels[0]).low == 0


def test_names_of_runs_are_text_and_nothing_else() -> None:
    evil = "<script>alert(1)</script>\x1b[2J@all | `x`"
    found = trend(
        [replace(run, label=evil, host=evil * (n > 19)) for n, run in enumerate(worse().runs)],
        Limits(),
        left=[Left(evil, evil)],
    )
    assert "<script>alert" not in page(found)
    assert "<script>" not in document(found)
    assert "@all" not in document(found)
    assert "\x1b" not in text(found) + document(found) + page(found)


def many() -> Trend:
    """2,000 nights with all figures, and as many that were left out."""
    draw = np.random.default_rng(1)
    runs = [
        night(0, {name: float(x) for name, x in zip(METRICS, row, strict=True)}, label="x" * 120)
        for row in np.exp(draw.normal(0, 0.1, (2_000, len(METRICS))))
    ]
    runs = [
        replace(run, run_id=f"r{n:05}", started_utc=f"{2000 + n // 12}-{n % 12 + 1:02}-01T00:00:00.000+00:00")
        for n, run in enumerate(runs)
    ]
    return trend(runs, Limits(), left=[Left(f"bad-{n}", f"reason {n}" * 10) for n in range(2_000)])


def test_thousands_of_runs_fit_and_say_what_is_elsewhere() -> None:
    found = many()
    made = document(found)
    assert len(made.encode()) <= MAX_BYTES
    assert "report.html" not in made
    assert len(page(found)) < 1_500_000
    assert len(as_json(found)["runs"]) == 2_000


def test_the_same_runs_give_the_same_bytes() -> None:
    assert page(worse()) == page(worse())
    assert document(worse()) == document(worse())
    assert "1,999" in document(worse())

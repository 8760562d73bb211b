"""Runs side by side: names, differences, figures and their changes; what forbids a comparison is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from reports.cli import compare as command
from reports.compare import (
    MOST,
    Compared,
    Row,
    Side,
    as_json,
    compare,
    differing,
    flattened,
    read_side,
)
from reports.compare_page import charts, document, page, text
from reports.history import HistoryError
from reports.pipeline import report_run
from tests.reports.synthetic import Cut, Slow, Synthetic, fault_lines, small

SCENARIO = """
version = 1
why = "What is the same in all is not told?"
[server]
nodes = {nodes}
[[fault]]
id = "cut"
kind = "down"
at_s = 4.0
"""


def made(path: Path, nodes: int, run: Synthetic) -> Path:
    run_dir = run.write(path)
    (run_dir / "config").mkdir(exist_ok=True)
    (run_dir / "config" / "scenario.toml").write_text(SCENARIO.format(nodes=nodes), encoding="utf-8")
    report_run(run_dir)
    return run_dir


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One node, and two that are slower; half of the clients were cut off in both."""
    base = tmp_path_factory.mktemp("runs")
    cut = {"cuts": [Cut(4, 5, 1)], "faults": fault_lines("cut", "down", 4, 5, target="b")}
    return [
        made(base / "one", 1, small(**cut)),
        made(base / "two", 2, small(slows=[Slow(6, 9, 200)], **cut)),
    ]


@pytest.fixture(scope="module")
def found(runs: list[Path]) -> Compared:
    return compare([read_side(run) for run in runs])


def row(found: Compared, name: str) -> Row:
    return next(row for row in found.rows if row.name == name)


def test_runs_are_called_by_the_one_setting_that_tells_them_apart(found: Compared) -> None:
    assert found.labels == ("nodes 1", "nodes 2")
    assert found.differs == (("server.nodes", ("1", "2")),)


def test_figures_are_those_of_the_runs_own_reports(found: Compared, runs: list[Path]) -> None:
    summaries = [json.loads((run / "analysis/summary.json").read_text()) for run in runs]
    assert row(found, "delivery, p99").values == tuple(
        summary["latency_ms"]["delivery"]["p99"] for summary in summaries
    )
    assert row(found, "lost").values == (0.0, 0.0)
    back = [summary["faults"][0]["recovery"]["all_back_s"] * 1000 for summary in summaries]
    assert row(found, "all back after a fault, worst").values == tuple(back)


def test_a_change_is_against_the_first_run(found: Compared) -> None:
    slower = row(found, "delivery, p99")
    first, second = slower.values
    assert first is not None
    assert second is not None
    assert slower.changes() == (0.0, pytest.approx(second / first - 1))
    assert Row("gaps", "", (0.0, 4.0)).changes() == (
        None,
        None,
    )  # nothing is so many times as much as nothing
    assert Row("p99", "ms", (None, 4.0)).changes() == (None, None)


def test_a_figure_that_no_run_has_is_left_out(found: Compared) -> None:
    assert "CPU per delivery, all nodes" not in [row.name for row in found.rows]  # nothing was sampled


def test_a_table_of_a_list_that_not_all_have_is_one_line() -> None:
    with_fault = flattened({"seed": 1, "fault": [{"id": "cut", "kind": "down", "at_s": 4.0}]})
    later = flattened({"seed": 1, "fault": [{"id": "cut", "kind": "down", "at_s": 5.0}]})
    assert differing([with_fault, flattened({"seed": 1})]) == (("fault[cut]", ("yes", "")),)
    assert differing([with_fault, later]) == (("fault[cut].at_s", ("4.0", "5.0")),)
    assert differing([with_fault, with_fault]) == ()


def test_what_forbids_a_comparison_is_said(runs: list[Path]) -> None:
    one, two = (read_side(run) for run in runs)
    summary = {**two.summary, "outcome": "void", "sentence": "The load ran late.", "seed": 9}
    odd = Side(two.path, summary, two.settings, two.seconds, two.nodes)
    assert compare([one, odd]).warnings == (
        "two is void: The load ran late.",
        f"The runs have different seeds: {one.summary['seed']}, 9.",
    )


@pytest.mark.parametrize("count", [0, 1, MOST + 1])
def test_too_few_and_too_many_are_refused(runs: list[Path], count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} runs are given: must be 2 to 8"):
        compare([read_side(runs[0])] * count)


def test_the_same_scenario_twice_is_told_apart_by_number(runs: list[Path]) -> None:
    again = compare([read_side(runs[0])] * 2)
    assert [label.rsplit(" ", 1)[1] for label in again.labels] == ["1", "2"]
    assert "the same scenario was run several times" in page(again)


def test_the_page_has_a_line_a_run_in_each_chart_and_runs_no_script(found: Compared) -> None:
    assert [chart.name for chart in charts(found)] == [
        "compare-p99_ms", "compare-delivered", "compare-connected",
    ]  # fmt: skip
    assert all(
        [series.name for series in chart.panels[0].series] == list(found.labels) for chart in charts(found)
    )
    whole = page(found)
    assert whole == page(found)
    assert "server.nodes" in whole
    assert "default-src &#x27;none&#x27;" in whole or "default-src 'none'" in whole
    assert "server.nodes" in document(found)
    assert "report.html" not in document(found)


def test_the_terminal_has_a_column_a_run(found: Compared) -> None:
    lines = text(found).splitlines()
    assert lines[1].split() == ["nodes", "1", "nodes", "2"]
    assert any(line.strip().startswith("server.nodes") for line in lines)
    assert max(map(len, lines)) <= 110


def call(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_the_command_writes_page_markdown_and_json(runs: list[Path], tmp_path: Path) -> None:
    shown = call(*runs, "--out", tmp_path / "out")
    assert shown.exit_code == 0
    made_json: dict[str, Any] = json.loads((tmp_path / "out/compare.json").read_text())
    assert made_json == as_json(compare([read_side(run) for run in runs]))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "compare.html", "compare.md", "compare.json",
    }  # fmt: skip
    assert str(tmp_path / "out" / "compare.html") in shown.output


def test_runs_that_cannot_be_used_are_all_named(runs: list[Path], tmp_path: Path) -> None:
    unjudged = tmp_path / "unjudged"
    shutil.copytree(runs[0], unjudged)
    shutil.rmtree(unjudged / "analysis")
    shown = call(runs[0], unjudged, tmp_path / "nowhere", "--out", tmp_path / "out")
    assert shown.exit_code == 2
    assert [str(unjudged) in line for line in shown.output.splitlines()] == [True, False]
    assert "`chatproof report` does it" in shown.output
    assert not (tmp_path / "out").exists()
    assert call(runs[0]).exit_code == 2


def test_a_summary_of_another_version_is_refused(runs: list[Path], tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(runs[0], old)
    (old / "analysis/summary.json").write_text("{}")
    with pytest.raises(HistoryError, match="judges it again"):
        read_side(old)

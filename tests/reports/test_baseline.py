"""A stored run beside the one that is judged: shown, never written to, never believed blindly."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from reports import figures, plots, svg
from reports.baseline import Baseline, curve, read_baseline
from reports.cli import report as command
from reports.history import HistoryError
from reports.pipeline import report_run
from reports.render import report_html, report_markdown, sections
from tests.reports.long_run import an_hour
from tests.reports.synthetic import Cut, Slow, Synthetic, fault_lines, small
from tests.reports.test_pipeline import files

HOST = {"cpus": 2, "memory_bytes": 8 << 30, "platform": "Linux-6.1", "python": "3.11.9", "load1": 0.4}
_HOST = "2 cores, 8.00 GiB, Python 3.11.9"
SCENARIO = '[server]\nnodes = 1\nmutant = "{mutant}"\n'


def made(path: Path, run: Synthetic, *, mutant: str, run_id: str, **manifest: Any) -> Path:
    run.run = {**run.run, "run_id": run_id, "host": HOST, "versions": {"chatproof": "0.1"}} | manifest
    run_dir = run.write(path)
    (run_dir / "config").mkdir()
    (run_dir / "config" / "scenario.toml").write_text(SCENARIO.format(mutant=mutant), encoding="utf-8")
    return run_dir


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(a run, its baseline): the run is slower, of another seed, host, version and day."""
    base = tmp_path_factory.mktemp("runs")
    cut = {"cuts": [Cut(4, 5, 1)], "faults": fault_lines("cut", "down", 4, 5, target="b")}
    before = made(
        base / "before", small(**cut), mutant="", run_id="run-0", started_utc="2026-01-01T10:00:00Z"
    )
    now = made(
        base / "now", small(slows=[Slow(6, 9, 200)], seed=2, **cut), mutant="x", run_id="run-1", seed=2,
        started_utc="2026-01-02T10:00:00Z", host=HOST | {"cpus": 4}, versions={"chatproof": "0.2"},
    )  # fmt: skip
    report_run(before)
    return now, before


@pytest.fixture
def run(runs: tuple[Path, Path], tmp_path: Path) -> Path:
    """A run of its own, judged without a baseline."""
    shutil.copytree(runs[0], tmp_path / "run")
    report_run(tmp_path / "run")
    return tmp_path / "run"


def told(run: Path) -> str:
    return (run / "report" / "report.md").read_text(encoding="utf-8").replace("\u00a0", " ")


def test_without_a_baseline_there_is_no_section_and_judging_again_gives_the_same_bytes(
    run: Path, runs: tuple[Path, Path]
) -> None:
    before = files(run)
    assert b"Comparison" not in before["report/report.html"]
    report_run(run, baseline=read_baseline(runs[1]))
    beside = files(run)
    assert beside.keys() - before.keys() == {"analysis/baseline.json"}
    report_run(run, baseline=read_baseline(runs[1]))
    assert files(run) == beside
    report_run(run)
    assert files(run) == before


def test_a_baseline_changes_no_verdict_and_is_not_written_to(run: Path, runs: tuple[Path, Path]) -> None:
    def state() -> dict[str, tuple[int, bytes]]:
        found = [path for path in sorted(runs[1].rglob("*")) if path.is_file()]
        return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in found}

    before, judged = state(), files(run)
    outcome = report_run(run, baseline=read_baseline(runs[1]))
    assert state() == before
    assert outcome.baseline == "run-0"
    for name in ("analysis/summary.json", "analysis/gates.json", "report/junit.xml", "report/metrics.txt"):
        assert files(run)[name] == judged[name]


def test_the_section_stands_before_the_method_with_both_figures_and_their_change(
    run: Path, runs: tuple[Path, Path]
) -> None:
    report_run(run, baseline=read_baseline(runs[1]))
    text = told(run)
    assert [line.split(" ", 2)[2] for line in text.splitlines() if line.startswith("## ")][-3:] == [
        "Capacity", "Comparison", "Method and contract",
    ]  # fmt: skip
    ours, theirs = (json.loads((r / "analysis/summary.json").read_text()) for r in (run, runs[1]))
    assert "| lost ↓ | 0 | 0 | 0 | – |" in text
    row = next(line for line in text.splitlines() if line.startswith("| delivery, p50 ↓ |"))
    before, now = (summary["latency_ms"]["delivery"]["p50"] for summary in (theirs, ours))
    assert now > before
    assert [cell.strip() for cell in row.strip("|").split("|")][1:] == [
        f"{before:.2f} ms", f"{now:.2f} ms", f"+{now - before:.2f} ms", f"× {now / before:.2f}",
    ]  # fmt: skip
    for name in ("delivery, p99", "delivery, p99.9", "delivery, max", "deliveries", "all back after a fault"):
        assert f"| {name}" in text
    assert "`chatproof ab` runs two sides in turn on one machine, and decides." in text


def test_what_differs_is_said(run: Path, runs: tuple[Path, Path]) -> None:
    report_run(run, baseline=read_baseline(runs[1]))
    text = told(run)
    assert "? careful Not the same in both: settings, seed, host, versions, day." in text
    assert (
        "| host | ? differs | 2 cores, 8.00 GiB, Python 3.11.9 | 4 cores, 8.00 GiB, Python 3.11.9 |" in text
    )
    assert "| versions | ? differs | chatproof 0.1 | chatproof 0.2 |" in text
    assert "| scenario | same | synthetic | synthetic |" in text
    assert "| started, UTC | ? differs | 2026-01-01 10:00:00 | 2026-01-02 10:00:00 |" in text
    assert "| `server.mutant` | – | x |" in text


@pytest.mark.parametrize(("boot", "word"), [(None, "same"), ("another", "alike")])
def test_a_machine_is_known_by_its_boot_alone(
    runs: tuple[Path, Path], tmp_path: Path, boot: str | None, word: str
) -> None:
    twin = made(tmp_path / "twin", small(), mutant="", run_id="run-2", started_utc="2026-01-01T11:00:00Z")
    if boot:
        run = json.loads((twin / "run.json").read_text())
        run["clock"]["boot_id"] = boot
        (twin / "run.json").write_text(json.dumps(run))
    report_run(twin, baseline=read_baseline(runs[1]))
    assert "careful" not in told(twin)
    assert "Settings that differ" not in told(twin)
    assert f"| host | {word} | {_HOST} | {_HOST} |" in told(twin)
    assert ("which machine it was is not recorded" in told(twin)) == (word == "alike")


def test_a_baseline_that_is_void_is_pointed_out(run: Path, runs: tuple[Path, Path], tmp_path: Path) -> None:
    def edit(summary: dict[str, Any]) -> None:
        summary |= {"outcome": "void", "sentence": "The load ran late."}

    report_run(run, baseline=read_baseline(edited(runs[1], tmp_path / "void", edit)))
    assert "careful The baseline is void: The load ran late." in told(run)


def test_the_baseline_is_a_line_of_its_own_in_every_form_of_the_curve(
    run: Path, runs: tuple[Path, Path]
) -> None:
    other = read_baseline(runs[1])
    report_run(run, baseline=other)
    chart = figures.percentiles(beside(other))
    lines = chart.panels[0].series
    assert lines[0].name == "delivery, from scheduled"
    assert lines[-1].name == "baseline, delivery"
    assert plots.DASHES[lines[-1].slot] != "-"
    assert lines[-1].points[-1][1] == pytest.approx(other.delivery["max"])
    assert "baseline, delivery" in svg.chart(chart)
    assert "in the baseline it was" in chart.says
    assert "| delivery, baseline | due → received, live |" in told(run)


def test_a_run_without_latency_does_not_show_that_of_its_baseline_as_if_it_were_its_own(
    runs: tuple[Path, Path],
) -> None:
    from tests.reports.test_sections import analysed

    empty = replace(analysed(Synthetic(bare=True, clients=2, channels=1)), baseline=read_baseline(runs[1]))
    assert figures.percentiles(empty).empty
    assert "Comparison" in report_html(empty)


def test_the_curve_is_that_of_the_run_itself(runs: tuple[Path, Path]) -> None:
    points = curve((runs[1] / "report" / "latency.hgrm").read_text())
    summary = json.loads((runs[1] / "analysis/summary.json").read_text())["latency_ms"]["delivery"]
    at = dict(points)
    assert at[0.5] == pytest.approx(summary["p50"])
    assert points[-1] == (1 - 1 / summary["count"], pytest.approx(summary["max"]))
    assert curve("Value Percentile TotalCount 1/(1-Percentile)\n\n#[Mean = 0]\n") == ()


def test_what_is_recorded_is_the_runs_id_and_no_path(run: Path, runs: tuple[Path, Path]) -> None:
    report_run(run, baseline=read_baseline(runs[1]))
    recorded = json.loads((run / "analysis" / "baseline.json").read_text())
    assert recorded["run_id"] == "run-0"
    assert recorded["differs"] == ["settings", "seed", "host", "versions", "day"]
    assert {figure["name"] for figure in recorded["figures"]} >= {"lost", "delivery, p99"}
    for name, content in files(run).items():
        assert str(runs[1]).encode() not in content, name


def edited(source: Path, to: Path, edit: Callable[[dict[str, Any]], Any]) -> Path:
    """A copy of a run with another summary."""
    shutil.copytree(source, to)
    path = to / "analysis" / "summary.json"
    summary = json.loads(path.read_text())
    edit(summary)
    path.write_text(json.dumps(summary))
    return to


def beside(other: Baseline) -> Any:
    from tests.reports.test_sections import analysed

    return replace(analysed(small()), baseline=other)


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "no analysis": lambda r: shutil.rmtree(r / "analysis"),
    "no scenario": lambda r: (r / "config/scenario.toml").unlink(),
    "no curve": lambda r: (r / "report/latency.hgrm").unlink(),
    "no manifest": lambda r: (r / "run.json").unlink(),
    "a manifest cut off": lambda r: (r / "run.json").write_text('{"run_id": '),
    "a list": lambda r: (r / "analysis/summary.json").write_text("[]"),
    "an empty summary": lambda r: (r / "analysis/summary.json").write_text("{}"),
    "deep": lambda r: (r / "analysis/summary.json").write_text("[" * 100_000),
    "deep settings": lambda r: (r / "config/scenario.toml").write_text("a." * 5_000 + "b = 1"),
    "no UTF-8": lambda r: (r / "report/latency.hgrm").write_bytes(b"\xff\xfe\x00"),
    "words for a curve": lambda r: (r / "report/latency.hgrm").write_text("head\n1 2 3\nfast\n"),
    "a curve that falls": lambda r: (r / "report/latency.hgrm").write_text("head\n5 0.0 1\n4 0.5 2\n"),
    "endless numbers": lambda r: (r / "report/latency.hgrm").write_text("head\nnan 0.5 3\n"),
    "too large": lambda r: (r / "report/latency.hgrm").write_bytes(b"1" * (1024 * 1024 + 1)),
    "a link": lambda r: [
        (r / "report/latency.hgrm").rename(r / "elsewhere"),
        (r / "report/latency.hgrm").symlink_to(r / "elsewhere"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_baseline_is_refused_before_anything_is_written(
    damage: Callable[[Path], Any], run: Path, runs: tuple[Path, Path], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(runs[1], other)
    damage(other)
    before = files(run)
    refused(call(run, other), other)
    assert files(run) == before


EDITS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "latency is a list": lambda s: s.update(latency_ms=[]),
    "a figure is a word": lambda s: s["latency_ms"]["delivery"].update(p99="fast"),
    "a figure is endless": lambda s: s["latency_ms"]["delivery"].update(p99=float("inf")),
    "a count is none": lambda s: s["anomalies"].update(lost=float("nan")),
    "a figure is enormous": lambda s: s["anomalies"].update(lost=10**400),
    "classes is a word": lambda s: s.update(classes="D1"),
    "versions is a list": lambda s: s.update(versions=["0.1"]),
    "faults are words": lambda s: s.update(faults=["cut"]),
    "processes are numbers": lambda s: s.update(processes=[1]),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_summary_of_another_shape_is_refused(
    edit: Callable[[dict[str, Any]], Any], run: Path, runs: tuple[Path, Path], tmp_path: Path
) -> None:
    other = edited(runs[1], tmp_path / "other", edit)
    refused(call(run, other), other)


def call(run: Path, other: Path) -> Result:
    return CliRunner().invoke(command, [str(run), "--baseline", str(other)])


def refused(shown: Result, other: Path) -> None:
    assert shown.exit_code == 2, shown.output
    assert shown.exception is None or isinstance(shown.exception, SystemExit)
    (line,) = shown.output.strip().splitlines()
    assert line.startswith(f"error: {other}: ")
    assert "`chatproof report`" in line


def test_a_run_is_no_baseline_of_itself_nor_of_its_copy(run: Path, runs: tuple[Path, Path]) -> None:
    for other in (run, runs[0]):
        if other != run:
            report_run(other)
        shown = call(run, other)
        assert shown.exit_code == 2
        assert "the one that is judged: a baseline is another run; name that one" in shown.output


def test_the_command_says_beside_which_run_and_takes_a_link_to_one(
    run: Path, runs: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "latest").symlink_to(runs[1])
    shown = call(run, tmp_path / "latest")
    assert "shown beside" in shown.output
    assert "run-0, in the report; no verdict hangs on it" in shown.output


def test_a_link_that_leads_to_the_new_run_by_the_time_it_is_judged_still_means_the_old_one(
    run: Path, runs: tuple[Path, Path], tmp_path: Path
) -> None:
    latest = tmp_path / "latest"
    latest.symlink_to(runs[1])
    beside = read_baseline(latest)
    latest.unlink()
    latest.symlink_to(run)  # as the run that is made next does it
    assert report_run(run, baseline=beside).report.exists()


def test_names_of_a_strange_baseline_are_text_and_short(runs: tuple[Path, Path], tmp_path: Path) -> None:
    nasty = "<script>alert(1)</script>|@all`\u202e" + "n" * 2_000_000

    def edit(summary: dict[str, Any]) -> None:
        summary.update(scenario=nasty, sentence=nasty, outcome=nasty, versions={nasty: nasty})

    other = edited(runs[1], tmp_path / "other", edit)
    (other / "config" / "scenario.toml").write_text(
        "".join(f"key-{n} = '{'v' * 500}'\n" for n in range(5_000)) + f"long = '{'<b>' * 1000}'\n"
    )
    analysis = beside(read_baseline(other))
    plain = replace(analysis, baseline=None)
    page, text = report_html(analysis), report_markdown(analysis)
    assert "<script>alert" not in page
    assert "<b>" not in page.split('id="comparison"')[1].split("</section>")[0]
    assert len(page.encode()) - len(report_html(plain).encode()) < 60_000
    assert len(text.encode()) <= 60 * 1024
    assert "@all" not in text


def test_a_page_of_an_hour_beside_a_baseline_is_less_than_a_megabyte(runs: tuple[Path, Path]) -> None:
    analysis = replace(an_hour(200), baseline=read_baseline(runs[1]))
    page = report_html(analysis)
    assert len(page.encode()) < 1_000_000
    assert [section.id for section in sections(analysis)][-2:] == ["comparison", "method"]
    assert report_html(analysis) == page


def test_a_baseline_that_is_not_there_is_told_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match=r"is no run that was judged .*`chatproof report` does it"):
        read_baseline(tmp_path / "nowhere")

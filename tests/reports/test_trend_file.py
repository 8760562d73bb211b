"""Where the runs of a trend come from: directories, and the file that a pipeline keeps."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from reports.pipeline import report_run
from reports.trend_cli import trend_command
from reports.trend_file import (
    NotUsable,
    TrendFileError,
    append,
    as_line,
    directories,
    parse,
    read_file,
    read_run,
    series_of,
)
from tests.reports.synthetic import small
from tests.reports.test_trend import STEADY, nights

SCENARIO = """
version = 1
why = "What does every night cost?"
seed = {seed}
[server]
store = "memory"
command = ["{command}"]
[workload]
clients = {clients}
"""


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = small().write(tmp_path_factory.mktemp("one") / "run")
    (run_dir / "config").mkdir(exist_ok=True)
    (run_dir / "config" / "scenario.toml").write_text(SCENARIO.format(seed=1, command="a", clients=20))
    report_run(run_dir)
    shutil.rmtree(run_dir / "events")
    return run_dir


def changed(path: Path, **keys: Any) -> None:
    """Replace keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | keys), encoding="utf-8")


def another(judged: Path, to: Path, *, day: int = 1, **keys: Any) -> Path:
    """A copy of the run, of another day and by another name; ``keys``: of its summary."""
    run_dir = Path(shutil.copytree(judged, to / f"run-{day:02}"))
    started = f"2026-03-{day:02}T02:00:00.000+00:00"
    changed(run_dir / "analysis/summary.json", **({"run_id": run_dir.name, "started_utc": started} | keys))
    return run_dir


def planned(run_dir: Path, **values: Any) -> Path:
    text = SCENARIO.format(**({"seed": 1, "command": "a", "clients": 20} | values))
    (run_dir / "config/scenario.toml").write_text(text, encoding="utf-8")
    return run_dir


def called(*args: str | Path) -> Result:
    return CliRunner().invoke(trend_command, [str(arg) for arg in args])


def test_a_run_has_the_figures_of_its_summary(judged: Path) -> None:
    run = read_run(judged, label="abc")
    summary = json.loads((judged / "analysis/summary.json").read_text())
    assert run.label == "abc"
    assert run.figures["delivery_p99"] == summary["latency_ms"]["delivery"]["p99"]
    assert run.figures["deliveries_per_s"] == summary["load"]["deliveries_per_s"]
    assert run.figures["lost"] == 0


def test_another_seed_or_build_is_the_same_series_and_another_load_is_not(
    judged: Path, tmp_path: Path
) -> None:
    run_dir = another(judged, tmp_path)
    series = read_run(judged).series
    assert read_run(planned(run_dir, seed=2, command="b")).series == series
    assert read_run(planned(run_dir, clients=40)).series != series
    assert series_of({"a": "1", "b": "2"}) == series_of({"b": "2", "a": "1"})


@pytest.mark.parametrize(
    ("file", "keys", "why"),
    [
        ("run.json", {"status": "aborted"}, "is aborted, not complete"),
        ("run.json", {"host": 3}, "cannot be read: run.json or summary.json is damaged"),
        ("analysis/summary.json", {"exit": 5}, "is void"),
        ("analysis/summary.json", {"interactive": True}, "was steered by hand"),
        ("analysis/summary.json", {"exit": "x"}, "cannot be read"),
        ("analysis/summary.json", {"started_utc": "yesterday"}, "cannot be read"),
        ("analysis/summary.json", {"latency_ms": {}}, "cannot be read"),
        ("analysis/summary.json", {"load": None}, "cannot be read"),
    ],
)
def test_a_run_that_cannot_be_believed_or_read_is_not_used(
    judged: Path, tmp_path: Path, file: str, keys: dict[str, Any], why: str
) -> None:
    run_dir = another(judged, tmp_path)
    changed(run_dir / file, **keys)
    with pytest.raises(NotUsable, match=why):
        read_run(run_dir)


def test_a_torn_or_missing_file_is_no_traceback(judged: Path, tmp_path: Path) -> None:
    run_dir = another(judged, tmp_path)
    summary = run_dir / "analysis/summary.json"
    summary.write_text(summary.read_text()[:500])
    with pytest.raises(NotUsable, match="cannot be read"):
        read_run(run_dir)
    summary.unlink()
    with pytest.raises(NotUsable, match="was not judged"):
        read_run(run_dir)
    (run_dir / "run.json").write_text("{")
    with pytest.raises(NotUsable, match="cannot be read"):
        read_run(run_dir)


def test_of_a_run_that_broke_a_promise_only_what_it_broke_counts(judged: Path, tmp_path: Path) -> None:
    lost = {"lost": 4, "duplicated": 0, "reordered": None}
    run = read_run(another(judged, tmp_path, exit=3, anomalies=lost))
    assert run.figures == {"lost": 4, "duplicated": 0}


def test_directories_are_runs_or_hold_some(judged: Path, tmp_path: Path) -> None:
    one, two = (another(judged, tmp_path, day=day) for day in (1, 2))
    (tmp_path / "latest").symlink_to(two)
    (tmp_path / "comparison.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    assert directories([tmp_path]) == [one, two]
    assert directories([tmp_path / "latest", one, two]) == [two, one]
    with pytest.raises(Exception, match=r"(?s)empty: is no run and holds none.*gone: No such file") as found:
        directories([tmp_path / "empty", tmp_path / "gone"])
    assert len(str(found.value).splitlines()) == 2


def test_a_line_is_small_and_gives_the_run_again(judged: Path) -> None:
    run = read_run(judged, label="abc")
    line = as_line(run)
    assert len(line) < 1_000
    faults, again = parse(line)
    assert faults == []
    assert again is not None
    assert as_line(again) == line


def test_adding_the_same_run_twice_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "kept" / "trend.jsonl"
    runs = nights(STEADY[:3])
    assert append(file, runs[:2])[1] == 2
    kept, added = append(file, runs)
    before = file.read_bytes()
    assert added == 1
    assert [run.run_id for run in kept.runs] == [run.run_id for run in runs]
    assert append(file, runs)[1] == 0
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_lines_of_a_newer_version_keep_their_keys_and_a_missing_line_break_is_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "trend.jsonl"
    one, two = nights(STEADY[:2])
    file.write_text(json.dumps(json.loads(as_line(one)) | {"newer": 1}))
    append(file, [two])
    assert [json.loads(line).get("newer") for line in file.read_text().splitlines()] == [1, None]


def test_every_fault_of_a_file_is_told_with_its_line_and_the_file_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "trend.jsonl"
    good = json.loads(as_line(nights(STEADY[:1])[0]))
    lines = [
        json.dumps(good), "", "{torn", "[1]", json.dumps(good | {"schema_version": 2}),
        json.dumps(good | {"run_id": "", "series": "x", "started_utc": "2026-01-01T00:00:00", "label": 3}),
        json.dumps(good | {"figures": {"lost": -1, "ack_p99": "fast", "cpu_per_delivery": True}}),
        '{"schema_version": 1, "figures": {"lost": NaN}}',
    ]  # fmt: skip
    file.write_text("\n".join(lines))
    with pytest.raises(TrendFileError) as found:
        read_file(file)
    told = [line.removeprefix(f"{file}, ") for line in found.value.lines]
    starts = [line.split(":")[0] for line in told]
    assert starts == ["line 3", "line 4", "line 5", *["line 6"] * 4, *["line 7"] * 3, *["line 8"] * 5]
    assert "schema_version is 2: this build reads 1" in told[2]
    assert "figures.lost is -1: must be a number of 0 or more" in told[7]
    with pytest.raises(TrendFileError):
        append(file, nights(STEADY[:2]))
    assert file.read_text() == "\n".join(lines)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrendFileError, match="is no file"):
        read_file(tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(TrendFileError, match="cannot be read"):
        read_file(tmp_path / "binary")
    (tmp_path / "link").symlink_to(tmp_path / "none")
    with pytest.raises(TrendFileError, match="is no file"):
        append(tmp_path / "link", nights(STEADY[:1]))


def test_the_command_adds_shows_writes_and_ends_with_the_status(judged: Path, tmp_path: Path) -> None:
    runs, file, out = tmp_path / "runs", tmp_path / "trend.jsonl", tmp_path / "out"
    runs.mkdir()
    append(file, [])
    summary = json.loads((judged / "analysis/summary.json").read_text())
    for day in range(1, 13):
        rate = (1000 - day if day <= 6 else 700 - day) * 1.0
        another(judged, runs, day=day, load=summary["load"] | {"deliveries_per_s": rate})
    another(judged, runs, day=13, exit=5)
    first = called(runs / "run-01", "--file", file, "--label", "c0ffee")
    assert first.exit_code == 0, first.output
    assert "TOO FEW RUNS" in first.output
    found = called(runs, "--file", file, "--out", out)
    assert found.exit_code == 1, found.output
    assert "GOT WORSE  Deliveries 690/s (−31 %) since run 7" in found.output.replace("-31", "−31")
    assert "1  is void" in found.output
    assert len(file.read_text().splitlines()) == 12
    made = json.loads((out / "trend.json").read_text())
    assert made["exit"] == 1
    assert made["runs"][0]["label"] == "c0ffee"
    assert {path.name for path in out.iterdir()} == {"trend.html", "trend.md", "trend.json"}
    again = called("--file", file, "--out", tmp_path / "again")
    assert again.exit_code == 1
    assert json.loads((tmp_path / "again/trend.json").read_text())["figures"] == made["figures"]
    assert called("--file", file, "--metric", "delivery_p99").exit_code == 0
    assert called("--file", file, "--min-change", "40%").exit_code == 0
    assert called("--file", file, "--recent", "5").exit_code == 0


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ([], "nothing is given"),
        (["gone"], "error: gone: No such file or directory"),
        (["--file", "gone.jsonl"], "error: gone.jsonl: is no file"),
        (["--file", "bad.jsonl"], "error: bad.jsonl, line 1: is not JSON"),
        (["void"], "error: no run can be used\nerror: void is void"),
        (["void", "void/..", "--label", "x"], "--label is of one run: 2 are given"),
        (["void", "--min-change", "5"], "must be a share of what there was, written as 5%"),
        (["void", "--significance", "0.0001"], "--significance"),
        (["void", "--metric", "speed"], "--metric"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_used_ends_with_2_and_says_why(
    judged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], told: str
) -> None:
    another(judged, tmp_path, exit=5).rename(tmp_path / "void")
    another(judged, tmp_path, day=2)
    (tmp_path / "bad.jsonl").write_text("{\n")
    monkeypatch.chdir(tmp_path)
    found = called(*args)
    assert found.exit_code == 2, found.output
    assert told in found.output
    assert sorted(os.listdir(tmp_path)) == ["bad.jsonl", "run-02", "void"]

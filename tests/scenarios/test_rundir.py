"""The run directory while it is being made."""

from __future__ import annotations

import json
from pathlib import Path

from reports.rundir import read_run
from scenarios.rundir import RunDirectory
from scenarios.sampler import parse_metrics


def test_latest_points_to_the_newest_run(tmp_path: Path) -> None:
    RunDirectory(tmp_path, "smoke")
    second = RunDirectory(tmp_path, "smoke")
    assert (tmp_path / "latest").resolve() == second.path
    assert len(list(tmp_path.glob("*-smoke-*"))) == 2


def test_the_manifest_is_whole_after_every_update(tmp_path: Path) -> None:
    rundir = RunDirectory(tmp_path, "smoke")
    rundir.update(seed=3)
    rundir.problem("a worker was lost", void=True)
    rundir.problem("slow to settle", void=False)
    rundir.finish("aborted")
    manifest = json.loads((rundir.path / "run.json").read_text())
    assert manifest["status"] == "aborted"
    assert manifest["problems"] == ["a worker was lost", "slow to settle"]
    assert manifest["void"] == ["a worker was lost"]
    assert manifest["duration_s"] >= 0
    assert not list(rundir.path.glob("*.partial"))


def test_a_run_can_be_read_from_its_first_moment_on(tmp_path: Path) -> None:
    first, second = RunDirectory(tmp_path, "smoke"), RunDirectory(tmp_path, "smoke")
    assert read_run(first.path)["status"] == "running"
    assert read_run(first.path)["nonce"] != read_run(second.path)["nonce"]


def test_metrics_without_labels_are_read_and_the_rest_is_left() -> None:
    text = '# HELP a\na_total 3\nb{le="1"} 4\nc 5.5 1700000000\nbroken\nd x\n'
    assert parse_metrics(text) == {"a_total": 3.0, "c": 5.5}

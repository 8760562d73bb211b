"""Carries one run out, as a user would, and says whether what had to be found was found, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import tomli_w

from reports.checks.replay import findings_of
from reports.excerpts import about
from reports.history import open_history
from tests.mutants.runs import Run

ROOT = Path(__file__).parents[2]
LIMIT_S = 300.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a run. ``wrong``: why it does not prove what it should; "": it does."""

    name: str
    run: Run
    counts: Mapping[str, int]
    fired: int
    void: bool
    seconds: float
    deliveries: int
    wrong: str

    @property
    def verdict(self) -> str:
        """In a few words, for the table."""
        if self.wrong:
            return self.wrong
        return (
            "caught, though the run is void" if self.void else "caught" if self.run.must else "as it should"
        )


def carry_out(name: str, run: Run, folder: Path) -> Outcome:
    """Run it in ``folder``, which keeps the run directory only where something is wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.toml").write_text(tomli_w.dumps(run.scenario()))
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160"}
    command = [sys.executable, "-m", "scenarios", "run", f"{name}.toml", "--quiet"]
    command += ["--workers", str(run.workers)]
    began = time.monotonic()
    try:
        done = subprocess.run(
            command, cwd=folder, env=env, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return _nothing(name, run, time.monotonic() - began, f"not over after {LIMIT_S:g} s")
    (folder / "output.txt").write_text(done.stdout + done.stderr)
    latest = folder / "runs/latest"
    if not (latest / "analysis/summary.json").exists():
        return _nothing(
            name, run, time.monotonic() - began, f"no summary: {done.stdout[-300:]}{done.stderr[-300:]}"
        )
    outcome = judge(name, run, latest, status=done.returncode, seconds=time.monotonic() - began)
    if not outcome.wrong:
        shutil.rmtree(folder)
    return outcome


def judge(name: str, run: Run, path: Path, *, status: int, seconds: float) -> Outcome:
    """Look at the run directory at ``path``."""
    summary = json.loads((path / "analysis/summary.json").read_text())
    counts = {cls: found["count"] for cls, found in summary["classes"].items() if found["count"]}
    void, coverage = bool(summary["void"]), summary["coverage"]
    fired = _taken(path) if run.frames else _fired(path) if run.mutant else 0
    wrong = why_not(run, counts, fired=fired, coverage=coverage, void=void, status=status)
    return Outcome(
        name=name,
        run=run,
        counts=counts,
        fired=fired,
        void=void,
        seconds=seconds,
        deliveries=coverage["delivered"],
        wrong=wrong or _not_again(path, run),
    )


def why_not(
    run: Run, counts: Mapping[str, int], *, fired: int, coverage: Mapping[str, int], void: bool, status: int
) -> str:
    """Why a run does not prove what it should; "": it does.

    A void run accuses by what it has seen; what it has not seen proves nothing, which is no proof either.
    """
    if run.counted and not fired:
        return "never fired"
    if run.once and fired > 1:
        return f"fired {fired} times, not once"
    if missed := run.must - counts.keys():
        return f"missed {' '.join(sorted(missed))}" + (" (void)" if void else "")
    if more := counts.keys() - run.allowed:
        return f"more than it may: {' '.join(sorted(more))}"
    if run.declares and not coverage["gaps"]:
        return "no gap was declared"
    if coverage["delivered"] < run.least:
        return f"{coverage['delivered']:,} deliveries, not {run.least:,}"
    if status != run.exit and not void:
        return f"exit {status}, not {run.exit}"
    return ""


def _not_again(path: Path, run: Run) -> str:
    """Which class's first finding its excerpt does not show again; "": all do."""
    for cls in sorted(run.must):
        folder = path / f"analysis/excerpts/{cls}-1"
        if not folder.is_dir():
            return f"{cls} has no excerpt"
        history = open_history(folder)
        said = about(history.run)
        if said is None or said[1] not in [finding.sentence for finding in findings_of(history, cls)]:
            return f"the excerpt of {cls} does not show it again"
    return ""


def _fired(path: Path) -> int:
    """How often the planted fault happened, in the process of the server in which it did so most."""
    samples = path / "metrics/chatd.parquet"
    if not samples.exists():
        return 0
    most = pl.read_parquet(samples)["chatd_mutant_fired_total"].max()
    return int(most) if isinstance(most, int | float) else 0


def _taken(path: Path) -> int:
    """How many messages the proxy took, of the fault that took the fewest."""
    taken = {line["id"]: 0 for line in faults(path) if line["kind"].startswith("frame_")}
    for line in faults(path):
        for step in line.get("effect") or ():
            taken[line["id"]] += (step.get("counts") or {}).get("acted", 0)
    return min(taken.values(), default=0)


def faults(path: Path) -> list[dict[str, Any]]:
    """Lines of faults.jsonl about faults of the plan."""
    lines = [json.loads(line) for line in (path / "faults.jsonl").read_text().splitlines()]
    return [line for line in lines if line.get("id") and "target" in line]


def _nothing(name: str, run: Run, seconds: float, why: str) -> Outcome:
    return Outcome(
        name=name, run=run, counts={}, fired=0, void=False, seconds=seconds, deliveries=0, wrong=why
    )

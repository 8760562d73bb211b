"""What judging a run costs: seconds, records a second and memory, by the number of deliveries.

    python -m benchmarks.checks [--quick] [--rounds N] [--out FILE]

Histories of a thousand channels alike, and of one channel with twenty thousand clients and half of all
deliveries, clean and damaged. The clean ones must be found valid and the damaged ones show exactly what was
planted, or the benchmark fails. Beside all classes: the brute-force oracle of the tests, on a history that it
can do, and one streaming pass of polars over the deliveries, which knows of gaps, repeats and order only:
the floor.

Everything is measured in a process of its own, on two cores; the times are the shortest of the rounds, and
the memory the highest. A whole run writes benchmarks/checks.json. A target that is missed is shown and is no
failure: shared machines are noisy.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from . import report
from .histories import Shape, mega, wide, world, write
from .planted import damaged
from .report import Row

OUT: Final = Path(__file__).with_suffix(".json")
SIZES: Final = (1, 2, 5, 10, 20)  # million deliveries
QUICK: Final = (1, 2)
EACH: Final = 20  # anomalies of a class in a damaged history
ORACLE: Final = Shape(deliveries=20_000, channels=100, clients=200)  # four minutes for 100,000
SHAPES: Final[dict[str, Callable[[int], Shape]]] = {"wide": wide, "mega": mega}
TITLES: Final = {
    "wide": "1,000 channels alike, 2,000 clients",
    "mega": "1,000 channels, one of them with 20,000 clients and half of all deliveries",
}
MOST_S, MOST_MIB, MOST_REPORT_S = 15.0, 1024.0, 30.0  # of 10 million deliveries
MOST_SLOPE: Final = 1.3  # CPU a record of the largest over that of the smallest
MOST_GROWTH: Final = 1.3  # memory of the largest over that of 5 million: messages grow with it


# ── what is measured, in a process of its own ─────────────────────────────────────────────────


def _checks(path: Path) -> dict[str, Any]:
    from reports.checks import run_checks
    from reports.history import open_history
    from reports.progress import Reporter

    history = open_history(path)
    began = time.perf_counter()
    with Reporter(sys.stderr, time.monotonic) as told:
        judged = run_checks(history, progress=told)
    seconds = time.perf_counter() - began
    counts = {name: c.count for name, c in judged.classes.items() if c.count}
    return {
        "seconds": seconds,
        "records": history.ingest.records,
        "verdict": str(judged.verdict),
        "counts": counts,
    }


def _oracle(path: Path) -> dict[str, Any]:
    from reports.history import open_history
    from tests.oracle.judge import judge

    history = open_history(path)
    began = time.perf_counter()
    judge(history)
    return {"seconds": time.perf_counter() - began, "records": history.ingest.records}


def _floor(path: Path) -> dict[str, Any]:
    import polars as pl

    from reports.history import Kind, open_history

    history = open_history(path)
    began = time.perf_counter()
    serial = pl.col("serial").cast(pl.Int64)
    per_client = (
        history.scan()
        .filter((pl.col("kind") == int(Kind.RECV)) & (pl.col("client") != 0))
        .group_by("channel", "client", "epoch")
        .agg(
            holes=serial.max() - serial.min() + 1 - serial.n_unique(),
            repeats=pl.len() - serial.n_unique(),
            late=(serial.diff() < 0).sum(),
        )
    )
    per_client.select(pl.col("holes", "repeats", "late").sum()).collect(engine="streaming")
    return {"seconds": time.perf_counter() - began, "records": history.ingest.records}


def _report(path: Path) -> dict[str, Any]:
    from reports.history import open_history
    from reports.pipeline import report_run

    records = open_history(path).ingest.records
    began = time.perf_counter()
    report_run(path)
    return {"seconds": time.perf_counter() - began, "records": records}


def _seal(path: Path) -> dict[str, Any]:
    from reports.history import open_history

    began = time.perf_counter()
    records = open_history(path).ingest.records
    return {"seconds": time.perf_counter() - began, "records": records}


JOBS: Final = {"checks": _checks, "oracle": _oracle, "floor": _floor, "report": _report, "seal": _seal}


def measured(job: str, path: Path, rounds: int = 1) -> dict[str, Any]:
    """A job's answer, with the least times of the rounds and the most memory."""
    best: dict[str, Any] = {}
    for _ in range(rounds):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.checks", "--job", job, str(path)],
            stdout=subprocess.PIPE,
            check=True,
        )
        said = json.loads(done.stdout)
        least = {name: min(said[name], best.get(name, said[name])) for name in ("seconds", "cpu_s")}
        best = said | least | {"rss_mib": max(said["rss_mib"], best.get("rss_mib", 0.0))}
    return best


def _job(name: str, path: Path) -> None:
    before_s = time.process_time()
    said = JOBS[name](path)
    said["cpu_s"] = time.process_time() - before_s
    said["rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(said))


# ── the table ─────────────────────────────────────────────────────────────────────────────────


class Failed(Exception):
    """The checker said something else of a history than was put in."""


class _Table:
    """Makes histories, one at a time, measures them, and collects the figures."""

    def __init__(self, folder: Path, rounds: int, say: Callable[[str], None]) -> None:
        self._path, self._rounds, self._say = folder / "run", rounds, say

    def history(self, shape: str, sizes: tuple[int, ...]) -> list[Row]:
        """A clean row and a damaged one."""
        clean = Row(f"{shape}_clean", f"{TITLES[shape]}: clean")
        bad = Row(f"{shape}_damaged", f"{TITLES[shape]}: {EACH} anomalies of each class that can be planted")
        for size in sizes:
            w = world(SHAPES[shape](size * 1_000_000))
            self._say(f"{shape}, {size} M deliveries")
            write(w, self._path)
            self._add(clean, f"seal {size} M", measured("seal", self._path))
            judged = self._add(clean, f"all classes {size} M", measured("checks", self._path, self._rounds))
            self._expect(judged, shape, {}, "valid")
            self._add(clean, f"floor {size} M", measured("floor", self._path, self._rounds))
            if size >= 10:
                self._add(clean, f"whole report {size} M", measured("report", self._path))
            w = damaged(w, EACH)
            assert w.damage is not None
            write(w, self._path)
            measured("seal", self._path)
            judged = self._add(bad, f"all classes {size} M", measured("checks", self._path, self._rounds))
            self._expect(judged, shape, w.damage.expected, "invalid")
        _targets(clean, sizes)
        _targets(bad, sizes)
        return [clean, bad]

    def oracle(self) -> Row:
        """The brute-force checker of the tests, and all classes beside it."""
        row = Row("oracle", f"{ORACLE.channels} channels alike, {ORACLE.deliveries:,} deliveries: the oracle")
        if importlib.util.find_spec("tests.oracle.judge") is None:
            row.skipped.append("oracle: tests/oracle is not there")
            return row
        write(world(ORACLE), self._path)
        self._say("oracle")
        self._add(row, "all classes", measured("checks", self._path, self._rounds))
        self._add(row, "oracle", measured("oracle", self._path))
        return row

    @staticmethod
    def _add(row: Row, name: str, said: dict[str, Any]) -> dict[str, Any]:
        row.figures[name] = {
            "M records": said["records"] / 1e6,
            "seconds": said["seconds"],
            "CPU s": said["cpu_s"],
            "M records/s": said["records"] / 1e6 / said["seconds"],
            "peak RSS MiB": said["rss_mib"],
        }
        return said

    @staticmethod
    def _expect(judged: dict[str, Any], shape: str, counts: dict[str, int], verdict: str) -> None:
        if judged["counts"] != counts or judged["verdict"] != verdict:
            raise Failed(f"{shape}: found {judged['verdict']} with {judged['counts']}, put in {counts}")


def _targets(row: Row, sizes: tuple[int, ...]) -> None:
    if (ten := row.figures.get("all classes 10 M")) is not None:
        row.at_most(f"≤ {MOST_S:g} s for 10 M", ten["seconds"], MOST_S)
        row.at_most(f"≤ {MOST_MIB:g} MiB for 10 M", ten["peak RSS MiB"], MOST_MIB)
    if (whole := row.figures.get("whole report 10 M")) is not None:
        row.at_most(f"≤ {MOST_REPORT_S:g} s for the report of 10 M", whole["seconds"], MOST_REPORT_S)
        row.at_most(f"≤ {MOST_MIB:g} MiB for the report of 10 M", whole["peak RSS MiB"], MOST_MIB)
    first, last = (row.figures[f"all classes {size} M"] for size in (sizes[0], sizes[-1]))
    slope = (last["CPU s"] / last["M records"]) / (first["CPU s"] / first["M records"])
    row.at_most(
        f"≤ {MOST_SLOPE:g} times the CPU a record of {sizes[0]} M at {sizes[-1]} M", slope, MOST_SLOPE
    )
    if (five := row.figures.get("all classes 5 M")) is not None:
        growth = last["peak RSS MiB"] / five["peak RSS MiB"]
        row.at_most(f"≤ {MOST_GROWTH:g} times the memory of 5 M at {sizes[-1]} M", growth, MOST_GROWTH)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="1 and 2 million deliveries, one round")
    parser.add_argument("--rounds", type=int, default=3, help="of each measurement; the shortest counts")
    parser.add_argument("--job", nargs=2, metavar=("JOB", "RUN"), help=f"one of {', '.join(JOBS)}, as JSON")
    parser.add_argument("--out", type=Path, help=f"where the JSON goes; a whole run's goes to {OUT.name}")
    arguments = parser.parse_args()
    if arguments.job:
        _job(arguments.job[0], Path(arguments.job[1]))
        return 0
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    began = time.monotonic()
    sizes, rounds = (QUICK, 1) if arguments.quick else (SIZES, arguments.rounds)
    rows: list[Row] = []
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        table = _Table(Path(folder), rounds, lambda text: print(f"… {text}", file=sys.stderr, flush=True))
        makers: list[Callable[[], list[Row]]] = [
            *(partial(table.history, shape, sizes) for shape in SHAPES),
            lambda: [table.oracle()],
        ]
        for maker in makers:
            try:
                found = maker()
            except Failed as error:
                print(f"\nfailed: {error}", flush=True)
                failed = True
                continue
            rows += found
            print("\n".join(report.show(row) for row in found), flush=True)
    missed = sum(not target.met for row in rows for target in row.targets)
    print(f"\n{missed} targets missed; {time.monotonic() - began:.0f} s")
    out = arguments.out or (None if arguments.quick or failed else OUT)
    if out is not None:
        versions = {name: version(name) for name in ("numpy", "polars", "pyarrow")}
        report.write(out, rows, quick=arguments.quick, versions={"python": sys.version.split()[0]} | versions)
        print(f"written to {out}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

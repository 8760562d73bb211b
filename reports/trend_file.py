"""Where the runs of a trend come from: run directories, and a small file that a pipeline keeps between jobs.

The file has a line of JSON a run, of less than a kilobyte, where a run directory has megabytes. Lines are
only ever added; the file is replaced in one step, so that a job that dies leaves the old one.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from reports.baseline import MOST_TEXT
from reports.compare import DAMAGED, read_figures
from reports.history import HistoryError
from reports.rundir import read_json
from reports.trend import METRICS, TrendRun
from reports.verdict import Exit

LINE_VERSION: Final = 1
MOST_FILE_BYTES: Final = 64 * 1024 * 1024
MOST_FAULTS: Final = 50  # that are told
_PLANNED: Final = re.compile(r"(profile|server\.|workload\.|fault\[|swarm\.|autoscale\.)")
# Which build is under test, and how one gets in, is what may change from night to night.
_NOT_PLANNED: Final = re.compile(r"(server\.command|server\.tls\.|workload\.auth\.)")
_SERIES: Final = re.compile(r"[0-9a-f]{12}")


class TrendFileError(Exception):
    """A file that cannot be read. ``lines``: every fault, with the number of its line."""

    def __init__(self, lines: Sequence[str]) -> None:
        more = [f"and {len(lines) - MOST_FAULTS} faults more"] if len(lines) > MOST_FAULTS else []
        self.lines = [*lines[:MOST_FAULTS], *more]
        super().__init__("\n".join(self.lines))


class NotUsable(Exception):
    """A run that no trend can take in, and why."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A file as it was read."""

    text: str
    runs: tuple[TrendRun, ...]


def directories(given: Iterable[Path]) -> list[Path]:
    """Run directories: those that were given, and those in the directories that were given.

    Raises:
        HistoryError: one is neither.
    """
    found: list[Path] = []
    faults: list[str] = []
    for path in given:
        if (path / "run.json").is_file():
            found.append(path.resolve())
            continue
        try:
            inside = [entry for entry in sorted(path.iterdir()) if not entry.is_symlink()]
        except OSError as bad:
            faults.append(f"{path}: {bad.strerror}: give run directories, or a directory that holds some")
            continue
        runs = [entry.resolve() for entry in inside if entry.is_dir() and (entry / "run.json").is_file()]
        if not runs:
            faults.append(f"{path}: is no run and holds none: give run directories, or one that holds some")
        found += runs
    if faults:
        raise HistoryError("\n".join(faults))
    return list(dict.fromkeys(found))


def read_run(run_dir: Path, *, label: str = "") -> TrendRun:
    """A run that was judged.

    Raises:
        NotUsable: it was aborted or is void, was not judged, or cannot be read.
    """
    try:
        run = read_json(run_dir / "run.json")
        if (status := run.get("status")) != "complete":
            raise NotUsable(f"is {_text(status) or 'without a status'}, not complete")
        if not (run_dir / "analysis" / "summary.json").is_file():
            raise NotUsable("was not judged: `chatproof report` does it")
        side = read_figures(run_dir)
        return _run(run, side.summary, side.settings, label)
    except HistoryError as bad:
        raise NotUsable(f"cannot be read: {_without(run_dir, str(bad))}") from None
    except DAMAGED as bad:
        told = f"{type(bad).__name__}: {bad}"
        raise NotUsable(f"cannot be read: run.json or summary.json is damaged ({told})") from None


def _run(
    run: Mapping[str, Any], summary: Mapping[str, Any], settings: Mapping[str, str], label: str
) -> TrendRun:
    ending = Exit(int(summary["exit"]))
    if ending is Exit.VOID:
        raise NotUsable("is void: the harness was the limit")
    if summary.get("interactive"):
        raise NotUsable("was steered by hand")
    started = datetime.fromisoformat(str(summary["started_utc"])).astimezone(UTC)
    planned = {k: v for k, v in settings.items() if _PLANNED.match(k) and not _NOT_PLANNED.match(k)}
    host, versions = run.get("host") or {}, summary.get("versions") or {}
    figures = {
        name: round(float(value), 6)
        for name, metric in METRICS.items()
        if (ending is not Exit.INTEGRITY or metric.promise) and (value := metric.of(summary)) is not None
    }
    if not all(math.isfinite(value) and value >= 0 for value in figures.values()):
        raise ValueError("a figure is negative or not finite")
    return TrendRun(
        run_id=_text(summary["run_id"]),
        scenario=_text(summary["scenario"]),
        series=series_of(planned),
        started_utc=started.isoformat(timespec="milliseconds"),
        label=label,
        host=_text(f"{host.get('cpus')} cores, {host.get('platform')}" if host else ""),
        version=_text(versions.get("chatproof")),
        figures=figures,
        settings=planned,
    )


def series_of(planned: Mapping[str, str]) -> str:
    """The same twelve digits for the same plan, whatever the order of its keys."""
    text = json.dumps(sorted(planned.items()), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def read_file(path: Path) -> Kept:
    """The runs of a file.

    Raises:
        TrendFileError: it cannot be read, or with every fault of every line.
    """
    try:
        if path.is_symlink() or not path.is_file():
            raise TrendFileError([f"{path}: is no file: `chatproof trend --file FILE RUN` makes one"])
        if (size := path.stat().st_size) > MOST_FILE_BYTES:
            raise TrendFileError([f"{path}: {size} bytes: at most {MOST_FILE_BYTES} are read"])
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as bad:
        raise TrendFileError([f"{path}: cannot be read: {bad}"]) from None
    runs: dict[str, TrendRun] = {}
    faults: list[str] = []
    for number, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        wrong, run = parse(content)
        faults += [f"{path}, line {number}: {fault}" for fault in wrong]
        if run is not None:
            runs.setdefault(run.run_id, run)
    if faults:
        raise TrendFileError(faults)
    return Kept(text, tuple(runs.values()))


def parse(content: str) -> tuple[list[str], TrendRun | None]:
    """A line of the file: everything that is wrong with it, or the run. Keys of newer versions are let be."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as bad:
        return [f"is not JSON ({bad}): remove the line, or take the file of an earlier job"], None
    if not isinstance(value, dict):
        return [f"is {type(value).__name__}: must be a JSON object"], None
    if value.get("schema_version") != LINE_VERSION:
        told = f"schema_version is {_short(value.get('schema_version'))}: this build reads {LINE_VERSION}"
        return [f"{told}; use the chatproof that wrote it, or a newer one"], None
    faults = [
        f"{key} is {_short(value.get(key))}: must be a text of 1 to {MOST_TEXT} characters"
        for key in ("run_id", "scenario")
        if not _is_text(value.get(key)) or not value[key]
    ]
    faults += [
        f"{key} is {_short(value[key])}: must be a text of at most {MOST_TEXT} characters"
        for key in ("label", "host", "version")
        if not _is_text(value.get(key, ""))
    ]
    series, started = value.get("series"), _when(value.get("started_utc"))
    if not isinstance(series, str) or not _SERIES.fullmatch(series):
        faults.append(f"series is {_short(series)}: must be twelve hexadecimal digits")
    if started is None:
        faults.append(
            f"started_utc is {_short(value.get('started_utc'))}: must be a time of ISO 8601 with a zone"
        )
    wrong, figures = _figures(value.get("figures"))
    faults += wrong
    if faults or started is None:
        return faults, None
    texts = {key: value.get(key, "") for key in ("run_id", "scenario", "series", "label", "host", "version")}
    return [], TrendRun(**texts, started_utc=started, figures=figures)


def _figures(given: object) -> tuple[list[str], dict[str, float]]:
    if not isinstance(given, dict):
        return [f"figures is {_short(given)}: must be an object of figures by name"], {}
    faults, found = [], {}
    for name, value in given.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value < 0:
            faults.append(f"figures.{_text(name)} is {_short(value)}: must be a number of 0 or more")
        else:
            found[str(name)] = float(value)
    return faults, found


def as_line(run: TrendRun) -> str:
    """A run as a line of the file."""
    return json.dumps(
        {
            "schema_version": LINE_VERSION,
            "run_id": run.run_id,
            "scenario": run.scenario,
            "series": run.series,
            "started_utc": run.started_utc,
            "label": run.label,
            "host": run.host,
            "version": run.version,
            "figures": dict(run.figures),
        },
        ensure_ascii=False,
    )


def append(path: Path, runs: Iterable[TrendRun]) -> tuple[Kept, int]:
    """Add runs to a file, which is made if there is none; those that it has already stay as they are.

    Returns:
        The file as it is now, and how many were added.
    Raises:
        TrendFileError: the file that is there cannot be read. It is left as it is.
        OSError: it cannot be written.
    """
    kept = read_file(path) if path.exists() or path.is_symlink() else Kept("", ())
    known = {run.run_id for run in kept.runs}
    fresh = [run for run in runs if run.run_id not in known]
    if not fresh:
        return kept, 0
    ends = "" if not kept.text or kept.text.endswith("\n") else "\n"
    text = kept.text + ends + "".join(as_line(run) + "\n" for run in fresh)
    partial = path.with_name(path.name + ".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return Kept(text, (*kept.runs, *fresh)), len(fresh)


def _when(given: object) -> str | None:
    try:
        time = datetime.fromisoformat(given) if isinstance(given, str) else None
    except ValueError:
        return None
    if time is None or time.tzinfo is None:
        return None
    return time.astimezone(UTC).isoformat(timespec="milliseconds")


def _is_text(given: object) -> bool:
    return isinstance(given, str) and len(given) <= MOST_TEXT


def _text(given: object) -> str:
    return "" if given is None else str(given)[:MOST_TEXT]


def _short(given: object) -> str:
    told = repr(given)
    return told if len(told) <= 60 else told[:59] + "…"


def _without(run_dir: Path, told: str) -> str:
    """A fault without the directory, whose name stands beside it."""
    return told.replace(f"{run_dir}: ", "").replace(f"{run_dir}/", "")

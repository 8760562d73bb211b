"""Another run, beside which a report shows its own.

It is read whole before anything is written or started, and never written to. Its directory may come from
anywhere: files are capped, texts are cut, figures must be finite. It may have been made on another machine
or day, so nothing is judged by it: the report says what differs, and shows both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from reports import wording
from reports.charts import Point
from reports.compare import DAMAGED, Side, read_figures, unjudged
from reports.history import HistoryError
from reports.rundir import read_json, read_text

MOST_TEXT: Final = 120  # characters of a name
MOST_CURVE_BYTES: Final = 1024 * 1024  # of latency.hgrm
_MOST_VERSIONS: Final = 40
_POINTS: Final = ("count", "p50", "p90", "p99", "p99_9", "max")


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """How a run was made, in short texts; "" where it does not say. ``host``, ``versions``: by name."""

    run_id: str
    scenario: str
    seed: str
    started_utc: str
    outcome: str
    sentence: str
    boot_id: str
    load1: str
    host: Mapping[str, str]
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A run to be shown beside another.

    ``delivery``: count, p50, p90, p99, p99_9 and max of delivery latency, milliseconds. ``never``: deliveries
    that were owed and did not come; None: not known. ``curve``: (quantile, ms) of delivery, ascending.
    """

    side: Side
    made: Made
    delivery: Mapping[str, float | None]
    never: float | None
    curve: tuple[Point, ...]


def read_baseline(run_dir: Path) -> Baseline:
    """A run that was judged. Reads nothing but small files of it.

    Raises:
        HistoryError: it is none, was not judged by this version, or is damaged.
    """
    side = read_figures(run_dir := run_dir.resolve())  # a link may lead elsewhere when it is used again
    try:
        run = read_json(run_dir / "run.json")
        text = read_text(run_dir / "report" / "latency.hgrm", most_bytes=MOST_CURVE_BYTES)
    except HistoryError as bad:
        raise unjudged(run_dir, bad) from None
    try:
        found = side.summary["latency_ms"]["delivery"]
        gap = (side.summary.get("classes") or {}).get("D1") or {}
        return Baseline(
            side=side,
            made=made(run, side.summary),
            delivery={key: _number(found.get(key)) for key in _POINTS},
            never=_number(gap.get("count")),
            curve=curve(text),
        )
    except DAMAGED as bad:
        raise HistoryError(
            f"{run_dir}: analysis/summary.json or report/latency.hgrm is damaged ({bad}): "
            "`chatproof report` writes them again"
        ) from None


def refuse_itself(baseline: Baseline, run_dir: Path, run: Mapping[str, Any]) -> None:
    """Raises HistoryError where a run, or a copy of it, is to be shown beside itself."""
    known = baseline.made.run_id
    if baseline.side.path.resolve() == run_dir.resolve() or (known and known == _text(run.get("run_id"))):
        raise HistoryError(
            f"{baseline.side.path}: is run {known or 'without a name'}, the one that is judged: "
            "a baseline is another run; name that one"
        )


def made(run: Mapping[str, Any], summary: Mapping[str, Any]) -> Made:
    """From run.json and summary.json."""
    host, clock = _table(run.get("host")), _table(run.get("clock"))
    versions = _table(summary.get("versions"))
    return Made(
        run_id=_text(summary.get("run_id")),
        scenario=_text(summary.get("scenario")),
        seed=_text(summary.get("seed")),
        started_utc=_text(summary.get("started_utc")),
        outcome=_text(summary.get("outcome")),
        sentence=_text(summary.get("sentence")),
        boot_id=_text(clock.get("boot_id")),
        load1=_text(host.get("load1")),
        host=_host(host),
        versions={_text(name): _text(versions[name]) for name in list(versions)[:_MOST_VERSIONS]},
    )


def curve(text: str) -> tuple[Point, ...]:
    """(quantile, ms) of each line of an .hgrm text; what lies beyond 1 - 1/n of n samples stands there.

    Raises:
        ValueError: a line is not of numbers, or the values do not ascend.
    """
    points: list[tuple[float, float]] = []
    total = 1.0
    for line in text.splitlines()[1:]:
        cells = line.split()
        if not cells or line.startswith("#"):
            continue
        value, q, count = (_number(float(cell)) for cell in cells[:3])
        if value is None or q is None or not count or not 0 <= q <= 1 or value < 0:
            raise ValueError(f"latency.hgrm has the line {line[:MOST_TEXT]!r}")
        points.append((q, value))
        total = max(total, count)
    if any(b[0] < a[0] or b[1] < a[1] for a, b in pairwise(points)):
        raise ValueError("latency.hgrm has values that do not ascend")
    return tuple((min(q, 1 - 1 / total), value) for q, value in points)


def _host(host: Mapping[str, Any]) -> dict[str, str]:
    """What a machine is known by, as it is shown: two that differ by a page of memory are alike."""
    cpus, size = host.get("cpus"), host.get("memory_bytes")
    known = isinstance(size, int | float) and not isinstance(size, bool) and math.isfinite(size)
    told = {
        "cores": _text(cpus),
        "memory": wording.size_bytes(float(size)) if known and size is not None else "",
        "platform": _text(host.get("platform")),
        "Python": _text(host.get("python")),
    }
    return {name: value for name, value in told.items() if value}


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    told = "" if value is None else str(value)
    return told if len(told) <= MOST_TEXT else told[: MOST_TEXT - 1] + "…"


def _number(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{_text(value)!r} is no figure")
    return float(value)

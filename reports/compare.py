"""Runs side by side: what differs in what was asked, and what came of it. Judges nothing.

One run of each says little about small differences: that is what ``chatproof ab`` is for. This is for
strategies that differ much, such as one large node against four small ones.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

import polars as pl

from reports.history import HistoryError
from reports.rundir import read_json, read_text

COMPARE_VERSION: Final = 1
MOST_SCENARIO_BYTES: Final = 4 * 1024 * 1024
MOST_SECONDS_BYTES: Final = 256 * 1024 * 1024  # of intervals.parquet
DAMAGED: Final = (
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    OverflowError,
)  # by a file of another shape
LEAST, MOST = 2, 8  # runs: of more, lines in a chart can no longer be told apart
SAME: Final = frozenset({"why"})  # keys that differ without changing a run
Better = Literal["lower", "higher", "neither"]


@dataclass(frozen=True, slots=True)
class Side:
    """One run. ``settings``: of its scenario, by dotted key. ``seconds``: analysis/intervals.parquet."""

    path: Path
    summary: Mapping[str, Any]
    settings: Mapping[str, str]
    seconds: pl.DataFrame = field(default_factory=pl.DataFrame)
    nodes: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of every run. ``unit``: of ``wording.figure``, or "us"; None: a run does not have it."""

    name: str
    unit: str
    values: tuple[float | None, ...]
    better: Better = "neither"

    @property
    def told(self) -> str:
        """Its name, and which way is better."""
        return f"{self.name} {dict(lower='↓', higher='↑', neither='')[self.better]}".strip()

    def changes(self) -> tuple[float | None, ...]:
        """Against the first run, as ratios: 0.1 is a tenth more."""
        first = self.values[0]
        return tuple(None if value is None or not first else value / first - 1 for value in self.values)


@dataclass(frozen=True, slots=True)
class Compared:
    """``labels``: short names of the runs. ``differs``: settings that are not the same, a value a run."""

    sides: tuple[Side, ...]
    labels: tuple[str, ...]
    differs: tuple[tuple[str, tuple[str, ...]], ...]
    rows: tuple[Row, ...]
    warnings: tuple[str, ...]


def read_side(run_dir: Path) -> Side:
    """A run that was judged.

    Raises:
        HistoryError: it is none, or was not judged by this version.
    """
    side = read_figures(run_dir)
    path = run_dir / "analysis" / "intervals.parquet"
    try:
        if path.is_symlink() or (size := path.stat().st_size) > MOST_SECONDS_BYTES:
            told = "a link" if path.is_symlink() else f"{size} bytes"
            raise HistoryError(f"{path}: is {told}: a file of at most {MOST_SECONDS_BYTES} bytes is read")
        seconds = pl.read_parquet(path, glob=False)
    except (HistoryError, OSError, ValueError, pl.exceptions.PolarsError) as bad:
        raise unjudged(run_dir, bad) from None
    return replace(side, seconds=seconds)


def read_figures(run_dir: Path) -> Side:
    """As ``read_side``, without the seconds."""
    try:
        summary = read_json(run_dir / "analysis" / "summary.json")
        text = read_text(run_dir / "config" / "scenario.toml", most_bytes=MOST_SCENARIO_BYTES)
        settings = flattened(tomllib.loads(text))
    except (HistoryError, ValueError, RecursionError) as bad:
        raise unjudged(run_dir, bad) from None
    try:
        side = side_of(run_dir, summary, settings)
        warnings([side])
        if any(
            value is not None and not math.isfinite(value) for row in rows([side]) for value in row.values
        ):
            raise ValueError("a figure is not finite")
    except DAMAGED as bad:
        raise HistoryError(
            f"{run_dir}: was judged by another version, or analysis/summary.json is damaged "
            f"({type(bad).__name__}: {bad}): `chatproof report` judges it again"
        ) from None
    return side


def side_of(path: Path, summary: Mapping[str, Any], settings: Mapping[str, str]) -> Side:
    """A run of which ``summary`` is known, without its seconds."""
    processes = [str(used.get("process")) for used in summary.get("processes", ()) if used.get("target")]
    nodes = sum(name.startswith(("chatd-", "server-")) for name in processes)
    return Side(path, summary, settings, nodes=nodes)


def unjudged(run_dir: Path, bad: Exception) -> HistoryError:
    """The error for a run that lacks a file of its analysis, or has one that cannot be read."""
    why = " ".join(str(bad).split())
    return HistoryError(f"{run_dir}: is no run that was judged ({why}): `chatproof report` does it")


def compare(sides: Sequence[Side]) -> Compared:
    """Put runs beside each other, in the given order.

    Raises:
        ValueError: too few or too many.
    """
    if not LEAST <= len(sides) <= MOST:
        raise ValueError(f"{len(sides)} runs are given: must be {LEAST} to {MOST}")
    differs = differing([side.settings for side in sides])
    return Compared(tuple(sides), labels(sides, differs), differs, rows(sides), warnings(sides))


def flattened(table: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Every value of nested tables by its dotted key, as text; tables of a list by their id or name."""
    found: dict[str, str] = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found |= flattened(value, f"{name}.")
        elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            for number, item in enumerate(value):
                own = item.get("id") or item.get("name") or str(number + 1)
                found |= flattened(item, f"{name}[{own}].")
        else:
            found[name] = str(value)
    return found


def differing(settings: Sequence[Mapping[str, str]]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Settings that are not the same everywhere; a run that does not say one has "" there.

    Of a table of a list (a fault, a phase, a gate) that not all have, one line says who has it.
    """
    found: dict[str, tuple[str, ...]] = {}
    items = [{_item(key) for key in each} for each in settings]
    for key in dict.fromkeys(key for each in settings for key in each):
        item = _item(key)
        there = [item in own for own in items]
        if item and not all(there):
            found[item] = tuple("yes" if has else "" for has in there)
        elif key not in SAME:
            found[key] = tuple(each.get(key, "") for each in settings)
    return tuple((key, values) for key, values in found.items() if len(set(values)) > 1)


def _item(key: str) -> str:
    """The table of a list that a dotted key is in, as ``fault[cut]``; "" when in none."""
    return key.partition("].")[0] + "]" if "]." in key else ""


def labels(sides: Sequence[Side], differs: Sequence[tuple[str, tuple[str, ...]]]) -> tuple[str, ...]:
    """What each run is called: the shortest setting that tells all apart, else its scenario and a number."""
    telling = [
        [f"{key.rsplit('.', 1)[-1]} {value}" for value in values]
        for key, values in differs
        if len(set(values)) == len(sides) and all(values)
    ]
    if telling:
        return tuple(min(telling, key=lambda names: sum(map(len, names))))
    names = tuple(str(side.summary.get("scenario")) for side in sides)
    if len(set(names)) == len(sides):
        return names
    return tuple(f"{name} {number}" for number, name in enumerate(names, 1))


def rows(sides: Sequence[Side]) -> tuple[Row, ...]:
    """Every figure that some run has."""
    made = [
        Row("nodes", "", tuple(float(side.nodes) for side in sides)),
        _row("clients", "", sides, lambda s: s.summary["load"]["clients"]),
        _row("messages acked", "", sides, lambda s: s.summary["coverage"]["acked"]),
        _row("deliveries", "/s", sides, lambda s: s.summary["load"]["deliveries_per_s"], "higher"),
        *(
            _row(f"{name}", "", sides, lambda s, name=name: s.summary["anomalies"][name], "lower")
            for name in ("lost", "duplicated", "reordered")
        ),
        *(
            _row(label, "ms", sides, lambda s, key=key: s.summary["latency_ms"]["delivery"].get(key), "lower")
            for key, label in (
                ("p50", "delivery, p50"), ("p99", "delivery, p99"), ("p99_9", "delivery, p99.9"),
                ("max", "delivery, max"),
            )
        ),
        _row("ack, p99", "ms", sides, lambda s: s.summary["latency_ms"]["ack"].get("p99"), "lower"),
        _row("all back after a fault, worst", "ms", sides, _all_back_ms, "lower"),
        _row("resumes", "", sides, lambda s: s.summary["coverage"]["resumed"]),
        _row("declared gaps", "", sides, lambda s: s.summary["coverage"]["gaps"], "lower"),
        _row("CPU per delivery, all nodes", "us", sides, _cpu_us, "lower"),
        _row("CPU, busiest node", "s", sides, lambda s: _most(s, "cpu_s"), "lower"),
        _row("memory, largest node", "MiB", sides, _rss_mib, "lower"),
        _row("lag of the load, p99", "ms", sides, lambda s: s.summary["load"]["lag_p99_ms"]),
    ]  # fmt: skip
    return tuple(row for row in made if any(value is not None for value in row.values))


def _row(name: str, unit: str, sides: Sequence[Side], figure: Any, better: Better = "neither") -> Row:
    values = [figure(side) for side in sides]
    return Row(name, unit, tuple(None if value is None else float(value) for value in values), better)


def _targets(side: Side) -> list[Mapping[str, Any]]:
    return [used for used in side.summary.get("processes", ()) if used.get("target")]


def _cpu_us(side: Side) -> float | None:
    own = [used["cpu_us_per_delivery"] for used in _targets(side)]
    return sum(own) if own and None not in own else None


def _most(side: Side, key: str) -> float | None:
    return max((float(used[key]) for used in _targets(side)), default=None)


def _rss_mib(side: Side) -> float | None:
    size = _most(side, "rss_max_bytes")
    return None if size is None else size / 1024**2


def _all_back_ms(side: Side) -> float | None:
    """The slowest return; None where nobody was cut off, or somebody never came back."""
    returns = [fault["recovery"] for fault in side.summary.get("faults", ()) if fault.get("recovery")]
    if not returns or any(each["never_back"] for each in returns):
        return None
    return max(
        (each["all_back_s"] * 1000 for each in returns if each["all_back_s"] is not None), default=None
    )


def warnings(sides: Sequence[Side]) -> tuple[str, ...]:
    """What forbids to read a difference as one of the systems."""
    found = []
    for side in sides:
        outcome = side.summary.get("outcome")
        if outcome not in ("pass", "fail"):
            found.append(f"{side.path.name} is {outcome}: {side.summary.get('sentence')}")
    for key, what in (("seed", "seeds"), ("scenario", "scenarios")):
        values = list(dict.fromkeys(str(side.summary.get(key)) for side in sides))
        if len(values) > 1:
            found.append(f"The runs have different {what}: {', '.join(values)}.")
    versions = list(
        dict.fromkeys(str((side.summary.get("versions") or {}).get("chatproof")) for side in sides)
    )
    if len(versions) > 1:
        found.append(f"They were made by different versions of chatproof: {', '.join(versions)}.")
    return tuple(found)


def as_json(found: Compared) -> dict[str, Any]:
    """The content of compare.json: plain values. Changes are ratios against the first run."""
    return {
        "schema_version": COMPARE_VERSION,
        "runs": [
            {"label": label, "path": str(side.path), "outcome": side.summary.get("outcome")}
            for label, side in zip(found.labels, found.sides, strict=True)
        ],
        "differs": {key: list(values) for key, values in found.differs},
        "figures": figures(found.rows),
        "warnings": list(found.warnings),
    }


def figures(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows as plain values."""
    return [
        {
            "name": row.name,
            "unit": row.unit,
            "better": row.better,
            "values": list(row.values),
            "changes": [None if change is None else round(change, 6) for change in row.changes()],
        }
        for row in rows
    ]

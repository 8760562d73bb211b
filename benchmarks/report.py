"""What the benchmarks found: rows of figures with their targets, as a table and as JSON."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

Figures = dict[str, float]


@dataclass(frozen=True)
class Target:
    """One limit: ``value`` must not be above it (or, ``least``, not below)."""

    text: str
    value: float
    limit: float
    least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.least else self.value <= self.limit


@dataclass
class Row:
    """One thing that was measured: figures per server, medians of the rounds."""

    name: str
    title: str
    figures: dict[str, Figures] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def at_most(self, text: str, value: float | None, limit: float) -> None:
        """A target, unless the reference that it needs is missing."""
        if value is not None:
            self.targets.append(Target(text, value, limit))

    def at_least(self, text: str, value: float | None, limit: float) -> None:
        """The same, the other way round."""
        if value is not None:
            self.targets.append(Target(text, value, limit, least=True))

    def ratio(self, column: str, one: str, other: str) -> float | None:
        if one not in self.figures or other not in self.figures:
            return None
        return self.figures[one][column] / self.figures[other][column]


@dataclass(frozen=True)
class Bench:
    """How to run: ``quick`` is for trying things out; ``say`` shows progress."""

    quick: bool
    say: Callable[[str], None]

    def rounds(self, many: int) -> int:
        return 1 if self.quick else many


def medians(rounds: Mapping[str, Sequence[Figures]]) -> dict[str, Figures]:
    """Median of each figure over the rounds, by server."""
    return {
        name: {column: statistics.median(figures[column] for figures in taken) for column in taken[0]}
        for name, taken in rounds.items()
        if taken
    }


def show(row: Row) -> str:
    """The row as a table, its targets below."""
    lines = [f"\n{row.title}"]
    columns = list(dict.fromkeys(column for figures in row.figures.values() for column in figures))
    width = max([12, *map(len, row.figures)])
    widths = {column: max(10, len(column) + 2) for column in columns}
    if columns:
        lines.append(" " * width + "".join(f"{column:>{widths[column]}}" for column in columns))
    for name, figures in row.figures.items():
        cells = (f"{_number(figures.get(column)):>{widths[column]}}" for column in columns)
        lines.append(f"{name:{width}}" + "".join(cells))
    for target in row.targets:
        lines.append(f"  {'✓' if target.met else '✗'} {target.text}: {_number(target.value)}")
    lines += [f"  – {line}" for line in row.skipped]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def write(path: Path, rows: Sequence[Row], *, quick: bool, versions: Mapping[str, str]) -> None:
    """Everything, for machines."""
    document = {
        "taken_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "host": {
            "cpus": os.cpu_count(),
            "cpu": _cpu_name(),
            "kernel": platform.release(),
            "load1": round(os.getloadavg()[0], 2),
        },
        "versions": dict(versions),
        "rows": {
            row.name: {
                "title": row.title,
                "figures": row.figures,
                "targets": [{**asdict(target), "met": target.met} for target in row.targets],
                "skipped": row.skipped,
            }
            for row in rows
        },
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def versions(commands: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Of Python and the packages that chatd stands on, and what each command answers."""
    found = {"python": sys.version.split()[0]}
    found |= {name: version(name) for name in ("uvloop", "picows", "msgspec", "websockets")}
    for name, command in commands.items():
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            continue
        if told := re.search(r"\d+(\.\d+)+\S*", answer.stdout):
            found[name] = told[0]
    return found

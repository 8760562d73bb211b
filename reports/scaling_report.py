"""Several searches for capacity at different numbers of nodes, read, held together, and told.

What is fitted to them is in ``reports.scaling``. Points count only where they are of one system: the same
scenario and settings but for the number, and a limit that was found. A search that ended before knows less.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from reports import wording
from reports.capacity import Ending
from reports.capacity_report import CAPACITY_VERSION
from reports.compare import differing
from reports.escape import for_markdown, for_terminal
from reports.history import HistoryError
from reports.rundir import read_json
from reports.scaling import LEAST_FOR_INTERVALS, LEVEL, Fit, Point, ScalingError

SCALING_VERSION: Final = 1
FILE: Final = "capacity.json"
NODES: Final = "nodes"
# Settings that are the number itself; with another seed it is the same load, drawn anew.
_MAY_DIFFER: Final = {
    NODES: {"seed", "server.nodes"},
    "clients": {"seed", "workload.clients", "workload.channels"},
}


@dataclass(frozen=True, slots=True)
class Measured:
    """One capacity.json. ``source``: its path as it was given."""

    n: int
    source: str
    found: Mapping[str, Any]

    @property
    def point(self) -> Point:
        limit = self.found["max_rate"]
        return Point(self.n, float(limit["holds_at"]), float(limit["width"] or 0.0))


def read_all(asked: Iterable[tuple[int | None, Path]], of: str) -> list[Measured]:
    """Searches in order of their number.

    Args:
        asked: (number that was given, or None for the one in the file, file or directory).
        of: what is counted: "nodes", "clients", "cores" …
    Raises:
        ScalingError: with every fault of all files, a line each.
    """
    faults: list[str] = []
    known: list[Measured] = []
    for given, path in asked:
        file = path / FILE if path.is_dir() else path
        try:
            found = read_json(file)
        except HistoryError as bad:
            faults.append(str(bad).replace("a run directory has this file; is this a run directory?",
                                           "name a capacity.json, or the --out of a search"))  # fmt: skip
            continue
        wrong = _faults(found, given, of)
        faults += [f"{file}: {fault}" for fault in wrong]
        if not wrong:
            known.append(Measured(int(given or found["nodes"]), str(path), found))
    faults += _unlike(known, of)
    if faults:
        raise ScalingError("\n".join(faults))
    return sorted(known, key=lambda one: one.n)


def _faults(found: Mapping[str, Any], given: int | None, of: str) -> list[str]:
    if found.get("schema_version") != CAPACITY_VERSION or not isinstance(found.get("max_rate"), Mapping):
        return ["is no capacity.json that this version reads: name one that `chatproof capacity` wrote"]
    if not isinstance(found.get("settings"), Mapping) or "nodes" not in found:
        return ["does not say at what settings it was measured: search again with this version"]
    wrong, limit = [], found["max_rate"]
    known = found["nodes"] if of == NODES else None
    if given is None and known is None:
        wrong.append(f"does not say how many {of} there were: write it before the file, as in 4={FILE}")
    elif given is not None and known is not None and given != known:
        wrong.append(f"has {known} nodes, and {given} were given: leave the number out")
    if found.get("ending") != Ending.BRACKETED:
        wrong.append(
            f"no limit was found ({found.get('ending')}), so its rate says too little: search further"
        )
    elif not _positive(limit.get("holds_at")) or not _positive(limit.get("width")):
        wrong.append("max_rate has no rate and width above 0: search again")
    return wrong


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and 0 < value < 1e15


def _unlike(known: Sequence[Measured], of: str) -> list[str]:
    """What is not the same in all files and should be, a line each."""
    if not known:
        return []
    faults = []
    told = [
        {"scenario": str(one.found.get("scenario")), "--vary": str(one.found.get("vary"))}
        | {str(key): str(value) for key, value in one.found["settings"].items()}
        for one in known
    ]
    for key, values in differing(told):
        if key in _MAY_DIFFER.get(of, {"seed"}):
            continue
        first = values[0]
        other, value = next((one, v) for one, v in zip(known, values, strict=True) if v != first)
        faults.append(
            f"{key} is {first or 'not set'} in {known[0].source} and {value or 'not set'} in {other.source}: "
            f"nothing but the number of {of} may differ"
        )
    return faults


def as_json(measured: Sequence[Measured], found: Fit, of: str) -> dict[str, Any]:
    """The content of scaling.json: plain values, every key always there. Rates are deliveries/s."""
    first = measured[0].found
    told = {
        "schema_version": SCALING_VERSION,
        "scenario": str(first.get("scenario")),
        "vary": str(first.get("vary")),
        "of": of,
        "level": LEVEL if found.intervals else None,
        "points": [
            {
                "n": one.n,
                "source": one.source,
                "holds_at": one.point.rate,
                "fails_at": one.found["max_rate"].get("fails_at"),
                "fitted": found.rate_at(one.n),
                "share_of_linear": one.point.rate / (one.n * found.rate_of_one.value),
            }
            for one in measured
        ],
        "rate_of_one": asdict(found.rate_of_one),
        "contention": asdict(found.contention),
        "coherency": asdict(found.coherency),
        "peak": None if found.peak is None else asdict(found.peak),
        "most": found.most,
        "reach": found.reach,
        "at_reach": asdict(found.estimate_at(found.reach)),
    }
    return told | {"headline": headline(told)}


def headline(told: Mapping[str, Any]) -> str:
    """What the points say of a peak."""
    most, of, kappa = told["most"], told["of"], told["coherency"]
    if kappa["low"] is None:
        points = len(told["points"])
        return (
            f"{points} points: one curve goes through them whatever the noise, so there are no intervals and "
            f"nothing is said of a peak. With {LEAST_FOR_INTERVALS} there are."
        )
    if not kappa["low"]:
        return f"No peak observed up to {most} {of}: κ may be 0."
    if (peak := told["peak"]) is None:
        return (
            f"No peak observed up to {most} {of}, nor is there one up to {told['reach']}; but each takes "
            "from the others (κ is above 0), so there is one further on."
        )
    return f"The peak is at about {_interval(peak, of)}: more than that hold less."


def _interval(found: Mapping[str, float | None], unit: str = "", scale: float = 1.0) -> str:
    def plain(value: float | None) -> str:
        return wording.decimal(None if value is None else value * scale)

    told = f"{plain(found['value'])}{wording.NBSP}{unit}" if unit else plain(found["value"])
    if found["low"] is None:
        return told
    high = "more than can be said" if found["high"] is None else plain(found["high"])
    return f"{told} (95 %: {plain(found['low'])} to {high})"


def facts(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Figures with names, for a table."""
    return [
        ("λ: one alone", _interval(told["rate_of_one"], "deliveries/s")),
        ("σ: share done in turn (contention)", _interval(told["contention"])),
        ("κ: agreed on by each pair (coherency)", _small(told["coherency"])),
        (f"by that law, {told['reach']} {told['of']}", _interval(told["at_reach"], "deliveries/s")),
    ]


def _small(found: Mapping[str, float | None]) -> str:
    """κ is often a few millionths, and still what ends the growth."""
    return _interval(found, "millionths", 1e6)


REFUSED: Final = "Nothing is said of more than 1.5 times the most that were measured."


def rows(told: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A head, then every point: number, what it holds, by the law, share of as many times one alone."""
    points = [
        (
            str(p["n"]),
            wording.decimal(p["holds_at"]),
            wording.decimal(p["fitted"]),
            wording.share(p["share_of_linear"]),
        )
        for p in told["points"]
    ]
    return [(str(told["of"]), "holds at", "by the law", "of linear"), *points]


def as_text(told: Mapping[str, Any]) -> str:
    """For a terminal."""
    table = rows(told)
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    lines = ["", told["headline"], "", f"  {told['scenario']}, deliveries/s:"]
    for name, *cells in table:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("   ".join(["  " + name.rjust(widths[0]), *padded]).rstrip())
    width = max(len(name) for name, _ in facts(told))
    lines += ["", *(f"  {name:<{width}}  {value}" for name, value in facts(told)), "", REFUSED]
    return for_terminal("\n".join(lines).replace(wording.NBSP, " "))


def as_markdown(told: Mapping[str, Any]) -> str:
    """scaling.md."""
    lines = [f"# Scaling: {for_markdown(told['scenario'])}", "", for_markdown(told["headline"]), ""]
    head, *points = rows(told)
    lines += [_row(head), "| ---: | ---: | ---: | ---: |", *map(_row, points), ""]
    lines += ["| | |", "| --- | --- |", *map(_row, facts(told)), "", REFUSED, ""]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(for_markdown, cells)) + " |"

"""What a search for capacity found, for planners: in a terminal, in Markdown, in JSON, as a section.

Everything is worked out once, into the plain values of ``capacity.json``; the texts only show them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from reports import wording
from reports.capacity import (
    BEYOND,
    Bracket,
    Held,
    Need,
    Search,
    Slope,
    Trial,
    bracket,
    critical_rate,
    ladder,
    node_plan,
    slope,
)
from reports.creep import Creep, creep
from reports.escape import for_markdown, for_terminal
from reports.history import HistoryError
from reports.periods import start_ns
from reports.rundir import read_json

CAPACITY_FILE: Final = "config/capacity.json"  # in the run directory of the soak
CAPACITY_VERSION: Final = 1
_SHAPES: Final = {"trials": list, "ladder": list, "slopes": dict}  # a file of another shape is no section


@dataclass(frozen=True, slots=True)
class Soak:
    trial: Trial
    creep: Creep


def creep_of(run_dir: Path) -> Creep:
    """Slopes of memory and of p99 over the seconds of a run that was judged."""
    try:
        intervals = pl.read_parquet(run_dir / "analysis/intervals.parquet", glob=False)
        processes = pl.read_parquet(run_dir / "metrics/processes.parquet", glob=False)
    except (OSError, pl.exceptions.PolarsError):
        return Creep()
    targets = {str(used["process"]) for used in _processes(run_dir) if used.get("target")}
    return creep(intervals, processes, targets, zero_ns=start_ns(read_json(run_dir / "run.json")))


def _processes(run_dir: Path) -> Iterable[Mapping[str, Any]]:
    try:
        found = read_json(run_dir / "analysis/summary.json").get("processes")
    except HistoryError:
        return ()
    return found if isinstance(found, list) else ()


def as_json(name: str, vary: str, search: Search, soaks: Sequence[Soak], need: Need | None) -> dict[str, Any]:
    """The content of capacity.json: plain values, every key always there. Rates are deliveries/s.

    Args:
        soaks: longer runs, each at a lower load than the one before; only the last may have held.
    """
    soak = soaks[-1] if soaks else None
    sound = [t for t in search.trials if t.held is Held.YES]
    steps, limit = ladder(search.trials), bracket(search)
    confirmed = soak.trial.deliveries_per_s if soak and soak.trial.held is Held.YES else None
    critical = critical_rate(steps)
    return {
        "schema_version": CAPACITY_VERSION,
        "scenario": name,
        "vary": vary,
        "ending": str(search.ending) if search.ending else None,
        "max_rate": _bracket(limit),
        "confirmed_rate": confirmed,
        "critical_rate": None if critical is None else round(critical, 1),
        "ladder": [{"p99_ms": ms} | _bracket(step) for ms, step in steps.items()],
        "slopes": {
            "cpu_cores_per_delivery_per_s": _slope(slope((t.deliveries_per_s, t.cpu_cores) for t in sound)),
            "rss_bytes_per_connection": _slope(slope((t.connections, t.rss_bytes) for t in sound)),
            "rss_bytes_per_delivery_per_s": _slope(slope((t.deliveries_per_s, t.rss_bytes) for t in sound)),
        },
        "soak": _soak(soak),
        "soaks": [_trial(each.trial) for each in soaks],
        "plan": _plan(need, confirmed),
        "trials": [_trial(each) for each in search.trials],
    }


def _trial(trial: Trial) -> dict[str, Any]:
    return asdict(trial) | {"held": str(trial.held)}


def _bracket(found: Bracket) -> dict[str, float | None]:
    return {"holds_at": found.holds_at, "fails_at": found.fails_at, "width": found.width}


def _slope(found: Slope | None) -> dict[str, float] | None:
    return None if found is None else asdict(found)


def _soak(soak: Soak | None) -> dict[str, Any] | None:
    if soak is None:
        return None
    return {
        **_trial(soak.trial),
        "rss_bytes_per_s": _slope(soak.creep.rss_bytes_per_s),
        "p99_ms_per_s": _slope(soak.creep.p99_ms_per_s),
    }


def _plan(need: Need | None, confirmed: float | None) -> dict[str, Any] | None:
    if need is None:
        return None
    asked = asdict(need)
    if confirmed is None:
        return asked | {"refused": "no rate was confirmed by the soak: there is nothing to plan with"}
    plan = node_plan(need, confirmed)
    assumed = (
        f"{plan.total} nodes serve {plan.total} times what one was measured to serve. That was not measured "
        "here: run vertical_vs_horizontal"
    )
    return (
        asked
        | asdict(plan)
        | {"node_deliveries_per_s": confirmed, "assumption": assumed if plan.total > 1 else ""}
    )


# Words ---------------------------------------------------------------------------------------------------


def headline(found: Mapping[str, Any]) -> str:
    """The answer in a sentence or two."""
    limit, confirmed = found["max_rate"], found["confirmed_rate"]
    if limit["holds_at"] is None:
        return f"No load held: {found['ending']}."
    told = f"One node holds {_rate(limit['holds_at'])}"
    if found["ending"] == "bracketed":
        told += f" and fails at {_rate(limit['fails_at'])} ({wording.share(limit['width'])} apart)."
    else:
        told += f"; no limit was found: {found['ending']}."
    soaks: list[Any] = found.get("soaks") or []  # a file that an earlier version wrote has none
    if confirmed is None:
        runs = wording.plural(len(soaks), "longer run") if soaks else "the longer run"
        return told + f" Not confirmed: {runs} at nine tenths of it and below did not hold."
    told += f" Confirmed by a longer run: {_rate(confirmed)}"
    if len(soaks) > 1:
        told += f" ({_rate(soaks[-2]['deliveries_per_s'])} did not hold for as long)"
    return told + "."


def facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Figures with names, for a table."""
    slopes, soak = found["slopes"], found["soak"]
    rows = [
        ("holds", _rate(found["max_rate"]["holds_at"])),
        ("fails", _rate(found["max_rate"]["fails_at"])),
        ("confirmed by a longer run", _rate(found["confirmed_rate"])),
        ("geometric mean over the ladder", _rate(found["critical_rate"])),
        ("CPU per delivery", _per(slopes["cpu_cores_per_delivery_per_s"], 1e6, "µs")),
        ("memory per connection", _per(slopes["rss_bytes_per_connection"], 1 / 1024, "KiB")),
    ]
    if soak:
        rows += [
            ("memory while the load stands still", _per(soak["rss_bytes_per_s"], 60 / 1024, "KiB/min")),
            ("p99 while the load stands still", _per(soak["p99_ms_per_s"], 60, "ms/min")),
        ]
    return rows


def planned(found: Mapping[str, Any]) -> list[str]:
    """The plan in sentences; [] when none was asked for."""
    plan = found["plan"]
    if not plan:
        return []
    if plan.get("refused"):
        return [f"No plan: {plan['refused']}."]
    asked = f"{_rate(plan['peak_deliveries_per_s'])} at the peak, {wording.share(plan['growth'])} of growth"
    lines = [
        f"For {asked}: {wording.plural(plan['nodes'], 'node')}, and {plan['total']} with "
        f"{wording.plural(plan['spare'], 'node')} to spare. At the peak, with all there, each is used to "
        f"{wording.share(plan['share'])} of what was confirmed."
    ]
    return lines + ([plan["assumption"] + "."] if plan["assumption"] else [])


REFUSED: Final = f"Nothing is said of loads more than {BEYOND:g} times those that were measured."


def ladder_rows(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(limit of p99, holds at, is passed at)"""
    return [(wording.ms(s["p99_ms"]), _rate(s["holds_at"]), _rate(s["fails_at"])) for s in found["ladder"]]


def as_text(found: Mapping[str, Any]) -> str:
    """For a terminal."""
    width = max(len(name) for name, _ in facts(found))
    lines = ["", headline(found), ""]
    lines += [f"  {name:<{width}}  {value}" for name, value in facts(found)]
    lines += [
        "",
        *(f"  p99 ≤ {ms:<8} holds at {low}, is passed at {high}" for ms, low, high in ladder_rows(found)),
    ]
    lines += ["", *planned(found)]
    return for_terminal("\n".join(lines).replace(wording.NBSP, " ")).rstrip()


def as_markdown(found: Mapping[str, Any]) -> str:
    """capacity.md."""
    lines = [f"# Capacity: {for_markdown(str(found['scenario']))}", "", for_markdown(headline(found)), ""]
    lines += [*map(for_markdown, planned(found)), ""] if found["plan"] else []
    lines += ["| | |", "| --- | --- |"]
    lines += [f"| {for_markdown(name)} | {for_markdown(value)} |" for name, value in facts(found)]
    lines += ["", "| p99 at most | holds at | is passed at |", "| --- | --- | --- |"]
    lines += ["| " + " | ".join(map(for_markdown, row)) + " |" for row in ladder_rows(found)]
    lines += [
        "",
        "| load | deliveries/s | p99 | CPU, cores | memory | |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += ["| " + " | ".join(map(for_markdown, row)) + " |" for row in trial_rows(found)]
    return "\n".join([*lines, "", REFUSED, ""])


def trial_rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Every trial, the lowest load first."""
    return [
        (
            f"{t['load']:.3g} ×",
            wording.count(t["deliveries_per_s"]),
            wording.ms(t["p99_ms"]),
            wording.decimal(t["cpu_cores"]),
            wording.size_bytes(t["rss_bytes"]),
            t["held"] + (f": {t['why']}" if t["why"] else ""),
        )
        for t in sorted(found["trials"], key=lambda t: t["load"])
    ]


def _rate(x: float | None) -> str:
    return wording.NONE if x is None else f"{wording.decimal(x)} deliveries/s"


def _per(found: Mapping[str, float] | None, scale: float, unit: str) -> str:
    if found is None:
        return "not enough loads to say"
    low, mid, high = (wording.decimal(found[key] * scale) for key in ("low", "per_unit", "high"))
    return f"{mid}{wording.NBSP}{unit} (95 %: {low} to {high})"


def read_capacity(run_dir: Path) -> dict[str, Any] | None:
    """What a search left in the run that confirmed it; None without one, or in another version's words."""
    try:
        found = read_json(run_dir / CAPACITY_FILE)
    except HistoryError:
        return None
    return found if _readable(found) else None


def _readable(found: object) -> bool:
    """Whether this is the content of a capacity.json that this version writes."""
    return (
        isinstance(found, Mapping)
        and found.get("schema_version") == CAPACITY_VERSION
        and all(isinstance(found.get(key), kind) for key, kind in _SHAPES.items())
    )

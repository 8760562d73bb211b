"""What a search for capacity found, for planners: in a terminal, in Markdown, in JSON, as a section.

Everything is worked out once, into the plain values of ``capacity.json``; the texts only show them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any, Final

import polars as pl

from reports import expected_growth as expected_growths
from reports import wording
from reports.capacity import (
    BEYOND,
    Bracket,
    Ending,
    Held,
    Search,
    Slope,
    Trial,
    bracket,
    critical_rate,
    ladder,
    slope,
)
from reports.creep import Creep, creep
from reports.escape import for_markdown, for_terminal
from reports.expected_growth import ExpectedGrowth, expected_growth
from reports.history import HistoryError
from reports.periods import start_ns
from reports.planning import RULES, Need, NodePlan, Price, node_plan, rows, sentence
from reports.rundir import read_json

CAPACITY_FILE: Final = "config/capacity.json"  # in the run directory of the soak
CAPACITY_VERSION: Final = 1
TERMINAL_COLUMNS: Final = 80
_SHAPES: Final = {"trials": list, "ladder": list, "slopes": dict}  # a file of another shape is no section


@dataclass(frozen=True, slots=True)
class Soak:
    trial: Trial
    creep: Creep
    expected: ExpectedGrowth | None = None


def creep_of(run_dir: Path) -> Creep:
    """Slopes of memory and of p99 over the seconds of a run that was judged."""
    try:
        intervals = pl.read_parquet(run_dir / "analysis/intervals.parquet", glob=False)
        processes = pl.read_parquet(run_dir / "metrics/processes.parquet", glob=False)
    except (OSError, pl.exceptions.PolarsError):
        return Creep()
    targets = {str(used["process"]) for used in _processes(run_dir) if used.get("target")}
    return creep(intervals, processes, targets, zero_ns=start_ns(read_json(run_dir / "run.json")))


def expected_of(run_dir: Path) -> ExpectedGrowth | None:
    """Why memory may have grown in a run without a leak."""
    return expected_growth(read_json(run_dir / "run.json"))


def _processes(run_dir: Path) -> Iterable[Mapping[str, Any]]:
    try:
        found = read_json(run_dir / "analysis/summary.json").get("processes")
    except HistoryError:
        return ()
    return found if isinstance(found, list) else ()


def as_json(
    name: str,
    vary: str,
    search: Search,
    soaks: Sequence[Soak],
    need: Need | None,
    price: Price | None = None,
    *,
    nodes: int | None = None,
    settings: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The content of capacity.json: plain values, every key always there. Rates are deliveries/s.

    Args:
        nodes: of the system; None: it was not started here, and nobody knows.
        settings: the scenario's, by dotted key, before its load was multiplied.
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
        "nodes": nodes,
        "settings": dict(settings or {}),
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
        "price": None if price is None else asdict(price),
        "plan": _plan(need, confirmed, price),
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
        "expected_growth": expected_growths.as_json(soak.expected),
    }


def _plan(need: Need | None, confirmed: float | None, price: Price | None) -> dict[str, Any] | None:
    if need is None:
        return None
    asked = asdict(need)
    if confirmed is None:
        return asked | {"refused": "no rate was confirmed by a longer run: there is nothing to plan with"}
    plan = node_plan(need, confirmed, price)
    return (
        asked
        | asdict(plan)
        | {"node_deliveries_per_s": confirmed, "assumption": ASSUMED if plan.total > 1 else ""}
    )


ASSUMED: Final = (
    "Several nodes are taken to serve several times what one was measured to serve. That was not measured "
    "here: run vertical_vs_horizontal"
)


@dataclass(frozen=True, slots=True)
class Planned:
    """What the page's form begins with: a rate that was confirmed, and what was asked for."""

    node_deliveries_per_s: float
    need: Need | None
    price: Price | None

    @property
    def plan(self) -> NodePlan | None:
        return None if self.need is None else node_plan(self.need, self.node_deliveries_per_s, self.price)


def planned(found: Mapping[str, Any]) -> Planned | None:
    """From the content of capacity.json; None where no rate that can be planned with was confirmed.

    Raises:
        KeyError, TypeError, ValueError: the file is of another shape.
    """
    rate = found["confirmed_rate"]
    if rate is None or not RULES["node_deliveries_per_s"].holds(float(rate)):
        return None
    asked, price = found["plan"], found.get("price")  # a file that an earlier version wrote has no price
    need = asked and Need(
        peak_deliveries_per_s=float(asked["peak_deliveries_per_s"]),
        growth=float(asked["growth"]),
        spare=int(asked["spare"]),
    )
    cost = price and Price(float(price["per_hour"]), str(price["currency"]))
    return Planned(float(rate), need or None, cost or None)


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
        return told + f" Not confirmed: {_unconfirmed(soaks)}."
    told += f" Confirmed by a longer run: {_rate(confirmed)}"
    if failed := [soak for soak in soaks if soak["held"] == Held.NO]:
        told += f" ({_rate(failed[-1]['deliveries_per_s'])} did not hold for as long)"
    return told + "."


def _unconfirmed(soaks: Sequence[Mapping[str, Any]]) -> str:
    """Why no longer run confirms anything. Of a load that could not be made nothing is known."""
    runs = wording.plural(len(soaks), "longer run") if soaks else "the longer run"
    void = sum(soak["held"] == Held.GENERATOR for soak in soaks)
    if void and void == len(soaks):
        return f"in {runs} at nine tenths of it and below the generator was the limit"
    told = f"{runs} at nine tenths of it and below did not hold"
    return told + (f"; in {wording.count(void)} of them the generator was the limit" if void else "")


def facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Figures with names, for a table."""
    slopes, soak = found["slopes"], found["soak"]
    rows = [
        ("holds", _rate(found["max_rate"]["holds_at"])),
        (_fails(found), _rate(found["max_rate"]["fails_at"])),
        ("confirmed by a longer run", _rate(found["confirmed_rate"])),
        ("geometric mean over the ladder", _rate(found["critical_rate"])),
        ("CPU per delivery", _per(slopes["cpu_cores_per_delivery_per_s"], 1e6, "µs")),
        ("memory per connection", _per(slopes["rss_bytes_per_connection"], 1 / 1024, "KiB")),
    ]
    if soak:
        rows += [
            ("memory while the load stands still", _memory_per_min(soak["rss_bytes_per_s"])),
            ("p99 while the load stands still", _per(soak["p99_ms_per_s"], 60, "ms/min")),
        ]
    return rows


def _fails(found: Mapping[str, Any]) -> str:
    """What the upper end of the bracket is: of a load that could not be made nothing is known."""
    return "the generator's limit" if found["ending"] == Ending.GENERATOR else "fails"


def _memory_per_min(found: Mapping[str, float] | None) -> str:
    large = found is not None and abs(found["per_unit"]) * 60 >= 1024**2
    return _per(found, 60 / 1024**2, "MiB/min") if large else _per(found, 60 / 1024, "KiB/min")


def growth_told(found: Mapping[str, Any]) -> str:
    """Why memory that rose in the longer run need not leak; "" where it did not rise, or nothing says so."""
    soak = found["soak"] or {}
    rise, expected = soak.get("rss_bytes_per_s"), soak.get("expected_growth")  # not in files of old versions
    return expected_growths.sentence(expected) if rise and rise["low"] > 0 and expected else ""


def plan_told(found: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, str]]]:
    """The plan in sentences, and its figures with names; nothing when none was asked for."""
    asked = found["plan"]
    if not asked:
        return [], []
    begun = planned(found)
    if begun is None or begun.need is None or begun.plan is None:
        return [f"No plan: {asked.get('refused', 'no rate can be planned with')}."], []
    told = [sentence(begun.need, begun.plan)]
    told += [asked["assumption"] + "."] if asked["assumption"] else []
    return told, rows(begun.need, begun.plan, begun.price)


REFUSED: Final = f"Nothing is said of loads more than {BEYOND:g} times those that were measured."


LADDER_HEAD: Final = ("p99 at most", "holds at", "is passed at")  # the last two in deliveries/s


def ladder_rows(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Limit of p99, and the deliveries/s at which it holds and is passed; see LADDER_HEAD."""
    return [
        (
            f"{step['p99_ms']:g}{wording.NBSP}ms",
            wording.decimal(step["holds_at"]),
            "not passed" if step["fails_at"] is None else wording.decimal(step["fails_at"]),
        )
        for step in found["ladder"]
    ]


def as_text(found: Mapping[str, Any]) -> str:
    """For a terminal."""
    told, figures = plan_told(found)
    lines = ["", *_filled(headline(found)), "", *_aligned(facts(found)), ""]
    lines += [*_filled(note), ""] if (note := growth_told(found)) else []
    limit, low, high = LADDER_HEAD
    head = (limit, f"{low}, deliveries/s", f"{high}, deliveries/s")
    rows_ = [head, *ladder_rows(found)]
    lines += [f"  {a:<13}{b:>22}{c:>28}" for a, b, c in rows_] if len(rows_) > 1 else []
    lines += ["", *(line for sentence_ in told for line in _filled(sentence_)), *_aligned(figures)]
    return for_terminal("\n".join(lines).replace(wording.NBSP, " ")).rstrip()


def _filled(sentence_: str) -> list[str]:
    """Lines of at most 80 columns; a figure stays with its unit."""
    return wrap(sentence_, TERMINAL_COLUMNS, break_long_words=False, break_on_hyphens=False)


def _aligned(pairs: Sequence[tuple[str, str]]) -> list[str]:
    width = max((len(name) for name, _ in pairs), default=0)
    return [f"  {name:<{width}}  {value}" for name, value in pairs]


def as_markdown(found: Mapping[str, Any]) -> str:
    """capacity.md."""
    told, figures = plan_told(found)
    lines = [f"# Capacity: {for_markdown(str(found['scenario']))}", "", for_markdown(headline(found)), ""]
    for line in told:
        lines += [for_markdown(line), ""]
    lines += [*_pairs("plan", figures), ""] if figures else []
    lines += [*_pairs("measured", facts(found)), ""]
    lines += [for_markdown(note), ""] if (note := growth_told(found)) else []
    limit, low, high = LADDER_HEAD
    lines += [f"| {limit} | {low}, deliveries/s | {high}, deliveries/s |", "| --- | ---: | ---: |"]
    lines += [_row(row) for row in ladder_rows(found)]
    lines += [
        "",
        "| load | deliveries/s | p99 | CPU, cores | memory | |",
        "| ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    lines += [_row(row) for row in trial_rows(found)]
    return "\n".join([*lines, "", REFUSED, ""])


def _pairs(head: str, pairs: Sequence[tuple[str, str]]) -> list[str]:
    return [f"| {head} | |", "| --- | --- |", *map(_row, pairs)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(for_markdown, cells)) + " |"


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
    low, mid, high = (
        wording.decimal(found[key] * scale).replace("-", "−") for key in ("low", "per_unit", "high")
    )
    return f"{mid}{wording.NBSP}{unit} (95{wording.NBSP}%: {low} to {high})"


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

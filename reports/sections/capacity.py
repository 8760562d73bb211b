"""Capacity: what a search found, in the page of the run that confirmed it."""

from __future__ import annotations

from typing import Any, Final

from reports import wording
from reports.analysis import Analysis
from reports.blocks import Block, Code, Column, Details, Entry, Para, Picture, Planner, Table, pairs
from reports.capacity import Held
from reports.capacity_report import (
    ASSUMED,
    CAPACITY_FILE,
    LADDER_HEAD,
    REFUSED,
    Planned,
    facts,
    growth_told,
    headline,
    ladder_rows,
    plan_told,
    planned,
    read_capacity,
    trial_rows,
)
from reports.charts import Axis, Chart, Panel, Point, Series
from reports.figures import axis_kind
from reports.planning import RULES, Need, rows, sentence

_HELD: Final = {"held": Held.YES, "did not hold": Held.NO, "the generator was the limit": Held.GENERATOR}


def build(analysis: Analysis) -> tuple[Block, ...]:
    found = read_capacity(analysis.history.path)
    try:
        return _none() if found is None else _shown(found)
    except (
        ArithmeticError,
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
    ) as error:  # anybody may have written the file
        return (Para(f"{CAPACITY_FILE} cannot be shown: {type(error).__name__}: {error}."),)


def _none() -> tuple[Block, ...]:
    told = ("This run was no part of a search for capacity: ", Code("chatproof capacity"), " makes one.")
    return (Para(told, quiet=True),)


def _shown(found: dict[str, Any]) -> tuple[Block, ...]:
    limit, low, high = LADDER_HEAD
    ladder = Table(
        (Column(limit), Column(low, "deliveries/s", "right"), Column(high, "deliveries/s", "right")),
        tuple(ladder_rows(found)),
        note="The scenario's own objective is searched for; these brackets are as wide as the steps were.",
    )
    columns = ("load", "deliveries/s", "p99", "CPU, cores", "memory")
    trials = Table(
        (*(Column(name, align="right") for name in columns), Column("outcome", wide=True)),
        tuple(trial_rows(found)),
    )
    return (
        Para(headline(found)),
        *_plan(found),
        pairs(facts(found)),
        *((Para(note),) if (note := growth_told(found)) else ()),
        *(() if (chart := loads(found)).empty else (Picture(chart),)),
        ladder,
        Details(f"All {len(found['trials'])} trials", (trials,)),
        Para(REFUSED, quiet=True),
    )


def _plan(found: dict[str, Any]) -> tuple[Block, ...]:
    """The plan that was asked for and the form for others; why there is none, where no rate was confirmed."""
    told, _ = plan_told(found)
    begun = planned(found)
    if begun is None:
        return tuple(Para(line) for line in told)
    return (_planner(begun), Para(f"{ASSUMED}.", quiet=True))


def _planner(begun: Planned) -> Planner:
    need, price = begun.need, begun.price
    asked = need or Need(peak_deliveries_per_s=0)
    peak, per_hour = RULES["peak_deliveries_per_s"], RULES["per_hour"]
    growth = f"0 to {RULES['growth'].high * 100:,.0f}"
    entries = (
        Entry(
            "peak_deliveries_per_s",
            "Deliveries at the peak",
            "/s",
            f"{asked.peak_deliveries_per_s:.12g}" if need else "",
            peak.told,
        ),
        Entry("growth", "Growth on top of it", "%", f"{asked.growth * 100:.12g}", f"a number from {growth}"),
        Entry("spare", "Nodes that may fail", "", str(asked.spare), RULES["spare"].told),
        Entry(
            "per_hour",
            "Price of a node (optional)",
            f"{price.currency if price else ''} an hour".strip(),
            f"{price.per_hour:.12g}" if price else "",
            f"{per_hour.told}, such as 0.34",
            required=False,
        ),
    )
    plan = begun.plan
    made = rows(need, plan, price) if need and plan else []
    return Planner(
        head=f"One node serves {wording.decimal(begun.node_deliveries_per_s)} deliveries/s, as confirmed.",
        entries=entries,
        node_deliveries_per_s=begun.node_deliveries_per_s,
        currency=price.currency if price else "",
        sentence=sentence(need, plan) if need and plan else "",
        table=pairs(made),
    )


def loads(found: dict[str, Any]) -> Chart:
    """p99 and CPU of every trial over what it delivered; by p99, what came of it apart."""
    trials = sorted(found["trials"], key=lambda t: t["deliveries_per_s"] or 0.0)
    p99 = tuple(
        Series(name, _measured(trials, "p99_ms", held=held), slot)
        for slot, (name, held) in enumerate(_HELD.items())
    )
    cpu = Series("CPU", _measured(trials, "cpu_cores"), 4)
    values = [y for series in p99 for _, y in series.points if y is not None]
    return Chart(
        "capacity-trials",
        "What each load came to",
        Axis("deliveries", "/s"),
        (
            Panel(Axis("p99", "ms", axis_kind(values)), tuple(s for s in p99 if s.points), "p99 of delivery"),
            Panel(Axis("CPU", "cores"), (cpu,), "CPU of the server"),
        ),
        "p99 of delivery latency and CPU of the server, by deliveries per second: a point a trial, joined. "
        "Nothing is drawn beyond what was measured.",
        filed=False,
    )


def _measured(trials: list[dict[str, Any]], key: str, *, held: Held | None = None) -> tuple[Point, ...]:
    """(deliveries/s, figure) of the trials that have both."""
    shown = [t for t in trials if held is None or t["held"] == str(held)]
    known = [(float(t["deliveries_per_s"]), t[key]) for t in shown if t["deliveries_per_s"] is not None]
    return tuple((rate, float(value)) for rate, value in known if value is not None)

"""Nodes for a need, and what they cost: the one place of the formula, and of the words for its result.

``planner.js`` is its twin in the page: tests run one table of cases through both, so a change here is one
there. Nothing is planned from a rate that no node was seen to hold.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reports import wording
from reports.gates import validation_lines

MONTH_H: Final = 730  # a twelfth of 365 days
_NOISE: Final = 1e-12  # relative: of products of ratios such as 1.1; a node is not bought for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Which figures can be planned with. ``above``: not ``low`` itself. ``told``: the rule for people."""

    told: str
    low: float
    high: float
    above: bool = False
    whole: bool = False

    def holds(self, x: float) -> bool:
        return (
            math.isfinite(x)
            and (x > self.low if self.above else x >= self.low)
            and x <= self.high
            and (not self.whole or x == math.floor(x))
        )


RULES: Final = {
    "node_deliveries_per_s": Rule(told="a number from 0.001 to 1,000,000,000", low=1e-3, high=1e9),
    "peak_deliveries_per_s": Rule(
        told="a number above 0, at most 1,000,000,000", low=0, high=1e9, above=True
    ),
    "growth": Rule(told="a ratio from 0 to 10, 0.3 for 30 %", low=0, high=10),
    "spare": Rule(told="a whole number from 0 to 1,000", low=0, high=1000, whole=True),
    "per_hour": Rule(told="a number from 0.0001 to 100,000", low=1e-4, high=1e5),
}


class PlanError(ValueError):
    """Figures that cannot be planned with; ``faults`` holds one line each, all at once."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = list(faults)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a planner wants to serve. ``growth``: ratio on top of the peak. ``spare``: nodes that may fail."""

    peak_deliveries_per_s: float
    growth: float = 0.3
    spare: int = 1


@dataclass(frozen=True, slots=True)
class Price:
    """Of a node. ``currency`` stands after each figure; it may be empty."""

    per_hour: float
    currency: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlan:
    """``nodes`` serve the peak and its growth, ``total`` do so with ``spare`` of them gone.

    Shares are of a node's confirmed rate: at the peak, and after the growth; ``…_down``: with ``spare`` gone.
    Costs are of ``total`` nodes, in the currency of the price; None without one.
    """

    nodes: int
    total: int
    share: float
    share_down: float
    grown_share: float
    grown_share_down: float
    cost_per_hour: float | None = None
    cost_per_month: float | None = None


def broken(values: Mapping[str, float | None]) -> list[str]:
    """Names of those that break their rule, in the order of RULES; a price may be None."""
    return [name for name, rule in RULES.items() if (x := values.get(name)) is not None and not rule.holds(x)]


def check(need: Need, price: Price | None) -> None:
    """Whether this can be planned with.

    Raises:
        PlanError: with every fault at once.
    """
    values: dict[str, float | None] = asdict(need)
    if price is not None:
        values["per_hour"] = price.per_hour
    if wrong := broken(values):
        raise PlanError([f"{name} is {values[name]:g}: write {RULES[name].told}" for name in wrong])


def node_plan(need: Need, node_deliveries_per_s: float, price: Price | None = None) -> NodePlan:
    """Nodes for a need, when each serves what one was measured to.

    Args:
        node_deliveries_per_s: a rate that one node was seen to hold, such as that of the longer run.
    Raises:
        ValueError: it is no rate that can be planned with, or the need or the price breaks its rule.
    """
    if not RULES["node_deliveries_per_s"].holds(node_deliveries_per_s):
        raise ValueError("no rate was held by a node: there is nothing to plan with")
    check(need, price)
    peak = need.peak_deliveries_per_s
    grown = peak * (1 + need.growth)
    nodes = max(1, math.ceil(grown / node_deliveries_per_s * (1 - _NOISE)))
    total = nodes + need.spare
    hour = None if price is None else total * price.per_hour
    return NodePlan(
        nodes=nodes,
        total=total,
        share=peak / (total * node_deliveries_per_s),
        share_down=peak / (nodes * node_deliveries_per_s),
        grown_share=grown / (total * node_deliveries_per_s),
        grown_share_down=grown / (nodes * node_deliveries_per_s),
        cost_per_hour=hour,
        cost_per_month=None if hour is None else hour * MONTH_H,
    )


# Words, as in planner.js ---------------------------------------------------------------------------------


def sentence(need: Need, plan: NodePlan) -> str:
    """The need, and how many nodes it takes."""
    told = (
        f"For {wording.decimal(need.peak_deliveries_per_s)} deliveries/s at the peak and "
        f"{_written(need.growth * 100)}{wording.NBSP}% of growth: {wording.plural(plan.nodes, 'node')}"
    )
    return told + (
        f", and {wording.count(plan.total)} so that {wording.count(need.spare)} may fail."
        if need.spare
        else "."
    )


def rows(need: Need, plan: NodePlan, price: Price | None) -> list[tuple[str, str]]:
    """What each node has to do, and what all of them cost: names and values."""
    gone = f"with {wording.count(need.spare)} gone"
    made = [("used of each node at the peak", wording.share(plan.share))]
    if need.spare:
        made.append((f"{made[0][0]}, {gone}", wording.share(plan.share_down)))
    if need.growth:
        made.append(("used of each node after the growth", wording.share(plan.grown_share)))
        if need.spare:
            made.append((f"{made[-1][0]}, {gone}", wording.share(plan.grown_share_down)))
    if price is not None:
        unit = f"{wording.NBSP}{price.currency}" if price.currency else ""
        made += [
            (f"cost an hour, {_written(price.per_hour)}{unit} a node", _money(plan.cost_per_hour) + unit),
            (f"cost a month of {MONTH_H} h", _money(plan.cost_per_month) + unit),
        ]
    return made


def _money(x: float | None) -> str:
    """Two decimals below a hundred."""
    return wording.decimal(x) if x is None or x >= 100 or x < 0.1 else f"{x:.2f}"


def _written(x: float) -> str:
    """As it was given, to four decimals: 0.34, 2."""
    return f"{x:,.4f}".rstrip("0").rstrip(".")


# prices.toml ---------------------------------------------------------------------------------------------


class _Node(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    per_hour: float = Field(ge=RULES["per_hour"].low, le=RULES["per_hour"].high, allow_inf_nan=False)
    currency: str = Field(default="", max_length=8, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")


class _Prices(BaseModel):
    model_config = ConfigDict(extra="forbid")

    node: _Node


def read_prices(path: Path) -> Price:
    """A file such as

        [node]
        per_hour = 0.34
        currency = "EUR"    # optional: what stands after each figure

    Raises:
        PlanError: it cannot be read, or with every fault in it at once.
    """
    try:
        tables: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise PlanError([f"{path}: cannot be read as TOML: {reason}"]) from None
    try:
        node = _Prices.model_validate(tables).node
    except ValidationError as error:
        raise PlanError([f"{path}: {line}" for line in validation_lines(error)]) from None
    return Price(node.per_hour, node.currency)

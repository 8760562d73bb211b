"""How much a system can take: the search for its limit, as values, and what a planner reads off it.

A *step* is a load tried several times; a *trial* is one run of it. A step holds when two of up to three
trials do. The search grows the load by half until a step does not hold, then halves the bracket between
the highest that holds and the lowest that does not until it is narrow. Nothing here runs anything: ``Search``
is told trials and says what to try next.

Sources: Theil (1950) and Sen (1968) for slopes, as one outlying step must not turn a line.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import combinations
from statistics import median_low
from typing import Final

import numpy as np
from scipy.stats import theilslopes

GROWTH: Final = 1.5
BRACKET: Final = 0.05  # relative width at which the search ends
SOAK_SHARE: Final = 0.9  # of the highest load that holds: what is confirmed by a longer run
LADDER_MS: Final = (10.0, 25.0, 50.0, 75.0, 100.0)  # objectives for p99 of delivery
BEYOND: Final = 1.5  # times the highest measured rate: nothing is said of loads above
TRIALS: Final = 3
ENOUGH: Final = 2  # of them: a decision


class Held(StrEnum):
    """What a trial says of its load."""

    YES = "holds"
    NO = "does not hold"
    GENERATOR = "the generator was the limit"  # void: the harness could not make that load


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One run at one load. Rates are a second; ``load`` is a factor of the scenario's own.

    ``deliveries_per_s``: what arrived, the unit of capacity. ``cpu_cores``: of the processes under test.
    """

    load: float
    held: Held
    deliveries_per_s: float
    connections: int
    p99_ms: float | None
    cpu_cores: float | None = None
    rss_bytes: int | None = None
    run: str = ""
    why: str = ""


class Ending(StrEnum):
    """How a search ended."""

    BRACKETED = "bracketed"
    NEVER_FAILED = "never failed up to the cap"
    NEVER_HELD = "the lowest load did not hold"
    GENERATOR = "the generator was the limit"
    BUDGET = "the budget of runs was spent"


@dataclass(slots=True)
class Search:
    """What to try next. ``cap``: the highest load that is tried; ``budget``: most trials in all."""

    start: float = 1.0
    cap: float = 100.0
    budget: int = 60
    trials: list[Trial] = field(default_factory=list)

    def tell(self, trial: Trial) -> None:
        """Take in the outcome of a trial of ``next_load()``."""
        self.trials.append(trial)

    def decided(self, load: float) -> Held | None:
        """What two trials of a load agree on; after three that do not, that it does not hold."""
        seen = [trial.held for trial in self.trials if trial.load == load]
        for verdict in Held:
            if seen.count(verdict) >= ENOUGH:
                return verdict
        return Held.NO if len(seen) >= TRIALS else None

    @property
    def highest(self) -> float | None:
        """The highest load that holds, with none below that does not."""
        floor = self.lowest_failed or math.inf
        return max((x for x in self._loads() if self.decided(x) is Held.YES and x < floor), default=None)

    @property
    def lowest_failed(self) -> float | None:
        """The lowest load that does not hold, for whatever reason."""
        return min((x for x in self._loads() if self.decided(x) in (Held.NO, Held.GENERATOR)), default=None)

    def next_load(self) -> float | None:
        """The load to try, or None at the end; see ``ending``."""
        if len(self.trials) >= self.budget:
            return None
        if undecided := [x for x in self._loads() if self.decided(x) is None]:
            return undecided[0]
        low, high = self.highest, self.lowest_failed
        if low is None:
            return None if high is not None else self.start
        if high is None:
            return None if low >= self.cap else min(low * GROWTH, self.cap)
        if high / low - 1 <= BRACKET:
            return None
        return math.sqrt(low * high)

    @property
    def ending(self) -> Ending | None:
        """Why there is no next load; None while there is one."""
        if self.next_load() is not None:
            return None
        low, high = self.highest, self.lowest_failed
        if low is None:
            if high is None:
                return Ending.BUDGET
            return Ending.GENERATOR if self.decided(high) is Held.GENERATOR else Ending.NEVER_HELD
        if high is None:
            return Ending.NEVER_FAILED if low >= self.cap else Ending.BUDGET
        if self.decided(high) is Held.GENERATOR:
            return Ending.GENERATOR
        return Ending.BRACKETED if high / low - 1 <= BRACKET else Ending.BUDGET

    def _loads(self) -> list[float]:
        return list(dict.fromkeys(trial.load for trial in self.trials))


@dataclass(frozen=True, slots=True)
class Bracket:
    """A limit lies between two measured rates, deliveries/s. ``fails_at``: None where nothing failed."""

    holds_at: float | None
    fails_at: float | None

    @property
    def width(self) -> float | None:
        """Relative; None where a side is missing."""
        if not self.holds_at or self.fails_at is None:
            return None
        return self.fails_at / self.holds_at - 1


def bracket(search: Search) -> Bracket:
    """Of the scenario's own objective."""
    low, high = search.highest, search.lowest_failed
    at = {load: _rate(search.trials, load) for load in (low, high) if load is not None}
    return Bracket(None if low is None else at[low], None if high is None else at[high])


def ladder(trials: Iterable[Trial], limits_ms: Sequence[float] = LADDER_MS) -> dict[float, Bracket]:
    """For each limit of p99 the rates between which it is passed, from the trials that were made.

    A trial that was void says nothing. The bracket is as wide as the steps were: only the scenario's own
    objective is searched for.
    """
    seen = [t for t in trials if t.held is not Held.GENERATOR and t.p99_ms is not None]
    found = {}
    for limit in limits_ms:
        over = [t.deliveries_per_s for t in seen if (t.p99_ms or 0) > limit]
        fails_at = min(over, default=None)
        under = [
            t.deliveries_per_s
            for t in seen
            if (t.p99_ms or 0) <= limit and (fails_at is None or t.deliveries_per_s < fails_at)
        ]
        found[limit] = Bracket(max(under, default=None), fails_at)
    return found


def critical_rate(steps: dict[float, Bracket]) -> float | None:
    """Geometric mean of the rates that hold each limit of the ladder: one figure for a whole curve.

    None where a limit was never held: a mean of the others would flatter.
    """
    rates = [step.holds_at for step in steps.values()]
    if not rates or any(rate is None for rate in rates):
        return None
    return math.exp(sum(math.log(rate) for rate in rates if rate) / len(rates))


@dataclass(frozen=True, slots=True)
class Slope:
    """A resource against a load: ``per_unit`` with its 95 % interval, and what it costs at no load."""

    per_unit: float
    low: float
    high: float
    at_zero: float
    up_to: float  # the highest measured load

    def at(self, load: float) -> float:
        """What the resource comes to.

        Raises:
            ValueError: far above what was measured, where a line is a hope.
        """
        if load > BEYOND * self.up_to:
            raise ValueError(
                f"{load:,.0f} is more than {BEYOND:g} times the highest measured load, {self.up_to:,.0f}"
            )
        return self.at_zero + self.per_unit * load


def slope(points: Iterable[tuple[float, float | None]]) -> Slope | None:
    """Theil–Sen line through (load, resource); None with fewer than three loads."""
    known = [(x, y) for x, y in points if y is not None]
    if len({x for x, _ in known}) < 3:
        return None
    xs, ys = zip(*known, strict=True)
    with np.errstate(invalid="ignore"):  # Sen's variance is below 0 where nearly all values are equal
        line = theilslopes(ys, xs, alpha=0.95)
    ends = (float(line.low_slope), float(line.high_slope))
    if not all(map(math.isfinite, ends)):  # then the interval is the widest that the pairs allow
        pairs = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(known, 2) if a[0] != b[0]]
        ends = (min(pairs), max(pairs))
    return Slope(float(line.slope), *ends, float(line.intercept), max(xs))


def _rate(trials: Sequence[Trial], load: float) -> float:
    """Deliveries/s at a load: the median of its trials."""
    return median_low(t.deliveries_per_s for t in trials if t.load == load)

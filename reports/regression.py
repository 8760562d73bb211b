"""Did B get worse than A? Decided from several runs a side, never from one.

The unit of replication is a run: one figure a run, such as its p99. Samples inside a run depend on
each other, and a test on them calls half of all identical pairs different. The figures are compared as
logarithms, because load and noise multiply: Welch's t (Welch 1947) gives the interval of the
ratio B / A, and an exact permutation of the runs' labels, which assumes no distribution, must agree
before anybody is accused.

    FAIL          surely worse (one-sided 99 %), and by more than max_increase, and by more than min_delta
    PASS          surely not worse by max_increase (one-sided 95 %): non-inferiority
    INCONCLUSIVE  neither: more pairs, or a quieter machine
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from statistics import fmean, median, variance
from typing import Any, Final, Literal

from scipy.special import stdtrit  # quantiles of Student's t

ALARM: Final = 0.01  # chance of calling equal sides worse
MISS: Final = 0.05  # chance of passing a side that is worse by max_increase
POWER: Final = 0.90  # of the smallest change that is printed as detectable
LEAST_PAIRS: Final = 2  # without a variance a side there is no interval
Better = Literal["lower", "higher"]


class Outcome(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What B may cost. ``max_increase``: ratio, 0.1 is +10 %. ``min_delta``: in the figure's own unit;
    a smaller difference of the medians never fails, however sure it is."""

    max_increase: float
    min_delta: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One figure of two sides. Changes are ratios, 0.1 is 10 % worse; negative is better.

    ``low``: B is worse by at least this (99 % sure). ``high``: by at most this (95 %). ``p``: share of
    relabellings of the runs that look as bad. ``detectable``: the smallest change that these runs
    would have called worse in nine of ten cases. ``None``: too few runs.
    """

    a: tuple[float, ...]
    b: tuple[float, ...]
    limits: Limits
    change: float
    paired_change: float  # median of B / A within pairs: what a drifting machine disturbs least
    delta: float  # between the medians, in the figure's unit; positive is worse
    low: float | None
    high: float | None
    p: float | None
    detectable: float | None
    outcome: Outcome
    why: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"outcome": str(self.outcome)}


def compare(
    a: Sequence[float], b: Sequence[float], limits: Limits, *, better: Better = "lower"
) -> Comparison:
    """Compare one figure of the runs of two sides, in the order in which they were run.

    Args:
        a, b: a figure a run, above 0; A is what there was, B what is proposed.
        better: "higher" for rates: B is then worse when it is lower.
    Raises:
        ValueError: no run on a side, or a figure that is not a positive number.
    """
    if not a or not b:
        raise ValueError("each side needs a run")
    if bad := [x for x in (*a, *b) if not (math.isfinite(x) and x > 0)]:
        raise ValueError(f"a figure is {bad[0]!r}: must be a positive number, as its logarithm is compared")
    sign = 1 if better == "lower" else -1
    worse_a, worse_b = ([sign * math.log(x) for x in side] for side in (a, b))
    shift = fmean(worse_b) - fmean(worse_a)
    pairs = [y - x for x, y in zip(worse_a, worse_b, strict=False)]
    interval = _welch(worse_a, worse_b)
    p = permutation_p(worse_a, worse_b) if interval else None
    delta = sign * (median(b) - median(a))
    low, high, detectable = (
        (_ratio(shift - interval.of(ALARM)), _ratio(shift + interval.of(MISS)), _ratio(interval.detectable()))
        if interval
        else (None, None, None)
    )
    outcome, why = _decide(_ratio(shift), delta, low, high, p, limits)
    return Comparison(
        a=tuple(a), b=tuple(b), limits=limits, change=_ratio(shift), paired_change=_ratio(median(pairs)),
        delta=delta, low=low, high=high, p=p, detectable=detectable, outcome=outcome, why=why,
    )  # fmt: skip


def _decide(
    change: float, delta: float, low: float | None, high: float | None, p: float | None, limits: Limits
) -> tuple[Outcome, str]:
    allowed = f"{limits.max_increase:.0%}"
    if low is None or high is None or p is None:
        return Outcome.INCONCLUSIVE, f"an interval needs {LEAST_PAIRS} runs a side"
    if high < limits.max_increase:
        return Outcome.PASS, f"at most {high:+.1%} with 95 % confidence, less than the {allowed} allowed"
    if low <= 0:
        return Outcome.INCONCLUSIVE, f"the change may be anything from {low:+.1%} to {high:+.1%}"
    if change <= limits.max_increase:
        return Outcome.INCONCLUSIVE, f"worse by {change:.1%}, and {high:.1%} cannot be ruled out"
    if delta <= limits.min_delta:
        return Outcome.PASS, f"worse by {change:.1%}, but by no more than min_delta"
    if p > ALARM:
        return Outcome.INCONCLUSIVE, f"relabelled runs look as bad in {p:.1%} of cases: more pairs are needed"
    return Outcome.FAIL, f"worse by {change:.1%}, at least {low:.1%} with 99 % confidence; {allowed} allowed"


@dataclass(frozen=True, slots=True)
class _Interval:
    """Of a difference of means: its standard error, and the degrees of freedom of that."""

    error: float
    freedom: float

    def of(self, tail: float) -> float:
        """Half-width that a one-sided limit with this error probability has."""
        return float(stdtrit(self.freedom, 1 - tail)) * self.error

    def detectable(self) -> float:
        return self.of(ALARM) + self.of(1 - POWER)


def _welch(a: Sequence[float], b: Sequence[float]) -> _Interval | None:
    """Welch's standard error and Satterthwaite's degrees of freedom."""
    if min(len(a), len(b)) < LEAST_PAIRS:
        return None
    parts = [variance(side) / len(side) for side in (a, b)]
    total = sum(parts)
    if total == 0:
        return _Interval(0.0, len(a) + len(b) - 2)
    spread = sum(part**2 / (len(side) - 1) for part, side in zip(parts, (a, b), strict=True))
    return _Interval(math.sqrt(total), total**2 / spread)


def permutation_p(a: Sequence[float], b: Sequence[float]) -> float:
    """Share of the ways to label the runs A and B in which B's mean is as far above A's, or more.

    Exact: every way is looked at, 252 for five runs a side and 184,756 for ten.
    """
    runs = [*a, *b]
    # Sums in place of means: the sizes of the sides do not change. The tolerance lets equal sums be equal.
    seen = sum(b) - 1e-12 * (1 + abs(sum(b)))
    ways = [sum(chosen) >= seen for chosen in itertools.combinations(runs, len(b))]
    return sum(ways) / len(ways)


def _ratio(log: float) -> float:
    return math.expm1(min(log, 700.0))

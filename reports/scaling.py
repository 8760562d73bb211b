"""How capacity grows with the number of nodes: the Universal Scalability Law, fitted, with intervals.

    X(N) = λN / (1 + σ(N−1) + κN(N−1))

λ is what one does, σ what they wait for in turn (contention), κ what each pair has to agree on (coherency);
with κ > 0 there is a number of nodes after which more of them do less. N/X is linear in d, b and c with
λ = 1/(d+b), σ = b/(d+b), κ = c/(d+b), so that d, b, c ≥ 0 is all of 0 ≤ σ ≤ 1 and κ ≥ 0, and the fit has
one best answer (least squares of relative errors). An interval holds all values of a parameter with which the
best fit is not much worse: a profile, since with a handful of points neither a bootstrap nor a normal
approximation can be believed.

Sources: Gunther, "Guerrilla Capacity Planning" (2007), ch. 4–6; Lawson & Hanson, "Solving Least Squares
Problems" (1974), ch. 23; Bates & Watts, "Nonlinear Regression Analysis" (1988), § 6.1 (profiles).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls
from scipy.stats import f as fisher

from reports.capacity import BEYOND

LEAST: Final = 3  # different numbers of nodes, for a fit of three parameters
LEAST_FOR_INTERVALS: Final = 4  # points: three of them leave nothing to tell the noise by
LEVEL: Final = 0.95
_PARAMETERS: Final = 3
_HELD: Final = 1e5  # weight of an equation that has to hold
_HALVINGS: Final = 40
_FAR: Final = 1e6  # times the best value: an end that is further away is none
Floats = npt.NDArray[np.float64]


class ScalingError(ValueError):
    """Points that cannot be fitted; a line for each fault."""


@dataclass(frozen=True, slots=True)
class Point:
    """One search. ``rate``: what ``n`` hold. ``width``: of its bracket, relative; the limit is in it."""

    n: int
    rate: float
    width: float = 0.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """``low``, ``high``: 95 % interval. Both None: there is none; ``high`` alone: it has no upper end."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Fit:
    """``rate_of_one`` is λ, ``contention`` σ, ``coherency`` κ.

    ``peak``: the number with the highest rate; None: none is seen.
    ``most``: the largest N that was measured; nothing is said of any above ``reach``.
    """

    rate_of_one: Estimate
    contention: Estimate
    coherency: Estimate
    peak: Estimate | None
    most: int
    profile: Profile

    @property
    def intervals(self) -> bool:
        return self.coherency.low is not None

    @property
    def bends(self) -> bool:
        """Whether κ is above 0 for all that the points say."""
        return (self.coherency.low or 0.0) > 0.0

    @property
    def reach(self) -> int:
        return math.floor(BEYOND * self.most)

    def rate_at(self, n: float) -> float:
        """What ``n`` of them hold.

        Raises:
            ValueError: far above what was measured, where a curve is a hope.
        """
        self._refuse(n)
        sigma, kappa = self.contention.value, self.coherency.value
        return self.rate_of_one.value * n / (1 + sigma * (n - 1) + kappa * n * (n - 1))

    def estimate_at(self, n: int) -> Estimate:
        """The same with its interval."""
        return self.profile.rate(n, self.rate_at(n))

    def _refuse(self, n: float) -> None:
        if n > BEYOND * self.most:
            raise ValueError(f"{n:g} is more than {BEYOND:g} times the most that were measured, {self.most}")


@dataclass(frozen=True, slots=True)
class Profile:
    """Points, and how bad a fit may be. ``limit``: of the sum of squares; None: there are no intervals."""

    n: Floats
    rates: Floats
    limit: float | None

    def contention(self, best: float) -> Estimate:
        return self._estimate(best, self.contention_at, 0.0, 1.0)

    def contention_at(self, sigma: float) -> float:
        """Sum of squares of the best fit with this σ."""
        return self._squares([1 + sigma * (self.n - 1), self._pairs])

    def coherency(self, best: float) -> Estimate:
        return self._estimate(best, self.coherency_at, 0.0)

    def coherency_at(self, kappa: float) -> float:
        """Sum of squares of the best fit with this κ."""
        return self._squares([1 + kappa * self._pairs, self.n + kappa * self._pairs])

    def peak(self, best: float, reach: float) -> Estimate:
        return self._estimate(best, self._peak_at, 1.0, reach, open_end=True)

    def _peak_at(self, peak: float) -> float:
        return self._squares([1 + self._pairs / peak**2, self.n])

    def rate(self, n: int, best: float) -> Estimate:
        """Of the rate of ``n`` of them."""
        return self._estimate(best, lambda rate: self.rate_at(n, rate), best / _FAR)

    def rate_at(self, n: int, rate: float) -> float:
        """Sum of squares of the best curve through this rate."""
        own = np.array([1.0, n, n * (n - 1.0)]) * rate / n * _HELD
        return self._squares([np.ones_like(self.n), self.n, self._pairs], held=own)

    @property
    def _pairs(self) -> Floats:
        return self.n * (self.n - 1)

    def _squares(self, columns: Sequence[Floats], *, held: Floats | None = None) -> float:
        table = np.stack(columns, axis=1) * (self.rates / self.n)[:, None]
        rows = table if held is None else np.vstack([table, held])
        wanted = np.ones(len(rows))
        wanted[len(table) :] = _HELD
        found, _ = nnls(rows, wanted)
        return float(((table @ found - 1) ** 2).sum())

    def _estimate(
        self,
        best: float,
        squares: Callable[[float], float],
        lowest: float,
        highest: float = math.inf,
        *,
        open_end: bool = False,
    ) -> Estimate:
        if self.limit is None:
            return Estimate(best)
        limit = self.limit

        def holds(value: float) -> bool:
            return squares(value) <= limit

        low = lowest if holds(lowest) else _edge(best, lowest, holds)
        outer, furthest = max(best * 2, 1e-9), max(best, 1e-3) * _FAR
        while outer < min(highest, furthest) and holds(outer):
            outer *= 2
        outer = min(outer, highest)
        if holds(outer):
            return Estimate(best, low, outer if outer == highest and not open_end else None)
        return Estimate(best, low, _edge(best, outer, holds))


def _edge(inside: float, outside: float, holds: Callable[[float], bool]) -> float:
    """Where ``holds`` changes between the two, from within."""
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if holds(middle) else (inside, middle)
    return inside


def best(points: Sequence[Point]) -> tuple[float, float, float, Profile]:
    """λ, σ and κ of the law that fits best, and what their intervals are taken from.

    Raises:
        ScalingError: too few different numbers, or no such law fits.
    """
    if (known := len({point.n for point in points})) < LEAST:
        raise ScalingError(
            f"{known} different numbers were measured: for {_PARAMETERS} parameters at least {LEAST}"
        )
    n = np.array([point.n for point in points], float)
    rates = np.array([point.rate for point in points], float)
    table = np.stack([np.ones_like(n), n, n * (n - 1)], axis=1) * (rates / n)[:, None]
    found, _ = nnls(table, np.ones(len(n)))
    flat, turns, agreeing = map(float, found)
    if (one := flat + turns) <= 0:
        raise ScalingError(
            "no such law fits: by it one alone would do without limit; measure smaller numbers"
        )
    left = float(((table @ found - 1) ** 2).sum())
    return 1 / one, turns / one, agreeing / one, Profile(n, rates, _limit(points, left))


def fit(points: Sequence[Point]) -> Fit:
    """The law that fits best, with intervals.

    Raises:
        ScalingError: as of ``best``.
    """
    one, sigma, kappa, profile = best(points)
    coherency, peak, most = profile.coherency(kappa), None, max(point.n for point in points)
    if (coherency.low or 0.0) > 0.0:
        at = max(1.0, math.sqrt((1 - sigma) / kappa))
        peak = profile.peak(at, BEYOND * most) if at <= BEYOND * most else None
    return Fit(
        rate_of_one=profile.rate(1, one),
        contention=profile.contention(sigma),
        coherency=coherency,
        peak=peak,
        most=most,
        profile=profile,
    )


def _limit(points: Sequence[Point], left: float) -> float | None:
    """Largest sum of squares inside of the intervals.

    Points on a curve by chance would have no noise at all. A search knows a limit to its bracket only, so the
    noise is taken for that of a value anywhere in it at least.
    """
    free = len(points) - _PARAMETERS
    if len(points) < LEAST_FOR_INTERVALS:
        return None
    least = sum(point.width**2 for point in points) / len(points) / 12
    return left + max(left / free, least) * float(fisher.ppf(LEVEL, 1, free))

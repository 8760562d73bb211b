"""delay: data comes later, by a draw from a distribution."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, log
from statistics import NormalDist

from chaos.proxy.draws import Draws
from chaos.proxy.toxics.base import MS, Chunk, Release

Z99 = NormalDist().inv_cdf(0.99)
LONGEST = 100  # no delay is longer than so many times p99: a Pareto's tail has no end
DISTRIBUTIONS = ("normal", "lognormal", "pareto", "spike")


@dataclass(slots=True)
class Delay:
    """Delays each chunk by a draw from ``distribution``, whose median is ``p50`` and whose p99 is
    ``p99``, ms.

    normal: symmetric, cut off at 0. lognormal: a long tail. pareto: a longer one, and no delay below p50
    / 2 ^ (1 / shape). spike: p50, but p99 for each chunk in ``one_in``. Order is kept, so a chunk also
    waits for those before it.
    """

    distribution: str = "normal"
    p50: int = 0  # ms
    p99: int = 0  # ms
    one_in: int = 100  # of spike

    def flow(self, data: Chunk, t: float, draws: Draws) -> Iterator[Release]:
        """The chunk, later."""
        yield t + self.delay_ms(draws.uniform(0, 1)) * MS, data

    def delay_ms(self, u: float) -> float:
        """The delay below which a share ``u`` of all delays is; u in [0, 1)."""
        u = min(max(u, 1e-12), 1 - 1e-12)
        match self.distribution:
            case "normal":
                drawn = self.p50 + (self.p99 - self.p50) / Z99 * NormalDist().inv_cdf(u)
            case "lognormal":
                drawn = self.p50 * exp(log(self.p99 / self.p50) / Z99 * NormalDist().inv_cdf(u))
            case "pareto":  # F(x) = 1 - (least / x) ** shape, so p99 / p50 is 50 ** (1 / shape)
                per_shape = log(self.p99 / self.p50) / log(50)
                drawn = self.p50 * (2 * (1 - u)) ** -per_shape
            case _:
                drawn = self.p99 if u >= 1 - 1 / self.one_in else self.p50
        return min(max(drawn, 0.0), LONGEST * self.p99)

    def broken_rule(self) -> str | None:
        """A distribution, and two points of it."""
        if self.distribution not in DISTRIBUTIONS:
            return f"distribution is {self.distribution!r}: must be one of {', '.join(DISTRIBUTIONS)}"
        if self.p50 < 1 and self.distribution in ("lognormal", "pareto"):
            return f"p50 is {self.p50}: must be 1 ms or more for a {self.distribution} distribution"
        if self.p99 <= self.p50:
            return f"p99 is {self.p99}: must be above p50, which is {self.p50}"
        if self.one_in < 1:
            return f"one_in is {self.one_in}: must be 1 or more"
        return None

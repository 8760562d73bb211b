"""How much is asked when: [[workload.phase]], and the arrivals that follow its rate.

A phase has a base rate (constant, a ramp, steps, or a sine) times the factors of its spikes. Arrivals follow
the rate as a Poisson process, evenly, or as a Poisson process of bursts. They are drawn in one-second
blocks, each from random numbers of its own, so no block needs the one before it.

Times are seconds from the start of the run, unless a name says "in the phase".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator, model_validator

from .section import SECOND_NS, Duration, Rate, Seconds, Section

Arrivals = Literal["poisson", "constant", "burst"]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_GRID: Final = 513  # points of a block between which the integral of the rate counts as straight


class Step(Section):
    """From ``at_s`` in the phase on, the rate is ``per_s``."""

    at_s: Seconds
    per_s: Rate


class Sine(Section):
    """The rate goes up and down by ``amplitude_per_s`` around ``publish_per_s``, upwards first."""

    amplitude_per_s: float = Field(gt=0, le=1_000_000, allow_inf_nan=False)
    period_s: Duration


class Spike(Section):
    """For ``for_s`` from ``at_s`` in the phase on, the rate is ``factor`` times what it would be."""

    at_s: Seconds
    for_s: Duration
    factor: float = Field(ge=0, le=10_000, allow_inf_nan=False)


class Phase(Section):
    """A stretch of time with its own rate; phases follow each other from the start of the run."""

    name: str = Field(min_length=1)
    duration_s: Duration
    publish_per_s: Rate = 0.0
    """Mean over all clients together, once all of them are there."""
    to_per_s: Rate | None = None
    """A ramp: from publish_per_s at the phase's beginning to this at its end."""
    steps: tuple[Step, ...] = ()
    sine: Sine | None = None
    spikes: tuple[Spike, ...] = ()
    arrivals: Arrivals = "poisson"
    burst: int = Field(default=10, ge=1, le=10_000)
    """With arrivals = "burst": messages of one burst, all of one client on one channel."""
    burst_gap_s: Seconds = 0.0
    """Between the messages of a burst; 0: all are due at once."""
    speakers: tuple[str, ...] = ()
    """Personas that publish in this phase; empty: all."""
    actions: float = Field(default=1.0, ge=0, le=10_000, allow_inf_nan=False)
    """Factor on the rates of what personas do besides publishing."""
    warmup: bool = False  # left out of latency

    @field_validator("steps")
    @classmethod
    def _rising(cls, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        for before, after in pairwise(steps):
            if after.at_s <= before.at_s:
                raise ValueError(f"at_s {after.at_s:g} after {before.at_s:g}: steps must be in order of time")
        return steps

    @model_validator(mode="after")
    def _one_shape(self) -> Phase:
        shapes = {"to_per_s": self.to_per_s, "steps": self.steps or None, "sine": self.sine}
        given = [name for name, value in shapes.items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other: write one phase for each")
        if self.sine is not None and self.sine.amplitude_per_s > self.publish_per_s:
            raise ValueError(
                f"sine.amplitude_per_s is {self.sine.amplitude_per_s:g}: must be at most publish_per_s, "
                f"{self.publish_per_s:g}, the mean, or the rate would fall below 0"
            )
        late = [step.at_s for step in self.steps] + [spike.at_s for spike in self.spikes]
        if late and max(late) >= self.duration_s:
            raise ValueError(f"at_s {max(late):g} is not before the end of the phase, {self.duration_s:g}")
        return self


@dataclass(frozen=True, slots=True)
class Curve:
    """The rate of a phase over time in the phase, and its integral; exact between ``edges``."""

    phase: Phase
    edges: Floats  # (n + 1,) from 0 to the phase's end; factor and step are constant between two
    factors: Floats  # (n,) of the spikes
    levels: Floats  # (n,) base rate, of constant and steps
    before: Floats  # (n,) integral of the rate up to each edge

    def rate(self, t: Floats) -> Floats:
        """Per second, at times in the phase."""
        piece = self._piece(t)
        return self.factors[piece] * self._base(t, piece)

    def integral(self, t: Floats) -> Floats:
        """Expected arrivals from the phase's beginning to times in it."""
        piece = self._piece(t)
        begins = self.edges[piece]
        return np.asarray(
            self.before[piece] + self.factors[piece] * self._area(begins, t, self.levels[piece])
        )

    def bound(self, begin: float, end: float) -> float:
        """A rate that is not exceeded between two times that lie between two edges."""
        piece = self._piece(np.array([(begin + end) / 2]))[0]
        phase, factor = self.phase, float(self.factors[piece])
        if phase.sine is not None:
            return factor * (phase.publish_per_s + phase.sine.amplitude_per_s)
        if phase.to_per_s is not None:
            ends = np.array([begin, end])
            return factor * float(self._base(ends, np.array([piece, piece])).max())
        return factor * float(self.levels[piece])

    @property
    def is_flat(self) -> bool:
        """Whether the rate is constant between two edges."""
        return self.phase.sine is None and self.phase.to_per_s is None

    def pieces(self, begin: float, end: float) -> Iterator[tuple[float, float]]:
        """The stretches between edges, cut to [begin, end)."""
        inner = self.edges[(self.edges > begin) & (self.edges < end)].tolist()
        yield from pairwise([begin, *inner, end])

    def _piece(self, t: Floats) -> Ints:
        return np.clip(np.searchsorted(self.edges, t, side="right") - 1, 0, len(self.factors) - 1)

    def _base(self, t: Floats, piece: Ints) -> Floats:
        phase = self.phase
        if phase.to_per_s is not None:
            slope = (phase.to_per_s - phase.publish_per_s) / phase.duration_s
            return np.asarray(phase.publish_per_s + slope * t)
        if phase.sine is not None:
            wave = np.sin(2 * np.pi * t / phase.sine.period_s)
            return np.asarray(phase.publish_per_s + phase.sine.amplitude_per_s * wave)
        return np.asarray(self.levels[piece])

    def _area(self, begin: Floats, end: Floats, level: Floats) -> Floats:
        """Integral of the base rate between times of one piece."""
        phase, span = self.phase, end - begin
        if phase.to_per_s is not None:
            slope = (phase.to_per_s - phase.publish_per_s) / phase.duration_s
            return np.asarray(span * (phase.publish_per_s + slope * (begin + end) / 2))
        if phase.sine is not None:
            turn = 2 * np.pi / phase.sine.period_s
            wave = (np.cos(turn * begin) - np.cos(turn * end)) / turn
            return np.asarray(span * phase.publish_per_s + phase.sine.amplitude_per_s * wave)
        return np.asarray(span * level)


@lru_cache(maxsize=256)
def curve(phase: Phase) -> Curve:
    """The rate of a phase.

    >>> curve(Phase(name="up", duration_s=10, publish_per_s=0, to_per_s=20)).integral(np.array([5.0, 10.0]))
    array([ 25., 100.])
    """
    end = phase.duration_s
    cuts = {0.0, end, *(step.at_s for step in phase.steps), *(spike.at_s for spike in phase.spikes)}
    cuts |= {min(end, spike.at_s + spike.for_s) for spike in phase.spikes}
    edges = np.array(sorted(cuts))
    middles = (edges[1:] + edges[:-1]) / 2
    factors, levels = np.ones(len(middles)), np.full(len(middles), phase.publish_per_s)
    for spike in phase.spikes:
        factors[(middles > spike.at_s) & (middles < spike.at_s + spike.for_s)] *= spike.factor
    for step in phase.steps:
        levels[middles > step.at_s] = step.per_s
    shape = Curve(phase, edges, factors, levels, np.zeros(len(middles)))
    areas = factors * shape._area(edges[:-1], edges[1:], levels)
    return Curve(phase, edges, factors, levels, np.concatenate([[0.0], np.cumsum(areas)[:-1]]))


class Due(NamedTuple):
    """Arrivals of a block by time. ``number``: of an even one, its count in the phase; else -1."""

    ns: Ints
    number: Ints


class Stretch(NamedTuple):
    """The part of a phase that lies in a block."""

    phase: Phase
    begin_s: float  # of the phase
    low_s: float
    high_s: float


def stretches(phases: Sequence[Phase], second: int) -> Iterator[Stretch]:
    """What of each phase lies in [second, second + 1)."""
    begin_s = 0.0
    for phase in phases:
        end_s = begin_s + phase.duration_s
        low_s, high_s = max(begin_s, float(second)), min(end_s, second + 1.0)
        if low_s < high_s:
            yield Stretch(phase, begin_s, low_s, high_s)
        begin_s = end_s


def due(stretch: Stretch, share: float, kind: Arrivals, rng: np.random.Generator) -> Due:
    """The arrivals of one stretch whose rate is ``share`` times the phase's.

    Of kind "burst", those are the bursts' beginnings: their rate is that of the messages by ``phase.burst``.
    The caller says so in ``share``.
    """
    if kind == "constant":
        return _even(stretch, share)
    rates, parts = curve(stretch.phase), []
    begin_s = stretch.begin_s
    for low, high in rates.pieces(stretch.low_s - begin_s, stretch.high_s - begin_s):
        # In times of the run, so that a phase of constant rate rounds as it does without a shape.
        low_s = stretch.low_s if low == stretch.low_s - begin_s else low + begin_s
        high_s = stretch.high_s if high == stretch.high_s - begin_s else high + begin_s
        bound = rates.bound(low, high) * share
        count = rng.poisson(bound * (high_s - low_s))
        offsets_s = low_s + np.sort(rng.random(count)) * (high_s - low_s)
        if not rates.is_flat:  # thinning (Lewis & Shedler, 1979): candidates of the bound, kept by the rate
            kept = rng.random(count) * bound < rates.rate(offsets_s - begin_s) * share
            offsets_s = offsets_s[kept]
        parts.append((offsets_s * SECOND_NS).astype(np.int64))
    ns = np.concatenate(parts) if parts else np.empty(0, np.int64)
    return Due(ns, np.full(len(ns), -1))


def _even(stretch: Stretch, share: float) -> Due:
    """One arrival each time that the integral of the rate passes a half, 1.5, 2.5 …"""
    rates, low, high = curve(stretch.phase), stretch.low_s - stretch.begin_s, stretch.high_s - stretch.begin_s
    inner = rates.edges[(rates.edges > low) & (rates.edges < high)]
    grid = np.union1d(np.linspace(low, high, _GRID), inner)
    passed = rates.integral(grid) * share
    first, last = (int(np.ceil(edge - 0.5)) for edge in (passed[0], passed[-1]))
    number = np.arange(first, last, dtype=np.int64)
    at = np.interp(number + 0.5, passed, grid) + stretch.begin_s
    ns = (np.clip(at, stretch.low_s, np.nextafter(stretch.high_s, 0)) * SECOND_NS).astype(np.int64)
    return Due(ns, number)


def peak_per_s(phase: Phase) -> float:
    """The highest rate of a phase."""
    rates = curve(phase)
    return max((rates.bound(low, high) for low, high in rates.pieces(0.0, phase.duration_s)), default=0.0)


def mean_per_s(phase: Phase) -> float:
    """The mean rate of a phase."""
    return float(curve(phase).integral(np.array([phase.duration_s]))[0]) / phase.duration_s

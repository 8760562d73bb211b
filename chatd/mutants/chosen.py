"""Which mutant, how often it fires, and what it counts."""

from __future__ import annotations

import random
from typing import Final

import msgspec

from ..metrics import Metrics
from .table import CRASHES, MUTANTS

WITHIN: Final = 1000
FORMS: Final = "name[:probability[:seed]] or name:once[:seed[:within]]"


class Chosen(msgspec.Struct, frozen=True):
    """A mutant as it was asked for.

    Each chance that it has to fire is drawn anew with ``probability``; or, if ``within`` is not 0, it
    fires at one chance only, drawn evenly from the first ``within`` of the process.
    """

    name: str
    probability: float = 1.0
    seed: int = 0
    within: int = 0


def parse(text: str) -> Chosen:
    """Read ``name[:probability[:seed]]`` or ``name:once[:seed[:within]]``.

    Raises ``ValueError`` with the rule that was broken.
    """
    name, *rest = text.split(":")
    if name not in MUTANTS and name not in CRASHES:
        raise ValueError(f"must name one of {', '.join((*MUTANTS, *CRASHES))}")
    try:
        if rest and rest[0] == "once":
            chosen = _once(name, *map(int, rest[1:]))
        else:
            chosen = Chosen(name, *(read(part) for read, part in zip((float, int), rest, strict=False)))
    except (TypeError, ValueError):
        raise ValueError("probability must be a number, seed and within integers") from None
    if len(rest) > (3 if chosen.within else 2):
        raise ValueError(f"must be {FORMS}")
    if not 0 <= chosen.probability <= 1:
        raise ValueError("probability must be from 0 to 1")
    if chosen.within < 0:
        raise ValueError("within must be 1 or more")
    return chosen


def _once(name: str, seed: int = 0, within: int = WITHIN, *more: int) -> Chosen:
    return Chosen(name, seed=seed, within=within if within > 0 else -1)


class Trigger:
    """Decides at each chance, and counts chances and firings."""

    def __init__(self, chosen: Chosen, metrics: Metrics) -> None:
        rng = random.Random(chosen.seed)
        self._draw, self._probability = rng.random, chosen.probability
        self._at = rng.randint(1, chosen.within) if chosen.within else 0
        self._metrics = metrics

    def fires(self) -> bool:
        """Whether the fault happens now."""
        metrics = self._metrics
        metrics.mutant_chances += 1
        if self._at:
            fires = metrics.mutant_chances == self._at
        else:
            fires = self._draw() < self._probability
        metrics.mutant_fired += fires
        return fires

"""Faults planted in the daemon on purpose, to prove that a checker finds them.

A mutant is chosen at start, as a subclass in place of the part it breaks; without one,
nothing of this module is on any path. Refused without ``test_hooks``, and named in
the log and in every ``connected.contract.test_hooks``.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from .crashes import CRASHES, DyingHub, dice
from .crashes import make_store as make_dying_store
from .flush import Flusher
from .hub import Channel, Hub, Push
from .store.base import Dedupe, Remembered, Retain, Retention, Store

MUTANTS: Final[Mapping[str, str]] = {
    "skip-subscriber": "a live message is not delivered to one subscriber (D1)",
    "no-dedupe": "a retry is not recognised and is placed again (L2)",
    "gap-off-by-one": "the notice of a gap ends one message too early (D3)",
    "evict-early": "half of the messages that were promised are kept (D4)",
    **CRASHES,
}


class Mutant(msgspec.Struct, frozen=True):
    """``name[:probability[:seed]]``: how often the fault fires, each time drawn anew."""

    name: str
    probability: float = 1.0
    seed: int = 0


def parse(text: str) -> Mutant:
    """Read ``name[:probability[:seed]]``. Raises ``ValueError`` with the rule that was broken."""
    name, *rest = text.split(":")
    if name not in MUTANTS:
        raise ValueError(f"must name one of {', '.join(MUTANTS)}")
    if len(rest) > 2:
        raise ValueError("must be name, name:probability or name:probability:seed")
    try:
        mutant = Mutant(name, *(read(part) for read, part in zip((float, int), rest, strict=False)))
    except ValueError:
        raise ValueError("probability must be a number and seed an integer") from None
    if not 0 <= mutant.probability <= 1:
        raise ValueError("probability must be from 0 to 1")
    return mutant


class SkippingHub(Hub):
    """Leaves live deliveries out. The subscriber's connection stays open and nothing repairs it."""

    def __init__(self, flusher: Flusher, mutant: Mutant) -> None:
        super().__init__(flusher)
        self._rng = random.Random(mutant.seed)
        self._probability = mutant.probability

    def deliver(self, channel: Channel, pushes: Sequence[Push]) -> None:
        users = {**dict.fromkeys(channel.live), **channel.quiet}
        for outlet, user in users.items():
            for item in pushes:
                if item.user != user and self._rng.random() >= self._probability:
                    outlet.send(item.frame)
                    self.metrics.deliveries += 1


class ForgetfulDedupe(Dedupe):
    """Does not find what it remembers, be it committed or in the same batch."""

    def __init__(self, ttl_s: float, mutant: Mutant) -> None:
        super().__init__(ttl_s)
        self._rng = random.Random(mutant.seed)
        self._probability = mutant.probability

    def find(self, key: bytes) -> Remembered | None:
        found = super().find(key)
        return None if found is not None and self._rng.random() < self._probability else found


class EarlyRetain:
    """Keeps the newest half of what was promised, each time that it is asked."""

    def __init__(self, retain: Retain, mutant: Mutant) -> None:
        self._retain = retain
        self._rng = random.Random(mutant.seed)
        self._probability = mutant.probability

    def of(self, channel: str) -> Retention:
        kept = self._retain.of(channel)
        if self._rng.random() >= self._probability:
            return kept
        return Retention(max(1, kept.n // 2), kept.s, kept.bytes)


def make_retain(retain: Retain, mutant: Mutant | None) -> Retain:
    if mutant is not None and mutant.name == "evict-early":
        return EarlyRetain(retain, mutant)
    return retain


def make_hub(flusher: Flusher, mutant: Mutant | None) -> Hub:
    if mutant is not None and mutant.name == "skip-subscriber":
        return SkippingHub(flusher, mutant)
    if mutant is not None and mutant.name.endswith("-fanout"):
        return DyingHub(flusher, mutant.name, dice(mutant.probability, mutant.seed))
    return Hub(flusher)


def make_store(store: Store, mutant: Mutant | None) -> Store:
    if mutant is not None and mutant.name in CRASHES:
        return make_dying_store(store, mutant.name, dice(mutant.probability, mutant.seed))
    return store


def make_dedupe(ttl_s: float, mutant: Mutant | None) -> Dedupe:
    if mutant is not None and mutant.name == "no-dedupe":
        return ForgetfulDedupe(ttl_s, mutant)
    return Dedupe(ttl_s)

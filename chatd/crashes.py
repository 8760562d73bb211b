"""The daemon kills itself at a chosen point, to prove that nothing is lost there.

These are mutants too (chatd/mutants.py): chosen with ``--mutant``, refused without
``--test-hooks``, named in every ``connected.contract.test_hooks``. They break no promise; they
make moments that a kill at random seldom hits happen every time.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NoReturn, cast

from .flush import Flusher
from .hub import Channel, Hub, Push
from .store.base import Append, Entry, Outcome, Store

CRASHES: Final[Mapping[str, str]] = {
    "die-before-commit": "killed when a batch of publishes is about to be stored",
    "die-after-commit": "killed when a batch is stored and no ack was written",
    "die-before-fanout": "killed when the acks were written and no message was delivered",
    "die-mid-fanout": "killed when half of the subscribers have a message",
}


def die() -> NoReturn:
    """SIGKILL: nothing is flushed, no handler runs."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


class DyingStore:
    """A store in which a batch may be the last one. Everything but ``append`` is the inner one's."""

    def __init__(self, inner: Store, name: str, falls: Callable[[], bool]) -> None:
        self._inner = inner
        self._before = name == "die-before-commit"
        self._falls = falls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def append(self, batch: Sequence[Append], now_ms: int) -> list[Outcome]:
        falls = self._falls()
        if falls and self._before:
            die()
        outcomes = await self._inner.append(batch, now_ms)
        if falls:
            die()
        return outcomes


class DyingHub(Hub):
    """A hub in which a fan-out may be the last one, before it began or half way."""

    def __init__(self, flusher: Flusher, name: str, falls: Callable[[], bool]) -> None:
        super().__init__(flusher)
        self._half = name == "die-mid-fanout"
        self._falls = falls

    def committed(self, name: str, entries: Iterable[Entry]) -> None:
        if not self._half and self._falls():
            self.flusher.flush()
            die()
        super().committed(name, entries)

    def deliver(self, channel: Channel, pushes: Sequence[Push]) -> None:
        if not self._half or not self._falls():
            super().deliver(channel, pushes)
            return
        outlets = self.listeners(channel)
        for outlet in outlets[: len(outlets) // 2]:
            outlet.send(b"".join(item.frame for item in pushes))
        self.flusher.flush()
        die()


def dice(probability: float, seed: int) -> Callable[[], bool]:
    rng = random.Random(seed)
    return lambda: rng.random() < probability


def make_store(store: Store, name: str, falls: Callable[[], bool]) -> Store:
    return cast(Store, DyingStore(store, name, falls)) if name.endswith("-commit") else store

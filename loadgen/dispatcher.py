"""Which sessions are open when Locust's page asks for so many users."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

from .roster import Roster

log = logging.getLogger("loadgen.dispatcher")


class StripedDispatcher:
    """Locust's ``UsersDispatcher`` for ordered sessions: n users are the sessions 1..n.

    Each worker is told how many of those are its own. Locust's own dispatcher deals users to workers as
    it likes, and deals again when a worker goes; here every client has its worker for the whole run.

    Args:
        sleep: lets others go on for so many seconds.
    """

    def __init__(
        self,
        worker_nodes: list[Any],
        user_classes: list[Any],
        *,
        roster: Roster,
        sleep: Callable[[float], object],
    ) -> None:
        self._roster, self._sleep = roster, sleep
        self._steps: Iterator[int] = iter(())
        self._current = 0
        self.dispatch_in_progress = False

    def new_dispatch(
        self, target_user_count: int, spawn_rate: float, user_classes: list[Any] | None = None
    ) -> None:
        clients = self._roster.spec.workload.clients
        if target_user_count > clients:
            log.warning("%d users were asked for: the scenario has %d clients", target_user_count, clients)
        self._steps = self._ramp(min(target_user_count, clients), spawn_rate)

    def add_worker(self, worker_node: Any) -> None:
        """Nothing: the stripes are fixed."""

    def remove_worker(self, worker_node: Any) -> None:
        """Nothing: nobody takes over the stripe of a lost worker."""

    def __iter__(self) -> StripedDispatcher:
        return self

    def __next__(self) -> dict[str, dict[str, int]]:
        return self._roster.shares(next(self._steps))

    def _ramp(self, target: int, rate: float) -> Iterator[int]:
        self.dispatch_in_progress = True
        while True:
            step = max(1, round(rate))
            up = min(target, self._current + step)
            self._current = up if self._current <= target else max(target, self._current - step)
            yield self._current
            if self._current == target:
                break
            self._sleep(step / rate)
        self.dispatch_in_progress = False

"""What gives way when the loop lags, and in which order. No clock, no I/O.

The measure is the 99th percentile of how late the event loop's timers fire. While it stays above
the limit, the daemon climbs one rung after another; each keeps what those below it do:

    CALM ─► REFUSE upgrades ─► DROP ephemeral pushes ─► CORK: fewer, larger writes ─► SHED connections

No message is lost on any of them: a client that is refused or shed resumes. PROTOCOL.md § Operations.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from typing import Final

from .flush import MAX_CORK_S

SAMPLE_S: Final = 0.02
WINDOW_S: Final = 2.0  # of samples that the percentile is taken of
CLIMB_S: Final = 1.0  # that the lag lasts on one rung before the next one
DESCEND_S: Final = 3.0  # of calm before a rung is left
CALM: Final = 0.5  # of the limit: below this it is calm
LONG_CORK_S: Final = 0.025
SHED_PER_S: Final = 0.01  # of the connections


class Rung(enum.IntEnum):
    CALM = 0
    REFUSE = 1
    DROP = 2
    CORK = 3
    SHED = 4


class Ladder:
    """Which rung the daemon is on, from samples of the loop's lag.

    Args:
        limit_s: of the p99; 0 turns the ladder off.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.rung = Rung.CALM
        self.p99_s = 0.0
        self._samples: deque[tuple[float, float]] = deque()
        self._high_since: float | None = None
        self._calm_since: float | None = None
        self._owed = 0.0  # connections to shed, in fractions
        self._last: float | None = None

    @property
    def refuse(self) -> bool:
        return self.rung >= Rung.REFUSE

    @property
    def drop_ephemeral(self) -> bool:
        return self.rung >= Rung.DROP

    @property
    def cork_s(self) -> float:
        return LONG_CORK_S if self.rung >= Rung.CORK else MAX_CORK_S

    def observe(self, now: float, lag_s: float, connections: int) -> int:
        """Take one sample; returns how many of ``connections`` to send away now."""
        self._samples.append((now, lag_s))
        while self._samples[0][0] < now - WINDOW_S:
            self._samples.popleft()
        lags = sorted(lag for _, lag in self._samples)
        self.p99_s = lags[math.ceil(0.99 * len(lags)) - 1]
        if not self.limit_s:
            return 0
        self._climb(now)
        passed_s, self._last = now - (self._last or now), now
        if self.rung is not Rung.SHED:
            self._owed = 0.0
            return 0
        self._owed += passed_s * SHED_PER_S * connections
        shed = min(int(self._owed), connections)
        self._owed -= shed
        return shed

    def _climb(self, now: float) -> None:
        if self.p99_s > self.limit_s:
            self._calm_since = None
            if self.rung is Rung.CALM:
                self._step(now, 1)
            elif self._high_since is None:
                self._high_since = now
            elif now - self._high_since >= CLIMB_S and self.rung is not Rung.SHED:
                self._step(now, 1)
        elif self.p99_s < self.limit_s * CALM and self.rung is not Rung.CALM:
            self._high_since = None
            if self._calm_since is None:
                self._calm_since = now
            elif now - self._calm_since >= DESCEND_S:
                self._step(now, -1)
        else:
            self._high_since = self._calm_since = None

    def _step(self, now: float, by: int) -> None:
        self.rung = Rung(self.rung + by)
        self._high_since = now if by > 0 else None
        self._calm_since = now if by < 0 else None

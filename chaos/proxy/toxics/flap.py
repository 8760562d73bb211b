"""flap: the link goes down and comes up, again and again."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from chaos.proxy.draws import Draws
from chaos.proxy.toxics.base import MS, NEVER, Chunk, End, Knock, Place, Release


@dataclass(slots=True)
class Flap:
    """Down for ``down`` ms, then up for ``up`` ms, from when it was added, for all its connections at once.

    When it goes down connections get RST; while it is down so do new ones.
    """

    down: int = 0  # ms
    up: int = 0  # ms
    _since: float = field(default=NEVER, init=False)

    def begin(self, place: Place) -> None:
        """Keep the beat of all."""
        self._since = place.since

    def flow(self, data: Chunk, t: float, draws: Draws) -> Iterator[Release]:
        """All of it, at once."""
        yield t, data

    def deadline(self, started: float) -> Release:
        """At the next time that it goes down; now, when it is down."""
        into = self._into(started - self._since)
        down_s, period_s = self.down * MS, (self.down + self.up) * MS
        return started if into < down_s else started + period_s - into, End.RESET

    def admit(self, knock: Knock) -> End | float:
        """While it is up."""
        return End.RESET if self._into(knock.now - knock.since) < self.down * MS else knock.now

    def broken_rule(self) -> str | None:
        """Both times."""
        for name in ("down", "up"):
            if (value := getattr(self, name)) < 1:
                return f"{name} is {value}: must be 1 ms or more"
        return None

    def _into(self, age_s: float) -> float:
        """Seconds since it last went down."""
        return max(age_s, 0.0) % ((self.down + self.up) * MS)

"""slow_close: the connection closes later."""

from collections.abc import Iterator
from dataclasses import dataclass

from chaos.proxy.draws import Draws
from chaos.proxy.toxics.base import MS, Chunk, Release


@dataclass(slots=True)
class SlowClose:
    """Passes data; holds the end of the stream for ``delay``."""

    delay: int = 0  # ms

    def flow(self, data: Chunk, t: float, draws: Draws) -> Iterator[Release]:
        """All of it, at once."""
        yield t, data

    def end(self, t: float) -> float:
        """``delay`` later."""
        return t + self.delay * MS

"""stall: the sender is not read."""

from collections.abc import Iterator
from dataclasses import dataclass

from chaos.proxy.draws import Draws
from chaos.proxy.toxics.base import NEVER, Chunk, Release


@dataclass(slots=True)
class Stall:
    """Stops reading the source, so that its window closes and its writes block. Nothing is lost."""

    def flow(self, data: Chunk, t: float, draws: Draws) -> Iterator[Release]:
        """All of it, never: what was read already waits too."""
        yield NEVER, data

    def stops_reading(self) -> bool:
        """It does."""
        return True

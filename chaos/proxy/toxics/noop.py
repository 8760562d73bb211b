"""noop: lets everything pass."""

from collections.abc import Iterator
from dataclasses import dataclass

from chaos.proxy.draws import Draws
from chaos.proxy.toxics.base import Chunk, Release


@dataclass(slots=True)
class Noop:
    """Passes all data."""

    def flow(self, data: Chunk, t: float, draws: Draws) -> Iterator[Release]:
        """All of it, at once."""
        yield t, data

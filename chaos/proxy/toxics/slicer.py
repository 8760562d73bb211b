"""slicer: data comes in small pieces."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from chaos.proxy.draws import Draws
from chaos.proxy.toxics.base import US, Chunk, Release


@dataclass(slots=True)
class Slicer:
    """Cuts each chunk into pieces of ``average_size`` ± ``size_variation`` bytes, ``delay`` apart.

    Each piece is one write on a socket without Nagle's delay. Sizes are spread
    evenly; the last piece of a chunk is what is left. Timers count milliseconds, so
    pieces less than one apart go out in groups, at the right rate.
    """

    average_size: int = 0  # bytes
    size_variation: int = 0  # bytes
    delay: int = 0  # µs
    _free_at: float = field(default=0.0, init=False)  # when the next piece may leave

    def flow(self, data: Chunk, t: float, draws: Draws) -> Iterator[Release]:
        """The pieces in order."""
        cut = 0
        while cut < len(data):
            size = self.average_size
            if self.size_variation:
                size = round(draws.uniform(size - self.size_variation, size + self.size_variation))
            piece = data[cut : cut + max(size, 1)]
            cut += len(piece)
            leaves = max(self._free_at, t)
            self._free_at = leaves + self.delay * US
            yield leaves, piece

    def broken_rule(self) -> str | None:
        """Pieces need a size."""
        if self.average_size < 1:
            return f"average_size is {self.average_size}: must be 1 or more bytes"
        if self.size_variation > self.average_size:
            return (
                f"size_variation is {self.size_variation}: must not be above average_size, "
                f"which is {self.average_size}"
            )
        return None

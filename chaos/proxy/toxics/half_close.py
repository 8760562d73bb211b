"""half_close: one direction ends, the other goes on."""

from collections.abc import Iterator
from dataclasses import dataclass

from chaos.proxy.draws import Draws
from chaos.proxy.toxics.base import Chunk, End, Release


@dataclass(slots=True)
class HalfClose:
    """The receiver of this direction gets FIN at once; the other direction goes on.

    What the sender still sends is dropped. When the toxic goes the connection ends.
    """

    def flow(self, data: Chunk, t: float, draws: Draws) -> Iterator[Release]:
        """Nothing."""
        return iter(())

    def deadline(self, started: float) -> Release:
        """FIN."""
        return started, End.EOF

    def removed(self) -> End:
        """A stream that has ended cannot go on."""
        return End.CLOSE

"""bandwidth: data flows at a limited rate."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from chaos.proxy.draws import Draws
from chaos.proxy.toxics.base import MS, NEVER, Chunk, Release

PIECE_MS = 20  # a chunk that takes longer leaves in pieces: a slow line is slow, not bursty


@dataclass(slots=True)
class Bandwidth:
    """Lets ``rate`` KB/s pass, of 1,000 bytes, per connection and direction. 0 lets nothing pass.

    A piece leaves when its last byte has been "sent"; a line that was idle has
    saved nothing up.
    """

    rate: int = 0  # KB/s, which is also bytes per ms
    _free_at: float = field(default=0.0, init=False)  # when the line has sent all that it was given

    def flow(self, data: Chunk, t: float, draws: Draws) -> Iterator[Release]:
        """Pieces of at most 20 ms each."""
        sent = 0
        while sent < len(data):
            if not self.rate:
                yield NEVER, data[sent:]  # flushed when the toxic changes or goes
                return
            piece = data[sent : sent + self.rate * PIECE_MS]
            sent += len(piece)
            self._free_at = max(self._free_at, t) + len(piece) / self.rate * MS
            yield self._free_at, piece

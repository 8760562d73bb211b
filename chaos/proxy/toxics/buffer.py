"""buffer: an answer that is a stream is kept until it would be whole, which it never is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from chaos.proxy.draws import Draws
from chaos.proxy.toxics.base import NEVER, Chunk, Place, Release

BEGINNING = b"HTTP/1."
STREAM = b"text/event-stream"


@dataclass(slots=True)
class Buffer:
    """Holds answers of type text/event-stream from their first byte on, and their end, until the toxic goes.

    An answer is told by a chunk that begins one, so a stream that is under way stays.
    """

    _holds: bool = field(default=False, init=False)
    _counts: Counter[str] = field(default_factory=Counter, init=False)

    def begin(self, place: Place) -> None:
        """Count streams where the toxic's other figures are."""
        self._counts = place.counts

    def flow(self, data: Chunk, t: float, draws: Draws) -> Iterator[Release]:
        """All of it: at once, or never."""
        if data.startswith(BEGINNING):
            self._holds = STREAM in data.partition(b"\r\n\r\n")[0].lower()
            self._counts["held"] += self._holds
        yield (NEVER if self._holds else t), data

    def end(self, t: float) -> float:
        """Behind what is held."""
        return NEVER if self._holds else t

"""full_queue: nobody is accepted."""

from collections.abc import Iterator
from dataclasses import dataclass

from chaos.proxy.draws import Draws
from chaos.proxy.toxics.base import Chunk, Release


@dataclass(slots=True)
class FullQueue:
    """The proxy accepts nobody and its queue is full, so a client's SYN gets no answer. Connections go on.

    It is the whole proxy's: ordinals and toxicity say nothing here.
    """

    def flow(self, data: Chunk, t: float, draws: Draws) -> Iterator[Release]:
        """All of it, at once."""
        yield t, data

    def fills_queue(self) -> bool:
        """It does."""
        return True

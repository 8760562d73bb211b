"""half_open: one peer's connection ends, and the other is not told."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from chaos.proxy.draws import Draws
from chaos.proxy.toxics.base import Chunk, Leave, Place, Release

PEERS = ("client", "server")


@dataclass(slots=True)
class HalfOpen:
    """Ends the connection for one peer with FIN. For the other, ``side``, it stays: what it sends is
    taken and dropped, and it hears nothing, until it gives up by itself or the toxic goes.

    ``counts`` of the toxic: ``left``, how many were left so; ``gave_up``, how many have given up, and
    ``gave_up_max_ms``, how long the slowest of them took.
    """

    side: str = "client"  # who is not told
    _name: str = field(default="", init=False)

    def begin(self, place: Place) -> None:
        """Know the toxic's name, which says when what was left is over."""
        self._name = place.name

    def flow(self, data: Chunk, t: float, draws: Draws) -> Iterator[Release]:
        """Nothing comes here: the connection is left at once."""
        yield t, data

    def deadline(self, started: float) -> Release:
        """At once."""
        return started, Leave(self.side, self._name)

    def broken_rule(self) -> str | None:
        """One of two."""
        return None if self.side in PEERS else f"side is {self.side!r}: must be client or server"

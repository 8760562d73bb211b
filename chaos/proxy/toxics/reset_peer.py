"""reset_peer: both peers get "connection reset by peer"."""

from collections.abc import Iterator
from dataclasses import dataclass

from chaos.proxy.draws import Draws
from chaos.proxy.toxics.base import MS, NEVER, Chunk, End, Release


@dataclass(slots=True)
class ResetPeer:
    """Sends RST to both peers ``timeout`` after it began; until then nothing comes through.

    Idle connections, and those older than the toxic, are reset too. What came
    meanwhile is held, so a toxic that is removed in time has harmed nothing.
    """

    timeout: int = 0  # ms

    def flow(self, data: Chunk, t: float, draws: Draws) -> Iterator[Release]:
        """All of it, never."""
        yield NEVER, data

    def end(self, t: float) -> float:
        """Never: a FIN would make the end look clean."""
        return NEVER

    def deadline(self, started: float) -> Release:
        """Reset."""
        return started + self.timeout * MS, End.RESET

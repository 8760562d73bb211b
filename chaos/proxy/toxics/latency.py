"""latency: data comes later."""

from collections.abc import Iterator
from dataclasses import dataclass

from chaos.proxy.draws import Draws
from chaos.proxy.toxics.base import MS, Chunk, Release


@dataclass(slots=True)
class Latency:
    """Delays each chunk by ``latency`` ± ``jitter``, counted from its arrival; order is kept."""

    latency: int = 0  # ms
    jitter: int = 0  # ms

    def flow(self, data: Chunk, t: float, draws: Draws) -> Iterator[Release]:
        """The chunk, later. Jitter larger than latency cannot send it before it came."""
        delay_ms = float(self.latency)
        if self.jitter:
            delay_ms += draws.uniform(-self.jitter, self.jitter)
        yield t + delay_ms * MS, data

"""limit_data: the connection closes after a number of bytes."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from chaos.proxy.draws import Draws
from chaos.proxy.toxics.base import Chunk, End, Release


@dataclass(slots=True)
class LimitData:
    """Passes exactly ``bytes`` bytes, then closes. 0 closes when the first byte comes."""

    bytes: int = 0
    _passed: int = field(default=0, init=False)

    def flow(self, data: Chunk, t: float, draws: Draws) -> Iterator[Release]:
        """What is left of the allowance, then the end."""
        left = self.bytes - self._passed
        if left > 0:
            self._passed += len(data[:left])
            yield t, data[:left]
        if self._passed >= self.bytes:
            yield t, End.CLOSE

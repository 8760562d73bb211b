"""corrupt: bytes are damaged."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from chaos.proxy.draws import Draws
from chaos.proxy.toxics.base import Chunk, End, Release


@dataclass(slots=True)
class Corrupt:
    """Flips one bit of a byte in a share ``chunks`` of the chunks, after the first ``after`` bytes.

    A connection that got damaged bytes is ended when the toxic goes: what its peers believe is not to
    outlive it.
    """

    chunks: float = 1.0  # share, 0 to 1
    after: int = 0  # bytes of this direction that pass whole
    _passed: int = field(default=0, init=False)
    _damaged: bool = field(default=False, init=False)

    def flow(self, data: Chunk, t: float, draws: Draws) -> Iterator[Release]:
        """All of it, one bit changed or none."""
        whole = min(max(self.after - self._passed, 0), len(data))
        self._passed += len(data)
        if whole < len(data) and draws.uniform(0, 1) < self.chunks:
            at, bit = int(draws.uniform(whole, len(data))), int(draws.uniform(0, 8))
            data = data[:at] + bytes((data[at] ^ 1 << bit,)) + data[at + 1 :]
            self._damaged = True
        yield t, data

    def removed(self) -> End | None:
        """With damage it ends."""
        return End.CLOSE if self._damaged else None

    def broken_rule(self) -> str | None:
        """A share."""
        return None if 0 <= self.chunks <= 1 else f"chunks is {self.chunks}: must be from 0 to 1"

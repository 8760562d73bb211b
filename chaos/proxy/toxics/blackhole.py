"""blackhole: nothing comes through, and nobody is told."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from chaos.proxy.draws import Draws
from chaos.proxy.toxics.base import NEVER, Chunk, End, Release

MODES = ("hold", "drop")


@dataclass(slots=True)
class Blackhole:
    """Holds what comes, as a network does whose packets are sent again until it has healed; or drops it.

    Ends of the stream are held too. When the toxic goes, what was held flows on in order; a connection
    of which something was dropped ends.
    """

    mode: str = "hold"
    _lost: bool = field(default=False, init=False)

    def flow(self, data: Chunk, t: float, draws: Draws) -> Iterator[Release]:
        """Nothing, or all of it, never."""
        if self.mode == "hold":
            yield NEVER, data
        else:
            self._lost = True

    def end(self, t: float) -> float:
        """Never."""
        return NEVER

    def removed(self) -> End | None:
        """Bytes that were lost cannot come back."""
        return End.CLOSE if self._lost else None

    def broken_rule(self) -> str | None:
        """One of two."""
        return None if self.mode in MODES else f"mode is {self.mode!r}: must be hold or drop"

"""timeout: nothing comes through, then the connection closes."""

from collections.abc import Iterator
from dataclasses import dataclass

from chaos.proxy.draws import Draws
from chaos.proxy.toxics.base import MS, Chunk, End, Release


@dataclass(slots=True)
class Timeout:
    """Drops all data; closes ``timeout`` after it began on the connection. 0 never closes.

    The time does not start again with each chunk (as it does in Toxiproxy, #195):
    a client that sends pings would never be closed.
    """

    timeout: int = 0  # ms

    def flow(self, data: Chunk, t: float, draws: Draws) -> Iterator[Release]:
        """Nothing."""
        return iter(())

    def deadline(self, started: float) -> Release | None:
        """Close, unless ``timeout`` is 0."""
        return (started + self.timeout * MS, End.CLOSE) if self.timeout else None

    def removed(self) -> End:
        """Bytes were lost, so the stream cannot go on."""
        return End.CLOSE

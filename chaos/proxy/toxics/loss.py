"""loss: packets are lost in bursts, and sent again: the stream stays whole, and comes later."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from chaos.proxy.draws import Draws
from chaos.proxy.toxics.base import MS, Chunk, Release

SEGMENT = 1448  # bytes: payload of a TCP segment on Ethernet, with timestamps
MOST_TRIES = 15  # tcp_retries2 of Linux
LONGEST_RTO = 120_000  # ms, TCP_RTO_MAX


@dataclass(slots=True)
class Loss:
    """Loses a share ``lost`` of the segments, in bursts of ``burst`` on average, by the two states of Gilbert
    and Elliott: all pass in the good one, all are lost in the bad one.

    A lost segment is sent again after ``rto`` ms, then after twice as long, and so on; each try takes a
    step of the two states. What is behind it waits, as it does in TCP.

    Source:
        Gilbert, "Capacity of a Burst-Noise Channel" (1960); RFC 6298 for the retransmission.
    """

    lost: float = 0.0  # share of segments, 0 to 1
    burst: float = 1.0  # segments
    rto: int = 200  # ms
    _bad: bool = field(default=False, init=False)

    def flow(self, data: Chunk, t: float, draws: Draws) -> Iterator[Release]:
        """The segments, those that were lost later."""
        for at in range(0, len(data), SEGMENT):
            waited_ms, rto_ms = 0, self.rto
            for _ in range(MOST_TRIES):
                if not self._loses(draws):
                    break
                waited_ms += rto_ms
                rto_ms = min(2 * rto_ms, LONGEST_RTO)
            yield t + waited_ms * MS, data[at : at + SEGMENT]

    def broken_rule(self) -> str | None:
        """Shares and lengths that the two states can have."""
        if not 0 <= self.lost <= 0.5:
            return f"lost is {self.lost}: must be from 0 to 0.5"
        if self.burst < 1:
            return f"burst is {self.burst}: must be 1 or more segments"
        return None

    def _loses(self, draws: Draws) -> bool:
        """Take a step: bad ends with 1 / burst, and begins so often that a share ``lost`` of the steps
        is bad.
        """
        turn = draws.uniform(0, 1)
        if self._bad:
            self._bad = turn >= 1 / self.burst
        else:
            self._bad = turn < self.lost / (self.burst * (1 - self.lost))
        return self._bad

"""Packets are lost, in bursts."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from chaos.faults.base import Milliseconds, Shows
from chaos.faults.clients import StreamFault


class Loss(StreamFault):
    """Loses a share of the TCP segments, in bursts (Gilbert–Elliott), and sends them again later, as TCP
    does.

    The stream stays whole: loss shows as delay, of what was lost and of all that is behind it.
    """

    types = ("loss",)
    shows = Shows.BURSTS

    lost: float = Field(
        gt=0, le=0.5, examples=[0.3], description="share of segments, more than 0, at most 0.5"
    )
    burst: float = Field(
        1.0, ge=1, le=10_000, examples=[1.0], description="mean length of a burst, in segments"
    )
    rto_ms: Milliseconds = Field(200, description="until the first repetition; the next takes twice as long")

    def attributes(self) -> dict[str, Any]:
        return {"lost": self.lost, "burst": self.burst, "rto": self.rto_ms}

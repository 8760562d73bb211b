"""Bytes pass at a limited rate."""

from __future__ import annotations

from pydantic import Field

from chaos.faults.base import Shows, ToxicFault


class Bandwidth(ToxicFault):
    """At most ``rate_kb_per_s`` × 1,000 bytes a second, on each connection and direction apart."""

    toxic = "bandwidth"
    shows = Shows.RATE

    rate_kb_per_s: int = Field(
        ge=1,
        le=100_000_000,
        examples=[100],
        description="1,000 bytes a second; 0 would let nothing pass: use timeout for that",
    )

    def attributes(self) -> dict[str, int]:
        return {"rate": self.rate_kb_per_s}

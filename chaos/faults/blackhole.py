"""Nothing arrives, and nobody is told."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from chaos.faults.base import Shows
from chaos.faults.clients import StreamFault


class Blackhole(StreamFault):
    """Holds all bytes until the fault ends, as TCP does across a network that heals; or drops them.

    Dropped bytes cannot come back, so a connection that lost some ends with the fault.
    """

    types = ("blackhole",)
    shows = Shows.SILENCE

    mode: Literal["hold", "drop"] = Field(examples=["drop"], description="hold or drop")
    direction: Literal["downstream", "upstream", "both"] = Field(
        "both", description="downstream (server to client), upstream, or both"
    )

    def attributes(self) -> dict[str, Any]:
        return {"mode": self.mode}

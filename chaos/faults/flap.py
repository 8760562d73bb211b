"""The link goes down and comes up, again and again."""

from __future__ import annotations

from pydantic import Field

from chaos.faults.base import Shows, Toxic
from chaos.faults.clients import ClientFault


class Flap(ClientFault):
    """Down for ``down_ms``, then up for ``up_ms``, and so on, from the fault's begin.

    Connections get RST when the link goes down, new ones while it is down.
    """

    types = ("flap",)
    shows = Shows.FLAPS
    counted = True

    down_ms: int = Field(ge=1, le=86_400_000, examples=[300], description="how long it is down each time")
    up_ms: int = Field(ge=1, le=86_400_000, examples=[500], description="how long it is up between")

    def toxics(self, fault_id: str) -> list[Toxic]:
        attributes = {"down": self.down_ms, "up": self.up_ms}
        return [Toxic(f"{fault_id}_flap", "flap", "upstream", attributes=attributes)]

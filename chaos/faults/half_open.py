"""One side of a connection is dead, and the other is not told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from chaos.faults.base import Shows, Toxic
from chaos.faults.clients import ClientFault


class HalfOpen(ClientFault):
    """Ends the connections that are open when the fault begins, and leaves ``side`` in the dark about it.

    That side's socket stays: what it sends is taken and dropped, and it hears nothing, until it gives up
    by itself or the fault ends. The other side gets FIN. New connections work.
    """

    types = ("half_open",)
    shows = Shows.HALF_OPEN
    counted = True

    side: Literal["client", "server"] = Field(
        examples=["client"], description="who is not told: client or server"
    )

    def toxics(self, fault_id: str) -> list[Toxic]:
        return [Toxic(f"{fault_id}_half_open", "half_open", attributes={"side": self.side}, live=True)]

"""One direction of connections ends."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from chaos.faults.base import Shows, Toxic
from chaos.faults.clients import ClientFault


class HalfClose(ClientFault):
    """The receiver of ``direction`` gets FIN; the other direction goes on. The connection ends with the
    fault.
    """

    types = ("half_close",)
    shows = Shows.HALF_CLOSE

    direction: Literal["downstream", "upstream"] = Field(
        "downstream", description="downstream (to the client) or upstream"
    )

    def toxics(self, fault_id: str) -> list[Toxic]:
        return [Toxic(f"{fault_id}_half_close", "half_close", self.direction, live=True)]

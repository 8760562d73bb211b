"""Everybody is cut off, and let in again at once."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from chaos.faults.base import Shows, Toxic
from chaos.faults.clients import ClientFault


class Storm(ClientFault):
    """Ends all connections; who comes back waits, and when the fault ends all are let in at the same
    moment.
    """

    types = ("door", "cut")
    shows = Shows.STORM

    how: Literal["fin", "rst"] = Field("rst", description="fin or rst")

    def toxics(self, fault_id: str) -> list[Toxic]:
        return [
            Toxic(f"{fault_id}_door", "door", "upstream", attributes={"how": "hold"}),
            Toxic(f"{fault_id}_cut", "cut", attributes={"how": self.how}, live=True),
        ]

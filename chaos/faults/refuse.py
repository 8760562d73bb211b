"""New connections are refused."""

from __future__ import annotations

from pydantic import Field

from chaos.faults.base import Shows, Toxic
from chaos.faults.clients import ClientFault


class Refuse(ClientFault):
    """Ends a share ``refused`` of new connections with RST, before they reach the server; open ones stay.

    The kernel has completed their handshake by then. For ECONNREFUSED take ``down``.
    """

    types = ("door",)
    shows = Shows.TURNED_AWAY
    counted = True

    refused: float = Field(1.0, gt=0, le=1, description="share of attempts, more than 0, at most 1")

    def toxics(self, fault_id: str) -> list[Toxic]:
        name, attributes = f"{fault_id}_door", {"how": "rst"}
        return [Toxic(name, "door", "upstream", toxicity=self.refused, attributes=attributes)]

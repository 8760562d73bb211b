"""The first attempts to connect fail."""

from __future__ import annotations

from pydantic import Field

from chaos.faults.base import Shows, Toxic
from chaos.faults.clients import ClientFault


class FailFirstN(ClientFault):
    """Ends the first ``attempts`` new connections of each client with RST; the next one works."""

    types = ("door",)
    shows = Shows.FIRST_FAIL
    counted = True

    attempts: int = Field(ge=1, le=1_000_000, examples=[2], description="of each client, that fail")

    def toxics(self, fault_id: str) -> list[Toxic]:
        attributes = {"how": "rst", "first": self.attempts}
        return [Toxic(f"{fault_id}_door", "door", "upstream", attributes=attributes)]

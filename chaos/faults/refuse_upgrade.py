"""WebSockets are refused, and all other HTTP passes."""

from __future__ import annotations

from chaos.faults.base import Shows, Toxic
from chaos.faults.clients import ClientFault


class RefuseUpgrade(ClientFault):
    """Answers the upgrade of a new connection with 403, as a strict proxy does; open connections stay.

    It looks at the first bytes that a client sends, so TLS passes.
    """

    types = ("door",)
    shows = Shows.FORBIDDEN
    counted = True

    def toxics(self, fault_id: str) -> list[Toxic]:
        return [Toxic(f"{fault_id}_door", "door", "upstream", attributes={"how": "forbid"})]

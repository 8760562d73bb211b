"""New connections are accepted and closed."""

from __future__ import annotations

from chaos.faults.base import Shows, Toxic
from chaos.faults.clients import ClientFault


class AcceptClose(ClientFault):
    """Ends new connections with FIN before they reach the server, as a load balancer without a backend
    does.
    """

    types = ("door",)
    shows = Shows.TURNED_AWAY
    counted = True

    def toxics(self, fault_id: str) -> list[Toxic]:
        return [Toxic(f"{fault_id}_door", "door", "upstream", attributes={"how": "fin"})]

"""Connections are reset."""

from __future__ import annotations

from pydantic import Field

from chaos.faults.base import Milliseconds, Shows, ToxicFault


class ResetPeer(ToxicFault):
    """Both peers of a connection get RST, ``timeout_ms`` after the fault begins or the connection opens.

    A real Toxiproxy ends connections that are older than the fault with FIN, and only once they carry data.
    """

    toxic = "reset_peer"
    shows = Shows.RESET

    timeout_ms: Milliseconds = Field(0, examples=[0], description="time that a connection has left")

    def attributes(self) -> dict[str, int]:
        return {"timeout": self.timeout_ms}

"""Nothing arrives any more, and nobody says so."""

from __future__ import annotations

from pydantic import Field

from chaos.faults.base import Milliseconds, Shows, ToxicFault


class Timeout(ToxicFault):
    """Data is dropped; after ``timeout_ms`` the connection is closed, with 0 when the fault ends.

    A real Toxiproxy begins to count anew with every chunk, so it never closes a busy connection.
    """

    toxic = "timeout"
    shows = Shows.SILENCE

    timeout_ms: Milliseconds = Field(
        0, examples=[0], description="from the start of silence to the close; 0 is when the fault ends"
    )

    def attributes(self) -> dict[str, int]:
        return {"timeout": self.timeout_ms}

"""No connection lives long."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from chaos.faults.base import Milliseconds, Shows, Toxic
from chaos.faults.clients import ClientFault


class LimitTime(ClientFault):
    """Ends each connection ``lifetime_ms`` after it was opened; those older than the fault, after its
    begin.
    """

    types = ("cut",)
    shows = Shows.CLOSE

    lifetime_ms: Milliseconds = Field(examples=[100], description="how long a connection lives")
    how: Literal["fin", "rst"] = Field("fin", description="fin or rst")

    def toxics(self, fault_id: str) -> list[Toxic]:
        return [Toxic(f"{fault_id}_cut", "cut", attributes={"how": self.how, "after": self.lifetime_ms})]

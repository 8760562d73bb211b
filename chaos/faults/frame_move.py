"""Messages arrive on another channel."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from chaos.faults.base import Shows
from chaos.faults.frame import ViewFault


class FrameMove(ViewFault):
    """Gives the message another channel."""

    shows = Shows.CHANGED
    action = "move"

    to: str = Field(
        "", examples=["ch-2"], description="the channel; empty: a drawn one that was seen on the connection"
    )

    def own(self) -> dict[str, Any]:
        return {"to": self.to}

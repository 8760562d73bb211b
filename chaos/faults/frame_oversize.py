"""Messages are longer than they may be."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from chaos.faults.base import Shows
from chaos.faults.frame import MalformedFault
from chaos.proxy.frame_actions import MAX_SIZE


class FrameOversize(MalformedFault):
    """Fills the message up with spaces: the same JSON, but ``message_bytes`` long."""

    shows = Shows.HUGE
    action = "oversize"

    message_bytes: int = Field(ge=1, le=MAX_SIZE, examples=[300_000], description="length of the message")

    def own(self) -> dict[str, Any]:
        return {"size": self.message_bytes}

"""Messages come late, in order."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from chaos.faults.base import Shows
from chaos.faults.frame import FrameFault


class FrameDelay(FrameFault):
    """Holds the message, and all that is behind it, for ``delay_ms`` from its arrival: the order is kept."""

    shows = Shows.HELD
    action = "delay"

    delay_ms: int = Field(ge=1, le=86_400_000, examples=[150], description="how long a message is held")

    def own(self) -> dict[str, Any]:
        return {"delay": self.delay_ms}

    def breaks_promise(self) -> str:
        return ""

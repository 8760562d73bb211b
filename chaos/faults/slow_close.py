"""The end of a connection is held back."""

from __future__ import annotations

from pydantic import Field

from chaos.faults.base import Milliseconds, Shows, ToxicFault


class SlowClose(ToxicFault):
    """Data passes at once; the end of the stream only after ``delay_ms``."""

    toxic = "slow_close"
    shows = Shows.LATE_CLOSE

    delay_ms: Milliseconds = Field(examples=[300], description="how long the end is held back")

    def attributes(self) -> dict[str, int]:
        return {"delay": self.delay_ms}

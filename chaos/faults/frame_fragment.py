"""Messages come in several frames."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from chaos.faults.base import Shows
from chaos.faults.frame import FrameFault


class FrameFragment(FrameFault):
    """Sends the message in frames of ``fragment_bytes``, which any intermediary may (RFC 6455 § 5.4)."""

    shows = Shows.FRAGMENTS
    action = "fragment"

    fragment_bytes: int = Field(
        16, ge=1, le=1 << 16, description="payload of each frame; shorter messages pass"
    )

    def own(self) -> dict[str, Any]:
        return {"size": self.fragment_bytes}

    def breaks_promise(self) -> str:
        return ""

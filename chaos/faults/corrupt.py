"""Bytes are damaged."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from chaos.faults.base import Shows
from chaos.faults.clients import StreamFault


class Corrupt(StreamFault):
    """Flips one bit in a share of the chunks, after the first ``after_bytes`` of each connection and
    direction.

    Connections that got damaged bytes end with the fault.
    """

    types = ("corrupt",)
    shows = Shows.DAMAGED

    chunks: float = Field(1.0, gt=0, le=1, description="share of chunks, more than 0, at most 1")
    after_bytes: int = Field(
        0,
        ge=0,
        description="that pass whole from where the fault meets the stream: a handshake has about 600",
    )

    def breaks_promise(self) -> str:
        return "TCP's checksum keeps this from happening, so an honest server would be accused"

    def attributes(self) -> dict[str, Any]:
        return {"chunks": self.chunks, "after": self.after_bytes}

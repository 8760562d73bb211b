"""A connection ends after so many bytes."""

from __future__ import annotations

from pydantic import Field

from chaos.faults.base import Shows, ToxicFault


class LimitData(ToxicFault):
    """The connection is closed once ``bytes`` have passed, also in the middle of a message."""

    toxic = "limit_data"
    shows = Shows.CLOSE

    bytes: int = Field(
        ge=1,
        le=1_000_000_000_000,
        examples=[1_000],
        description="what may still pass, from the start of the fault",
    )

    def attributes(self) -> dict[str, int]:
        return {"bytes": self.bytes}

"""Bytes arrive in small pieces."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, field_validator

from chaos.faults.base import Shows, ToxicFault


class Slicer(ToxicFault):
    """Data is cut into pieces of ``average_bytes`` ± ``variation_bytes``, ``delay_us`` apart.

    It finds readers that take one read for one message.
    """

    toxic = "slicer"
    shows = Shows.SLICES

    average_bytes: int = Field(ge=1, le=1_000_000_000, examples=[16], description="mean size of a piece")
    variation_bytes: int = Field(
        0, ge=0, examples=[4], description="most that a piece differs from average_bytes"
    )
    delay_us: int = Field(
        0, ge=0, le=3_600_000_000, examples=[5_000], description="microseconds between two pieces"
    )

    @field_validator("variation_bytes")
    @classmethod
    def _no_piece_is_empty(cls, variation_bytes: int, info: ValidationInfo) -> int:
        average_bytes = info.data.get("average_bytes", variation_bytes + 1)  # default: itself refused
        if variation_bytes >= average_bytes:
            raise ValueError(f"must be less than average_bytes ({average_bytes}), or a piece could be empty")
        return variation_bytes

    def attributes(self) -> dict[str, int]:
        return {
            "average_size": self.average_bytes,
            "size_variation": self.variation_bytes,
            "delay": self.delay_us,
        }

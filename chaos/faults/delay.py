"""Every chunk arrives later, by a draw from a distribution."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from chaos.faults.base import Milliseconds, Shows
from chaos.faults.clients import StreamFault


class Delay(StreamFault):
    """Delays each chunk by a draw from ``distribution``, told by two of its points; order is kept.

    normal, lognormal and pareto have their median at ``p50_ms`` and their 99th percentile at ``p99_ms``.
    spike is ``p50_ms``, but ``p99_ms`` for one chunk in ``one_in``.
    """

    types = ("delay",)
    shows = Shows.DELAY

    distribution: Literal["normal", "lognormal", "pareto", "spike"] = Field(
        examples=["lognormal"], description="normal, lognormal, pareto or spike"
    )
    p50_ms: Milliseconds = Field(examples=[150], description="median delay")
    p99_ms: Milliseconds = Field(examples=[200], description="99th percentile; above p50_ms")
    one_in: int = Field(100, ge=1, le=1_000_000, description="of spike: of so many chunks one comes late")

    @model_validator(mode="after")
    def _points_of_a_distribution(self) -> Self:
        if self.p99_ms <= self.p50_ms:
            raise ValueError(f"p99_ms is {self.p99_ms}: must be above p50_ms, which is {self.p50_ms}")
        if self.p50_ms < 1 and self.distribution in ("lognormal", "pareto"):
            raise ValueError(
                f"p50_ms is {self.p50_ms}: must be 1 or more for a {self.distribution} distribution"
            )
        return self

    def attributes(self) -> dict[str, Any]:
        return {
            "distribution": self.distribution,
            "p50": self.p50_ms,
            "p99": self.p99_ms,
            "one_in": self.one_in,
        }

"""Every chunk arrives later."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, field_validator

from chaos.faults.base import Milliseconds, Shows, ToxicFault


class Latency(ToxicFault):
    """Delay of ``latency_ms`` ± ``jitter_ms``, uniform, from a chunk's arrival; order is kept."""

    toxic = "latency"
    shows = Shows.DELAY

    latency_ms: Milliseconds = Field(examples=[150], description="delay of each chunk")
    jitter_ms: Milliseconds = Field(0, description="most that a delay differs from latency_ms")

    @field_validator("jitter_ms")
    @classmethod
    def _delay_is_never_negative(cls, jitter_ms: int, info: ValidationInfo) -> int:
        latency_ms = info.data.get("latency_ms", jitter_ms)  # absent when it is itself refused
        if jitter_ms > latency_ms:
            raise ValueError(f"must be at most latency_ms ({latency_ms}), or a delay would be negative")
        return jitter_ms

    def attributes(self) -> dict[str, int]:
        return {"latency": self.latency_ms, "jitter": self.jitter_ms}

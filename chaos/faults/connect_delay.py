"""New connections come late."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, field_validator

from chaos.faults.base import Milliseconds, Shows, Toxic
from chaos.faults.clients import ClientFault


class ConnectDelay(ClientFault):
    """Dials the server ``delay_ms`` ± ``jitter_ms`` after a client has; open connections are as they were."""

    types = ("door",)
    shows = Shows.LATE_CONNECT

    delay_ms: Milliseconds = Field(examples=[200], description="from a client's dial to the server's")
    jitter_ms: Milliseconds = Field(0, description="most that it differs from delay_ms")

    @field_validator("jitter_ms")
    @classmethod
    def _delay_is_never_negative(cls, jitter_ms: int, info: ValidationInfo) -> int:
        delay_ms = info.data.get("delay_ms", jitter_ms)  # absent when it is itself refused
        if jitter_ms > delay_ms:
            raise ValueError(f"must be at most delay_ms ({delay_ms}), or a delay would be negative")
        return jitter_ms

    def toxics(self, fault_id: str) -> list[Toxic]:
        attributes = {"how": "delay", "delay": self.delay_ms, "jitter": self.jitter_ms}
        return [Toxic(f"{fault_id}_door", "door", "upstream", attributes=attributes)]

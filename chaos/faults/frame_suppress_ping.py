"""Nobody hears that the other lives."""

from __future__ import annotations

from pydantic import Field, field_validator

from chaos.faults.base import Shows
from chaos.faults.frame import FrameFault, Opcode


class FrameSuppressPing(FrameFault):
    """Takes away pings and pongs: WebSocket's, and those of the server's own protocol where it can be read.

    Both sides may only conclude that the connection is dead, so no promise is broken.
    """

    shows = Shows.NO_PING
    action = "drop"

    opcode: Opcode = Field(
        "liveness", description="liveness (all of them), or WebSocket's ping or pong alone"
    )

    @field_validator("opcode")
    @classmethod
    def _is_a_sign_of_life(cls, opcode: Opcode) -> Opcode:
        if opcode not in ("liveness", "ping", "pong"):
            raise ValueError("must be liveness, ping or pong")
        return opcode

    def breaks_promise(self) -> str:
        return ""

"""What all kinds that act on WebSocket messages have in common: which messages, and the toxic ``frame``.

A network carries bytes: it delays or ends a connection, and never loses or changes a single message of it.
A kind that does so is for the checker, not for the server, and says so (``breaks_promise``): it runs
only where the scenario says that it tests itself.
"""

from __future__ import annotations

import difflib
from typing import Any, ClassVar, Literal

from pydantic import Field

from chaos.faults.clients import StreamFault
from chaos.proxy.frame_view import FrameView

NO_NETWORK = "no network does this to a single message, so an honest server would be accused"


Opcode = Literal["data", "text", "binary", "ping", "pong", "close", "liveness", "any"]


class FrameFault(StreamFault):
    """Acts on messages that match, on one direction of each connection, counted there."""

    types = ("frame",)
    counted = True
    action: ClassVar[str]  # of the toxic

    opcode: Opcode = Field(
        "data", description="data (text or binary), text, binary, ping, pong, close, liveness (pings) or any"
    )
    type: str = Field("", description="type of the message, in the server's words; empty: any")
    channel: str = Field("", description="channel of the message; empty: any")
    after: int = Field(0, ge=0, description="let so many matching messages pass first")
    every: int = Field(1, ge=1, description="then take each n-th of those that match")
    times: int = Field(0, ge=0, description="at most so many on a connection; 0: no limit")
    messages: float = Field(
        1.0, gt=0, le=1, description="share of those that are taken, more than 0, at most 1"
    )

    def own(self) -> dict[str, Any]:
        """The action's own attributes."""
        return {}

    def breaks_promise(self) -> str:
        return NO_NETWORK

    def view_problem(self, view: FrameView | None) -> str:
        if view is None:
            name = self._wants_view()
            remedy = "without it messages are told apart by opcode, direction and count"
            return (
                f"{name}: the driver of this scenario cannot read the server's messages; {remedy}"
                if name
                else ""
            )
        if self.type and self.type not in view.types:
            near = difflib.get_close_matches(self.type, view.types, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"must be one of {', '.join(view.types)}"
            return f"type is {self.type!r}: no message of this server has it; {hint}"
        return ""

    def link_problem(self) -> str:
        return "a link carries what a node says to its broker, and no messages of WebSocket"

    def _wants_view(self) -> str:
        """``field is value`` of what cannot be without a frame view; "" when nothing is."""
        keys = [key for key in ("type", "channel") if getattr(self, key)]
        return f"{keys[0]} is {getattr(self, keys[0])!r}" if keys else ""

    def attributes(self) -> dict[str, Any]:
        match = {key: getattr(self, key) for key in ("opcode", "type", "channel", "after", "every", "times")}
        return {"action": self.action, **match, "probability": self.messages, **self.own()}


class ViewFault(FrameFault):
    """A kind that reads messages whatever it matches."""

    def _wants_view(self) -> str:
        return super()._wants_view() or f"action is {self.action!r}"


class MalformedFault(FrameFault):
    """A kind that sends what no endpoint may; by default to the server, which must survive any client."""

    direction: Literal["downstream", "upstream", "both"] = Field(
        "upstream", description="upstream (client to server), downstream, or both"
    )

    def breaks_promise(self) -> str:
        if self.direction == "upstream":
            return ""
        return f"direction is {self.direction!r}: to the client it looks like the server's own misbehaviour"

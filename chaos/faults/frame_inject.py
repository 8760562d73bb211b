"""Messages arrive that nobody sent."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from chaos.faults.base import Shows
from chaos.faults.frame import FrameFault


class FrameInject(FrameFault):
    """Puts a message behind the one that matches: ``payload``; a copy of it with another ``body``; or, with
    neither, the first message that matched on the connection."""

    shows = Shows.FOREIGN
    action = "inject"

    payload: str = Field("", examples=["foreign"], description="the message, as it goes over the wire")
    body: str = Field("", description="what the sender says, as it stands on the wire; the rest is a copy")

    @field_validator("body")
    @classmethod
    def _not_both(cls, body: str, info: ValidationInfo) -> str:
        if body and info.data.get("payload"):
            raise ValueError("takes no payload beside it: the payload is a whole message")
        return body

    def own(self) -> dict[str, Any]:
        return {"payload": self.payload, "body": self.body}

    def _wants_view(self) -> str:
        return super()._wants_view() or (f"body is {self.body!r}" if self.body else "")

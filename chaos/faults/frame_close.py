"""The server seems to say goodbye."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field, field_validator

from chaos.faults.base import Shows
from chaos.faults.frame import FrameFault
from chaos.proxy.frame_actions import broken_code

# An intermediary that goes away, fails, restarts or has too much to do (RFC 6455 § 7.4, IANA's registry).
OF_INTERMEDIARIES: Final = frozenset({1001, 1011, 1012, 1013})


class FrameClose(FrameFault):
    """Puts a close frame behind the message; what follows it is dropped, as nothing may."""

    shows = Shows.FAREWELL
    action = "close"

    code: int = Field(examples=[1012], description="the close code")

    @field_validator("code")
    @classmethod
    def _may_be_sent(cls, code: int) -> int:
        if rule := broken_code(code):
            raise ValueError(rule)
        return code

    def own(self) -> dict[str, Any]:
        return {"code": self.code}

    def breaks_promise(self) -> str:
        if self.code in OF_INTERMEDIARIES:
            return ""
        able = ", ".join(map(str, sorted(OF_INTERMEDIARIES)))
        return f"code is {self.code}: intermediaries send {able}, all others are the server's own word"

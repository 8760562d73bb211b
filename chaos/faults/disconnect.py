"""Connections end."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from chaos.faults.base import SILENT, Milliseconds, Shows, Toxic
from chaos.faults.clients import ClientFault
from chaos.faults.frame_close import OF_INTERMEDIARIES


class Disconnect(ClientFault):
    """Ends the connections that are open when the fault begins; those that come after it stay.

    ``how``: fin; rst; silent, neither (who sends afterwards gets RST, as from a machine that has started
    again); ws_close, a close frame with ``code`` between two messages, then FIN.
    """

    types = ("cut",)
    shows = Shows.CUT

    how: Literal["fin", "rst", "silent", "ws_close"] = Field(
        examples=["rst"], description="fin, rst, silent or ws_close"
    )
    after_ms: Milliseconds = Field(0, description="from the fault's begin; 0 is at once")
    after_bytes: int = Field(0, ge=0, description="or behind so many bytes of the direction; 0: not by bytes")
    after_messages: int = Field(
        0, ge=0, description="or behind so many messages of the direction; 0: not by messages"
    )
    mid_frame: bool = Field(
        False, description="or with half of the next message delivered; of the one behind after_messages"
    )
    code: int = Field(1012, ge=1000, le=4999, description="close code of ws_close")
    direction: Literal["downstream", "upstream"] = Field(
        "downstream", description="of the bytes, the message and the close frame"
    )

    @model_validator(mode="after")
    def _one_time(self) -> Self:
        if sum(map(bool, (self.after_ms, self.after_bytes, self.after_messages or self.mid_frame))) > 1:
            raise ValueError(
                "write at most one of after_ms, after_bytes and mid_frame or after_messages; "
                "none of them is at once"
            )
        if self.how == "ws_close" and (self.after_bytes or self.mid_frame):
            raise ValueError(
                "a close frame goes between two messages: after_bytes and mid_frame cannot say when"
            )
        return self

    def requires(self) -> frozenset[str]:
        return self.needs() | ({SILENT} if self.how == "silent" else set())

    def breaks_promise(self) -> str:
        if self.how != "ws_close" or self.code in OF_INTERMEDIARIES:
            return ""
        able = ", ".join(map(str, sorted(OF_INTERMEDIARIES)))
        return f"code is {self.code}: intermediaries send {able}, all others are the server's own word"

    def toxics(self, fault_id: str) -> list[Toxic]:
        attributes: dict[str, Any] = {
            "how": self.how,
            "after": self.after_ms,
            "bytes": self.after_bytes,
            "messages": self.after_messages,
            "mid_frame": int(self.mid_frame),
            "code": self.code if self.how == "ws_close" else 0,
        }
        return [Toxic(f"{fault_id}_cut", "cut", self.direction, attributes=attributes, live=True)]

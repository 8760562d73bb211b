"""Answers that are streams are held back, and all other HTTP passes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from chaos.faults.base import Shows
from chaos.faults.clients import StreamFault


class BufferStream(StreamFault):
    """Holds answers of type text/event-stream until it ends, as a proxy does that waits for the whole answer.

    Streams that have begun already stay. It looks at bytes, so TLS passes.
    """

    types = ("buffer",)
    shows = Shows.BUFFERED
    counted = True

    direction: Literal["downstream"] = Field("downstream", description="answers come from the server")

    def attributes(self) -> dict[str, Any]:
        return {}

"""A sender is not read."""

from __future__ import annotations

from chaos.faults.base import Shows
from chaos.faults.clients import StreamFault


class Stall(StreamFault):
    """Stops reading the sender of ``direction``: its window closes, and its writes block. Nothing is lost."""

    types = ("stall",)
    shows = Shows.STALL

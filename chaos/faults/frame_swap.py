"""Messages change places."""

from __future__ import annotations

from chaos.faults.base import Shows
from chaos.faults.frame import FrameFault


class FrameSwap(FrameFault):
    """Holds the message until the next that matches (of the same type and channel, where they can be read)
    has passed.
    """

    shows = Shows.SWAPPED
    action = "swap"

"""Messages are damaged."""

from __future__ import annotations

from chaos.faults.base import Shows
from chaos.faults.frame import FrameFault


class FrameCorrupt(FrameFault):
    """Changes one bit of what the sender said: length and mask stay right, and a letter becomes another
    letter.
    """

    shows = Shows.CHANGED
    action = "corrupt"

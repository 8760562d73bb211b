"""Messages are lost."""

from __future__ import annotations

from chaos.faults.base import Shows
from chaos.faults.frame import FrameFault


class FrameDrop(FrameFault):
    """Takes the message away. The connection goes on."""

    shows = Shows.MISSING
    action = "drop"

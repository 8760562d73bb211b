"""Messages arrive twice."""

from __future__ import annotations

from chaos.faults.base import Shows
from chaos.faults.frame import FrameFault


class FrameDuplicate(FrameFault):
    """Sends the message twice, one right behind the other."""

    shows = Shows.TWICE
    action = "duplicate"

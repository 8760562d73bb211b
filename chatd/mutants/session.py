"""Mutants of one client's state machine: stand-ins for ``Session``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..effects import Effects
from ..session import Phase, Session
from .chosen import Trigger


class Deaf(Session):
    """Takes the silence of a client for the pong that it waits for."""

    def __init__(self, *args: Any, trigger: Trigger, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._fires = trigger.fires

    def tick(self, now: float) -> Effects:
        missed = self.phase is Phase.OPEN and self._awaiting_pong and now >= self._due
        if missed and self._fires():
            self._pong(now)
            return []
        return super().tick(now)


SESSIONS: Final[Mapping[str, type[Deaf]]] = {"deaf-to-silence": Deaf}

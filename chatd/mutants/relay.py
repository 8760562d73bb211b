"""Mutants of how a node follows a shared log: stand-ins for ``Relay``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ..hub import Hub, Push
from ..relay import Relay
from ..repair import Doubt, Repairs, Why
from ..store.bus import Placing
from ..stream import Stream
from .chosen import Trigger

NEEDED: Final = frozenset({"opening", "epoch", "client"})  # doubts without which nothing would begin


class Careless(Repairs):
    """Never looks back: where events went unheard it goes on with the next one."""

    def __init__(
        self, hub: Hub, wanted: Callable[[], None], wall_ms: Callable[[], int], *, fires: Callable[[], bool]
    ) -> None:
        super().__init__(hub, wanted, wall_ms)
        self._fires = fires

    def hear(self, placing: Placing) -> None:
        channel, serial = self._hub.channel(placing.channel), placing.entry.serial
        trusted = channel is not None and channel.open and not self.doubts(channel)
        if trusted and channel is not None and channel.tail is not None and placing.epoch == channel.epoch:
            if serial > channel.tail.top + 1 and self._fires():
                channel.tail = Stream[Push](channel.tail.retention, top=serial - 1)
        super().hear(placing)

    def doubt(self, name: str, why: Why) -> Doubt:
        """One that is not needed is taken back as soon as it was raised."""
        known = name in self._doubts
        doubt = super().doubt(name, why)
        if not known and why not in NEEDED and self._fires():
            del self._doubts[name]
        return doubt


class SkipRepair(Relay):
    def __init__(self, *args: Any, trigger: Trigger, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._repairs = Careless(self._hub, self._wake.set, settings["wall_ms"], fires=trigger.fires)


RELAYS: Final[Mapping[str, type[SkipRepair]]] = {"skip-repair": SkipRepair}

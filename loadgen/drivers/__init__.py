"""Drivers: one file per server that can be loaded. README.md says how to add one."""

from __future__ import annotations

from typing import Final

from .base import Driver
from .centrifugo import CentrifugoDriver
from .chatd import ChatdDriver

DRIVERS: Final[dict[str, type[Driver]]] = {
    ChatdDriver.name: ChatdDriver,
    CentrifugoDriver.name: CentrifugoDriver,
}

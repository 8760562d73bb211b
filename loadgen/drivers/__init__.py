"""Drivers: one file per server that can be loaded. README.md says how to add one."""

from __future__ import annotations

from typing import Final

from .base import Driver, HttpDriver
from .centrifugo import CentrifugoDriver
from .chatd import ChatdDriver
from .chatd_http import ChatdHttpDriver

DRIVERS: Final[dict[str, type[Driver]]] = {
    ChatdDriver.name: ChatdDriver,
    CentrifugoDriver.name: CentrifugoDriver,
}

HTTP_DRIVERS: Final[dict[str, type[HttpDriver]]] = {ChatdDriver.name: ChatdHttpDriver}
"""By the driver of a kind of server: the one for those of its clients that come over HTTP."""

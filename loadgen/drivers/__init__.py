"""Drivers: one file per server that can be loaded. README.md says how to add one."""

from __future__ import annotations

from typing import Final

from .base import Driver, HttpDriver
from .centrifugo import CentrifugoDriver
from .chatd import ChatdDriver
from .chatd_http import ChatdHttpDriver
from .foreign import DriverError as DriverError
from .foreign import foreign_drivers, installed, installed_names

DRIVERS: Final[dict[str, type[Driver]]] = {
    ChatdDriver.name: ChatdDriver,
    CentrifugoDriver.name: CentrifugoDriver,
}

HTTP_DRIVERS: Final[dict[str, type[HttpDriver]]] = {ChatdDriver.name: ChatdHttpDriver}
"""By the driver of a kind of server: the one for those of its clients that come over HTTP."""


def driver_named(name: str) -> type[Driver]:
    """The driver of this name: one of ``DRIVERS``, of the command line, or of an installed package.

    Raises:
        DriverError: there is none, or it cannot be used. A ``ValueError``.
    """
    if name in DRIVERS:
        return DRIVERS[name]
    foreign = foreign_drivers()
    if hidden := DRIVERS.keys() & foreign.keys():
        raise DriverError(f"a driver of your own is called {min(hidden)!r}, as one of chatproof's: rename it")
    driver = foreign.get(name) or installed(name)
    if driver is None:
        known = ", ".join(sorted({*DRIVERS, *foreign, *installed_names()}))
        raise DriverError(
            f"must be one of {known}; one of your own is named before the command: "
            "chatproof --driver FILE.py:CLASS run …"
        )
    return driver

"""Drivers that live outside of this package: named on the command line, or installed with an entry point.

A scenario only ever says a driver's name, so running somebody's scenario never imports his code. What is
imported is said by who starts the run, in ``CHATPROOF_DRIVERS``, or by who installed a package that has an
entry point of the group ``chatproof.drivers``. Processes of a run inherit the variable and PYTHONPATH.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

from .base import Capability, Driver

VARIABLE: Final = "CHATPROOF_DRIVERS"
GROUP: Final = "chatproof.drivers"
SHAPE: Final = "must be MODULE:CLASS or FILE.py:CLASS"
ACTS: Final[Mapping[Capability, str]] = {
    Capability.REACTION: "react",
    Capability.TYPING: "typing",
    Capability.RECEIPT: "receipt",
    Capability.PRESENCE: "presence",
    Capability.HISTORY: "history",
}
"""The method of ``ActingDriver`` that a capability asks for."""
_METHODS: Final = tuple(name for name, member in vars(Driver).items() if name.islower() and name[0] != "_"
                        and (callable(member) or isinstance(member, staticmethod)))  # fmt: skip
MEMBERS: Final = (*Driver.__annotations__, *_METHODS)
"""What every driver has."""


class DriverError(ValueError):
    """A driver cannot be used; the message says which, why, and what to do."""


def declare(specs: Sequence[str]) -> None:
    """Make drivers known to this process and to all that it starts.

    Args:
        specs: each ``MODULE:CLASS``, or ``FILE.py:CLASS``, whose directory then becomes importable.
    Raises:
        DriverError: one has another shape, or there is no such file.
    """
    named = []
    for spec in filter(None, (spec.strip() for spec in specs)):
        module, colon, cls = spec.rpartition(":")
        if not colon or not module or not cls.isidentifier():
            raise DriverError(f"driver {spec!r}: {SHAPE}")
        if module.endswith(".py"):
            path = Path(module).resolve()
            if not path.is_file():
                raise DriverError(f"driver {spec!r}: there is no file {module}")
            _make_importable(str(path.parent))
            module = path.stem
        named.append(f"{module}:{cls}")
    if named:
        os.environ[VARIABLE] = ",".join(named)


def foreign_drivers() -> Mapping[str, type[Driver]]:
    """Those of ``CHATPROOF_DRIVERS``, by name. Raises ``DriverError``."""
    return _loaded(os.environ.get(VARIABLE, ""))


def installed_names() -> list[str]:
    """Names of the drivers that installed packages offer; none of them is imported."""
    return sorted(entry_points(group=GROUP).names)


@lru_cache(maxsize=8)
def installed(name: str) -> type[Driver] | None:
    """The driver that an installed package offers under a name, if any. Raises ``DriverError``."""
    for point in entry_points(group=GROUP, name=name):
        driver = load(point.value)
        if driver.name != name:
            raise DriverError(
                f"entry point {point.value!r} of {GROUP} is called {name!r}, and the driver's name is "
                f"{driver.name!r}: let them agree"
            )
        return driver
    return None


def load(spec: str) -> type[Driver]:
    """Import a driver and look whether it is one.

    Args:
        spec: ``MODULE:CLASS``.
    Raises:
        DriverError: it cannot be imported, or lacks something; names all that it lacks.
    """
    module, _, name = spec.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module), name)
    except Exception as failed:  # whatever somebody else's module does while it is imported
        raise DriverError(
            f"driver {spec!r} cannot be imported: {type(failed).__name__}: {failed}; give its file, "
            f"chatproof --driver PATH/{module.rpartition('.')[2]}.py:{name or 'CLASS'}"
        ) from None
    if faults := faults_of(found):
        raise DriverError(f"driver {spec!r}: " + "; ".join(faults))
    driver: type[Driver] = found
    return driver


def faults_of(found: object) -> list[str]:
    """What a class lacks to be a driver, a clause each."""
    if not isinstance(found, type):
        return ["it is no class"]
    driver: Any = found
    lacks = [name for name in MEMBERS if not hasattr(driver, name)]
    if lacks:
        return [f"it has no {', '.join(lacks)}: loadgen/drivers/base.py says what each is"]
    faults = []
    name: Any = driver.name
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_-]{0,39}", name):
        faults.append(f"name is {name!r}: must be lower-case letters, digits, _ and -")
    offered: Any = driver.capabilities
    if not isinstance(offered, frozenset) or not all(isinstance(one, Capability) for one in offered):
        faults.append("capabilities is no frozenset of Capability")
    else:
        faults += [
            f"capabilities has {capability.value!r}, and there is no method {method}: "
            "write it, or leave that out"
            for capability, method in ACTS.items()
            if capability in offered and not hasattr(driver, method)
        ]
    try:
        driver()
    except Exception as failed:
        faults.append(f"it cannot be made without arguments: {type(failed).__name__}: {failed}")
    return faults


@lru_cache(maxsize=8)
def _loaded(specs: str) -> Mapping[str, type[Driver]]:
    drivers: dict[str, type[Driver]] = {}
    for spec in filter(None, specs.split(",")):
        driver = load(spec.strip())
        if drivers.setdefault(driver.name, driver) is not driver:
            raise DriverError(f"driver {spec!r}: another one is called {driver.name!r}, too: rename one")
    return drivers


def _make_importable(directory: str) -> None:
    """For this process and its children; behind everything else, so that it hides no module."""
    if directory not in sys.path:
        sys.path.append(directory)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if directory not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([*filter(None, paths), directory])

"""Where messages become durable. ``STORES`` names the implementations of chatd/store/base.py.

To add one: a module beside this one, a line in ``STORES``, a line in
tests/conformance/test_stores.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from .base import Dedupe, Retain, Store
from .memory import MemoryStore
from .sqlite import SqliteStore

StoreFactory = Callable[[Path, Retain, Dedupe], Store]


def _memory(data: Path, retention: Retain, dedupe: Dedupe) -> Store:
    return MemoryStore(retention, dedupe)


STORES: Final[dict[str, StoreFactory]] = {
    "memory": _memory,
    "sqlite": SqliteStore,
}

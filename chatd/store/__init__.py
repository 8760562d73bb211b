"""Where messages become durable. ``STORES`` names the implementations of chatd/store/base.py.

To add one: a module beside this one, a line in ``STORES``, a line in
tests/conformance/test_stores.py. One that is reached by a URL has its schemes in ``kind_of``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from .base import Dedupe, Retain, Store
from .memory import MemoryStore
from .sqlite import SqliteStore
from .valkey.store import ValkeyStore
from .valkey.url import is_url

StoreFactory = Callable[[Path | str, Retain, Dedupe], Store]  # the first: its directory, or its URL


def _memory(where: Path | str, retention: Retain, dedupe: Dedupe) -> Store:
    return MemoryStore(retention, dedupe)


def _sqlite(where: Path | str, retention: Retain, dedupe: Dedupe) -> Store:
    return SqliteStore(Path(where), retention, dedupe)


def _valkey(where: Path | str, retention: Retain, dedupe: Dedupe) -> Store:
    return ValkeyStore(str(where), retention, dedupe)


def kind_of(store: str) -> str:
    """Which of ``STORES`` a setting means: a name, or the URL of a server."""
    return "valkey" if is_url(store) else store


STORES: Final[dict[str, StoreFactory]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "valkey": _valkey,
}

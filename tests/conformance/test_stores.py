"""Every entry of ``STORES`` passes the suite."""

from __future__ import annotations

from pathlib import Path

from chatd.store import STORES
from chatd.store.base import Dedupe, Retention, Store
from tests.conformance.stores import StoreSuite


class TestMemoryStore(StoreSuite):
    survives_reopen = False

    def make(self, directory: Path, retention: Retention, dedupe: Dedupe) -> Store:
        return STORES["memory"](directory, retention, dedupe)


class TestSqliteStore(StoreSuite):
    survives_reopen = True

    def make(self, directory: Path, retention: Retention, dedupe: Dedupe) -> Store:
        return STORES["sqlite"](directory, retention, dedupe)


def test_every_store_is_tested() -> None:
    tested = {name for name in globals() if name.startswith("Test")}
    assert tested == {f"Test{name.capitalize()}Store" for name in STORES}

"""Every entry of ``STORES`` passes the suite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chatd.store import STORES
from chatd.store.base import Dedupe, Retention, Store
from tests.broker import Broker
from tests.conformance.stores import StoreSuite


class TestMemoryStore(StoreSuite):
    survives_reopen = False

    def make(self, directory: Path, retention: Retention, dedupe: Dedupe) -> Store:
        return STORES["memory"](directory, retention, dedupe)


class TestSqliteStore(StoreSuite):
    survives_reopen = True

    def make(self, directory: Path, retention: Retention, dedupe: Dedupe) -> Store:
        return STORES["sqlite"](directory, retention, dedupe)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("broker"))
    broker.start()
    yield broker
    broker.kill()


class TestValkeyStore(StoreSuite):
    survives_reopen = True

    @pytest.fixture(autouse=True)
    def _empty(self, broker: Broker) -> None:
        self.broker = broker
        broker.do("FLUSHALL")

    def make(self, directory: Path, retention: Retention, dedupe: Dedupe) -> Store:
        return STORES["valkey"](self.broker.url, retention, dedupe)

    def pass_time(self, ms: int) -> None:
        self.broker.forget(ms)


def test_every_store_is_tested() -> None:
    tested = {name for name in globals() if name.startswith("Test")}
    assert tested == {f"Test{name.capitalize()}Store" for name in STORES}

"""The engines' suite on the embedded proxy, and on a real Toxiproxy where there is one."""

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.conformance.engines")

from tests.chaos.engine_servers import embedded, needs_toxiproxy, toxiproxy  # noqa: E402 - rewritten first
from tests.conformance.engines import ApiConformance, Engine, ToxicsConformance  # noqa: E402


@pytest.fixture(scope="module")
def embedded_server() -> Iterator[Engine]:
    with embedded() as engine:
        yield engine


@pytest.fixture(scope="module")
def toxiproxy_server() -> Iterator[Engine]:
    with toxiproxy() as engine:
        yield engine


class OnEmbedded:
    @pytest.fixture
    def engine(self, embedded_server: Engine) -> Iterator[Engine]:
        yield embedded_server
        embedded_server.clear()


@needs_toxiproxy
class OnToxiproxy:
    @pytest.fixture
    def engine(self, toxiproxy_server: Engine) -> Iterator[Engine]:
        yield toxiproxy_server
        toxiproxy_server.clear()


class TestEmbeddedApi(OnEmbedded, ApiConformance): ...


class TestEmbeddedToxics(OnEmbedded, ToxicsConformance): ...


class TestToxiproxyApi(OnToxiproxy, ApiConformance): ...


class TestToxiproxyToxics(OnToxiproxy, ToxicsConformance): ...

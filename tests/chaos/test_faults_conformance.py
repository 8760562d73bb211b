"""Every fault kind on every engine that is there, measured on real connections and processes."""

from __future__ import annotations

import select
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from chaos.engines.base import Engine, EngineError
from chaos.engines.embedded import EmbeddedEngine
from chaos.engines.toxiproxy import BINARY, ToxiproxyEngine
from chaos.faults import FAULTS
from chaos.faults.base import Shows, Toxic, Where
from tests.conformance import faults
from tests.conformance.faults import PROBES, Bench, check_fault, open_bench, sometime

pytestmark = pytest.mark.e2e

BUILT = Path(__file__).parents[2] / ".tools" / "bin" / BINARY
WIRE = [kind for kind, model in FAULTS.items() if model.where is Where.PROXY]
PROCESS = [kind for kind, model in FAULTS.items() if model.where is not Where.PROXY]


def real_toxiproxy() -> str:
    """Path of a Toxiproxy binary, or skip."""
    path = str(BUILT) if BUILT.exists() else shutil.which(BINARY)
    if path is None:
        pytest.skip(f"no {BINARY} in .tools/bin or on PATH: run `make toxiproxy`")
    return path


@pytest.fixture(scope="module", params=["embedded", "toxiproxy"])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    engine: Engine
    engine = EmbeddedEngine() if request.param == "embedded" else ToxiproxyEngine(toxiproxy=real_toxiproxy())
    with open_bench(engine, tmp_path_factory.mktemp(request.param)) as bench:
        yield bench


@pytest.mark.parametrize("kind", WIRE)
def test_a_wire_fault_does_what_it_says_and_leaves_no_trace(bench, kind):
    model = FAULTS[kind]
    if lacking := model.model_validate(model.example()).requires() - bench.engine.claims:
        pytest.skip(f"{bench.engine.name} refuses it before the run: it lacks {', '.join(lacking)}")
    check_fault(kind, bench)


@contextmanager
def in_force(bench: Bench, kind: str, **keys: Any) -> Iterator[None]:
    """A fault on proxy a, applied and reverted by its own script."""
    script = FAULTS[kind].model_validate(keys).script(f"{kind}-measured", ("a",))
    for action in script.apply:
        bench.engine.add_toxic(action.proxy, action.toxic)
    yield
    for action in script.revert:
        assert bench.engine.remove_toxic(action.proxy, action.name)


@pytest.mark.parametrize(
    ("kind", "keys", "size", "least_s"),
    [
        pytest.param("latency", {"latency_ms": 100}, 1, 0.1, id="latency downstream"),
        pytest.param("latency", {"latency_ms": 100, "direction": "upstream"}, 1, 0.1, id="latency upstream"),
        pytest.param("latency", {"latency_ms": 100, "direction": "both"}, 1, 0.2, id="latency both ways"),
        pytest.param("latency", {"latency_ms": 100, "jitter_ms": 20}, 1, 0.08, id="latency with jitter"),
        pytest.param("bandwidth", {"rate_kb_per_s": 200}, 60_000, 0.3, id="60,000 bytes at 200 KB a second"),
        pytest.param(
            "slicer", {"average_bytes": 10, "delay_us": 10_000}, 100, 0.09, id="ten slices, 10 ms apart"
        ),
    ],
)
def test_the_effect_has_the_size_that_was_asked_for(bench, kind, keys, size, least_s):
    took_s: list[float] = []
    with in_force(bench, kind, **keys):
        # At its best not another order of size: a busy machine makes all things late.
        assert sometime(lambda: took_s.append(bench.echo_s("a", size)) or took_s[-1] < 2 * least_s + 0.1)
    assert min(took_s) > 0.9 * least_s  # never less than asked but for a timer's grain


def test_limit_data_lets_exactly_its_bytes_pass(bench):
    with in_force(bench, "limit_data", bytes=1_000), bench.dial("a") as connection:
        connection.sendall(b"x" * 3_000)
        passed = 0
        with suppress(ConnectionResetError):
            while data := connection.recv(65536):
                passed += len(data)
    assert passed == 1_000


def test_slices_are_no_larger_than_average_and_variation(bench):
    def sizes() -> list[int]:
        with bench.dial("a") as connection:
            connection.sendall(b"x" * 200)
            got = [len(connection.recv(65536))]
            while sum(got) < 200:
                got.append(len(connection.recv(65536)))
        return got

    seen: list[list[int]] = []
    with in_force(bench, "slicer", average_bytes=20, variation_bytes=5, delay_us=10_000):
        # A reader that is slow finds several pieces at once.
        assert sometime(lambda: seen.append(sizes()) or max(seen[-1]) <= 25), seen
    assert len(seen[-1]) <= 25


def test_toxicity_is_a_share_of_connections(bench):
    with in_force(bench, "latency", latency_ms=600_000, toxicity=0.5):
        connections = [bench.dial("a") for _ in range(60)]
        for connection in connections:
            connection.sendall(b"x")
        sleeping = select.poll()
        for connection in connections:
            sleeping.register(connection, select.POLLIN)
        answers = 0
        # Until none comes for a while: the first may take as long as anything.
        while came := sleeping.poll(600 if answers else faults.WAIT_S * 1000):
            for fd, _ in came:
                sleeping.unregister(fd)
                answers += 1
        for connection in connections:
            connection.close()
    assert 12 <= 60 - answers <= 48  # 4.6 standard deviations


@pytest.fixture(scope="module")
def process_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with open_bench(EmbeddedEngine(), tmp_path_factory.mktemp("process")) as bench:
        yield bench


@pytest.mark.parametrize("kind", PROCESS)
def test_a_process_fault_does_what_it_says_and_leaves_the_process_running(process_bench, kind):
    check_fault(kind, process_bench)


def test_there_is_a_probe_for_every_word():
    assert set(PROBES) == set(Shows)


class LyingEngine(EmbeddedEngine):
    """Confirms what it does not do."""

    def add_toxic(self, proxy: str, toxic: Toxic) -> dict[str, Any]:
        return {"name": toxic.name}

    def remove_toxic(self, proxy: str, name: str) -> bool:
        return True

    def set_enabled(self, proxy: str, enabled: bool) -> None:
        pass


class WideEngine(EmbeddedEngine):
    """Hits proxy b too."""

    def add_toxic(self, proxy: str, toxic: Toxic) -> Mapping[str, Any]:
        for name in ("a", "b"):
            added = super().add_toxic(name, toxic)
        return added

    def set_enabled(self, proxy: str, enabled: bool) -> None:
        for name in ("a", "b"):
            super().set_enabled(name, enabled)


class StickyEngine(EmbeddedEngine):
    """Confirms a revert that it does not do."""

    def remove_toxic(self, proxy: str, name: str) -> bool:
        return True

    def set_enabled(self, proxy: str, enabled: bool) -> None:
        super().set_enabled(proxy, False)


@pytest.mark.parametrize(
    ("engine", "kind"),
    [
        pytest.param(LyingEngine, "latency", id="a toxic that is not there"),
        pytest.param(LyingEngine, "down", id="a proxy that stays on"),
        pytest.param(WideEngine, "timeout", id="a toxic on the other proxy too"),
        pytest.param(StickyEngine, "latency", id="a toxic that stays"),
        pytest.param(StickyEngine, "down", id="a proxy that stays off"),
    ],
)
def test_the_suite_finds_an_engine_that_does_not_do_what_it_confirms(engine, kind, tmp_path, monkeypatch):
    with open_bench(engine(), tmp_path) as bench:
        monkeypatch.setattr(faults, "WAIT_S", 0.5)  # now that its processes have begun
        with pytest.raises((AssertionError, OSError, EngineError)):
            check_fault(kind, bench)

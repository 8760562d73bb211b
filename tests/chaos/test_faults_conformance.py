"""Every fault kind on every engine that is there, measured on real connections and processes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from chaos.engines.base import Engine, EngineError
from chaos.engines.embedded import EmbeddedEngine
from chaos.engines.toxiproxy import BINARY, ToxiproxyEngine
from chaos.faults import FAULTS
from chaos.faults.base import Shows, Toxic, Where
from tests.conformance import faults
from tests.conformance.faults import PROBES, Bench, check_fault, open_bench

pytestmark = pytest.mark.e2e

BUILT = Path(__file__).parents[2] / ".tools" / "bin" / BINARY
WIRE = [kind for kind, model in FAULTS.items() if model.where is Where.PROXY]
PROCESS = [kind for kind, model in FAULTS.items() if model.where is Where.PROCESS]


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
    check_fault(kind, bench)


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


@pytest.mark.parametrize("kind", ["latency", "timeout", "down"])
@pytest.mark.parametrize("engine", [LyingEngine, WideEngine, StickyEngine])
def test_the_suite_finds_an_engine_that_does_not_do_what_it_confirms(engine, kind, tmp_path, monkeypatch):
    monkeypatch.setattr(faults, "WAIT_S", 1.0)
    with open_bench(engine(), tmp_path) as bench:
        with pytest.raises((AssertionError, OSError, EngineError)):
            check_fault(kind, bench)

"""Every fault kind on every engine that is there, measured on real connections and processes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.engines.base import Engine
from chaos.engines.embedded import EmbeddedEngine
from chaos.engines.toxiproxy import BINARY, ToxiproxyEngine
from chaos.faults import FAULTS
from chaos.faults.base import Shows, Where
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

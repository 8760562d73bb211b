"""Drivers from outside: what is imported, when, and what is said of one that cannot be used."""

from __future__ import annotations

import os
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from loadgen.drivers import DriverError, driver_named, foreign
from loadgen.drivers.base import Capability
from loadgen.drivers.centrifugo import CentrifugoDriver
from loadgen.workload import Workload
from reports.verdict import Exit
from scenarios.cli import main

WHOLE = """
from loadgen.drivers.centrifugo import CentrifugoDriver
class Mine(CentrifugoDriver):
    name = "{name}"
"""


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(foreign.VARIABLE, "")
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    monkeypatch.setattr(sys, "path", list(sys.path))


def write(directory: Path, module: str, name: str) -> str:
    path = directory / f"{module}.py"
    path.write_text(WHOLE.format(name=name))
    return f"{path}:Mine"


def test_a_file_is_found_by_the_name_of_its_driver(tmp_path: Path) -> None:
    foreign.declare([write(tmp_path, "mine_found", "mine")])
    assert driver_named("mine").name == "mine"
    assert os.environ[foreign.VARIABLE] == "mine_found:Mine"
    assert str(tmp_path) in os.environ["PYTHONPATH"].split(os.pathsep)


def test_a_driver_of_ones_own_does_not_hide_one_of_chatproofs(tmp_path: Path) -> None:
    foreign.declare([write(tmp_path, "mine_hides", "chatd")])
    with pytest.raises(DriverError, match="'chatd', as one of chatproof's: rename it"):
        driver_named("other")


def test_two_of_one_name_are_refused(tmp_path: Path) -> None:
    foreign.declare([write(tmp_path, "mine_one", "mine"), write(tmp_path, "mine_two", "mine")])
    with pytest.raises(DriverError, match="another one is called 'mine'"):
        driver_named("mine")


def test_what_a_scenario_names_is_never_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "mine_trap", "mine")
    monkeypatch.syspath_prepend(tmp_path)
    phase = {"name": "all", "duration_s": 1.0}
    with pytest.raises(ValidationError, match=r"chatproof --driver FILE\.py:CLASS run"):
        Workload.model_validate({"clients": 1, "channels": 2, "driver": "mine_trap:Mine", "phase": [phase]})
    assert "mine_trap" not in sys.modules


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        pytest.param("mine", "must be MODULE:CLASS or FILE.py:CLASS", id="no class"),
        pytest.param("mine:not a class", "must be MODULE:CLASS or FILE.py:CLASS", id="no name"),
        pytest.param("nowhere/mine.py:Mine", "there is no file nowhere/mine.py", id="no file"),
    ],
)
def test_a_driver_that_is_not_there_is_told_at_once(spec: str, said: str) -> None:
    done = CliRunner().invoke(main, ["--driver", spec, "list"])
    assert done.exit_code == Exit.USAGE
    assert said in done.output


def test_a_module_that_breaks_is_told_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "mine_broken.py").write_text("1 / 0\n")
    foreign.declare([f"{tmp_path / 'mine_broken.py'}:Mine"])
    with pytest.raises(DriverError, match="'mine_broken:Mine' cannot be imported: ZeroDivisionError"):
        driver_named("mine")


def test_all_that_a_class_lacks_is_told() -> None:
    class Half:
        name = "half"

    (fault,) = foreign.faults_of(Half)
    assert "it has no capabilities, subprotocol, frame_view" in fault
    assert "feed" in fault
    assert foreign.faults_of(Half()) == ["it is no class"]


def test_what_is_promised_has_its_method() -> None:
    class Boasts(CentrifugoDriver):
        name = "No Name"
        capabilities = CentrifugoDriver.capabilities | {Capability.TYPING}

        def __init__(self, needed: int) -> None:
            super().__init__()

    faults = foreign.faults_of(Boasts)
    assert [fault.split(":")[0] for fault in faults] == [
        "name is 'No Name'",
        "capabilities has 'typing', and there is no method typing",
        "it cannot be made without arguments",
    ]


def test_every_driver_that_comes_with_chatproof_has_all_members() -> None:
    assert [foreign.faults_of(driver_named(name)) for name in ("chatd", "centrifugo")] == [[], []]


def test_an_installed_package_offers_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "mine_installed", "mine-installed")
    monkeypatch.syspath_prepend(tmp_path)
    points = [
        EntryPoint(name, "mine_installed:Mine", foreign.GROUP) for name in ("mine-installed", "misnamed")
    ]
    monkeypatch.setattr(foreign, "entry_points", lambda **by: EntryPoints(points).select(**by))
    foreign.installed.cache_clear()
    assert driver_named("mine-installed").__module__ == "mine_installed"
    with pytest.raises(DriverError, match="'misnamed', and the driver's name is 'mine-installed'"):
        driver_named("misnamed")
    with pytest.raises(DriverError, match="centrifugo, chatd, mine-installed, misnamed;"):
        driver_named("unknown")
    foreign.installed.cache_clear()

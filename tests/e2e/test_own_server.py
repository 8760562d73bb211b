"""The example of a server and a driver of one's own: started, cut, killed; its bug is found, nothing else."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from loadgen.drivers.foreign import VARIABLE
from tests.e2e.test_run import ROOT, run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]
EXAMPLE = ROOT / "examples/own_server"


def test_the_planted_bug_of_the_example_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, f"{EXAMPLE / 'own_driver.py'}:OwnDriver")
    command = [sys.executable, str(EXAMPLE / "own_server.py"), "--port", "{port}", "--data", "{data}"]
    command += ["--fault", "late-join"]
    status, output, summary = run(
        str(EXAMPLE / "promises.toml"), "--set", f"server.command={json.dumps(command)}", cwd=tmp_path
    )
    assert status == 3, output
    found = {name for name, told in summary["classes"].items() if told["count"]}
    assert found == {"D1"}, output
    assert (tmp_path / "runs/latest/logs/server-1.log").exists()

"""A run that failed is made again with fewer faults, until only those are left that it takes."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.e2e.test_process_faults import fault, write
from tests.e2e.test_run import chatproof, run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1000)]


def test_a_failed_run_is_minimised_to_what_it_takes(tmp_path: Path) -> None:
    """One of three faults loses acks on their way, so that publishes are sent again; the others do not."""
    scenario = write(
        tmp_path,
        fault("timeout", 2.2, 1.0, target="a", timeout_ms=800),
        fault("latency", 2.4, 1.0, target="b", latency_ms=100),
        fault("slicer", 2.5, 0.5, target="b", average_bytes=200),
        length=3.0,
    )
    mutant = ("--set", "server.mutant=no-dedupe:1")
    status, output, summary = run(scenario, *mutant, cwd=tmp_path)
    assert status == 3, output
    assert summary["classes"]["L2"]["count"] > 0
    process = chatproof("minimise", "runs/latest", "--class", "L2", "--budget", "4", cwd=tmp_path)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    minimal = tomllib.loads((tmp_path / "minimal.toml").read_text())
    assert [each["kind"] for each in minimal["fault"]] == ["timeout"]
    assert "run it: chatproof run minimal.toml" in output

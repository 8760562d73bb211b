"""The commands `report` and `gate`: output, exit status, and errors without a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from reports.cli import gate, report
from tests.reports.synthetic import small

SLOW = '[[gate]]\nid = "p99"\nkind = "threshold"\nmetric = "delivery"\nexpr = "p(99) < 1us"\n'


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small().write(tmp_path_factory.mktemp("runs") / "run")


def test_report_prints_the_verdict_and_exits_with_it(run: Path) -> None:
    done = CliRunner().invoke(report, [str(run)])
    assert done.exit_code == 0, done.output
    assert done.output.startswith("✓ PASS")
    assert f"report  {run}/report/report.html" in done.output


def test_gate_prints_a_line_a_gate(run: Path, tmp_path: Path) -> None:
    gates = tmp_path / "gates.toml"
    gates.write_text(SLOW)
    done = CliRunner().invoke(gate, [str(run), "--gates", str(gates)])
    assert done.exit_code == 1
    assert done.output.startswith("fail    p99  delivery p(99) is ")


@pytest.mark.parametrize("command", [report, gate], ids=["report", "gate"])
def test_bad_input_is_told_without_a_traceback(command: object, tmp_path: Path, run: Path) -> None:
    nowhere = CliRunner().invoke(command, [str(tmp_path / "nowhere")])  # type: ignore[arg-type]
    assert nowhere.exit_code == 2
    assert nowhere.output.startswith("error: ")
    gates = tmp_path / "gates.toml"
    gates.write_text('[[gate]]\nid = "x"\n[[gate]]\nkind = "y"\n')
    bad = CliRunner().invoke(command, [str(run), "--gates", str(gates)])  # type: ignore[arg-type]
    assert bad.exit_code == 2
    assert len(bad.output.splitlines()) >= 4
    assert all(line.startswith(f"error: {gates}: gate[") for line in bad.output.splitlines())

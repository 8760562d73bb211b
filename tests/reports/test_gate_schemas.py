"""What gates and processes leave in JSON files is what the schemas of these files know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import reports
from reports.metrics import Unit
from reports.pipeline import report_run
from reports.usage import SCHEMA
from tests.reports.schema_check import violations
from tests.reports.synthetic import T0, S, small, start_line

SCHEMAS = Path(reports.__file__).parent / "schemas"


def schema(name: str) -> Any:
    return json.loads((SCHEMAS / f"{name}.schema.json").read_text())


def units(node: Any) -> list[list[str]]:
    """Every list of units that a schema allows."""
    if isinstance(node, list):
        return [found for item in node for found in units(item)]
    if not isinstance(node, dict):
        return []
    own = [node["unit"]["enum"]] if isinstance(node.get("unit"), dict) else []
    return own + [found for item in node.values() for found in units(item)]


@pytest.mark.parametrize("name", ["summary", "gates"])
def test_a_schema_knows_every_unit(name: str) -> None:
    found = units(schema(name))
    assert found
    assert all(set(each) == {str(unit) for unit in Unit} for each in found)


def test_a_run_whose_memory_was_sampled_obeys_the_schemas(tmp_path: Path) -> None:
    run = small(faults=[start_line("", -3)]).write(tmp_path / "run")
    (run / "metrics").mkdir()
    rows = [(T0 - S, "chatd-1", 4712, 50 << 20, 0.1), (T0 + 5 * S, "chatd-1", 4712, 60 << 20, 0.9)]
    rows.append((T0 + 5 * S, "worker-1", 4713, 70 << 20, 0.9))  # not sampled before
    pl.DataFrame(rows, schema=SCHEMA, orient="row").write_parquet(run / "metrics" / "processes.parquet")
    gates = tmp_path / "gates.toml"
    gates.write_text(
        '[[gate]]\nid = "m"\nkind = "threshold"\nmetric = "memory.per_channel"\nexpr = "max <= 5MiB"\n'
        '[[gate]]\nid = "r"\nkind = "threshold"\nmetric = "dials_per_client"\nexpr = "max < 9x"\n'
    )
    summary = report_run(run, gates_file=gates).summary
    written = json.loads((run / "analysis" / "gates.json").read_text())
    assert [(gate["id"], gate["unit"]) for gate in written["gates"]] == [("m", "MiB"), ("r", "x")]
    assert written["gates"][0]["actual"] == 5.0
    assert violations(written, schema("gates")) == []
    assert {p["process"]: p["rss_before_bytes"] for p in summary["processes"]} == {
        "chatd-1": 50 << 20,
        "worker-1": None,
    }
    assert violations(summary, schema("summary")) == []

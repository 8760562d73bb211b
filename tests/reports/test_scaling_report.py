"""From capacity.json files to scaling.json, scaling.md and a terminal; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from reports.capacity import Held, Search, Trial
from reports.capacity_report import as_json as capacity_json
from reports.scaling_cli import scaling
from reports.scaling_page import chart
from tests.reports.schema_check import violations

SCHEMA = Path(__file__).parents[2] / "reports/schemas/scaling.schema.json"
RATE = 20_000.0


def search(limit: float) -> Search:
    """One that held at a rate and failed at 3 % more."""
    made = Search()
    while (load := made.next_load()) is not None:
        made.tell(
            Trial(load=load, held=Held.YES if load <= limit else Held.NO, deliveries_per_s=load * RATE,
                  connections=100, p99_ms=5.0)
        )  # fmt: skip
    return made


def written(folder: Path, nodes: int, *, sigma: float = 0.05, kappa: float = 0.0, **more: Any) -> Path:
    """A search's directory."""
    limit = 5 * nodes / (1 + sigma * (nodes - 1) + kappa * nodes * (nodes - 1))
    settings = {"server.nodes": str(nodes), "server.store": "valkey", "seed": str(nodes)}
    found = capacity_json("chat", "rate", search(limit), [], None, nodes=nodes, settings=settings)
    folder.mkdir(parents=True)
    (folder / "capacity.json").write_text(json.dumps(found | more))
    return folder


def edited(folder: Path, **more: Any) -> Path:
    file = folder / "capacity.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | more))
    return folder


def scaled(tmp_path: Path, *words: object) -> Result:
    return CliRunner().invoke(scaling, [*map(str, words), "--out", str(tmp_path / "out")])


def told(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / "out/scaling.json").read_text())
    return found


def faults(result: Result) -> list[str]:
    assert result.exit_code == 2
    return [line.removeprefix("error: ") for line in result.stderr.splitlines()]


@pytest.mark.parametrize("kappa", [0.0, 0.02])
def test_a_law_is_told_in_a_terminal_in_markdown_and_for_programs(tmp_path: Path, kappa: float) -> None:
    runs = [written(tmp_path / f"{n}", n, kappa=kappa) for n in (8, 1, 2, 3, 4, 6, 12, 16)]
    result = scaled(tmp_path, *runs)
    assert result.exit_code == 0, result.output
    found = told(tmp_path)
    assert violations(found, json.loads(SCHEMA.read_text())) == []
    assert [point["n"] for point in found["points"]] == [1, 2, 3, 4, 6, 8, 12, 16]
    assert found["contention"]["low"] <= 0.05 <= found["contention"]["high"]
    assert found["coherency"]["low"] <= kappa <= found["coherency"]["high"]
    if kappa:
        assert found["peak"]["low"] <= 6.89 <= found["peak"]["high"]
        assert "The peak is at about" in found["headline"]
    else:
        assert found["peak"] is None
        assert found["headline"].startswith("No peak observed up to 16 nodes")
    shown = (tmp_path / "out/scaling.md").read_text()
    for text in (result.output, shown.replace("\u00a0", " ")):
        assert found["headline"].replace("\u00a0", " ") in text
        assert "by that law, 24 nodes" in text
    names = ("scaling.json", "scaling.md", "scaling.html")
    before = [(tmp_path / "out" / name).read_bytes() for name in names]
    assert scaled(tmp_path, *runs).exit_code == 0
    assert [(tmp_path / "out" / name).read_bytes() for name in names] == before


def test_the_chart_ends_where_nothing_is_said_any_more(tmp_path: Path) -> None:
    scaled(tmp_path, *(written(tmp_path / f"{n}", n) for n in (2, 4, 6, 9)))
    found = told(tmp_path)
    lines = {line.name: line.points for panel in chart(found).panels for line in panel.series}
    assert [n for n, _ in lines["measured"]] == [2, 4, 6, 9]
    assert max(n for points in lines.values() for n, _ in points) == 13
    assert lines["by the law"][-1][1] == pytest.approx(found["at_reach"]["value"])
    assert lines["linear"][-1][1] == pytest.approx(13 * found["rate_of_one"]["value"])
    assert found["headline"] in (tmp_path / "out/scaling.html").read_text()


def test_three_points_have_no_intervals_and_say_so(tmp_path: Path) -> None:
    result = scaled(tmp_path, *(written(tmp_path / f"{n}", n) for n in (1, 2, 4)))
    assert result.exit_code == 0
    assert "no intervals" in result.output
    assert "95 %" not in result.output
    assert violations(told(tmp_path), json.loads(SCHEMA.read_text())) == []


def test_two_numbers_are_refused(tmp_path: Path) -> None:
    result = scaled(tmp_path, *(written(tmp_path / f"{n}", n) for n in (1, 2)))
    assert faults(result) == ["2 different numbers were measured: for 3 parameters at least 3"]
    assert not (tmp_path / "out").exists()


def test_every_fault_of_every_file_is_told_at_once(tmp_path: Path) -> None:
    good = written(tmp_path / "good", 1)
    other = written(tmp_path / "other", 2, scenario="another", vary="clients")
    store = edited(written(tmp_path / "store", 3), settings={"server.nodes": "3", "server.store": "memory"})
    capped = written(tmp_path / "capped", 4, ending="never failed up to the cap")
    unsaid = edited(written(tmp_path / "unsaid", 5), nodes=None)
    old = edited(written(tmp_path / "old", 6), settings=None)
    empty = written(tmp_path / "empty", 7, max_rate={"holds_at": None, "fails_at": 1.0, "width": None})
    foreign = written(tmp_path / "foreign", 8, schema_version=2)
    found = faults(
        scaled(tmp_path, good, other, store, capped, unsaid, old, empty, foreign, tmp_path / "none")
    )
    for part in (
        f"{tmp_path / 'none'}: not found",
        "capped/capacity.json: no limit was found (never failed up to the cap)",
        "unsaid/capacity.json: does not say how many nodes there were: write it before the file",
        "old/capacity.json: does not say at what settings it was measured",
        "empty/capacity.json: max_rate has no rate",
        "foreign/capacity.json: is no capacity.json that this version reads",
        f"scenario is chat in {good} and another in {other}",
        f"--vary is rate in {good} and clients in {other}",
        f"server.store is valkey in {good} and memory in {store}",
    ):
        assert [line for line in found if part in line], (part, found)
    assert not [line for line in found if "server.nodes is" in line or line.startswith("seed")]
    assert len(found) == 9


def test_of_anything_but_nodes_the_number_is_given(tmp_path: Path) -> None:
    runs = [written(tmp_path / f"{n}", 1, sigma=0.0) for n in (1, 2, 4)]
    assert (
        "write it before the file, as in 4=capacity.json"
        in faults(scaled(tmp_path, "--of", "cores", *runs))[0]
    )
    given = [f"{n}={run}" for n, run in zip((1, 2, 4), runs, strict=True)]
    assert scaled(tmp_path, "--of", "cores", *given).exit_code == 0
    assert [point["n"] for point in told(tmp_path)["points"]] == [1, 2, 4]
    assert told(tmp_path)["of"] == "cores"
    wrong = faults(scaled(tmp_path, *given))
    assert len(wrong) == 2
    assert "has 1 nodes, and 2 were given: leave the number out" in wrong[0]


def test_names_of_a_foreign_file_stay_text(tmp_path: Path) -> None:
    name = "a|<b>\x1b[2J"
    result = scaled(tmp_path, *(written(tmp_path / f"{n}", n, scenario=name) for n in (1, 2, 4)))
    assert "\x1b" not in result.output
    for file in ("scaling.md", "scaling.html"):
        shown = (tmp_path / "out" / file).read_text()
        assert "a|<b>" not in shown
        assert "\x1b" not in shown

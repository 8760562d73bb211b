"""Every scenario takes --scale, and what is scaled can be run again as it is written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from loadgen.workload import predict
from scenarios.cli import main
from scenarios.describe import resolved_toml
from scenarios.model import ScenarioError, bundled_files, load, parse
from tests.scenarios.test_model import with_changes

SCENARIOS = pytest.mark.parametrize("path", bundled_files(), ids=lambda path: path.stem)


@SCENARIOS
@pytest.mark.parametrize("factor", ["0.25", "10"])
def test_every_scenario_can_be_planned_smaller_and_larger(path: Path, factor: str) -> None:
    told = CliRunner().invoke(main, ["plan", path.stem, "--scale", factor])
    assert told.exit_code == 0, told.output
    once, scaled = load(path).workload, load(path, overrides=[f"scale={factor}"]).workload
    assert scaled.clients == pytest.approx(once.clients * float(factor), abs=1)
    publishes = predict(once, 1).publishes
    assert predict(scaled, 1).publishes == pytest.approx(publishes * float(factor), rel=0.25)


def test_a_scaled_scenario_with_personas_and_topology_is_written_down_as_it_runs(tmp_path: Path) -> None:
    text = """
    version = 1
    why = "Does a scaled scenario come back as it was?"
    [server.namespaces.room]
    [server.namespaces.dm]
    private = false
    [workload]
    clients = 20
    channels = 4
    reconnect = { policy = "fixed", wait_s = 1.0 }
    [workload.topology]
    direct_per_client = 1.0
    sized = [{ channels = 1, share = 1.0 }]
    [[workload.phase]]
    name = "steady"
    duration_s = 5.0
    publish_per_s = 10.0
    spikes = [{ at_s = 1.0, for_s = 1.0, factor = 3.0 }]
    [[workload.persona]]
    name = "chatty"
    kind = "chatty"
    weight = 3
    rates = { typing_per_s = 0.1 }
    [[workload.persona]]
    name = "lurkers"
    kind = "lurker"
    weight = 1
    reconnect = "none"
    """
    path = tmp_path / "own.toml"
    path.write_text(text)
    made = load(path, overrides=["scale=3"])
    assert (made.workload.clients, made.workload.channels, made.workload.channel_count) == (60, 12, 43)
    path.write_text(resolved_toml(made))
    again = load(path)
    assert again.workload == made.workload


@pytest.mark.parametrize("scale", [0, -1, "big", True, float("inf")], ids=str)
def test_a_scale_that_makes_no_sense_is_refused(scale: Any) -> None:
    with pytest.raises(ScenarioError, match="scale is"):
        parse(with_changes(scale=scale), name="own")


DIRECT = {"workload__topology": {"direct_per_client": 1.0}}


@pytest.mark.parametrize(
    ("namespaces", "part"),
    [
        pytest.param({}, "has no 'dm'", id="none"),
        pytest.param({"room": {}, "dm": {}}, "private = false", id="closed to client 0"),
        pytest.param({"dm": {"private": False}}, "has no 'room'", id="no rooms"),
    ],
)
def test_channels_that_client_0_could_not_read_back_are_refused_before_the_run(
    namespaces: dict[str, Any], part: str
) -> None:
    with pytest.raises(ScenarioError, match=part):
        parse(with_changes(**DIRECT, server__namespaces=namespaces), name="own")


def test_channels_that_it_can_read_back_are_taken() -> None:
    namespaces = {"room": {}, "dm": {"private": False}}
    assert parse(with_changes(**DIRECT, server__namespaces=namespaces), name="own")

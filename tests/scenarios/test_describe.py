"""What a run directory says of its inputs: a scenario that can be run again, whatever faults it has."""

from __future__ import annotations

import tomllib

import pytest

from chaos.plan import Plan
from chaos.swarm import ENVELOPE
from scenarios.describe import resolved_toml
from scenarios.model import find, load, parse
from scenarios.run import make_fault_plan


@pytest.mark.parametrize("seed", range(1, 13))
def test_a_drawn_plan_is_written_as_if_by_hand_and_gives_the_same_plan_again(seed: int) -> None:
    drawn = load(find("swarm"), overrides=(f"seed={seed}",))
    again = parse(tomllib.loads(resolved_toml(drawn)), name="swarm")
    assert again.swarm is None
    plan = make_fault_plan(drawn)
    assert make_fault_plan(again).to_bytes() == plan.to_bytes()
    assert Plan.from_bytes(plan.to_bytes()) == plan
    assert drawn.swarm is not None


def test_faults_are_drawn_or_written_and_a_seed_on_the_command_line_draws_them() -> None:
    storm = load(find("reconnect_storm"), swarm_seed=7)
    assert {spec.common.kind for spec in storm.faults.faults} <= set(ENVELOPE)
    assert "cut-half" not in {spec.common.id for spec in storm.faults.faults}

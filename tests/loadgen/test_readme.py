"""loadgen/README.md in step with the models: every key, its default, every kind."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from loadgen.actions import NEEDS
from loadgen.demand import Phase
from loadgen.personas import KINDS, Persona, Rates
from loadgen.topology import Topology
from loadgen.workload import Workload
from reports.prediction import Offered, held

README = (Path(__file__).parents[2] / "loadgen" / "README.md").read_text(encoding="utf-8")


def rows(heading: str, header: str) -> list[list[str]]:
    section = README.split(f"### {heading}")[1].split("\n### ")[0]
    table = section.split(f"| {header} ")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table]


def default(model: type[BaseModel], key: str) -> str:
    field = model.model_fields[key]
    value: Any = field.default
    if value is PydanticUndefined:
        return "required"
    if value is None or isinstance(value, BaseModel):
        return "`–`"
    shown = f'"{value}"' if isinstance(value, str) else str(value)
    return f"`{shown.lower() if isinstance(value, bool) else shown}`"


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        pytest.param("[workload]", Workload, id="workload"),
        pytest.param("Phases", Phase, id="phase"),
        pytest.param("Personas", Persona, id="persona"),
        pytest.param("Rates", Rates, id="rates"),
        pytest.param("Topology", Topology, id="topology"),
    ],
)
def test_the_tables_have_every_key_with_its_default(heading: str, model: type[BaseModel]) -> None:
    documented = {row[0].strip("`"): row[1] for row in rows(heading, "key")}
    assert documented == {key: default(model, key) for key in model.model_fields}


def test_every_kind_is_there_with_what_it_gives() -> None:
    documented = {row[0].strip("`"): row[1] for row in rows("Personas", "kind | gives")}
    assert documented == {
        kind: ", ".join(
            f"`{key}` " + (f'"{v}"' if isinstance(v, str) else str(v)) for key, v in gives.items()
        )
        for kind, gives in KINDS.items()
    }


def test_every_action_says_what_the_server_must_offer() -> None:
    documented = {row[0].strip("`"): row[3] for row in rows("Rates", "key")}
    assert documented == {
        f"{action.name.lower()}_per_s": str(capability) if capability else ""
        for action, capability in NEEDS.items()
    }


def test_every_policy_of_the_table_is_read() -> None:
    for value, _ in rows("Reconnect", "value"):
        table = tomllib.loads(f"reconnect = {value.strip('`')}")
        plan = Workload.model_validate(
            {"clients": 1, "channels": 2, "phase": [{"name": "p", "duration_s": 1}], **table}
        )
        assert plan.reconnect


def test_every_bound_of_the_table_is_one_that_a_run_is_held_to() -> None:
    section = README.split("## Held to the prediction")[1]
    documented = re.findall(r"^\| ([a-z].*?) \| (?!bound)", section, flags=re.M)
    predicted = {"publishes": 9, "connections": 3, "deliveries": 20}
    run = {"status": "complete", "workers": [1], "load": {"clients": 3, "predicted": predicted}}
    offered = Offered(delivered=20, acked=9, gaps=0, sentinels=1, dials=3, dialled=3)
    figures = held(run, [{"scheduled": 9, "sent": 9, "unsent": 0}], offered)
    assert [figure.name for figure in figures] == documented

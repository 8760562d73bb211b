"""What is known of a run before its first process: the inputs of a run directory."""

from __future__ import annotations

from typing import Any

import tomli_w
from pydantic import BaseModel

from chaos.plan import Plan
from loadgen.personas import assigned, personas_of
from loadgen.workload import channel_names, client_channels, client_name, predict

from .model import Scenario
from .rundir import RunDirectory


def described(scenario: Scenario) -> dict[str, Any]:
    """Manifest fields that follow from the scenario alone."""
    workload = scenario.workload
    return {
        "why": scenario.why,
        "seed": scenario.seed,
        "swarm": None if scenario.swarm is None else scenario.swarm.model_dump(mode="json"),
        "via": "direct",
        "phases": [],
        "expect": scenario.expect.model_dump(),
        "load": {
            "clients": workload.clients,
            "channels": workload.channel_count,
            "workers": 0,
            "driver": workload.driver,
            "predicted": predict(workload, scenario.seed, retain_n=scenario.server.retain_n)._asdict(),
        },
    }


def write_inputs(scenario: Scenario, plan: Plan, rundir: RunDirectory) -> None:
    """plan.json, config/scenario.toml and names.json (its epochs are added when sealing)."""
    workload = scenario.workload
    rundir.write_text("plan.json", plan.to_bytes().decode())
    rundir.write_text("config/scenario.toml", resolved_toml(scenario))
    subscriptions = client_channels(workload, scenario.seed)
    clients = range(1, workload.clients + 1)
    rundir.write_json(
        "names.json",
        {
            "channels": [None, *channel_names(workload, scenario.seed)[1:]],
            "clients": [client_name(0), *map(client_name, clients)],
            "nodes": [None, *(node.name for node in scenario.layout.nodes)],
            "epochs": [None],
            "personas": _personas(scenario),
            "subscriptions": {str(client): list(subscriptions[client]) for client in clients},
        },
    )


def _personas(scenario: Scenario) -> dict[str, list[int]]:
    """The clients of each persona, by its name."""
    found: dict[str, list[int]] = {persona.name: [] for persona in personas_of(scenario.workload)}
    names = list(found)
    for ordinal, index in enumerate(assigned(scenario.workload, scenario.seed).tolist(), start=1):
        found[names[index]].append(ordinal)
    return found


def resolved_toml(scenario: Scenario) -> str:
    """The scenario as it ran, overrides included, as a scenario file that can be run again."""
    faults = scenario.faults
    document: dict[str, Any] = {
        "version": scenario.version,
        "why": scenario.why,
        "seed": scenario.seed,
        "profile": scenario.profile,
        "server": _set_fields(scenario.server),
        "workload": _set_fields(scenario.workload),
        "autoscale": _set_fields(scenario.autoscale) if scenario.autoscale else [],
        "expect": scenario.expect.model_dump(),
        "deadlines": scenario.deadlines.model_dump(),
        "faults": faults.section.model_dump(),
        "fault": [
            {**spec.common.model_dump(), **spec.params.model_dump(exclude_none=True)}
            for spec in faults.faults
        ],
        "gate": [_set_fields(gate) for gate in (*scenario.gates, *scenario.regressions)],
    }
    return tomli_w.dumps({key: value for key, value in document.items() if value != []})


def _set_fields(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json", exclude_unset=True, exclude_none=True)

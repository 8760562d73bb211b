"""The mutants are complete, their runs can be run, and the runner does not believe what proves nothing."""

from __future__ import annotations

import pytest

from chaos.faults import FAULTS
from chatd.mutants import CRASHES, MUTANTS, parse
from reports.checks import CHECKS
from scenarios.model import parse as parse_scenario
from tests.mutants.frames import FRAME_RUNS, FRAMES_IN_CI
from tests.mutants.judge import why_not
from tests.mutants.nodes import NODE_RUNS, NODES_IN_CI
from tests.mutants.runs import IN_CI, RUNS, Run

BEYOND = {"M34", "M35"}  # of several nodes, in the simulator; of the load client, in RUNS
CAUGHT = {"fired": 3, "coverage": {"gaps": 0, "delivered": 500}, "void": False, "status": 3}


def test_every_mutant_of_the_list_is_there() -> None:
    numbers = [mutant.number for mutant in MUTANTS.values() if mutant.number]
    assert sorted({*numbers, *BEYOND}) == [f"M{number:02}" for number in range(1, 39)]
    assert len(numbers) == len(set(numbers))


def test_every_class_is_raised_by_some_mutant() -> None:
    raised = frozenset().union(*(run.must for run in RUNS.values()))
    assert raised == CHECKS.keys()


def test_every_mutant_has_a_run_and_every_once_is_once() -> None:
    names = [run.mutant.partition(":")[0] for run in RUNS.values()]
    assert set(names) - {"", *CRASHES} == {name for name, one in MUTANTS.items() if one.stores != {"valkey"}}
    assert sum(run.once for run in RUNS.values()) >= 10


@pytest.mark.parametrize(("name", "run"), RUNS.items(), ids=RUNS)
def test_every_run_is_a_scenario(name: str, run: Run) -> None:
    scenario = parse_scenario(run.scenario(), name=name)
    assert scenario.server.mutant == run.mutant
    if run.mutant:
        parse(run.mutant)


@pytest.mark.parametrize(("name", "run"), FRAME_RUNS.items(), ids=FRAME_RUNS)
def test_every_run_with_changed_messages_is_a_scenario_of_an_honest_server(name: str, run: Run) -> None:
    scenario = parse_scenario(run.scenario(), name=name)
    assert scenario.server.mutant == ""
    assert scenario.faults.section.self_test == bool(run.must)
    assert {spec.common.kind.partition("_")[0] for spec in scenario.faults.faults} == {"frame"}


def test_every_kind_of_fault_on_messages_has_a_run() -> None:
    used = {fault["kind"] for run in FRAME_RUNS.values() for fault in run.faults}
    assert used == {kind for kind in FAULTS if kind.startswith("frame_")}
    assert set(FRAMES_IN_CI) <= set(FRAME_RUNS)


@pytest.mark.parametrize(("name", "run"), NODE_RUNS.items(), ids=NODE_RUNS)
def test_every_run_with_nodes_breaks_one_of_two(name: str, run: Run) -> None:
    server = parse_scenario(run.scenario(), name=name).server
    assert (server.nodes, server.store) == (2, "valkey")
    assert (server.mutant, server.mutant_node) == (run.mutant, "chatd-2" if run.mutant else "")


def test_every_mutant_that_a_shared_log_can_have_has_a_run_with_nodes() -> None:
    planted = {run.mutant.partition(":")[0] for run in NODE_RUNS.values()}
    assert planted - {""} == {name for name, mutant in MUTANTS.items() if "valkey" in mutant.stores}
    assert set(NODES_IN_CI) <= set(NODE_RUNS)


def test_a_proxy_that_took_no_message_proves_nothing() -> None:
    run = FRAME_RUNS["frame-drop"]
    assert why_not(run, {"D1": 3}, **CAUGHT) == ""
    assert why_not(run, {"D1": 3}, **{**CAUGHT, "fired": 0}) == "never fired"


def test_the_runs_of_ci_are_of_different_parts() -> None:
    assert len(IN_CI) == 8
    assert len(frozenset().union(*(RUNS[name].must for name in IN_CI))) >= 8


@pytest.mark.parametrize(
    ("counts", "seen", "why"),
    [
        pytest.param({"D1": 3}, {}, "", id="found"),
        pytest.param({"D1": 3, "V1": 1}, {}, "", id="found, and what may come with it"),
        pytest.param({}, {}, "missed D1", id="missed"),
        pytest.param({}, {"void": True, "status": 5}, "missed D1 (void)", id="missed by a void run"),
        pytest.param({"D1": 3}, {"void": True, "status": 5}, "", id="found by a void run"),
        pytest.param({"D1": 3, "L2": 1}, {}, "more than it may: L2", id="accused of more"),
        pytest.param({"D1": 3}, {"fired": 0}, "never fired", id="found though nothing happened"),
        pytest.param({"D1": 3}, {"status": 0}, "exit 0, not 3", id="found and not gated"),
    ],
)
def test_a_run_is_believed_only_if_it_proves_something(counts, seen, why) -> None:
    assert why_not(Run(mutant="skip-subscriber"), counts, **{**CAUGHT, **seen}) == why


def test_once_is_once_and_a_control_must_declare_what_it_loses() -> None:
    once = Run(mutant="skip-subscriber:once")
    assert why_not(once, {"D1": 1}, **{**CAUGHT, "fired": 1}) == ""
    assert why_not(once, {"D1": 1}, **{**CAUGHT, "fired": 2}) == "fired 2 times, not once"
    control = Run(mutant="no-resume", declares=True, exit=0)
    assert why_not(control, {}, **{**CAUGHT, "coverage": {"gaps": 4, "delivered": 9}, "status": 0}) == ""
    assert why_not(control, {}, **{**CAUGHT, "status": 0}) == "no gap was declared"
    many = Run(mutant="skip-subscriber:once", least=1000)
    assert why_not(many, {"D1": 1}, **{**CAUGHT, "fired": 1}) == "500 deliveries, not 1,000"
    died = Run(mutant="die-mid-fanout", classes=frozenset({"V6"}))
    assert why_not(died, {"V6": 1}, **{**CAUGHT, "fired": 0}) == ""
    assert why_not(Run(exit=0), {"D1": 1}, **{**CAUGHT, "fired": 0}) == "more than it may: D1"

"""chaos/README.md in step with the code, and its guide followed to the letter."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from collections.abc import Collection
from pathlib import Path

import pytest

from chaos.engines.embedded import EmbeddedEngine
from chaos.faults import FAULTS
from chaos.faults.base import AddToxic, Fault, ToxicFault
from chaos.faults.clients import ClientFault, StreamFault
from chaos.faults.frame import FrameFault
from chaos.plan import FaultsError, Plan, make_plan, parse_faults
from chaos.proxy.frame_view import load_view
from tests.conformance.faults import check_fault, open_bench

README = (Path(__file__).parents[2] / "chaos" / "README.md").read_text()


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, type[Fault]]:
    """A copy of FAULTS after steps 1 and 2 of the guide: its file written, its line added."""
    guide = README.split("## Adding a fault")[1]
    module, line = re.findall(r"```python\n(.*?)```", guide, flags=re.S)
    path = tmp_path / "mobile.py"
    path.write_text(module)
    spec = importlib.util.spec_from_file_location("mobile", path)
    assert spec is not None
    assert spec.loader is not None
    mobile = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "mobile", mobile)  # as an import would
    spec.loader.exec_module(mobile)
    table = dict(FAULTS)
    table.update(eval("{" + line + "}", vars(mobile)))
    return table


MOBILE = {"id": "m", "kind": "mobile", "target": "all", "at_s": 1, "duration_s": 5, "rtt_ms": 200}


def test_a_fault_of_the_guide_is_read_planned_and_scripted(table):
    specs = parse_faults({}, [MOBILE], run_s=60, table=table)
    plan = make_plan(specs, seed=1, clients=4, phases=())
    assert Plan.from_bytes(plan.to_bytes(), table=table) == plan
    assert plan.needs(table=table) == {"toxic:latency", "toxic:bandwidth"}
    script = plan.script(plan.faults[0], table=table)
    added = [action for action in script.apply if isinstance(action, AddToxic)]
    assert len(added) == len(script.revert) == 8
    assert {action.toxic.attributes.get("latency") for action in added} == {100, None}


def test_a_fault_of_the_guide_is_refused_in_the_words_of_every_other(table):
    with pytest.raises(FaultsError) as refused:
        parse_faults({}, [MOBILE | {"rtt_ms": -1, "rate_kb_per_s": 0, "rtt": 5}], run_s=60, table=table)
    assert refused.value.problems == (
        "fault 1 ('m'): rtt_ms is -1: must be greater than or equal to 0",
        "fault 1 ('m'): rate_kb_per_s is 0: must be greater than or equal to 1",
        "fault 1 ('m'): rtt is 5: no such key of mobile; did you mean rtt_ms? "
        "its own keys are rtt_ms, rate_kb_per_s",
    )


@pytest.mark.e2e
def test_a_fault_of_the_guide_passes_the_suite(table, tmp_path):
    with open_bench(EmbeddedEngine(), tmp_path) as bench:
        check_fault("mobile", bench, table=table)


def shared_keys(model: type[Fault]) -> Collection[str]:
    """Keys that the text around the tables explains."""
    bases: tuple[type[Fault], ...] = (FrameFault, StreamFault, ClientFault, ToxicFault)
    return next((base.model_fields for base in bases if issubclass(model, base)), ())


def test_the_table_of_kinds_is_that_of_the_code():
    tables = re.findall(r"^\| kind .*?\n\n", README.split("## Overlaps")[0], flags=re.M | re.S)
    lines = [row for table in tables for row in table.strip().splitlines()[2:]]
    rows = [[cell.strip() for cell in row.split("|")[1:5]] for row in lines]
    documented = {
        kind.strip("`"): (where, shows, re.findall(r"`(\w+)`", keys)) for kind, where, shows, keys in rows
    }
    assert documented == {
        kind: (
            model.where,
            model.shows,
            [key for key in model.model_fields if key not in shared_keys(model)],
        )
        for kind, model in FAULTS.items()
    }


def test_the_examples_of_scenarios_are_valid():
    view = load_view("loadgen.drivers.chatd_view:FRAME_VIEW")
    examples = [tomllib.loads(text) for text in re.findall(r"```toml\n(.*?)```", README, flags=re.S)]
    specs = [parse_faults(each["faults"], each["fault"], run_s=60, view=view) for each in examples]
    assert [spec.common.id for each in specs for spec in each.faults] == ["slow-half", "wrong-acks"]

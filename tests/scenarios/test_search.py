"""The search for capacity over runs that are made up: what is run, written and said."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import scenarios.search
from reports.blocks import Para
from reports.capacity import Held, Search, Slope, Trial
from reports.capacity_report import Soak, as_json, facts
from reports.checks import run_checks
from reports.creep import Creep
from reports.expected_growth import expected_growth
from reports.pipeline import Outcome, analyse
from reports.planning import Need, Price
from reports.rundir import read_json
from reports.sections import capacity as section
from reports.verdict import Exit
from scenarios.model import Scenario, find, load
from scenarios.run import Options, Ran
from scenarios.search import SOAKS, Question, at_load, for_soak, run_search
from tests.reports.synthetic import in_memory, small

CAPACITY = load(find("capacity"))
NODE = 20_000.0  # deliveries/s that the made-up system can take


class Runs:
    """Stands in for whole runs of a system whose p99 and exit follow from its rate."""

    def __init__(self, folder: Path, exit_at: Callable[[float], Exit]) -> None:
        self.folder, self.exit_at = folder, exit_at
        self.asked: list[Scenario] = []

    def __call__(self, scenario: Scenario, options: Options) -> Ran:
        assert options.quiet
        self.asked.append(scenario)
        workload = scenario.workload
        rate = workload.phase[-1].publish_per_s * workload.clients / workload.channels
        path = self.folder / f"run-{len(self.asked)}"
        if workload.phase[-1].duration_s != CAPACITY.workload.phase[-1].duration_s:  # what is looked into
            small().write(path)
            (path / "config").mkdir(exist_ok=True)
        exit_ = self.exit_at(rate)
        outcome = Outcome(
            verdict="valid", void=[], exit=int(exit_), summary=self.summary(scenario, rate),
            sentence=f"It ended with {exit_.name}.", report=path,
        )  # fmt: skip
        return Ran(path, outcome, interrupted=exit_ is Exit.INTERRUPTED)

    @staticmethod
    def summary(scenario: Scenario, rate: float) -> dict[str, Any]:
        used = {
            "process": "chatd-1",
            "target": True,
            "cpu_us_per_delivery": 20.0,
            "rss_max_bytes": 100_000_000,
        }
        return {
            "load": {"deliveries_per_s": rate, "clients": scenario.workload.clients},
            "latency_ms": {"delivery": {"p99": rate / 200}},
            "processes": [used, {**used, "process": "worker-1", "target": False}],
        }


def searched(
    tmp_path: Path, exit_at: Callable[[float], Exit], **how: Any
) -> tuple[Exit, str, dict[str, Any], Runs]:
    told = io.StringIO()
    runs = Runs(tmp_path / "made", exit_at)
    status = run_search(
        CAPACITY, Question(**how), Options(out=tmp_path), Console(file=told, width=300), run=runs
    )
    path = tmp_path / "capacity.json"
    return status, told.getvalue(), json.loads(path.read_text()) if path.exists() else {}, runs


def in_one_line(told: str) -> str:
    return " ".join(told.split())


def limited(rate: float) -> Exit:
    return Exit.PASS if rate <= NODE else Exit.GATE


def test_a_limit_is_found_confirmed_and_planned_with(tmp_path: Path) -> None:
    need = Need(peak_deliveries_per_s=90_000)
    status, told, found, runs = searched(tmp_path, limited, need=need, soak_s=30.0)
    assert status is Exit.PASS
    assert found["ending"] == "bracketed"
    assert found["nodes"] == 1
    assert found["settings"]["workload.clients"] == str(CAPACITY.workload.clients)  # before it was multiplied
    assert found["settings"]["workload.phase[steady].publish_per_s"] == "100.0"
    assert found["max_rate"]["holds_at"] <= NODE < found["max_rate"]["fails_at"]
    assert found["max_rate"]["width"] <= 0.05
    assert found["confirmed_rate"] == pytest.approx(found["max_rate"]["holds_at"] * 0.9)
    assert runs.asked[-1].workload.phase[-1].duration_s == 30.0
    assert found["plan"]["nodes"] == 7  # 117,000 of about 18,000 each
    assert found["plan"]["total"] == 8
    assert "For 90,000 deliveries/s at the peak" in told
    assert "was not measured here" in told
    assert found["ladder"][0] == {"p99_ms": 10.0, "holds_at": 2000.0, "fails_at": 3000.0, "width": 0.5}
    assert found["slopes"]["cpu_cores_per_delivery_per_s"]["per_unit"] == pytest.approx(20e-6)


def test_what_the_nodes_cost_is_told_everywhere(tmp_path: Path) -> None:
    need, price = Need(peak_deliveries_per_s=90_000), Price(0.34, "EUR")
    _, told, found, runs = searched(tmp_path, limited, need=need, price=price)
    assert found["price"] == {"per_hour": 0.34, "currency": "EUR"}
    assert found["plan"]["cost_per_hour"] == pytest.approx(2.72)
    assert found["plan"]["cost_per_month"] == pytest.approx(1985.6)
    assert re.search(r"^  cost a month of 730 h +1,986 EUR$", told, flags=re.M)
    assert "| cost a month of 730 h | 1,986\u00a0EUR |" in (tmp_path / "capacity.md").read_text()
    folder = tmp_path / f"made/run-{len(runs.asked)}/report"
    assert "1,986\u00a0EUR" in (folder / "report.html").read_text()
    assert "| cost a month of 730 h | 1,986\u00a0EUR |" in (folder / "report.md").read_text()


def test_without_a_confirmed_rate_the_page_has_no_form(tmp_path: Path) -> None:
    calls = iter([Exit.PASS] * 2 + [Exit.GATE] * SOAKS)
    _, _, found, runs = searched(
        tmp_path, lambda _: next(calls), cap=1.0, need=Need(peak_deliveries_per_s=9.0)
    )
    assert found["plan"]["refused"]
    page = (tmp_path / f"made/run-{len(runs.asked)}/report/report.html").read_text()
    assert "No plan: no rate was confirmed" in page
    assert "what-if" not in page.split("<body>")[1].split("<script")[0]
    assert "Planning" not in page


def test_the_page_of_the_confirming_run_has_the_section(tmp_path: Path) -> None:
    _, told, found, runs = searched(tmp_path, limited)
    page = (tmp_path / f"made/run-{len(runs.asked)}/report/report.html").read_text()
    assert f"told in  {tmp_path}/capacity.md" in told
    assert f"page     {tmp_path}/made/run-{len(runs.asked)}" in told
    assert "One node holds" in page
    assert (tmp_path / "capacity.md").read_text().startswith("# Capacity: capacity")
    assert len(found["trials"]) == len(runs.asked) - 1


def test_a_broken_promise_ends_the_search(tmp_path: Path) -> None:
    status, told, found, runs = searched(tmp_path, lambda rate: Exit.INTEGRITY if rate > 3000 else Exit.PASS)
    assert status is Exit.INTEGRITY
    assert "a promise was broken, so there is no rate" in told
    assert not found
    assert len(runs.asked) == 5


def test_a_limit_of_the_generator_is_told_as_such(tmp_path: Path) -> None:
    status, told, found, _ = searched(tmp_path, lambda rate: Exit.VOID if rate > NODE else Exit.PASS)
    assert status is Exit.PASS
    assert found["ending"] == "the generator was the limit"
    assert "no limit was found: the generator was the limit" in in_one_line(told)


def test_what_never_held_has_no_plan(tmp_path: Path) -> None:
    status, told, found, runs = searched(tmp_path, lambda _: Exit.GATE, need=Need(peak_deliveries_per_s=1.0))
    assert status is Exit.UNKNOWN
    assert found["soak"] is None
    assert "No plan: no rate was confirmed" in told
    assert len(runs.asked) == 2


def test_a_soak_that_does_not_hold_confirms_nothing(tmp_path: Path) -> None:
    calls = iter([Exit.PASS] * 2 + [Exit.GATE] * 4)
    status, told, found, runs = searched(tmp_path, lambda _: next(calls), cap=1.0)
    assert status is Exit.UNKNOWN
    assert found["confirmed_rate"] is None
    assert "Not confirmed: 4 longer runs at nine tenths of it and below did not hold" in in_one_line(told)
    assert len(runs.asked) == 6
    page = (tmp_path / "made/run-6/report/report.html").read_text()
    assert "Not confirmed" in page


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        ([Exit.VOID] * 4, "in 4 longer runs at nine tenths of it and below the generator was the limit."),
        ([Exit.VOID, *[Exit.GATE] * 3], "did not hold; in 1 of them the generator was the limit."),
    ],
)
def test_a_longer_run_that_could_not_be_made_is_not_called_one_that_did_not_hold(
    tmp_path: Path, ends: list[Exit], told: str
) -> None:
    calls = iter([Exit.PASS] * 2 + ends)
    assert told in in_one_line(searched(tmp_path, lambda _: next(calls), cap=1.0)[1])


def test_a_soak_that_does_not_hold_is_followed_by_one_of_less_load(tmp_path: Path) -> None:
    calls = iter([Exit.PASS] * 2 + [Exit.VOID, Exit.GATE, Exit.PASS])
    need = Need(peak_deliveries_per_s=10_000, growth=0.0)
    status, told, found, _ = searched(tmp_path, lambda _: next(calls), cap=1.0, need=need)
    assert status is Exit.PASS
    assert [soak["deliveries_per_s"] for soak in found["soaks"]] == pytest.approx([1800, 1620, 1458])
    assert [soak["held"] for soak in found["soaks"]][:2] == ["the generator was the limit", "does not hold"]
    assert found["confirmed_rate"] == found["soak"]["deliveries_per_s"] == pytest.approx(1458)
    assert found["plan"]["nodes"] == 7
    assert "Confirmed by a longer run: 1,458 deliveries/s (1,620 deliveries/s did not hold" in in_one_line(
        told
    )
    assert "soak   2  load 0.81" in told


def test_a_promise_that_breaks_in_the_longer_run_is_no_mere_doubt(tmp_path: Path) -> None:
    calls = iter([Exit.PASS] * 2 + [Exit.INTEGRITY])
    status, _, found, _ = searched(tmp_path, lambda _: next(calls), cap=1.0)
    assert status is Exit.INTEGRITY
    assert found["confirmed_rate"] is None


def test_an_interrupt_ends_the_search(tmp_path: Path) -> None:
    assert searched(tmp_path, lambda _: Exit.INTERRUPTED)[0] is Exit.INTERRUPTED


def test_a_load_multiplies_messages_or_clients() -> None:
    busier = at_load(CAPACITY, 2.5, "rate").workload
    assert [p.publish_per_s for p in busier.phase] == [250.0, 250.0]
    assert (busier.clients, busier.channels) == (200, 10)
    larger = at_load(CAPACITY, 2.5, "clients").workload
    assert (larger.clients, larger.channels, larger.phase[1].publish_per_s) == (500, 25, 250.0)


def test_a_soak_has_a_longer_last_phase() -> None:
    assert [p.duration_s for p in for_soak(CAPACITY, 60).workload.phase] == [3.0, 60]


def test_figures_read_as_people_write_them_and_fit_80_columns(tmp_path: Path) -> None:
    need = Need(peak_deliveries_per_s=90_000)
    _, told, _, _ = searched(tmp_path, lambda r: Exit.VOID if r > NODE else Exit.PASS, need=need, cap=40.0)
    assert "and 30 % of growth" in in_one_line(told)
    assert re.search(r"^  10 ms +2,000 +3,000$", told, flags=re.M)
    assert re.search(r"^  100 ms +\d+,\d+ +not passed$", told, flags=re.M)
    assert re.search(r"^  the generator's limit +\d+,\d+ deliveries/s$", told, flags=re.M)
    assert re.search(r"generator's limit\n {10}It ended with VOID\.$", told, flags=re.M)
    own = [line for line in told.splitlines() if str(tmp_path) not in line]  # paths are as long as they are
    assert max(own, key=len) == max(own, key=len)[:80]
    written = (tmp_path / "capacity.md").read_text()
    assert "| 10\u00a0ms | 2,000 | 3,000 |" in written
    assert "| not passed |" in written


@pytest.mark.parametrize(
    ("rise", "told"),
    [
        pytest.param(1763124.99, "101\u00a0MiB/min (95\u00a0%: 98.4 to 103)", id="much"),
        pytest.param(
            -20.0, "\u22121.17\u00a0KiB/min (95\u00a0%: \u22121.20 to \u22121.14)", id="little, and less"
        ),
    ],
)
def test_memory_has_the_unit_of_its_size(rise: float, told: str) -> None:
    ends = sorted((rise * 0.975, rise * 1.025))
    soak = Soak(
        Trial(load=1, held=Held.YES, deliveries_per_s=1, connections=1, p99_ms=1),
        Creep(Slope(rise, *ends, 0, 60), None),
    )
    found = as_json("capacity", "rate", Search(), [soak], None)
    assert dict(facts(found))["memory while the load stands still"] == told


def test_a_load_that_could_not_be_made_is_drawn_as_no_failure_of_the_server(tmp_path: Path) -> None:
    _, _, found, _ = searched(tmp_path, lambda rate: Exit.VOID if rate > NODE else Exit.PASS)
    assert [series.name for series in section.loads(found).panels[0].series] == [
        "held",
        "the generator was the limit",
    ]


@pytest.mark.parametrize(
    ("risen", "contract", "is_told"),
    [
        pytest.param(1000.0, {"dedupe_s": 3600.0}, True, id="by its contract"),
        pytest.param(0.0, {"dedupe_s": 3600.0}, False, id="it did not rise"),
        pytest.param(1000.0, {}, False, id="of an unknown contract"),
    ],
)
def test_memory_that_grows_as_the_contract_has_it_is_not_taken_for_a_leak(
    risen: float, contract: dict[str, Any], is_told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown = Creep(Slope(risen, risen, risen, 1e6, 60.0), None)
    monkeypatch.setattr(scenarios.search, "creep_of", lambda _: grown)
    monkeypatch.setattr(
        scenarios.search,
        "expected_of",
        lambda path: expected_growth(read_json(path / "run.json") | {"contract": contract}),
    )
    _, told, _, runs = searched(tmp_path, limited)
    page = (tmp_path / f"made/run-{len(runs.asked)}/report/report.html").read_text()
    for text in (told, (tmp_path / "capacity.md").read_text(), page):
        assert ("Memory may grow and not leak" in text) == is_told


ENDLESS = json.dumps(
    as_json("capacity", "rate", Search(), [], None)
    | {"confirmed_rate": 1.0, "plan": {"peak_deliveries_per_s": 1.0, "growth": 0.0, "spare": math.inf}}
)
HOLLOW = '{"schema_version": 1, "trials": [], "ladder": [1], "slopes": {}}'


def test_a_capacity_file_of_another_shape_breaks_no_page(tmp_path: Path) -> None:
    for bad in ("{}", "[]", HOLLOW, ENDLESS, "no JSON"):
        (tmp_path / "config").mkdir(exist_ok=True)
        (tmp_path / "config/capacity.json").write_text(bad)
        history = replace(in_memory(small()), path=tmp_path)
        analysis = analyse(history, run_checks(history, checks={}), ())
        (told,) = section.build(analysis)
        assert isinstance(told, Para)


def test_what_is_about_to_be_done_is_said_before_the_first_run(tmp_path: Path) -> None:
    told = io.StringIO()
    seen: list[str] = []

    def stop(scenario: Scenario, options: Options) -> Ran:
        seen.append(told.getvalue())
        return replace(Runs(tmp_path, limited)(scenario, options), interrupted=True)

    question = Question(start=0.5, cap=8.0, budget=20, soak_s=40.0)
    assert (
        run_search(CAPACITY, question, Options(out=tmp_path), Console(file=told, width=200), run=stop)
        is Exit.INTERRUPTED
    )
    assert "loads     0.5 to 8 times the scenario's: more messages" in seen[0]
    assert "at most 20 runs of about " in seen[0]
    assert re.search(r"often about \d+ min, at most about \d+ min", seen[0])

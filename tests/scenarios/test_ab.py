"""Comparing two sides: overlays, the order of runs, what is made again, and what ends a comparison."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from reports.evaluate import GateResult, GateVerdict
from reports.gates import Gate, Regression, parse_regressions
from reports.pipeline import Outcome
from reports.verdict import Exit
from scenarios.ab import MAX_VOID, merge, order, read_side, regressions_for, run_ab
from scenarios.model import Scenario, ScenarioError, find, load
from scenarios.run import Options, Ran

SMOKE = load(find("smoke"))


def gates(**more: object) -> tuple[Regression, ...]:
    given = {
        "id": "cpu",
        "kind": "regression",
        "metric": "cpu_per_delivery",
        "stat": "mean",
        "max_increase": "10%",
    }
    return parse_regressions({"gate": [given | more]}, source="test")


class Runs:
    """Stands in for whole runs: gives each side its next figure, in the order asked for."""

    def __init__(self, a: Iterator[float], b: Iterator[float], exits: Sequence[Exit] = ()) -> None:
        self.figures = {"a": a, "b": b}
        self.exits = list(exits)
        self.asked: list[str] = []

    def __call__(self, scenario: Scenario, options: Options, probes: Sequence[Gate]) -> Ran:
        assert options.quiet
        self.asked.append(scenario.name)
        exit_ = self.exits.pop(0) if self.exits else Exit.PASS
        measured = (
            [] if exit_ in (Exit.VOID, Exit.INTEGRITY) else [self.probe(scenario.name, p) for p in probes]
        )
        outcome = Outcome(
            verdict="valid", void=[], exit=int(exit_), summary={}, sentence=f"It ended with {exit_.name}.",
            report=Path("report.html"), probes=tuple(measured),
        )  # fmt: skip
        return Ran(Path(f"run-{len(self.asked)}"), outcome, interrupted=exit_ is Exit.INTERRUPTED)

    def probe(self, side: str, gate: Gate) -> GateResult:
        return GateResult(
            id=gate.id, kind="threshold", metric=gate.metric, condition=gate.written, phase="all", where={},
            verdict=GateVerdict.PASS, threshold=0.0, actual=next(self.figures[side]), margin=None, unit="ms",
        )  # fmt: skip


def noisy(centre: float, seed: int) -> Iterator[float]:
    rng = np.random.default_rng(seed)
    while True:
        yield float(centre * np.exp(rng.normal(0, 0.02)))


def compared(
    tmp_path: Path, runs: Runs, *, pairs: int = 5, max_pairs: int = 10, given: tuple[Regression, ...] = ()
) -> tuple[Exit, str]:
    told = io.StringIO()
    console = Console(file=told, width=200)
    a, b = SMOKE.model_copy(update={"name": "a"}), SMOKE.model_copy(update={"name": "b"})
    options = Options(out=tmp_path)
    found = run_ab(a, b, given or gates(), options, console, pairs=pairs, max_pairs=max_pairs, run=runs)
    return found, told.getvalue()


def test_a_side_that_is_worse_fails_and_the_table_says_by_how_much(tmp_path: Path) -> None:
    runs = Runs(noisy(0.05, 1), noisy(0.075, 2))
    status, told = compared(tmp_path, runs)
    assert status is Exit.GATE
    assert "✗ worse" in told
    assert "50.0 µs" in told or "µs" in told
    written = json.loads((tmp_path / "comparison.json").read_text())
    assert written["exit"] == 1
    (gate,) = written["gates"]
    assert gate["outcome"] == "fail"
    assert gate["change"] == pytest.approx(0.5, abs=0.06)
    assert len(written["runs"]) == 10
    assert (tmp_path / "comparison.md").read_text().startswith("## A a (5 runs) against B b (5 runs)")


def test_equal_sides_pass_and_their_runs_alternate(tmp_path: Path) -> None:
    runs = Runs(noisy(1.0, 3), noisy(1.0, 4))
    status, _ = compared(tmp_path, runs)
    assert status is Exit.PASS
    assert "".join(runs.asked) == "abbaabbaab"


def test_while_undecided_another_pair_is_run_up_to_the_most(tmp_path: Path) -> None:
    wild = Runs(iter([1, 3, 1, 3, 1, 3, 1.0]), iter([3, 1, 3, 1, 3, 1, 3.0]))
    status, told = compared(tmp_path, wild, pairs=2, max_pairs=6)
    assert status is Exit.UNKNOWN
    assert len(wild.asked) == 12
    assert "? undecided" in told


def test_a_void_run_is_made_again(tmp_path: Path) -> None:
    runs = Runs(noisy(1.0, 3), noisy(1.0, 4), exits=[Exit.PASS, Exit.VOID, Exit.VOID])
    status, told = compared(tmp_path, runs)
    assert status is Exit.PASS
    assert "".join(runs.asked) == "abbb" + "baabbaab"
    assert told.count("void, so it is made again") == 2


def test_a_side_that_is_void_again_and_again_ends_it(tmp_path: Path) -> None:
    runs = Runs(noisy(1.0, 3), noisy(1.0, 4), exits=[Exit.PASS, *[Exit.VOID] * 9])
    status, told = compared(tmp_path, runs)
    assert status is Exit.VOID
    assert len(runs.asked) == 1 + MAX_VOID + 1
    assert "not comparable: B: void 4 times in a row" in told
    assert not (tmp_path / "comparison.json").exists()


def test_a_broken_promise_ends_it_whichever_side_it_is(tmp_path: Path) -> None:
    runs = Runs(noisy(1.0, 3), noisy(1.0, 4), exits=[Exit.INTEGRITY])
    status, told = compared(tmp_path, runs)
    assert status is Exit.INTEGRITY
    assert "not comparable: A: It ended with INTEGRITY; see run-1" in told


def test_an_interrupt_ends_it(tmp_path: Path) -> None:
    runs = Runs(noisy(1.0, 3), noisy(1.0, 4), exits=[Exit.PASS, Exit.INTERRUPTED])
    assert compared(tmp_path, runs)[0] is Exit.INTERRUPTED


def test_a_failed_gate_of_the_scenario_does_not_hinder_a_comparison(tmp_path: Path) -> None:
    runs = Runs(noisy(1.0, 3), noisy(1.0, 4), exits=[Exit.GATE] * 10)
    assert compared(tmp_path, runs)[0] is Exit.PASS


def test_a_figure_that_was_not_measured_ends_it(tmp_path: Path) -> None:
    runs = Runs(iter([0.0]), noisy(1.0, 4))
    status, told = compared(tmp_path, runs)
    assert status is Exit.UNKNOWN
    assert "cpu_per_delivery cannot be compared: it is 0" in told


def test_the_order_goes_on_where_it_was() -> None:
    assert "".join(order(3)) == "ABBAAB"
    assert "".join(order(1, first=3)) == "BA"


# Sides ---------------------------------------------------------------------------------------------------


def test_an_overlay_holds_only_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "memory.toml"
    path.write_text('scenario = "smoke"\n[server]\nstore = "memory"\n')
    side = read_side(str(path), overrides=["workload.clients=7"])
    assert (side.name, side.server.store, side.workload.clients) == ("memory", "memory", 7)
    assert side.workload.phase == SMOKE.workload.phase
    assert side.why == SMOKE.why


def test_a_merge_goes_into_tables_and_replaces_all_else() -> None:
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 4}
    assert merge(base, {"a": {"c": [3]}, "e": 5}) == {"a": {"b": 1, "c": [3]}, "d": 4, "e": 5}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 4}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("scenario = 3", "scenario is 3: must be the name or path of the base", id="no name"),
        pytest.param('scenario = "smoky"', "did you mean 'smoke'", id="unknown base"),
        pytest.param(
            'scenario = "smoke"\n[server]\nstor = "memory"', "server.stor is not a known key", id="key"
        ),
        pytest.param(
            'scenario = "smoke"\n[server]\ncommand = ["/no/such"]', "is no program here", id="command"
        ),
        pytest.param("scenario = ", "cannot be read", id="not TOML"),
    ],
)
def test_an_overlay_that_cannot_be_used_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "side.toml"
    path.write_text(text)
    with pytest.raises(ScenarioError, match=told.replace("(", r"\(")):
        read_side(str(path))


def test_without_gates_of_its_own_cpu_and_delivery_are_compared() -> None:
    assert [g.id for g in regressions_for(SMOKE, SMOKE, None)] == ["cpu", "p50", "p99"]


def test_of_a_server_that_is_not_ours_the_cpu_is_not_compared() -> None:
    theirs = load(find("smoke"), overrides=["server.url=ws://127.0.0.1:9"])
    assert [g.id for g in regressions_for(SMOKE, theirs, None)] == ["p50", "p99"]


def test_gates_of_a_file_are_held_against_both_sides(tmp_path: Path) -> None:
    path = tmp_path / "gates.toml"
    path.write_text(
        '[[gate]]\nid = "x"\nkind = "regression"\nmetric = "delivery"\nstat = "p(50)"\n'
        'max_increase = "5%"\nphase = "rush"\n'
    )
    with pytest.raises(ScenarioError) as caught:
        regressions_for(SMOKE, SMOKE, path)
    assert all("phase is 'rush'" in line for line in caught.value.lines)

"""How much can a system take? Makes the runs that ``reports.capacity.Search`` asks for, then a longer one.

Each trial is a whole run of the scenario at a multiple of its load, judged by the scenario's own gates: it
holds when all of them do and no promise was broken. At nine tenths of the highest load that holds, a longer
run confirms it, and shows whether memory or latency creep; where it does not hold, at nine tenths of that,
and so on: a minute at the edge is harder than eight seconds, and a planner needs a rate that was held.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from textwrap import wrap
from typing import Final, Literal

from rich.console import Console

from loadgen.scale import busier, scaled
from reports import wording
from reports.capacity import GROWTH, SOAK_SHARE, Held, Search, Trial
from reports.capacity_report import (
    CAPACITY_FILE,
    TERMINAL_COLUMNS,
    Soak,
    as_json,
    as_markdown,
    as_text,
    creep_of,
    expected_of,
)
from reports.compare import flattened
from reports.pipeline import report_run
from reports.planning import RULES, Need, PlanError, Price, broken, read_prices
from reports.verdict import Exit

from .describe import resolved_toml
from .live import waiting
from .model import Scenario
from .run import Options, Ran, run_once

Vary = Literal["rate", "clients"]
AROUND_S: Final = 12.0  # what a run takes besides its phases, about: processes, settling, checks, report
NARROWING: Final = 8  # runs that it takes, about, from the first load that fails to a width of BRACKET
_ASIDE: Final = " " * 10  # before what is said of a trial below its line
SOAKS: Final = 4  # longer runs at most, each at nine tenths of the load before
_HELD: Final = {Exit.PASS: Held.YES, Exit.VOID: Held.GENERATOR}  # any other: it does not hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What to search for, and what for. ``soak_s``: length of the confirming run's last phase."""

    vary: Vary = "rate"
    start: float = 1.0
    cap: float = 100.0
    budget: int = 60
    soak_s: float = 60.0
    need: Need | None = None
    price: Price | None = None


def to_plan(
    peak: float | None, growth: float, spare: int, prices_file: Path | None
) -> tuple[Need | None, Price | None]:
    """What is to be planned for, from the options of the same names, and the price of a node.

    Raises:
        PlanError: with all that is wrong in both.
    """
    asked = {"peak_deliveries_per_s": peak, "growth": growth, "spare": spare}
    options = dict(zip(asked, ("--peak", "--growth", "--spare"), strict=True))
    wrong = [f"{options[name]} is {asked[name]:g}: write {RULES[name].told}" for name in broken(asked)]
    price = None
    try:
        price = None if prices_file is None else read_prices(prices_file)
    except PlanError as found:
        wrong += found.faults
    if wrong:
        raise PlanError(wrong)
    need = None if peak is None else Need(peak_deliveries_per_s=peak, growth=growth, spare=spare)
    return need, price


def at_load(scenario: Scenario, load: float, vary: Vary) -> Scenario:
    """The scenario at a multiple of its own load: more messages, or more clients on as many more channels."""
    workload = scenario.workload
    change = scaled if vary == "clients" else busier
    table = change(workload.model_dump(exclude_unset=True), load)
    return scenario.model_copy(update={"workload": type(workload).model_validate(table)})


def for_soak(scenario: Scenario, soak_s: float) -> Scenario:
    """The scenario with a last phase of another length."""
    workload = scenario.workload
    *others, last = workload.phase
    longer = (*others, last.model_copy(update={"duration_s": soak_s}))
    return scenario.model_copy(update={"workload": workload.model_copy(update={"phase": longer})})


def foretold(scenario: Scenario, question: Question) -> str:
    """What is about to be done, and how long it takes, before anything is."""
    run_s = scenario.duration_s + AROUND_S
    soak_s = for_soak(scenario, question.soak_s).duration_s + AROUND_S
    most = f"{question.budget} runs of about {run_s:.0f} s each"
    steps = math.log(max(1.0, question.cap / question.start)) / math.log(GROWTH) / 2
    usual = min(question.budget, math.ceil(steps) + 1 + NARROWING)
    minutes = [(runs * run_s + soaks * soak_s) / 60 for runs, soaks in ((usual, 1), (question.budget, SOAKS))]
    varied = "more messages" if question.vary == "rate" else "more clients, on as many more channels"
    return (
        f"{scenario.name}: the highest load at which its gates hold\n"
        f"loads     {question.start:g} to {question.cap:g} times the scenario's: {varied}\n"
        f"runs      at most {most}; then 1 to {SOAKS} of {soak_s:.0f} s to confirm\n"
        f"time      often about {minutes[0]:.0f} min, at most about {minutes[1]:.0f} min\n"
    )


Run = Callable[[Scenario, Options], Ran]


def run_search(
    scenario: Scenario, question: Question, options: Options, console: Console, *, run: Run | None = None
) -> Exit:
    """Search, confirm, print and write ``capacity.json`` and ``capacity.md`` in ``options.out``.

    Returns:
        PASS when the highest load that holds was confirmed; UNKNOWN when none held or was confirmed;
        INTEGRITY as soon as a promise was broken, since a rate at which messages are lost is none.
    """
    say = partial(console.print, soft_wrap=True)
    make: Run = run or (lambda asked, how: run_once(asked, how, console))
    quiet = replace(options, quiet=True)
    search = Search(start=question.start, cap=question.cap, budget=question.budget)
    say(foretold(scenario, question))
    run_s = scenario.duration_s + AROUND_S
    while (load := search.next_load()) is not None:
        with waiting(console, f"trial {len(search.trials) + 1:>2}  load {load:<6.3g}", run_s):
            ran = make(at_load(scenario, load, question.vary), quiet)
        if ran.interrupted:
            return Exit.INTERRUPTED
        search.tell(trial := as_trial(ran, load))
        say(_line(f"trial {len(search.trials):>2}", trial))
        if ran.outcome.exit == Exit.INTEGRITY:
            say(f"a promise was broken, so there is no rate: {ran.outcome.sentence}\nSee {ran.path}")
            return Exit.INTEGRITY
    soaks: list[Soak] = []
    while search.highest is not None and len(soaks) < SOAKS:
        load = search.highest * SOAK_SHARE ** (len(soaks) + 1)
        say(f"soak     load {load:<6.3g} for {question.soak_s:g} s")
        longer = for_soak(at_load(scenario, load, question.vary), question.soak_s)
        with waiting(console, f"soak  {len(soaks) + 1:>2}  load {load:<6.3g}", longer.duration_s + AROUND_S):
            ran = make(longer, quiet)
        if ran.interrupted:
            return Exit.INTERRUPTED
        soaks.append(Soak(as_trial(ran, load), creep_of(ran.path), expected_of(ran.path)))
        say(_line(f"soak  {len(soaks):>2}", soaks[-1].trial))
        if soaks[-1].trial.held is Held.YES or ran.outcome.exit == Exit.INTEGRITY:
            break
    document = as_json(
        scenario.name, question.vary, search, soaks, question.need, question.price,
        nodes=None if scenario.server.url else scenario.server.nodes,
        settings=flattened(tomllib.loads(resolved_toml(scenario))),
    )  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    _write(options.out / "capacity.json", json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    _write(options.out / "capacity.md", as_markdown(document))
    if soaks:  # and its own page gets the section for planners
        _write(ran.path / CAPACITY_FILE, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
        report_run(ran.path, gates_file=options.gates_file)
    say(as_text(document))
    say(f"\n  told in  {options.out / 'capacity.md'} and, for programs, capacity.json")
    if soaks:
        say(f"  page     {ran.outcome.report}")
    if soaks and ran.outcome.exit == Exit.INTEGRITY:
        return Exit.INTEGRITY
    return Exit.PASS if soaks and soaks[-1].trial.held is Held.YES else Exit.UNKNOWN


def as_trial(ran: Ran, load: float) -> Trial:
    """What a run says of its load."""
    outcome, summary = ran.outcome, ran.outcome.summary
    rate = float(summary["load"]["deliveries_per_s"] or 0.0)
    under_test = [used for used in summary["processes"] if used["target"]]
    costs = [used["cpu_us_per_delivery"] for used in under_test]
    known = bool(costs) and None not in costs
    return Trial(
        load=load,
        held=_HELD.get(Exit(outcome.exit), Held.NO),
        deliveries_per_s=rate,
        connections=int(summary["load"].get("clients") or 0),
        p99_ms=summary["latency_ms"]["delivery"]["p99"],
        cpu_cores=round(sum(costs) * rate / 1e6, 4) if known else None,
        rss_bytes=sum(used["rss_max_bytes"] for used in under_test) or None,
        run=str(ran.path),
        why="" if outcome.exit == Exit.PASS else outcome.sentence,
    )


def _line(name: str, trial: Trial) -> str:
    p99 = wording.ms(trial.p99_ms).replace(wording.NBSP, " ")
    held = "generator's limit" if trial.held is Held.GENERATOR else trial.held
    line = (
        f"{name}  load {trial.load:<6.3g}{trial.deliveries_per_s:>10,.0f} deliveries/s  p99 {p99:>7}  {held}"
    )
    why = wrap(trial.why.replace(wording.NBSP, " "), TERMINAL_COLUMNS - len(_ASIDE))
    return "\n".join([line, *(_ASIDE + part for part in why)])


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")

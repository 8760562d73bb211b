"""The smallest plan of faults that still breaks the same promises: runs of parts of a failed run's plan.

What is rerun is the failed run's own config/scenario.toml, with fewer faults, then with shorter leases;
faults keep their ids, and so their draws. A part fails when every class of anomaly that is looked for is
found again. Runs depend on timing: with ``repeat`` a part counts as harmless only after so many
runs without, and how often the smallest plan failed is counted and said.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import tomli_w

from chaos.minimise import Search, ddmin, drive, shorten
from reports.checks import CHECKS
from reports.history import HistoryError
from reports.rundir import read_json

from .model import Scenario, ScenarioError, parse
from .run import Ran

FILE: Final = "minimal.toml"
LEAST_S: Final = 0.25  # no lease is tried that is shorter

Fault = Mapping[str, Any]  # a [[fault]] table


class NothingToMinimise(Exception):
    """The run directory cannot be minimised; the text says why."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A failed run: its scenario's tables, and the gated classes of anomaly that it showed."""

    name: str
    tables: Mapping[str, Any]
    classes: tuple[str, ...]

    @property
    def faults(self) -> tuple[Fault, ...]:
        return tuple(self.tables.get("fault", ()))

    def scenario(self, faults: Sequence[Fault]) -> Scenario:
        """The scenario with other faults, and without gates: classes are what is looked for.

        Raises:
            ScenarioError: a lease is too short for its kind.
        """
        return parse(self.part(faults), name=self.name)

    def part(self, faults: Sequence[Fault]) -> dict[str, Any]:
        tables = {key: value for key, value in self.tables.items() if key not in ("fault", "gate")}
        return tables | ({"fault": [dict(fault) for fault in faults]} if faults else {})


@dataclass(slots=True)
class Minimised:
    """What came of it. ``whole``: no fault can be left out and no lease halved, as far as runs can tell.

    ``shown``: of ``tried`` runs of the smallest plan, how many showed all classes.
    """

    faults: tuple[Fault, ...]
    whole: bool
    runs: int
    shown: int
    tried: int
    path: Path | None = None


def read_failed(run_dir: Path, *, classes: Sequence[str] = ()) -> Failed:
    """What a failed run was and showed.

    Args:
        classes: look for these only; by default for all gated ones that the run showed.
    Raises:
        NothingToMinimise: it is no run directory, or showed none of them.
    """
    try:
        told = read_json(run_dir / "analysis" / "summary.json")
        tables = tomllib.loads((run_dir / "config" / "scenario.toml").read_text(encoding="utf-8"))
    except (HistoryError, OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as bad:
        raise NothingToMinimise(f"{run_dir}: no run that was judged: {bad}") from None
    if unknown := [cls for cls in classes if cls not in CHECKS]:
        raise NothingToMinimise(f"class is {', '.join(unknown)}: must be of {', '.join(CHECKS)}")
    seen = tuple(
        name
        for name, found in told.get("classes", {}).items()
        if found["count"] and (name in classes if classes else found["gated"])
    )
    if not seen or not set(classes) <= set(seen):
        looked = ", ".join(classes) or "an anomaly of a class that is gated"
        raise NothingToMinimise(f"{run_dir}: the run did not show {looked}: nothing to look for")
    return Failed(str(told.get("scenario") or "minimal"), tables, seen)


@dataclass(slots=True)
class Trial:
    """Runs parts of a plan, within a budget, and counts.

    Args:
        run: makes and judges one run.
        say: told a line for each run.
        budget: most runs.
        repeat: runs of a part without all classes, until it counts as harmless.
    """

    failed: Failed
    run: Callable[[Scenario], Ran]
    say: Callable[[str], None]
    budget: int
    repeat: int = 1
    runs: int = 0
    interrupted: bool = False
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)  # (shown, tried) by part

    def fails(self, faults: Sequence[Fault]) -> bool | None:
        """Whether a part still shows all classes; None: no run is left."""
        try:
            scenario = self.failed.scenario(faults)
        except ScenarioError:
            return False  # a lease too short for its kind
        for _ in range(self.repeat):
            shown = self._once(scenario, faults)
            if shown is not False:
                return shown
        return False

    def again(self, faults: Sequence[Fault], times: int) -> tuple[int, int]:
        """Run a part so many times more, within the budget; (shown, tried) of all its runs."""
        scenario = self.failed.scenario(faults)
        for _ in range(times):
            if self._once(scenario, faults) is None:
                break
        return self.counts.get(_key(faults), (0, 0))

    def _once(self, scenario: Scenario, faults: Sequence[Fault]) -> bool | None:
        if self.runs >= self.budget or self.interrupted:
            return None
        self.runs += 1
        ran = self.run(scenario)
        if ran.interrupted:
            self.interrupted = True
            return None
        found = {name for name, cls in ran.outcome.summary["classes"].items() if cls["count"]}
        shown = found.issuperset(self.failed.classes)
        before = self.counts.get(_key(faults), (0, 0))
        self.counts[_key(faults)] = before[0] + shown, before[1] + 1
        what = ", ".join(f"{fault['id']} {fault['duration_s']:g} s" for fault in faults) or "no fault"
        self.say(f"run {self.runs} of {self.budget}: {'shown' if shown else '–':<6} {what}")
        return shown


def _key(faults: Sequence[Fault]) -> str:
    return tomli_w.dumps({"fault": [dict(fault) for fault in faults]})


def minimise(failed: Failed, trial: Trial) -> Minimised | None:
    """The smallest plan; None when the whole plan did not fail again, so that nothing can be said.

    First fewer faults, then shorter leases; at last the smallest plan is run ``repeat`` times more.
    """
    if not trial.fails(failed.faults):
        return None
    fewer = drive(ddmin(failed.faults), failed.faults, trial.fails)
    whole, smallest = fewer.whole, fewer.smallest
    if whole:
        search: Search[Fault] = shorten(smallest, half)
        shorter = drive(search, smallest, trial.fails)
        whole, smallest = shorter.whole, shorter.smallest
    shown, tried = trial.again(smallest, trial.repeat)
    return Minimised(smallest, whole, trial.runs, shown, tried)


def half(fault: Fault) -> Fault | None:
    """The fault with half of its lease."""
    duration_s = round(float(fault["duration_s"]) / 2, 3)
    return {**fault, "duration_s": duration_s} if duration_s >= LEAST_S else None


def write(failed: Failed, found: Minimised, path: Path) -> None:
    """A scenario of the smallest plan, which can be run."""
    count = f"{len(found.faults)} of {len(failed.faults)} faults"
    why = f"Do {count} of {failed.name} show {', '.join(failed.classes)}?"
    path.write_text(tomli_w.dumps({**failed.part(found.faults), "why": why[:200]}), encoding="utf-8")
    found.path = path


def closing(failed: Failed, found: Minimised | None, trial: Trial) -> str:
    """What came of it, in words."""
    looked = ", ".join(failed.classes)
    if found is None:
        return (
            f"{looked} was not shown again in {trial.runs} runs of the whole plan: it depends on timing, "
            "or on the machine; try a higher --repeat"
        )
    kept = [f"  {f['id']}: {f['kind']} on {f['target']} at {f['at_s']:g} s for {f['duration_s']:g} s"
            for f in found.faults]  # fmt: skip
    size = f"{len(found.faults)} of {len(failed.faults)} faults show {looked}"
    lines = [f"{size}:" if kept else f"{looked} is shown without any fault", *kept]
    lines.append(f"the smallest plan showed it in {found.shown} of {found.tried} runs")
    if found.shown < found.tried:
        lines.append("so it is flaky, and a smaller plan may have been missed: try a higher --repeat")
    if not found.whole:
        lines.append(f"the search was not over after {found.runs} runs: try a higher --budget")
    if found.path is not None:
        lines.append(f"run it: chatproof run {found.path}")
    return "\n".join(lines)

"""Did B get worse than A? Runs both sides in turn, several times, and lets ``reports.regression`` decide.

A side is a scenario: a bundled name, a file, or an overlay, which is a TOML file that names a base with
``scenario = "smoke"`` and holds only what differs. The runs go A B, B A, A B …, so that a machine that
drifts disturbs both sides alike. A run that is void is made again; one in which a promise was broken ends
the comparison, since its speed means nothing.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from rich.console import Console

from reports.comparison import Judged, Sides, as_json, as_markdown, as_text, figure, status
from reports.gates import Gate, Regression, load_regressions, parse_regressions
from reports.regression import Limits, Outcome, compare
from reports.verdict import Exit

from .model import Scenario, ScenarioError, apply_override, find, gate_misfits, load, parse
from .run import Options, Ran, run_once

MAX_PAIRS: Final = 10
MAX_VOID: Final = 3  # times in a row that a run is made again
SideName = Literal["A", "B"]
CPU: Final = "cpu_per_delivery"
DEFAULTS: Final = (  # CPU first: on a machine that others use, it is what stays steady
    {"id": "cpu", "metric": CPU, "stat": "mean", "max_increase": "10%", "min_delta": "1us"},
    {"id": "p50", "metric": "delivery", "stat": "p(50)", "max_increase": "15%", "min_delta": "200us"},
    {"id": "p99", "metric": "delivery", "stat": "p(99)", "max_increase": "30%", "min_delta": "2ms"},
)


class BrokenSide(Exception):
    """A side cannot be compared: its runs break a promise, or are void again and again."""

    def __init__(self, side: SideName, ran: Ran, why: str, status: Exit) -> None:
        super().__init__(f"{side}: {why.rstrip('.')}; see {ran.path}")
        self.status = status


@dataclass(slots=True)
class Figures:
    """What the runs of both sides showed, by gate and side, in the order of the runs."""

    of: dict[str, dict[SideName, list[float]]] = field(default_factory=dict)
    runs: list[tuple[SideName, Path]] = field(default_factory=list)

    def add(self, side: SideName, ran: Ran) -> None:
        """Take in a run.

        Raises:
            BrokenSide: it has no such figure.
        """
        for probe in ran.outcome.probes:
            if probe.actual is None or probe.actual <= 0:
                why = f"{probe.metric} cannot be compared: {probe.why or 'it is 0'}"
                raise BrokenSide(side, ran, why, Exit.UNKNOWN)
            self.of.setdefault(probe.id, {"A": [], "B": []})[side].append(probe.actual)
        self.runs.append((side, ran.path))


def read_side(text: str, *, overrides: Sequence[str] = (), allow_targets: Sequence[str] = ()) -> Scenario:
    """The scenario of a side.

    Raises:
        ScenarioError: there is none, or with everything that is wrong with it.
    """
    path = find(text)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as bad:
        raise ScenarioError([f"{path.name}: cannot be read: {bad}"]) from None
    base = tables.pop("scenario", None)
    if base is None:
        return load(path, overrides=overrides, allow_targets=allow_targets)
    if not isinstance(base, str):
        raise ScenarioError([f"{path.name}: scenario is {base!r}: must be the name or path of the base"])
    merged = merge(tomllib.loads(find(base).read_text(encoding="utf-8")), tables)
    if lines := [line for each in overrides for line in apply_override(merged, each)]:
        raise ScenarioError(lines)
    return parse(merged, name=path.stem, allow_targets=allow_targets)


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the overlay's values in it: tables key by key, all else, lists too, as a whole."""
    merged = dict(base)
    for key, value in overlay.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            value = merge(below, value)
        merged[key] = value
    return merged


def order(pairs: int, *, first: int = 0) -> Iterator[SideName]:
    """Sides in the order of their runs, for pairs number ``first`` and on: A B, B A, A B …"""
    for pair in range(first, first + pairs):
        yield from ("A", "B") if pair % 2 == 0 else ("B", "A")


def regressions_for(a: Scenario, b: Scenario, gates_file: Path | None) -> tuple[Regression, ...]:
    """What is compared: the regression gates of B's scenario and of the file; DEFAULTS where there is none.

    Of a server that the runs do not start nobody knows the CPU, so it is then no default.

    Raises:
        GatesError, ScenarioError: gates that cannot be used, or that a side's phases and faults do not have.
    """
    own = {gate.id: gate for gate in b.regressions}
    own |= {gate.id: gate for gate in load_regressions(gates_file)} if gates_file else {}
    if not own:
        blind = bool(a.server.url or b.server.url)
        chosen_by_default = [gate for gate in DEFAULTS if not (blind and gate["metric"] == CPU)]
        tables = [{"kind": "regression"} | gate for gate in chosen_by_default]
        own = {gate.id: gate for gate in parse_regressions({"gate": tables}, source="defaults")}
    chosen = tuple(own.values())
    lines = [
        f"{side.name}: {line}" for side in (a, b) for line in gate_misfits(chosen, side.workload, side.faults)
    ]
    if lines:
        raise ScenarioError(lines)
    return chosen


def decide(gates: Sequence[Regression], figures: Figures) -> list[Judged]:
    """Every gate, judged by the runs there are."""
    judged = []
    for gate in gates:
        sides, (increase, delta) = figures.of[gate.id], gate.limit
        limits = Limits(max_increase=increase, min_delta=delta)
        judged.append(Judged(gate, compare(sides["A"], sides["B"], limits, better=gate.better)))
    return judged


Run = Callable[[Scenario, Options, Sequence[Gate]], Ran]


def run_ab(
    a: Scenario, b: Scenario, gates: Sequence[Regression], options: Options, console: Console,
    *, pairs: int, max_pairs: int = MAX_PAIRS, run: Run | None = None,
) -> Exit:  # fmt: skip
    """Run both sides in turn until every gate is decided, or ``max_pairs``; print and write the comparison.

    The result is ``comparison.json`` and ``comparison.md`` in ``options.out``.

    Args:
        run: makes one run; ``run_once`` where it is None.
    """
    say = partial(console.print, soft_wrap=True)
    make: Run = run or (lambda scenario, how, probes: run_once(scenario, how, console, probes=probes))
    quiet, probes = replace(options, quiet=True), tuple(gate.probe for gate in gates)
    scenarios: dict[SideName, Scenario] = {"A": a, "B": b}
    figures, judged, done, more = Figures(), list[Judged](), 0, pairs
    try:
        while more and done < max_pairs:
            for side in order(more, first=done):
                say(f"run {len(figures.runs) + 1}: {side} {scenarios[side].name}")
                ran = _comparable(side, partial(make, scenarios[side], quiet, probes), say)
                figures.add(side, ran)
                say(_row(ran, gates))
            done += more
            judged = decide(gates, figures)
            more = int(any(each.comparison.outcome is Outcome.INCONCLUSIVE for each in judged))
    except BrokenSide as broken:
        say(f"not comparable: {broken}")
        return broken.status
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    sides = Sides(a=a.name, b=b.name, runs=[(side, str(path)) for side, path in figures.runs])
    options.out.mkdir(parents=True, exist_ok=True)
    document = json.dumps(as_json(sides, judged), indent=1, ensure_ascii=False) + "\n"
    (options.out / "comparison.json").write_text(document, encoding="utf-8")
    (options.out / "comparison.md").write_text(as_markdown(sides, judged), encoding="utf-8")
    say(as_text(sides, judged))
    return status(judged)


def _comparable(side: SideName, make: Callable[[], Ran], say: Callable[[str], None]) -> Ran:
    """A run that can be compared; void ones are made again, up to MAX_VOID times.

    Raises:
        BrokenSide: a promise was broken, or every run was void.
        KeyboardInterrupt: it was interrupted.
    """
    for left in range(MAX_VOID, -1, -1):
        ran = make()
        if ran.interrupted:
            raise KeyboardInterrupt
        if ran.outcome.exit == Exit.INTEGRITY:
            raise BrokenSide(side, ran, ran.outcome.sentence, Exit.INTEGRITY)
        if ran.outcome.exit != Exit.VOID:
            return ran
        if left:
            say(f"  void, so it is made again: {ran.outcome.sentence}")
    raise BrokenSide(side, ran, f"void {MAX_VOID + 1} times in a row: {ran.outcome.sentence}", Exit.VOID)


def _row(ran: Ran, gates: Sequence[Regression]) -> str:
    found = {probe.id: probe for probe in ran.outcome.probes}
    return "  " + "   ".join(f"{g.id} {figure(found[g.id].actual, found[g.id].unit)}" for g in gates)

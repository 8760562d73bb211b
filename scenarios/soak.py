"""Soak: one scenario under many swarm plans, one seed after another, and what came of each.

A seed passes when its run does: the history is valid, enough was exercised to say so, every planned
fault was seen in the records, and every gate holds. A void run is told and is no pass.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from chaos.faults import FAULTS
from chaos.swarm import LEFT_OUT
from reports.verdict import Exit, worst

from .model import Scenario, find, load
from .run import Ran

FILE: Final = "soak.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One seed and what came of it. ``kinds``: of its faults, in order of start."""

    seed: int
    kinds: tuple[str, ...]
    outcome: str
    exit: int
    acked: int
    delivered: int
    resumed: int
    took_s: float
    sentence: str
    run: str

    @property
    def passed(self) -> bool:
        return self.exit == Exit.PASS


def soak(
    name: str, seeds: Iterable[int], run: Callable[[Scenario], Ran], say: Callable[[str], None]
) -> tuple[list[Row], bool]:
    """Run a scenario once for each seed; the rows, and whether a signal ended it early.

    Args:
        run: makes and judges one run.
        say: told a line for each seed, as it is done.
    Raises:
        ScenarioError: of the scenario, before its first run.
    """
    rows: list[Row] = []
    say(HEAD)
    for seed in seeds:
        scenario = load(find(name), overrides=(f"seed={seed}",), swarm_seed=seed)
        began_s = time.monotonic()
        ran = run(scenario)
        if ran.interrupted:
            return rows, True
        told = ran.outcome.summary
        rows.append(
            Row(
                seed=seed,
                kinds=tuple(fault["kind"] for fault in sorted(told["faults"], key=_planned)),
                outcome=told["outcome"],
                exit=told["exit"],
                acked=told["coverage"]["acked"],
                delivered=told["coverage"]["delivered"],
                resumed=told["coverage"]["resumed"],
                took_s=round(time.monotonic() - began_s, 1),
                sentence=ran.outcome.sentence,
                run=str(ran.path),
            )
        )
        say(line(rows[-1]))
    return rows, False


def _planned(fault: dict[str, object]) -> tuple[float, str]:
    at_s = fault["planned_s"]
    return (float(at_s) if isinstance(at_s, int | float) else 0.0), str(fault["id"])


HEAD: Final = f"{'seed':>6}  {'outcome':<12}{'acked':>7}{'deliveries':>12}{'resumes':>9}{'took':>9}  faults"


def line(row: Row) -> str:
    """A seed as text; of one that did not pass, also why and where."""
    text = (
        f"{row.seed:>6}  {row.outcome:<12}{row.acked:>7,}{row.delivered:>12,}{row.resumed:>9,}"
        f"{row.took_s:>7.1f} s  {', '.join(row.kinds)}"
    )
    return text if row.passed else f"{text}\n{'':>8}{row.sentence}\n{'':>8}{row.run}"


def closing(rows: Sequence[Row]) -> str:
    """What all came to: outcomes, messages, and which kinds of fault were used how often."""
    outcomes = Counter(row.outcome for row in rows)
    used = Counter(kind for row in rows for kind in set(row.kinds))
    unused = [kind for kind in FAULTS if kind not in used and kind not in LEFT_OUT]
    lines = [
        "",
        f"{outcomes['pass']} of {len(rows)} seeds pass: "
        + ", ".join(f"{n} {name}" for name, n in outcomes.most_common()),
        f"{sum(row.acked for row in rows):,} messages acked, {sum(row.delivered for row in rows):,} "
        f"deliveries, {sum(row.resumed for row in rows):,} resumes",
        "seeds by kind of fault: " + ", ".join(f"{kind} {used[kind]}" for kind in FAULTS if used[kind]),
    ]
    if unused:
        lines.append(f"never drawn: {', '.join(unused)}")
    lines += [f"never in a swarm: {kind}, because {why}" for kind, why in LEFT_OUT.items()]
    return "\n".join(lines)


def status(rows: Sequence[Row]) -> Exit:
    """The worst of all seeds, in the usual order."""
    return worst(Exit(row.exit) for row in rows)


def write(out: Path, rows: Sequence[Row]) -> Path:
    """soak.json: a list of rows."""
    path = out / FILE
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return path

"""Differential fuzz: simulated histories, damaged at random, judged by the checker and by the oracle.

    python -m tests.oracle.fuzz 0 1000 --edits 10   # of each of a thousand histories, ten damaged ones
    python -m tests.oracle.fuzz --replay 28 8       # one again, with all that both say

A history is a pure function of its seed, and its damage of the seed and the number of the edit; 0 is none.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from reports.checks import run_checks
from tests.builders import Story
from tests.oracle.agreement import disagreements
from tests.oracle.garbage import damage
from tests.oracle.judge import accused
from tests.simulator.simulate import Simulated, simulate

SMALL_PART_ROWS = (
    60  # now and then the checker gets a history in many parts: what it says may not depend on it
)


@dataclass(frozen=True)
class Case:
    """One history to judge."""

    seed: int
    edit: int
    story: Story
    said: tuple[str, ...]  # what was done to it

    @property
    def part_rows(self) -> int:
        return SMALL_PART_ROWS if self.edit % 4 == 3 else 1_000_000

    def told(self, apart: dict[str, tuple[int, int]]) -> str:
        """A disagreement, and how to see it again."""
        classes = ", ".join(f"{cls}: checker {one}, oracle {other}" for cls, (one, other) in apart.items())
        return (
            f"seed {self.seed}, edit {self.edit}: {classes}\n  {'; '.join(self.said) or 'not edited'}\n"
            f"  again: python -m tests.oracle.fuzz --replay {self.seed} {self.edit}"
        )


def case(simulated: Simulated, edit: int) -> Case:
    """The n-th edit of a simulated history; 0 is the history itself."""
    if edit == 0:
        return Case(simulated.seed, 0, simulated.story, ())
    story, said = damage(simulated.story, random.Random(simulated.seed * 1000 + edit))
    return Case(simulated.seed, edit, story, tuple(said))


def cases(first: int, last: int, edits: int) -> Iterator[Case]:
    """Of each seed of first … last - 1 the edits 1 … ``edits``."""
    for seed in range(first, last):
        simulated = simulate(seed)
        for edit in range(1, edits + 1):
            yield case(simulated, edit)


def compare(some: Iterator[Case]) -> list[str]:
    """All disagreements, as sentences."""
    found = []
    for each in some:
        if apart := disagreements(each.story.history(), part_rows=each.part_rows):
            found.append(each.told(apart))
    return found


def replay(seed: int, edit: int) -> None:
    """Print what both say of one history."""
    one = case(simulate(seed), edit)
    history = one.story.history()
    judged, found = run_checks(history, part_rows=one.part_rows), accused(history)
    print("\n".join(one.said) or "not edited")
    for cls, result in judged.classes.items():
        if result.count or found[cls]:
            print(f"{cls}: checker {result.count}, oracle {len(found[cls])}: {sorted(map(str, found[cls]))}")
            for finding in result.findings:
                print(f"    {finding.sentence} {finding.records}")
    print(one.told(apart) if (apart := disagreements(history, part_rows=one.part_rows)) else "they agree")


def main() -> int:
    parser = argparse.ArgumentParser(description="Checker against oracle, on damaged histories.")
    parser.add_argument("first", type=int, nargs="?", default=0)
    parser.add_argument("last", type=int, nargs="?", default=100)
    parser.add_argument("--edits", type=int, default=10)
    parser.add_argument("--replay", type=int, nargs=2, metavar=("SEED", "EDIT"))
    asked = parser.parse_args()
    if asked.replay:
        replay(*asked.replay)
        return 0
    seen: Counter[str] = Counter()

    def counted() -> Iterator[Case]:
        for each in cases(asked.first, asked.last, asked.edits):
            seen["histories"] += 1
            yield each

    apart = compare(counted())
    print(f"{seen['histories']} histories, {len(apart)} disagreements")
    print("\n".join(apart))
    return int(bool(apart))


if __name__ == "__main__":
    raise SystemExit(main())

"""A valid history with one edit is found to be exactly what the edit predicts, for every class.

``CHATPROOF_EDITS`` sets how many histories each edit is made in (40), ``CHATPROOF_SEED`` the first seed.
"""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest

from reports.checks import Verdict, run_checks
from reports.checks.table import NEVER_GATED
from tests.reports.checks.verdicts import counts
from tests.simulator.edits import EDITS
from tests.simulator.simulate import simulate

COUNT = int(os.environ.get("CHATPROOF_EDITS", 40))
FIRST = int(os.environ.get("CHATPROOF_SEED", 0))


@pytest.mark.parametrize("name", EDITS)
def test_one_edit_is_reported_exactly(name: str) -> None:
    edit, made = EDITS[name], 0
    for edited in edit.examples(COUNT, first=FIRST):
        judged, made = run_checks(edited.history()), made + 1
        said = [f.sentence for r in judged.classes.values() for f in r.findings]
        how = f"CHATPROOF_SEED={edited.seed} CHATPROOF_EDITS=1 pytest {__file__} -k '{name}'"
        assert counts(judged).keys() == edited.predicts, f"seed {edited.seed}: {said}\n{how}"
        if not edited.predicts <= NEVER_GATED:
            assert judged.verdict is Verdict.INVALID, f"seed {edited.seed}: {judged.reasons}\n{how}"
    assert made == COUNT, f"only {made} histories have a place for it"


def test_an_edit_leaves_the_simulated_history_as_it_is() -> None:
    for name, edit in EDITS.items():
        seed = next(iter(edit.examples(1))).seed
        simulated, untouched = simulate(seed), simulate(seed)
        edit.apply(simulated, random.Random(1))
        assert simulated.story.logs == untouched.story.logs, name
        assert simulated.story.run() == untouched.story.run(), name
        assert simulated.story.faults == untouched.story.faults, name


def test_edits_are_made_at_different_places() -> None:
    simulated = simulate(0)
    rng = random.Random(5)
    made = Counter[str]()
    for _ in range(20):
        edited = EDITS["a delivery is dropped"].apply(simulated, rng)
        made[repr(edited.story.logs) if edited else ""] += 1
    assert len(made) > 10

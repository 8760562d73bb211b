"""No class is only silent: each has a bad history, a legal one beside it, an edit, and a run that shows it.

A class of which no test ever saw a finding proves nothing by finding nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

import pytest

from reports.checks import CHECKS
from tests.mutants.runs import RUNS
from tests.reports.checks.twins import TWINS
from tests.simulator.edits import EDITS

# No mutant of a server shows it: a process that ends unplanned is killed by tests/chatd/test_failures.py.
WITHOUT_A_MUTANT = frozenset({"V6"})

PROOFS: Mapping[str, Set[str]] = {
    "bad and legal twin": TWINS.keys(),
    "edit of a simulated history": {edit.cls for edit in EDITS.values()},
    "mutant": frozenset().union(*(run.must for run in RUNS.values())) | WITHOUT_A_MUTANT,
}


def lacking(cls: str, proofs: Mapping[str, Set[str]]) -> list[str]:
    """Which proofs of a class there are not."""
    return [proof for proof, classes in proofs.items() if cls not in classes]


@pytest.mark.parametrize("cls", CHECKS)
def test_a_class_has_every_proof(cls: str) -> None:
    assert lacking(cls, PROOFS) == []


@pytest.mark.parametrize("proof", PROOFS)
def test_a_class_without_a_proof_is_noticed(proof: str) -> None:
    assert lacking("D1", {**PROOFS, proof: PROOFS[proof] - {"D1"}}) == [proof]


def test_every_proof_is_of_a_class_that_there_is() -> None:
    assert frozenset().union(*PROOFS.values()) == CHECKS.keys()

"""Faults planted in the daemon on purpose, to prove that a checker finds them.

A mutant is chosen at start (``--mutant``, refused without ``--test-hooks``) as a stand-in for the
part that it breaks; without one nothing of this package is on any path. It is named in the log and
in every ``connected.contract.test_hooks``, and counts what it does: ``chatd_mutant_fired_total``.

``MUTANTS`` says what each one breaks and what a checker must say of it; parts.py, which of its
classes stands where. To add one: a class in the module of the part that it breaks, a line in that
module's table, a line in ``MUTANTS``, a run in tests/mutants/runs.py.
"""

from .chosen import Chosen, Trigger, parse
from .table import CRASHES, MUTANTS, Mutant

__all__ = ["CRASHES", "MUTANTS", "Chosen", "Mutant", "Trigger", "parse"]

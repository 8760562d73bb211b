"""Checks: what a history proves about delivery.

``run_checks(history)`` judges a history by every anomaly class of ``CHECKS`` and says valid,
invalid or unknown. Pure functions of the records; each class is a page whose docstring is its
definition.
"""

from .result import ClassResult, Coverage, Finding, Integrity, Verdict
from .run import run_checks
from .table import CHECKS

__all__ = ["CHECKS", "ClassResult", "Coverage", "Finding", "Integrity", "Verdict", "run_checks"]

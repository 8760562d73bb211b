"""Judging a story in one word."""

from __future__ import annotations

from reports.checks import Integrity, run_checks
from tests.builders import Story


def judge(story: Story) -> Integrity:
    return run_checks(story.history())


def counts(judged: Integrity) -> dict[str, int]:
    """Classes that were seen, and how often."""
    return {cls: result.count for cls, result in judged.classes.items() if result.count}

"""Judging by one class alone, as excerpts of a history are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .facts import read_facts
from .part import Part, split
from .result import Finding
from .shards import MAX_ID, in_channels
from .table import CHECKS

if TYPE_CHECKING:
    from reports.history import History


def findings_of(history: History, cls: str) -> tuple[Finding, ...]:
    """What one class finds in a small history, taken as one part; () for a class that there is not."""
    check = CHECKS.get(cls)
    if check is None:
        return ()
    facts = read_facts(history)
    if check.run is not None:
        return check.run(facts).findings
    assert check.part is not None
    return check.part(Part(facts, split(in_channels(history, facts.sends, 0, MAX_ID)))).findings

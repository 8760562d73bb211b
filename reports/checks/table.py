"""CHECKS: every anomaly class that is checked, in the order of reports.

To add a class: write its function beside the others, over a ``Part`` (one channel-local part of a
history) or the run's ``Facts``, and add a line here. It must be silent on clean histories and
report exactly what was planted; tests/reports/checks/twins.py needs its pair of histories.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from .delivery_gap import delivery_gap
from .delivery_order import delivery_reorder, duplicate_delivery
from .duplicate_commit import duplicate_commit, late_duplicate_commit
from .facts import Facts
from .false_resume import false_resume
from .gap_notice import bad_gap_notice
from .identity import corrupt, misrouted, phantom
from .lost_ack import lost_acked
from .never_reconnected import never_reconnected
from .part import Part
from .result import Found
from .retention_breach import retention_breach
from .stalled_subscriber import stalled_subscriber
from .unplanned_exit import unplanned_exit


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One anomaly class. Exactly one of ``part`` and ``run`` judges it."""

    title: str
    unit: str  # what is counted, plural
    absence: bool  # rests on what is not in the records: a torn log leaves it unknown
    part: Callable[[Part], Found] | None = None
    run: Callable[[Facts], Found] | None = None


CHECKS: Final[Mapping[str, Check]] = {
    "L2": Check(title="duplicate-commit", unit="places", absence=False, part=duplicate_commit),
    "L2x": Check(
        title="duplicate-commit, outside dedupe", unit="places", absence=False, part=late_duplicate_commit
    ),
    "L3": Check(title="lost-acked", unit="messages", absence=True, part=lost_acked),
    "L5": Check(title="phantom", unit="entries", absence=True, part=phantom),
    "L6": Check(title="misrouted", unit="entries", absence=False, part=misrouted),
    "L7": Check(title="corrupt", unit="entries", absence=False, part=corrupt),
    "D1": Check(title="delivery-gap", unit="deliveries", absence=True, part=delivery_gap),
    "D2": Check(title="false-resume", unit="resumes", absence=True, part=false_resume),
    "D3": Check(title="bad-gap-notice", unit="notices", absence=True, part=bad_gap_notice),
    "D4": Check(title="retention-breach", unit="notices", absence=False, part=retention_breach),
    "D5": Check(title="duplicate-delivery", unit="deliveries", absence=False, part=duplicate_delivery),
    "D6": Check(title="delivery-reorder", unit="deliveries", absence=False, part=delivery_reorder),
    "V1": Check(title="stalled-subscriber", unit="subscriptions", absence=True, part=stalled_subscriber),
    "V2": Check(title="never-reconnected", unit="clients", absence=True, run=never_reconnected),
    "V6": Check(title="unplanned-exit", unit="exits", absence=False, run=unplanned_exit),
}

# Classes that a profile does not gate. What is not gated is still counted and shown.
NEVER_GATED: Final = frozenset({"L2x"})
AT_MOST_ONCE: Final = frozenset(
    {"L1", "L2", "L5", "L6", "L7", "L8", "L9", "L12", "D5", "D6", "D7", "D8", "D10", "V6"}
)


def gated(cls: str, profile: str) -> bool:
    """Whether a count above 0 makes the history invalid. An unknown profile promises everything."""
    if cls in NEVER_GATED:
        return False
    if profile == "at-most-once":
        return cls in AT_MOST_ONCE
    if profile == "at-least-once":
        return cls not in ("L2", "D5")
    return True

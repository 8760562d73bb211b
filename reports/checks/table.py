"""CHECKS: every anomaly class that is checked, in the order of reports.

To add a class: write its function beside the others, over a ``Part`` (one channel-local part of a
history) or the run's ``Facts``, and add a line here. It must be silent on clean histories and
report exactly what was planted; tests/reports/checks/twins.py needs its pair of histories.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from .ack_contradiction import ack_contradiction
from .ack_protocol import ack_protocol
from .delivery_gap import delivery_gap
from .delivery_order import delivery_reorder, duplicate_delivery
from .divergent_serial import divergent_serial
from .duplicate_commit import duplicate_commit, late_duplicate_commit
from .epoch_fault import epoch_fault
from .facts import Facts
from .failed_visible import failed_visible
from .false_resume import false_resume
from .gap_notice import bad_gap_notice
from .half_open import half_open
from .identity import corrupt, misrouted, phantom
from .log_hole import log_hole
from .lost_ack import lost_acked
from .never_reconnected import never_reconnected
from .no_progress import no_progress
from .part import Part
from .publish_order import publisher_reorder, realtime_inversion
from .result import Found
from .retention_breach import retention_breach
from .stalled_subscriber import stalled_subscriber
from .unacked import unacked
from .unplanned_exit import unplanned_exit
from .unsolicited import echo, start_edge, unsolicited


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One anomaly class. Exactly one of ``part`` and ``run`` judges it."""

    title: str
    unit: str  # what is counted, plural
    absence: bool  # rests on what is not in the records: a torn log leaves it unknown
    part: Callable[[Part], Found] | None = None
    run: Callable[[Facts], Found] | None = None


CHECKS: Final[Mapping[str, Check]] = {
    "L1": Check(title="divergent-serial", unit="places", absence=False, part=divergent_serial),
    "L2": Check(title="duplicate-commit", unit="places", absence=False, part=duplicate_commit),
    "L2x": Check(
        title="duplicate-commit, outside dedupe", unit="places", absence=False, part=late_duplicate_commit
    ),
    "L3": Check(title="lost-acked", unit="messages", absence=True, part=lost_acked),
    "L4": Check(title="log-hole", unit="serials", absence=True, part=log_hole),
    "L5": Check(title="phantom", unit="entries", absence=True, part=phantom),
    "L6": Check(title="misrouted", unit="entries", absence=False, part=misrouted),
    "L7": Check(title="corrupt", unit="entries", absence=False, part=corrupt),
    "L8": Check(title="failed-visible", unit="messages", absence=False, part=failed_visible),
    "L9": Check(title="ack-contradiction", unit="messages", absence=False, part=ack_contradiction),
    "L10": Check(title="publisher-reorder", unit="messages", absence=False, part=publisher_reorder),
    "L11": Check(title="realtime-inversion", unit="messages", absence=False, part=realtime_inversion),
    "L12": Check(title="epoch-fault", unit="epochs", absence=False, part=epoch_fault),
    "D1": Check(title="delivery-gap", unit="deliveries", absence=True, part=delivery_gap),
    "D2": Check(title="false-resume", unit="resumes", absence=True, part=false_resume),
    "D3": Check(title="bad-gap-notice", unit="notices", absence=True, part=bad_gap_notice),
    "D4": Check(title="retention-breach", unit="notices", absence=False, part=retention_breach),
    "D5": Check(title="duplicate-delivery", unit="deliveries", absence=False, part=duplicate_delivery),
    "D6": Check(title="delivery-reorder", unit="deliveries", absence=False, part=delivery_reorder),
    "D7": Check(title="unsolicited", unit="deliveries", absence=False, part=unsolicited),
    "D8": Check(title="echo", unit="deliveries", absence=False, part=echo),
    "D9": Check(title="start-edge", unit="deliveries", absence=False, part=start_edge),
    "D10": Check(title="ack-protocol", unit="answers", absence=False, part=ack_protocol),
    "V1": Check(title="stalled-subscriber", unit="subscriptions", absence=True, part=stalled_subscriber),
    "V2": Check(title="never-reconnected", unit="clients", absence=True, run=never_reconnected),
    "V3": Check(title="unacked-on-live-connection", unit="messages", absence=True, part=unacked),
    "V4": Check(title="undetected-half-open", unit="connections", absence=True, run=half_open),
    "V5": Check(title="no-progress", unit="channels", absence=True, part=no_progress),
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

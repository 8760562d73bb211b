"""CHECKS: every anomaly class that is checked, in the order of reports.

To add a class: write its function beside the others, over a ``Part`` (one channel-local part of a
history) or the run's ``Facts``, and add a line here. It must be silent on clean histories and
report exactly what was planted; tests/reports/checks/twins.py needs its pair of histories. ``needs`` names
what a server must promise before the class may be held against it (``contract.capabilities`` in run.json).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from .ack_contradiction import ack_contradiction
from .ack_protocol import ack_protocol
from .contract import Contract
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
    of: str = ""  # figure of Coverage: of how many a count of 0 speaks; "": that is not counted
    by_client: bool = False  # looks at one client's stream: a large channel is judged by ranges of clients
    needs: frozenset[str] = frozenset()  # capabilities of the driver: without them nothing is judged
    absence: bool = False  # rests on what is not in the records: a torn log leaves it unknown
    part: Callable[[Part], Found] | None = None
    run: Callable[[Facts], Found] | None = None


def _all(*needs: str) -> frozenset[str]:
    return frozenset(needs)


CHECKS: Final[Mapping[str, Check]] = {
    "L1": Check(
        needs=_all("serial"), title="divergent-serial", unit="places", of="acked", part=divergent_serial
    ),
    "L2": Check(
        needs=_all("dedupe", "serial"),
        title="duplicate-commit",
        unit="places",
        of="acked",
        part=duplicate_commit,
    ),
    "L2x": Check(
        needs=_all("serial"),
        title="duplicate-commit, outside dedupe",
        unit="places",
        of="acked",
        part=late_duplicate_commit,
    ),
    "L3": Check(
        needs=_all("ack", "history"),
        title="lost-acked",
        unit="messages",
        of="acked",
        absence=True,
        part=lost_acked,
    ),
    "L4": Check(
        needs=_all("serial"), title="log-hole", unit="serials", of="acked", absence=True, part=log_hole
    ),
    "L5": Check(title="phantom", unit="entries", of="delivered", absence=True, part=phantom),
    "L6": Check(title="misrouted", unit="entries", of="delivered", part=misrouted),
    "L7": Check(title="corrupt", unit="entries", of="delivered", part=corrupt),
    "L8": Check(needs=_all("ack"), title="failed-visible", unit="messages", of="failed", part=failed_visible),
    "L9": Check(
        needs=_all("ack-position"),
        title="ack-contradiction",
        unit="messages",
        of="acked",
        part=ack_contradiction,
    ),
    "L10": Check(
        needs=_all("serial"), title="publisher-reorder", unit="messages", of="acked", part=publisher_reorder
    ),
    "L11": Check(
        needs=_all("ack", "serial"),
        title="realtime-inversion",
        unit="messages",
        of="acked",
        part=realtime_inversion,
    ),
    "L12": Check(needs=_all("serial"), title="epoch-fault", unit="epochs", of="sentinels", part=epoch_fault),
    "D1": Check(
        needs=_all("serial"),
        title="delivery-gap",
        by_client=True,
        unit="deliveries",
        of="delivered",
        absence=True,
        part=delivery_gap,
    ),
    "D2": Check(
        needs=_all("resume", "serial"),
        title="false-resume",
        by_client=True,
        unit="resumes",
        of="resumed",
        absence=True,
        part=false_resume,
    ),
    "D3": Check(
        needs=_all("resume", "serial"),
        title="bad-gap-notice",
        by_client=True,
        unit="notices",
        of="gaps",
        absence=True,
        part=bad_gap_notice,
    ),
    "D4": Check(
        needs=_all("retention", "serial"),
        title="retention-breach",
        unit="notices",
        of="gaps",
        part=retention_breach,
    ),
    "D5": Check(
        needs=_all("serial"),
        title="duplicate-delivery",
        by_client=True,
        unit="deliveries",
        of="delivered",
        part=duplicate_delivery,
    ),
    "D6": Check(
        needs=_all("channel-order", "serial"),
        title="delivery-reorder",
        by_client=True,
        unit="deliveries",
        of="delivered",
        part=delivery_reorder,
    ),
    "D7": Check(title="unsolicited", by_client=True, unit="deliveries", of="delivered", part=unsolicited),
    "D8": Check(title="echo", by_client=True, unit="deliveries", of="delivered", part=echo),
    "D9": Check(
        needs=_all("serial"),
        title="start-edge",
        by_client=True,
        unit="deliveries",
        of="subscriptions",
        part=start_edge,
    ),
    "D10": Check(needs=_all("ack"), title="ack-protocol", unit="answers", of="acked", part=ack_protocol),
    "V1": Check(
        needs=_all("ack", "serial"),
        title="stalled-subscriber",
        by_client=True,
        unit="subscriptions",
        of="subscriptions",
        absence=True,
        part=stalled_subscriber,
    ),
    "V2": Check(title="never-reconnected", unit="clients", of="", absence=True, run=never_reconnected),
    "V3": Check(
        needs=_all("ack"),
        title="unacked-on-live-connection",
        unit="messages",
        of="acked",
        absence=True,
        part=unacked,
    ),
    "V4": Check(
        needs=_all("ack"),
        title="undetected-half-open",
        unit="connections",
        of="",
        absence=True,
        run=half_open,
    ),
    "V5": Check(title="no-progress", unit="channels", of="sentinels", absence=True, part=no_progress),
    "V6": Check(title="unplanned-exit", unit="exits", of="", run=unplanned_exit),
}


def lacking(check: Check, contract: Contract) -> tuple[str, ...]:
    """What a class needs and a contract does not offer; () when it may be judged."""
    return tuple(sorted(need for need in check.needs if not contract.offers(need)))


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

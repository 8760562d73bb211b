"""The second oracle: all classes of a history. ``judge`` is its entry point.

A checker that shares no code with ``reports.checks`` (a test sees to that): nested loops over plain tuples
that read like the page, each message, place and subscriber looked at by itself. It is slow, and meant
for histories of some hundred records.
"""

from __future__ import annotations

from typing import Any

from reports.history import History
from tests.oracle import delivery, epochs, liveness, log
from tests.oracle.case import Case
from tests.oracle.outcomes import Messages

Accused = set[tuple[Any, ...]]

CHANNEL_CLASSES = {
    "L1": log.divergent_serial,
    "L2": lambda m: log.duplicate_commit(m)[0],
    "L2x": lambda m: log.duplicate_commit(m)[1],
    "L3": log.lost_acked,
    "L4": log.log_hole,
    "L5": log.phantom,
    "L6": log.misrouted,
    "L7": log.corrupt,
    "L8": log.failed_visible,
    "L9": log.ack_contradiction,
    "L10": log.publisher_reorder,
    "L11": log.realtime_inversion,
    "L12": epochs.epoch_fault,
    "D1": delivery.gap,
    "D2": delivery.false_resume,
    "D3": delivery.bad_gap_notice,
    "D4": delivery.retention_breach,
    "D5": delivery.duplicate_delivery,
    "D6": delivery.delivery_reorder,
    "D7": delivery.unsolicited,
    "D8": delivery.echo,
    "D9": delivery.start_edge,
    "D10": delivery.ack_protocol,
    "V1": liveness.stalled_subscriber,
    "V3": liveness.unacked,
    "V5": liveness.no_progress,
}
RUN_CLASSES = {
    "V2": liveness.never_reconnected,
    "V4": liveness.undetected_half_open,
    "V6": liveness.unplanned_exit,
}


def accused(history: History) -> dict[str, Accused]:
    """Per anomaly class the set of accused things; what they are, the class's function says."""
    case = Case.of(history)
    channels = {channel: Messages(case, channel) for channel in case.channels}
    found = {
        anomaly: {(channel, *_flat(thing)) for channel, m in channels.items() for thing in check(m)}
        for anomaly, check in CHANNEL_CLASSES.items()
    }
    return found | {anomaly: check(case) for anomaly, check in RUN_CLASSES.items()}


def _flat(thing: Any) -> tuple[Any, ...]:
    return thing if isinstance(thing, tuple) else (thing,)


def judge(history: History) -> dict[str, int]:
    """Per anomaly class how many things are accused."""
    return {anomaly: len(things) for anomaly, things in accused(history).items()}

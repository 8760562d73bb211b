"""The second oracle: all classes of a history, from the page alone. ``judge`` is its one entry point."""

from __future__ import annotations

from typing import Any

from reports.history import History
from tests.oracle import delivery, liveness, log
from tests.oracle.case import Case

Accused = set[tuple[Any, ...]]


def accused(history: History) -> dict[str, Accused]:
    """Per anomaly class the set of accused things; what they are, the class's function says."""
    case = Case.of(history)
    within, beyond = log.duplicate_commit(case)
    gaps, resumes = delivery.missing(case)
    return {
        "L1": log.divergent_serial(case),
        "L2": within,
        "L2x": beyond,
        "L3": log.lost_acked(case),
        "L4": log.log_hole(case),
        "L5": log.phantom(case),
        "L6": log.misrouted(case),
        "L7": log.corrupt(case),
        "L8": log.failed_visible(case),
        "L9": log.ack_contradiction(case),
        "L10": log.publisher_reorder(case),
        "L11": log.realtime_inversion(case),
        "L12": log.epoch_fault(case),
        "D1": gaps,
        "D2": resumes | delivery.events(case, "D2"),
        "D3": delivery.events(case, "D3"),
        "D4": delivery.retention_breach(case),
        "D5": delivery.events(case, "D5"),
        "D6": delivery.events(case, "D6"),
        "D7": delivery.events(case, "D7"),
        "D8": delivery.events(case, "D8"),
        "D9": delivery.events(case, "D9"),
        "D10": delivery.ack_protocol(case),
        "V1": liveness.stalled_subscriber(case),
        "V2": liveness.never_reconnected(case),
        "V3": liveness.unacked(case),
        "V4": liveness.undetected_half_open(case),
        "V5": liveness.no_progress(case),
        "V6": liveness.unplanned_exit(case),
    }


def judge(history: History) -> dict[str, int]:
    """Per anomaly class how many things are accused."""
    return {anomaly: len(things) for anomaly, things in accused(history).items()}

"""Metrics that gates may ask for, and what may be asked of each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Unit(StrEnum):
    """Of what a metric counts, as shown beside its figures."""

    TIME = "ms"
    RATE = "/s"
    RATIO = "x"
    SIZE = "MiB"
    COUNT = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What a gate may ask of a metric. ``selects``: which keys of ``where``, and whether phase, narrow it."""

    unit: Unit
    stats: str  # of "p min max mean count"
    kinds: str  # of "integrity threshold validity"
    selects: str = ""
    quantiles: tuple[float, ...] = ()  # the only ones there are; empty: any

    def has(self, stat: str) -> bool:
        return stat in self.stats.split()

    @property
    def compares(self) -> bool:
        """Whether it is about two groups of clients, each of which has to be named."""
        return "against" in self.selects.split()


CLASS_NAMES: Final = (
    *(f"L{n}" for n in range(1, 13)),
    "L2x",
    *(f"D{n}" for n in range(1, 11)),
    *(f"V{n}" for n in range(1, 7)),
)
COMBINED: Final = {  # what people ask for, and the classes that it counts: in the log, and at a subscriber
    "lost": ("L3", "D1"),
    "duplicated": ("L2", "D5"),
    "reordered": ("L10", "L11", "D6"),
}
_CLASS: Final = Metric(unit=Unit.COUNT, stats="count", kinds="integrity")
_LATENCY: Final = Metric(
    unit=Unit.TIME,
    stats="p min max mean count",
    kinds="threshold",
    selects="phase fault channel persona transport",
)
_WITHOUT_SCHEDULE: Final = Metric(
    unit=Unit.TIME, stats="p min max mean count", kinds="threshold", selects="phase fault persona transport"
)
_RATE: Final = Metric(unit=Unit.RATE, stats="p min max mean", kinds="threshold validity", selects="phase")
_HARNESS: Final = Metric(unit=Unit.TIME, stats="p max", kinds="validity threshold", quantiles=(50.0, 99.0))
_EXERCISED: Final = Metric(unit=Unit.COUNT, stats="count", kinds="validity threshold")
_STAGE: Final = Metric(unit=Unit.TIME, stats="p min max mean count", kinds="threshold", selects="fault")
_COMPARED: Final = "phase fault persona against"
METRICS: Final[dict[str, Metric]] = {
    **dict.fromkeys(COMBINED, _CLASS),
    **dict.fromkeys(CLASS_NAMES, _CLASS),
    "delivery": _LATENCY,
    "service": _LATENCY,
    "replayed": _LATENCY,
    "ack": _LATENCY,
    "connect": _WITHOUT_SCHEDULE,
    "resume": _LATENCY,
    # From the first to the last subscriber that a message reaches live.
    "fan_out": Metric(
        unit=Unit.TIME, stats="p min max mean count", kinds="threshold", selects="phase fault channel"
    ),
    # Delivery to the clients of one persona against that to another's, of messages of the same time.
    "delivery.ratio": Metric(unit=Unit.RATIO, stats="p mean", kinds="threshold", selects=_COMPARED),
    "delivery.excess": Metric(unit=Unit.TIME, stats="p mean", kinds="threshold", selects=_COMPARED),
    "recovery.all_back": Metric(
        unit=Unit.TIME, stats="p min max mean count", kinds="threshold", selects="persona"
    ),
    # From the revert of each fault to the first of five seconds with p99 of delivery within its tightest
    # gate, and until no more publishes are due and not acked than before the fault.
    "recovery.slo": _STAGE,
    "recovery.backlog": _STAGE,
    # From the end of a subscription that a fault cut to the moment in which it was live again.
    "recovery.away": Metric(unit=Unit.TIME, stats="p min max mean count", kinds="threshold", selects="fault"),
    # Dials begun in the busiest second, successful or not, for each client that may dial.
    "dials_per_client": Metric(unit=Unit.RATIO, stats="max", kinds="threshold", selects="phase persona"),
    # Of clients that were offline on purpose, each time that one comes back: how soon it has all, how fast.
    "catch_up": Metric(unit=Unit.TIME, stats="p min max mean count", kinds="threshold"),
    "catch_up.replayed_per_s": Metric(unit=Unit.RATE, stats="p min max mean", kinds="threshold"),
    # Delivery to clients that share a channel with them, against those that share none, meanwhile.
    "catch_up.others_ratio": Metric(unit=Unit.RATIO, stats="p mean", kinds="threshold"),
    "catch_up.others_excess": Metric(unit=Unit.TIME, stats="p mean", kinds="threshold"),
    # Of connections that a fault left half-open: how long who was not told kept them.
    "noticed.client": Metric(unit=Unit.TIME, stats="p min max mean count", kinds="threshold"),
    "noticed.server": Metric(unit=Unit.TIME, stats="max count", kinds="threshold"),
    "lag": _HARNESS,  # of the load's own schedule: how late a message left, worst worker
    "hiccup": Metric(unit=Unit.TIME, stats="p max", kinds="validity threshold", quantiles=(99.0,)),
    "deliveries_per_s": _RATE,
    "sends_per_s": _RATE,
    "resumes": Metric(unit=Unit.COUNT, stats="count", kinds="validity threshold", selects="phase fault"),
    # Share of the subscriptions asked from a position that did not go on from there.
    "resumes.refused": Metric(unit=Unit.RATIO, stats="mean", kinds="threshold", selects="phase persona"),
    # Of several nodes, at the end of each second: connections of the fullest to the mean of those that run.
    "nodes.spread": Metric(unit=Unit.RATIO, stats="p min max mean", kinds="threshold", selects="phase"),
    # Time that nodes ran, of the time that all of them could have run.
    "nodes.running": Metric(unit=Unit.RATIO, stats="mean", kinds="threshold", selects="phase"),
    # Dials that were answered with an HTTP status other than 101, and publishes that were refused.
    "refused_dials": Metric(unit=Unit.COUNT, stats="count", kinds="threshold validity", selects="phase"),
    "nacks": Metric(unit=Unit.COUNT, stats="count", kinds="threshold validity", selects="phase"),
    "forks": _EXERCISED,  # channels whose stream went on under another epoch
    "forked_away": Metric(unit=Unit.COUNT, stats="count", kinds="threshold"),  # acks beyond such a fork
    "duplicate_acks": _EXERCISED,  # publishes sent again and known again
    "gaps": _EXERCISED,  # holes that the server declared
    "recovered": _EXERCISED,  # publishes never acked, yet observed
    # CPU time of the processes under test for each live delivery, warm-ups left out.
    "cpu_per_delivery": Metric(unit=Unit.TIME, stats="mean", kinds="threshold"),
    # Resident memory of the processes under test together, and what each channel has added to it.
    "memory": Metric(unit=Unit.SIZE, stats="max", kinds="threshold"),
    "memory.per_channel": Metric(unit=Unit.SIZE, stats="max", kinds="threshold"),
    # By how much memory and the p99 of a second rise in an hour while the load stands still: mean is the
    # slope, min and max are the ends of its 95 % interval.
    "memory.creep": Metric(unit=Unit.SIZE, stats="min mean max", kinds="threshold"),
    "delivery.creep": Metric(unit=Unit.TIME, stats="min mean max", kinds="threshold"),
    # Typing, receipts and presence, by the counters of the load: what clients got, what was refused to them.
    "ephemerals.heard": _EXERCISED,
    "ephemerals.refused": _EXERCISED,
}
NODE_METRICS: Final = ("nodes.spread", "nodes.running")
RECORD_METRICS: Final = ("refused_dials", "nacks", "forks", "forked_away")
CATCH_UP_METRICS: Final = tuple(name for name in METRICS if name.startswith("catch_up"))
COVERAGE_METRICS: Final = ("duplicate_acks", "gaps", "recovered")
LATENCY_METRICS: Final = ("delivery", "service", "replayed", "ack", "connect", "resume")


def counted(metric: str) -> tuple[str, ...]:
    """The classes that a metric of anomalies counts."""
    return COMBINED.get(metric, (metric,))

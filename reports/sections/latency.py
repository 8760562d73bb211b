"""Latency: percentiles of every class, over time, and how p99 is spread over seconds and channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from reports import figures, wording
from reports.analysis import Analysis
from reports.baseline import Baseline
from reports.blocks import Block, Column, Pair, Para, Picture, Table, Text
from reports.clock import ACROSS, host_clocks
from reports.latency import Selection, measure, transports
from reports.verdict import clock_uncertainty_ms

TOLD: Final = {
    "delivery": "due → received, live",
    "service": "sent → received, live",
    "ack": "due → acked",
    "replayed": "due → received in a replay",
    "connect": "dial → upgraded",
    "resume": "asked → caught up",
}
SLOWEST: Final = 5
TRANSPORT: Final = {"websocket": "WebSocket", "sse": "SSE", "poll": "long polling"}


def build(analysis: Analysis) -> tuple[Block, ...]:
    wide = [
        figures.percentiles(analysis),
        figures.latency_by_fault(analysis),
        figures.latency_over_time(analysis),
        figures.latency_heat(analysis),
    ]
    narrow = [figures.p99_per_interval(analysis), figures.p99_per_channel(analysis)]
    blocks: list[Block] = [_classes(analysis), *(Picture(c) for c in wide if not c.empty)]
    if spread := [Picture(c) for c in narrow if not c.empty]:
        blocks.append(Pair(spread))
    if len(used := transports(analysis.history)) > 1:
        blocks.insert(1, _by_transport(analysis, used))
    if analysis.channels.height > 1:
        blocks.append(_slowest(analysis))
    if not analysis.latency["delivery"].count:
        blocks.insert(0, Para("No message of a phase that counts was delivered live: there is no latency."))
    return tuple(blocks)


def _classes(analysis: Analysis) -> Table:
    columns = (
        Column("Class"),
        Column("From → to"),
        Column("Samples", align="right"),
        *(Column(head, "ms", "right") for head in ("p50", "p90", "p99", "p99.9", "Max")),
        Column("Never arrived", align="right"),
    )
    apart_ms = clock_uncertainty_ms(analysis.run)
    told = {
        name: f"{words} ± {wording.ms(apart_ms)}" if apart_ms is not None and name in ACROSS else words
        for name, words in TOLD.items()
    }
    rows: list[tuple[Text, ...]] = []
    for name, h in analysis.latency.items():
        rows.append((name, told[name], wording.count(h.count), *_points(h.summary()), _never(analysis, name)))
        if name == "delivery" and analysis.baseline is not None:
            rows.append(_baseline(analysis.baseline))
    note = _across(analysis) + (
        "Buckets are at most 0.1 % wide; a percentile is the value at rank ⌈q·n⌉, never interpolated. "
        "Warm-up is left out of all classes but connect and resume. "
        "What never arrived has no latency and is counted in the last column."
    )
    return Table(columns, tuple(rows), note=note)


def _baseline(other: Baseline) -> tuple[Text, ...]:
    count = wording.figure(other.delivery["count"], "")
    return (
        "delivery, baseline",
        TOLD["delivery"],
        count,
        *_points(other.delivery),
        wording.figure(other.never, ""),
    )


def _across(analysis: Analysis) -> str:
    """What the clocks of several hosts do to these figures; empty where there is one host."""
    apart_ms = clock_uncertainty_ms(analysis.run)
    if apart_ms is None:
        return ""
    hosts = sorted({clock.host for clock in host_clocks(analysis.run).values()})
    of = f"The load came from {wording.plural(len(hosts), 'other host')} ({', '.join(hosts)}). "
    return f"{of}± {wording.ms(apart_ms)}: what their clocks may be apart. "


def _points(summary: Mapping[str, float | None]) -> tuple[Text, ...]:
    return tuple(wording.decimal(summary[key]) for key in ("p50", "p90", "p99", "p99_9", "max"))


def _never(analysis: Analysis, name: str) -> str:
    """Deliveries owed and not there, or messages sent and not acked."""
    if name in ("delivery", "service"):
        gap = analysis.integrity.classes.get("D1")
        return wording.NONE if gap is None or not gap.promised else wording.count(gap.count)
    if name == "ack":
        covered = analysis.integrity.coverage
        return wording.count(covered.unresolved + covered.recovered)
    return wording.NONE


def _by_transport(analysis: Analysis, used: list[str]) -> Table:
    """Each class beside itself, by what the client was connected when the sample ended."""
    columns = (
        Column("Class"),
        Column("Transport"),
        Column("Samples", align="right"),
        *(Column(head, "ms", "right") for head in ("p50", "p90", "p99", "p99.9", "Max")),
    )
    rows = tuple(
        (name, TRANSPORT[transport], wording.count(h.count), *_points(h.summary()))
        for name, whole in analysis.latency.items()
        if whole.count
        for transport in used
        for h in [measure(analysis.history, name, Selection(transport=transport))]
    )
    note = (
        "By what the client was connected when the sample ended: "
        "the subscriber of a delivery, the publisher of an ack."
    )
    return Table(columns, rows, caption="Latency by transport", note=note)


def _slowest(analysis: Analysis) -> Table:
    slow = analysis.channels.sort("p99_ms", "channel", descending=[True, False]).head(SLOWEST)
    columns = (
        Column("Channel"),
        Column("Deliveries", align="right"),
        *(Column(head, "ms", "right") for head in ("p50", "p99", "Max")),
    )
    rows = tuple(
        (
            analysis.history.names.channel(row["channel"]),
            wording.count(row["count"]),
            *(wording.decimal(row[key]) for key in ("p50_ms", "p99_ms", "max_ms")),
        )
        for row in slow.to_dicts()
    )
    return Table(columns, rows, caption="Slowest channels by p99 of delivery")

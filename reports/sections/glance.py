"""The run at a glance: the figures that people ask for first, and the timeline."""

from __future__ import annotations

from reports import figures, wording
from reports.analysis import Analysis
from reports.blocks import Block, Picture, Tile, Tiles, Tone


def build(analysis: Analysis) -> tuple[Block, ...]:
    pace, recovery = _pace(analysis)
    blocks: tuple[Block, ...] = (Tiles((*_counts(analysis), pace, *_speeds(analysis), recovery)),)
    timeline = figures.timeline(analysis)
    return blocks if timeline.empty else (*blocks, Picture(timeline))


def _counts(analysis: Analysis) -> list[Tile]:
    covered = analysis.integrity.coverage
    deliveries = covered.delivered
    told = f"{wording.plural(covered.acked, 'acked message')}; {wording.count(covered.replayed)} replayed"
    tiles = [Tile("Deliveries", wording.count(deliveries), note=told)]
    for label in ("lost", "duplicated", "reordered"):
        found = analysis.combined(label)
        if not found.count and not analysis.promised(label):
            tiles.append(Tile(label.capitalize(), wording.NONE, note="not promised by this server"))
            continue
        tone = Tone.FAIL if found.count else Tone.UNKNOWN if found.unknown or not deliveries else Tone.PASS
        classes = " + ".join(analysis.checked(label))
        note = "not all could be checked" if found.unknown and not found.count else classes
        if not found.count and not found.unknown:
            note = f"{classes}; {wording.upper_bound(deliveries)}" if deliveries else "nothing was delivered"
        tiles.append(Tile(label.capitalize(), wording.count(found.count), note=note, tone=tone))
    return tiles


def _speeds(analysis: Analysis) -> list[Tile]:
    delivery = analysis.latency["delivery"]
    d1 = analysis.integrity.classes.get("D1")
    never = f"{wording.count(d1.count)} never arrived" if d1 and d1.count else "scheduled to received"
    points = (
        ("p50 delivery", delivery.quantile_ms(0.5), "scheduled to received"),
        ("p99 delivery", delivery.quantile_ms(0.99), never),
        ("p99.9 delivery", delivery.quantile_ms(0.999), never),
        ("Longest delivery", delivery.max_ms, never),
    )
    return [Tile(label, *wording.in_ms(value), note) for label, value, note in points]


def _pace(analysis: Analysis) -> list[Tile]:
    rate = analysis.deliveries_per_s()
    pace = Tile(
        "Delivery rate",
        wording.decimal(rate),
        "/s" if rate is not None else "",
        "mean, warm-up excluded",
    )
    cut = [r for r in analysis.recoveries if r.subscriptions]
    if not cut:
        return [pace, Tile("Worst recovery", wording.NONE, note="nobody was cut off")]
    never = sum(r.never_back for r in cut)
    if never:
        note = f"{wording.plural(never, 'subscription')} never came back"
        return [pace, Tile("Worst recovery", "never", note=note, tone=Tone.FAIL)]
    worst = max(cut, key=lambda r: r.all_back_s or 0.0)
    return [
        pace,
        Tile("Worst recovery", wording.decimal(worst.all_back_s), "s", f"after {worst.fault}, all back"),
    ]

"""Text for people: what a workload amounts to, before anything is sent."""

from __future__ import annotations

from .workload import Workload, predict


def prediction_text(workload: Workload, seed: int, *, retain_n: int | None = None) -> str:
    """A table of the predicted connections, publishes, deliveries, rates and log size.

    Exact for a run in which nothing goes wrong, because the schedule is drawn before the run. Every
    retry, reconnect and repeated delivery adds to the records.

    Args:
        retain_n: messages that the server keeps of a channel; None: all.
    """
    prediction = predict(workload, seed, retain_n=retain_n)
    spread = prediction.deliveries / prediction.publishes if prediction.publishes else 0.0
    rows = [
        ("duration", f"{workload.duration_s:g} s in {len(workload.phase)} phase(s)"),
        ("connections", f"{prediction.connections:,} on {workload.channels:,} channel(s)"),
        ("publishes", f"{prediction.publishes:,}, at most {prediction.publishes_per_s_peak:,.0f}/s"),
        ("deliveries", f"{prediction.deliveries:,}, at most {prediction.deliveries_per_s_peak:,.0f}/s"),
        ("fan-out", f"{spread:.1f} deliveries a publish"),
        ("records", f"{prediction.records:,} at least"),
        ("log", f"{_size(prediction.log_bytes)} at least, before sealing"),
    ]
    if prediction.absences:
        gone = f"; {prediction.trimmed:,} deliveries retained no longer" if prediction.trimmed else ""
        rows[2:2] = [
            ("absences", f"{prediction.absences:,}, {prediction.left_out:,} publishes left out of them"),
            ("replayed", f"{prediction.replayed:,} deliveries after them{gone}"),
        ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _size(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"

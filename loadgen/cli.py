"""Text for people: what a workload amounts to, before anything is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from .personas import members
from .prediction import SERVER_BYTES, WORKER_BYTES, Prediction
from .topology import Topology
from .workload import Workload, predict


def prediction_text(workload: Workload, seed: int, *, retain_n: int | None = None) -> str:
    """A table of predicted connections, publishes, deliveries, rates, files, memory and log size.

    Exact for a run in which nothing goes wrong, because the schedule is drawn before the run. Every
    retry, reconnect and repeated delivery adds to the records.

    Args:
        retain_n: messages that the server keeps of a channel; None: all.
    """
    prediction = predict(workload, seed, retain_n=retain_n)
    rows = [
        ("duration", f"{workload.duration_s:g} s in {len(workload.phase)} phase(s)"),
        ("connections", f"{prediction.connections:,} on {prediction.channels:,} channel(s)"),
        *_topology(workload, prediction),
        *_personas(workload, seed),
        *_moves(prediction),
        *_messages(workload, prediction),
        ("records", f"{prediction.records:,} at least"),
        ("log", f"{_size(prediction.log_bytes)} at least, before sealing"),
        ("files", f"{prediction.files:,} sockets at each end, and both in a proxy between them"),
        (
            "memory",
            f"load {_size(prediction.worker_bytes)} and {_size(WORKER_BYTES)} a worker, "
            f"chatd {_size(SERVER_BYTES + prediction.server_bytes)} and what it retains",
        ),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _topology(workload: Workload, prediction: Prediction) -> Iterator[tuple[str, str]]:
    if workload.topology != Topology():
        quiet = f"; on {prediction.quiet_channels:,} nobody publishes" if prediction.quiet_channels else ""
        largest = f"{prediction.largest_channel:,} to the largest"
        yield "channels", f"{prediction.subscriptions:,} subscriptions, {largest}{quiet}"


def _personas(workload: Workload, seed: int) -> Iterator[tuple[str, str]]:
    if workload.persona:
        counts = [
            f"{persona.name} {len(members(workload, seed, index)):,}"
            for index, persona in enumerate(workload.persona)
        ]
        yield "personas", ", ".join(counts)
    if workload.over_http:
        by: Counter[str] = Counter()
        for index, persona in enumerate(workload.persona):
            by[persona.transport] += len(members(workload, seed, index))
        yield "transports", ", ".join(f"{way} {count:,}" for way, count in by.items())


def _moves(prediction: Prediction) -> Iterator[tuple[str, str]]:
    if prediction.absences:
        yield "absences", f"{prediction.absences:,}, {prediction.left_out:,} publishes left out of them"
    if prediction.replayed or prediction.trimmed:
        gone = f"; {prediction.trimmed:,} deliveries retained no longer" if prediction.trimmed else ""
        yield "replayed", f"{prediction.replayed:,} deliveries after them{gone}"
    if prediction.drops or prediction.deaf:
        yield "drops", f"{prediction.drops:,} connections lost, {prediction.deaf:,} times deaf, by persona"


def _messages(workload: Workload, prediction: Prediction) -> Iterator[tuple[str, str]]:
    spread = prediction.deliveries / prediction.publishes if prediction.publishes else 0.0
    reactions = f", {prediction.reactions:,} of them reactions" if prediction.reactions else ""
    yield (
        "publishes",
        f"{prediction.publishes:,}, at most {prediction.publishes_per_s_peak:,.0f}/s{reactions}",
    )
    yield "deliveries", f"{prediction.deliveries:,}, at most {prediction.deliveries_per_s_peak:,.0f}/s"
    yield "fan-out", f"{spread:.1f} deliveries a publish"
    acts = {
        "typing": prediction.typing,
        "receipts": prediction.receipts,
        "presence": prediction.presences,
        "history": prediction.histories,
        "churn": prediction.churns,
    }
    if any(acts.values()):
        yield "besides", ", ".join(f"{name} {count:,}" for name, count in acts.items() if count)


def _size(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"

"""Who arrives when, and who publishes what when: pure, seeded, and the same for any number of workers.

Publishes are an open workload: a Poisson process whose rate follows the phases, drawn
second by second from ``SeedSequence(seed, spawn_key=(PUBLISHES, second))``. Every worker
draws the whole list and keeps its stripe, so the list does not depend on how many there are, and no
worker needs to hear of another. Each publish belongs to a client drawn evenly from all
clients, and goes to one of its channels; it is left out when that client has not been
there for ``SETTLE_NS``, so each client is a Poisson process of its own from then on.

Times are offsets from the start of the run, in nanoseconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from reports.history import HEADER_BYTES, RECORD

from .workload import PUBLISHES, SESSIONS, Phase, Prediction, Workload, client_channels

SECOND_NS: Final = 1_000_000_000
SETTLE_NS: Final = SECOND_NS  # a client dials and subscribes before it says anything

SESSION: Final = np.dtype([("due_ns", "<i8"), ("client", "<u4")])
PUBLISH: Final = np.dtype([("due_ns", "<i8"), ("client", "<u4"), ("channel", "<u4"), ("pub_seq", "<u4")])

Sessions = npt.NDArray[np.void]
Publishes = npt.NDArray[np.void]


def sessions(workload: Workload, seed: int) -> Sessions:
    """When each client arrives: a ``SESSION`` array of all of them, in order of ordinal and of time.

    ``clients`` arrivals of a Poisson process within ``connect_over_s`` are as many sorted uniform draws.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(SESSIONS,)))
    arrivals = np.empty(workload.clients, SESSION)
    span_ns = workload.connect_over_s * SECOND_NS
    arrivals["due_ns"] = np.sort(rng.random(workload.clients)) * span_ns
    arrivals["client"] = np.arange(1, workload.clients + 1)
    return arrivals


def publishes(workload: Workload, seed: int) -> Iterator[Publishes]:
    """The publishes of all clients, one ``PUBLISH`` array for each second, in order of time.

    ``pub_seq`` counts all publishes of a client from 1, whatever their channel. Memory does not grow
    with the length of the run.
    """
    arrived_ns = sessions(workload, seed)["due_ns"]
    channels = np.array(client_channels(workload, seed)[1:], dtype="<u4")
    counts = np.zeros(workload.clients + 1, dtype=np.int64)
    for second in range(math.ceil(workload.duration_s)):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(PUBLISHES, second)))
        due_ns = _due(workload.phase, second, rng)
        index = rng.integers(0, workload.clients, len(due_ns))
        pick = rng.integers(0, workload.channels_per_client, len(due_ns))
        there = due_ns >= arrived_ns[index] + SETTLE_NS
        due_ns, index, pick = due_ns[there], index[there], pick[there]
        block = np.empty(len(due_ns), PUBLISH)
        block["due_ns"] = due_ns
        block["client"] = index + 1
        block["channel"] = channels[index, pick]
        block["pub_seq"] = _number(block["client"], counts)
        yield block


def stripe(blocks: Iterator[Publishes], k: int, workers: int) -> Iterator[Publishes]:
    """The part of each block that worker ``k`` of ``workers`` owns: clients ≡ k (mod workers)."""
    for block in blocks:
        yield block[block["client"] % workers == k % workers]


def count_publishes(workload: Workload, seed: int, k: int, workers: int) -> int:
    """How many publishes the stripe of worker ``k`` has in all."""
    return sum(len(block) for block in stripe(publishes(workload, seed), k, workers))


def owned(workload: Workload, k: int, workers: int) -> range:
    """Ordinals that worker ``k`` (from 1) of ``workers`` owns, in order."""
    return range(k % workers or workers, workload.clients + 1, workers)


def _due(phases: Sequence[Phase], second: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Sorted due times within [second, second + 1): each phase's share is a Poisson process of its rate."""
    parts = []
    begin_s = 0.0
    for phase in phases:
        end_s = begin_s + phase.duration_s
        low_s, high_s = max(begin_s, float(second)), min(end_s, second + 1.0)
        if low_s < high_s:
            count = rng.poisson(phase.publish_per_s * (high_s - low_s))
            offsets_s = low_s + np.sort(rng.random(count)) * (high_s - low_s)
            parts.append((offsets_s * SECOND_NS).astype(np.int64))
        begin_s = end_s
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _number(clients: npt.NDArray[np.uint32], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Give each publish of a block its publisher's next number; moves ``counts`` on."""
    order = np.argsort(clients, kind="stable")
    in_order = clients[order]
    first = np.searchsorted(in_order, in_order, side="left")
    numbers = np.empty(len(clients), np.int64)
    numbers[order] = counts[in_order] + np.arange(len(clients)) - first + 1
    np.add.at(counts, clients, 1)
    return numbers


def predict_from_schedule(workload: Workload, seed: int) -> Prediction:
    """Walk the schedule and add up; ``workload.predict`` is its public name.

    A publish is delivered to those subscribers of its channel whose sessions have arrived by then.
    """
    arrivals = _arrivals_by_channel(workload, seed)
    sizes = np.array([len(times) for times in arrivals])
    all_there_ns = int(sessions(workload, seed)["due_ns"][-1])
    sent = delivered = peak_sent = peak_delivered = 0
    for block in publishes(workload, seed):
        late = block["due_ns"] >= all_there_ns
        reached = int(sizes[block["channel"][late]].sum()) + sum(
            int(np.searchsorted(arrivals[int(publish["channel"])], publish["due_ns"], side="right"))
            for publish in block[~late]
        )
        sent, delivered = sent + len(block), delivered + reached
        peak_sent, peak_delivered = max(peak_sent, len(block)), max(peak_delivered, reached)
    # Of a connection: CONN, a SUB and a LIVE for each channel, CLOSE. Of a publish: SEND and ACK.
    records = workload.clients * (2 + 2 * workload.channels_per_client) + 2 * sent + delivered
    return Prediction(
        connections=workload.clients,
        publishes=sent,
        deliveries=delivered,
        publishes_per_s_peak=float(peak_sent),
        deliveries_per_s_peak=float(peak_delivered),
        records=records,
        log_bytes=HEADER_BYTES + records * RECORD.itemsize,
    )


def _arrivals_by_channel(workload: Workload, seed: int) -> list[npt.NDArray[np.int64]]:
    """When the subscribers of each channel arrive, sorted; index = channel id."""
    arrivals: list[list[int]] = [[] for _ in range(workload.channels + 1)]
    channels = client_channels(workload, seed)
    for session in sessions(workload, seed):
        for channel in channels[int(session["client"])]:
            arrivals[channel].append(int(session["due_ns"]))
    return [np.array(times, np.int64) for times in arrivals]

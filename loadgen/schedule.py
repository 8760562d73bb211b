"""Who arrives when, and who publishes what when: pure, seeded, and the same for any number of workers.

Publishes are an open workload: a Poisson process whose rate follows the phases, drawn
second by second from ``SeedSequence(seed, spawn_key=(PUBLISHES, second))``. Every worker
draws the whole list and keeps its stripe, so the list does not depend on how many there are, and no
worker needs to hear of another. Each publish belongs to a client drawn evenly from all
clients, and goes to one of its channels; it is left out when that client has not been
there for ``SETTLE_NS``, so each client is a Poisson process of its own from then on. An
absence (``absences``) is no time to publish either, from its begin to ``SETTLE_NS`` after its end.

Times are offsets from the start of the run, in nanoseconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from reports.history import HEADER_BYTES, RECORD

from .absences import SECOND_NS as SECOND_NS
from .absences import Crowd, crowds
from .workload import PUBLISHES, SESSIONS, Phase, Prediction, Workload, client_channels

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
    for block, _ in _blocks(workload, seed):
        yield block


def _blocks(workload: Workload, seed: int) -> Iterator[tuple[Publishes, int]]:
    """``publishes``, and how many of each second were left out because their client was away."""
    arrived_ns = sessions(workload, seed)["due_ns"]
    channels = np.array(client_channels(workload, seed)[1:], dtype="<u4")
    counts = np.zeros(workload.clients + 1, dtype=np.int64)
    away = _Away(workload, seed)
    for second in range(math.ceil(workload.duration_s)):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(PUBLISHES, second)))
        due_ns = _due(workload.phase, second, rng)
        index = rng.integers(0, workload.clients, len(due_ns))
        pick = rng.integers(0, workload.channels_per_client, len(due_ns))
        there = due_ns >= arrived_ns[index] + SETTLE_NS
        left_out = there & away.at(second, due_ns, index)
        there &= ~left_out
        due_ns, index, pick = due_ns[there], index[there], pick[there]
        block = np.empty(len(due_ns), PUBLISH)
        block["due_ns"] = due_ns
        block["client"] = index + 1
        block["channel"] = channels[index, pick]
        block["pub_seq"] = _number(block["client"], counts)
        yield block, int(left_out.sum())


class _Away:
    """Who may not publish when, because it is away or has only just come back."""

    def __init__(self, workload: Workload, seed: int) -> None:
        self._spans: list[tuple[int, int, npt.NDArray[np.bool_]]] = []
        for begin_ns, end_ns, clients in crowds(workload, seed):
            among = np.zeros(workload.clients, np.bool_)
            among[np.array(clients) - 1] = True
            self._spans.append((begin_ns, end_ns + SETTLE_NS, among))

    def at(
        self, second: int, due_ns: npt.NDArray[np.int64], index: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """Which publishes of a second, by due time and ordinal - 1, fall into an absence."""
        found = np.zeros(len(due_ns), np.bool_)
        for begin_ns, end_ns, among in self._spans:
            if begin_ns < (second + 1) * SECOND_NS and end_ns > second * SECOND_NS:
                found |= among[index] & (due_ns >= begin_ns) & (due_ns < end_ns)
        return found


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


def predict_from_schedule(workload: Workload, seed: int, *, retain_n: int | None = None) -> Prediction:
    """Walk the schedule and add up; ``workload.predict`` is its public name.

    A publish is delivered to those subscribers of its channel whose sessions have arrived by then: at once,
    or, to one that is away, when it comes back, if its channel still has it among the newest ``retain_n``.
    """
    arrivals = _arrivals_by_channel(workload, seed)
    sizes = np.array([len(times) for times in arrivals])
    all_there_ns = int(sessions(workload, seed)["due_ns"][-1])
    missed = [_Missed(crowd, workload, seed) for crowd in crowds(workload, seed)]
    delivered = np.zeros(math.ceil(workload.duration_s) + 1, np.int64)  # by second
    sent = peak_sent = left_out = 0
    for second, (block, dropped) in enumerate(_blocks(workload, seed)):
        late = block["due_ns"] >= all_there_ns
        reached = int(sizes[block["channel"][late]].sum()) + sum(
            int(np.searchsorted(arrivals[int(publish["channel"])], publish["due_ns"], side="right"))
            for publish in block[~late]
        )
        delivered[second] += reached - sum(crowd.miss(block) for crowd in missed)
        sent, peak_sent, left_out = sent + len(block), max(peak_sent, len(block)), left_out + dropped
    for crowd in missed:
        delivered[crowd.end_ns // SECOND_NS] += crowd.replayed(retain_n)
    returns = sum(len(crowd.clients) for crowd in missed)
    connections, replayed = workload.clients + returns, sum(crowd.replayed(retain_n) for crowd in missed)
    # Of a connection: CONN, a SUB and a LIVE for each channel, CLOSE. Of a publish: SEND and ACK.
    records = connections * (2 + 2 * workload.channels_per_client) + 2 * sent + int(delivered.sum())
    records += sum(crowd.gaps(retain_n) for crowd in missed)
    return Prediction(
        connections=connections,
        publishes=sent,
        deliveries=int(delivered.sum()),
        publishes_per_s_peak=float(peak_sent),
        deliveries_per_s_peak=float(delivered.max()),
        records=records,
        log_bytes=HEADER_BYTES + records * RECORD.itemsize,
        absences=returns,
        left_out=left_out,
        replayed=replayed,
        trimmed=sum(crowd.replayed(None) for crowd in missed) - replayed,
    )


class _Missed:
    """What is published behind the backs of clients that are away together."""

    def __init__(self, crowd: Crowd, workload: Workload, seed: int) -> None:
        self.begin_ns, self.end_ns, self.clients = crowd
        channels = client_channels(workload, seed)
        self._members = np.zeros(workload.channels + 1, np.int64)  # of them, on each channel
        for client in self.clients:
            self._members[list(channels[client])] += 1
        self._published = np.zeros(workload.channels + 1, np.int64)  # meanwhile, on each channel

    def miss(self, block: Publishes) -> int:
        """Take in a second of the schedule; returns the deliveries of it that they do not get live."""
        due_ns = block["due_ns"]
        channel = block["channel"][(due_ns >= self.begin_ns) & (due_ns < self.end_ns)]
        self._published += np.bincount(channel, minlength=len(self._published))
        return int(self._members[channel].sum())

    def replayed(self, retain_n: int | None) -> int:
        """Deliveries that they get when they come back."""
        kept = self._published if retain_n is None else np.minimum(self._published, retain_n)
        return int((kept * self._members).sum())

    def gaps(self, retain_n: int | None) -> int:
        """Holes that the server has to declare to them."""
        return 0 if retain_n is None else int(self._members[self._published > retain_n].sum())


def _arrivals_by_channel(workload: Workload, seed: int) -> list[npt.NDArray[np.int64]]:
    """When the subscribers of each channel arrive, sorted; index = channel id."""
    arrivals: list[list[int]] = [[] for _ in range(workload.channels + 1)]
    channels = client_channels(workload, seed)
    for session in sessions(workload, seed):
        for channel in channels[int(session["client"])]:
            arrivals[channel].append(int(session["due_ns"]))
    return [np.array(times, np.int64) for times in arrivals]

"""Many histories in one run: each with clients, channels and epochs of its own.

A call of the checks costs milliseconds, however little there is to check; ten thousand calls would be
minutes. Histories that share a contract (``Simulated.shared``) become one story, in the order of time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from reports.history import RECORD, Kind
from reports.rundir import Names
from tests.builders import Story

from .params import WORKERS, Shared
from .simulate import Simulated

_OF_EPOCHS = [int(kind) for kind in (Kind.SUB, Kind.GAP, Kind.EPOCH)]  # their ``publisher`` is an epoch
_OF_MESSAGES = [int(kind) for kind in (Kind.SEND, Kind.ACK, Kind.NACK, Kind.RECV, Kind.READ, Kind.MARK)]


@dataclass
class Packed(Story):
    """A run of many histories; ``seeds`` in the order of their channels."""

    seeds: tuple[int, ...] = ()
    expected: Counter[str] = None  # type: ignore[assignment]
    prefixes: tuple[str | None, ...] = ()  # by channel

    def records(self, worker: int) -> np.ndarray[Any, Any]:
        return np.asarray(self.logs[worker])

    def names(self) -> Names:
        epochs = int(max(log["epoch"].max(initial=0) for log in map(np.asarray, self.logs.values())))
        return Names(
            channels=(None, *(f"{prefix}:{i}" for i, prefix in enumerate(self.prefixes[1:], start=1))),
            clients=tuple(f"c{i}" for i in range(self.clients + 1)),
            nodes=(None, "n1"),
            epochs=(None, *(f"E{i}" for i in range(1, epochs + 1))),
            subscriptions=self.subscriptions,
        )

    def seed_of(self, channel: str) -> int:
        """Whose channel that is, by name."""
        return int(channel.partition(":")[0][1:])


def pack(histories: Sequence[Simulated]) -> Packed:
    """One run of histories that share a contract."""
    shared = {simulated.shared for simulated in histories}
    if len(shared) != 1:
        raise ValueError(f"{len(shared)} contracts: histories in one run share theirs")
    first = histories[0]
    clients = _offsets(_rounded(simulated.params.clients) for simulated in histories)
    channels = _offsets(simulated.params.channels for simulated in histories)
    epochs = _offsets(_most(simulated.story) for simulated in histories)
    packed = Packed(
        clients=clients[-1],
        channels=channels[-1],
        workers=WORKERS,
        echo=first.story.echo,
        contract=first.shared.contract() | {"namespaces": dict(_namespaces(histories))},
        faults=[line for i, simulated in enumerate(histories) for line in _faults(simulated, clients[i])],
        now=max(simulated.story.now for simulated in histories),
        seeds=tuple(simulated.seed for simulated in histories),
        expected=sum((Counter(simulated.expected) for simulated in histories), Counter()),
        prefixes=(None, *(f"h{s.seed}" for s in histories for _ in range(s.params.channels))),
    )
    packed.logs = {
        worker: _merged([s.story.logs[worker] for s in histories], clients, channels, epochs)  # type: ignore[misc]
        for worker in packed.logs
    }
    packed.subscriptions = {
        client + clients[i]: tuple(channel + channels[i] for channel in wanted)
        for i, simulated in enumerate(histories)
        for client, wanted in simulated.story.subscriptions.items()
    }
    packed.torn = set().union(*(simulated.story.torn for simulated in histories))
    return packed


def _rounded(clients: int) -> int:
    """So many ids that the next history's clients are of the same workers."""
    return -(-clients // WORKERS) * WORKERS


def _offsets(sizes: Iterable[int]) -> list[int]:
    return [0, *accumulate(sizes)]


def _most(story: Story) -> int:
    """The highest id of an epoch."""
    return max((row[7] for log in story.logs.values() for row in log), default=0)


def _namespaces(histories: Sequence[Simulated]) -> Iterator[tuple[str, dict[str, float]]]:
    for simulated in histories:
        kept = simulated.params.retention
        promised = {"retain_n": kept.n, "retain_s": kept.s, "retain_bytes": kept.bytes}
        yield f"h{simulated.seed}", promised if simulated.params.promised else {}


def _faults(simulated: Simulated, offset: int) -> Iterator[dict[str, Any]]:
    for line in simulated.story.faults:
        own = dict(line)
        if own.get("id"):
            own["id"] = f"{own['id']}-of-{simulated.seed}"
        if "process" in own:
            own["process"] = f"{own['process']}-of-{simulated.seed}"
        if "ordinals" in own:
            own["ordinals"] = [ordinal + offset for ordinal in own["ordinals"]]
        yield own


def _merged(
    logs: Sequence[list[tuple[int, ...]]], clients: list[int], channels: list[int], epochs: list[int]
) -> np.ndarray[Any, Any]:
    """The records of one worker of all histories, by time."""
    rows = np.array([row for log in logs for row in log], RECORD)
    lengths = [len(log) for log in logs]
    client, channel, epoch = (np.repeat(offsets[:-1], lengths) for offsets in (clients, channels, epochs))
    of_message = np.isin(rows["kind"], _OF_MESSAGES)
    sentinel = of_message & (rows["publisher"] == 0) & (rows["pub_seq"] != 0)
    rows["pub_seq"] += np.where(sentinel, channel, 0).astype(np.uint32)  # counts over client 0's channels
    publisher = np.where(of_message, client, np.where(np.isin(rows["kind"], _OF_EPOCHS), epoch, 0))
    for name, offset in (
        ("publisher", publisher),
        ("client", client),
        ("channel", channel),
        ("epoch", epoch),
    ):
        rows[name] += np.where(rows[name] != 0, offset, 0).astype(rows.dtype[name])
    return rows[np.argsort(rows["t"], kind="stable")]


def packs(seeds: Iterable[int], simulate: Any, *, size: int = 200) -> Iterator[list[Simulated]]:
    """Simulated histories by the contract that they share, at most ``size`` of them together."""
    waiting: dict[Shared, list[Simulated]] = {}
    for seed in seeds:
        simulated = simulate(seed)
        group = waiting.setdefault(simulated.shared, [])
        group.append(simulated)
        if len(group) == size:
            yield waiting.pop(simulated.shared)
    yield from waiting.values()

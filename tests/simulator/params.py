"""What differs from one simulated history to the next, all drawn from its seed.

Times are nanoseconds of virtual time. The marks stand at the same times in all histories, so that many
of them fit into one run.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Final

from tests.builders import MS, T0

S: Final = 1000 * MS
LOAD_NS: Final = T0 + 6 * S  # publishers have stopped, and no fault begins any more
HEAL_NS: Final = T0 + 9 * S
DRAIN_NS: Final = T0 + 11 * S
SENTINEL_NS: Final = DRAIN_NS + 50 * MS
READS_NS: Final = T0 + 14 * S
SECOND_READ_NS: Final = T0 + 15 * S
END_NS: Final = T0 + 17 * S
WORKERS: Final = 2

DETECT_S: Final = (0.4, 0.2)  # ping and pong, where dead peers are promised to be noticed
ACK_S: Final = 4.0
SETTLE_S: Final = 5.0
UNLIMITED_N: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """A message may be evicted when it is beyond any of the three."""

    n: int = UNLIMITED_N
    s: float = 86_400
    bytes: int = 1 << 26


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What histories in one run have in common."""

    echo: bool
    dedupe_s: float
    detect: bool  # ping and pong are promised
    torn: bool  # one worker is killed: its log ends early, and the run is void

    def contract(self) -> dict[str, Any]:
        promised: dict[str, Any] = {
            "dedupe_s": self.dedupe_s,
            "deadlines": {"settle_s": SETTLE_S, "drain_cap_s": 3, "ack_s": ACK_S},
        }
        if self.detect:
            promised |= {"ping_s": DETECT_S[0], "pong_s": DETECT_S[1]}
        return promised


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """One history's world."""

    shared: Shared
    clients: int
    channels: int
    silent: int  # how many of the last channels nobody publishes to
    old_names: bool  # a repeated ack names the life in which a message was placed
    shared_epochs: bool  # one name for the lives of all channels
    messages: int
    latency_ns: int  # one way, at most
    grid_ns: int  # frames that arrive within it are read together; 0: each alone
    skew_ns: tuple[int, ...]  # by worker: how far its clock is ahead
    retention: Retention
    promised: bool  # retention is in the contract
    lazy: float  # share of evictions that the server puts off
    ack_timeout_ns: int
    busy: float  # share of requests that wait for long before the server looks at them
    nack: float  # share of publishes that are refused for certain
    doubt: float  # share of publishes that get an error although they may have been placed
    gives_up: float  # share of failed attempts that are not tried again
    retries: int  # publishes that are sent again although they were acked
    cuts: int
    leaves: int
    churn: int
    stalls: int
    restarts: int
    failovers: int
    holes: int
    reads_as_another: (
        bool  # client 0's reads have a name of their own: without echo too they show the sentinels
    )


def draw(seed: int) -> Params:
    """Parameters of a history; a feature is often off, so that the others meet undisturbed."""
    rng = random.Random(f"parameters {seed}")

    def often(share: float, most: int) -> int:
        return rng.randint(1, most) if rng.random() < share else 0

    shared = Shared(
        echo=rng.random() < 0.75,
        dedupe_s=rng.choice([300, 300, 1.0]),
        detect=rng.random() < 0.1,
        torn=rng.random() < 0.05,
    )
    retention = Retention(
        n=rng.choice([2, 3, 5, 8, UNLIMITED_N, UNLIMITED_N]),
        s=rng.choice([86_400, 86_400, 86_400, rng.uniform(0.5, 12)]),
        bytes=rng.choice([1 << 26, 1 << 26, rng.randint(500, 4000)]),
    )
    channels = rng.choice([1, 1, 2])
    return Params(
        shared=shared,
        clients=rng.randint(3, 5),
        channels=channels,
        silent=1 if channels > 1 and rng.random() < 0.15 else 0,
        old_names=rng.random() < 0.5,
        shared_epochs=rng.random() < 0.5,
        messages=rng.randint(4, 14),
        latency_ns=rng.choice([MS, 20 * MS, 150 * MS]),
        grid_ns=rng.choice([0, 0, 5 * MS, 40 * MS]),
        skew_ns=(0, *(rng.randint(0, 900) for _ in range(WORKERS))),
        retention=retention,
        promised=rng.random() < 0.8,
        lazy=rng.choice([0.0, 0.5, 0.9]),
        ack_timeout_ns=rng.choice([300 * MS, 900 * MS]),
        busy=rng.choice([0.0, 0.0, 0.1]),
        nack=rng.choice([0.0, 0.0, 0.15]),
        doubt=rng.choice([0.0, 0.0, 0.15]),
        gives_up=rng.choice([0.0, 0.3]),
        retries=often(0.4, 3),
        cuts=often(0.7, 5),
        leaves=often(0.3, 2),
        churn=often(0.5, 3),
        stalls=often(0.3, 2),
        restarts=often(0.4, 2),
        failovers=often(0.12, 1),
        holes=often(0.6, 2) if shared.detect else 0,
        reads_as_another=rng.random() < 0.5,
    )

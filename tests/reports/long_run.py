"""An analysis with as much in it as an hour can have: every second, many faults, channels, processes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from reports.analysis import Analysis
from reports.checks import run_checks
from reports.pipeline import analyse
from tests.reports.synthetic import T0, Cut, S, fault_lines, in_memory, small


def an_hour(faults: int, *, seed: int = 1) -> Analysis:
    """Figures drawn at random, so that nothing in them repeats and packs well."""
    rng = np.random.default_rng(seed)
    seconds = 3600
    each = seconds / (faults + 1)
    lines = [
        line
        for n in range(faults)
        for line in fault_lines(
            f"fault-{n}-with-a-rather-long-name", "down", each * (n + 0.2), each * (n + 0.6)
        )
    ]
    history = in_memory(
        small(
            channels=40,
            clients=40,
            cuts=[Cut(2, 3)],
            faults=lines,
            run={
                "phases": [
                    {"name": "steady", "start_ns": T0, "end_ns": T0 + seconds * S, "warmup": False},
                ]
            },
        )
    )
    made = analyse(history, run_checks(history), (), workers=[{"worker": 1, "lag_p99_ms": 1.0}])
    counts = {
        name: rng.integers(100, 100_000, seconds)
        for name in ("scheduled", "sent", "acked", "delivered", "replayed", "connected", "live")
    }
    speeds = {name: rng.lognormal(mean, 1, seconds) for mean, name in enumerate(_SPEEDS)}
    intervals = pl.DataFrame(
        {
            "second": np.arange(seconds),
            "phase": ["steady"] * seconds,
            "warmup": [False] * seconds,
            "faults": [""] * seconds,
            **counts,
            "latency_count": rng.integers(1, 100_000, seconds),
            **speeds,
        }
    )
    changes = pl.DataFrame(
        {
            "at_s": np.sort(rng.uniform(0, seconds, 20_000)),
            "what": ["connected", "live"] * 10_000,
            "count": rng.integers(0, 100_000, 20_000),
        }
    )
    processes = pl.DataFrame(
        {
            "t": np.repeat(T0 + np.arange(seconds) * S, 8),
            "process": [f"process-{n}" for n in range(8)] * seconds,
            "cpu": rng.uniform(0, 1, seconds * 8),
            "rss_bytes": rng.integers(1 << 20, 1 << 30, seconds * 8),
        }
    )
    taken = np.sort(rng.choice(np.arange(2_000, 12_000), (seconds, 100)), axis=1)
    buckets = pl.DataFrame(
        {
            "second": np.repeat(np.arange(seconds), 100),
            "bucket": taken.ravel(),
            "n": rng.integers(1, 500, seconds * 100),
        }
    )
    channels = pl.DataFrame(
        {"channel": np.arange(1, 41, dtype=np.uint32), "count": rng.integers(1, 1000, 40)}
        | {name: rng.lognormal(3, 2, 40) for name in _SPEEDS}
    )
    return replace(
        made,
        intervals=intervals,
        presence=changes,
        samples={"processes": processes},
        channels=channels,
        seconds=buckets,
    )


_SPEEDS = ("p50_ms", "p90_ms", "p99_ms", "max_ms")

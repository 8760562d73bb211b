"""What a message costs in a log that several nodes share: CPU of node and server, and the time of a batch.

    python -m benchmarks.valkey_store [--messages N] [--rounds N]

A store and a valkey-server of its own, on one core each. Messages of 100 bytes on one channel, in batches;
the store's bus hears them all, so PUBLISH is in it. The least of the rounds counts.
"""

from __future__ import annotations

import argparse
import os
import resource
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import psutil
import uvloop

from chatd.store.base import Append, Dedupe, Retention
from chatd.store.valkey.store import ValkeyStore
from scenarios.broker import HOST, command, program

BATCHES: Final = (1, 10, 100, 1000)
POLICIES: Final = ("always", "everysec")
DATA: Final = b'"' + b"x" * 98 + b'"'
KEEP: Final = Retention(n=100_000, s=86_400, bytes=64 << 20)
START_S: Final = 15.0


class Figures(NamedTuple):
    """µs of CPU for a message, and ms for a batch."""

    node_us: float
    server_us: float
    batch_ms: float
    taking_us: float  # from the bus
    reading_us: float  # from the log


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--messages", type=int, default=20_000, help="in each measurement [20000]")
    parser.add_argument("--rounds", type=int, default=3, help="[3]")
    asked = parser.parse_args()
    print("appendfsync  batch" + "".join(f"{name:>12}" for name in Figures._fields))
    for policy in POLICIES:
        for batch in BATCHES:
            count = min(asked.messages, 3000 * batch) // batch * batch
            rounds = []
            for _ in range(asked.rounds):
                with serving(policy) as (port, server):
                    rounds.append(uvloop.run(measure(port, server, batch, count)))
            least = Figures(*map(min, zip(*rounds, strict=True)))
            print(f"{policy:11}{batch:7}" + "".join(f"{figure:12.2f}" for figure in least))


async def measure(port: int, server: psutil.Process, batch: int, count: int) -> Figures:
    store = ValkeyStore(f"valkey://{HOST}:{port}/0", KEEP, Dedupe(300))
    await store.open()
    await store.bus.join(["room"])
    figures = await timed(store, server, batch, count)
    await store.close()
    return figures


@contextmanager
def serving(policy: str) -> Iterator[tuple[int, psutil.Process]]:
    """A server that can be connected to, on one core, with this process on the other."""
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as directory:
        with socket.create_server((HOST, 0)) as taken:
            port: int = taken.getsockname()[1]
        argv = [str(program()), "--port", str(port), "--bind", HOST, "--dir", directory, "--save", ""]
        with (Path(directory) / "log").open("wb") as log:
            server = subprocess.Popen([*argv, "--appendonly", "yes", "--appendfsync", policy], stdout=log)
        try:
            process = psutil.Process(server.pid)
            process.cpu_affinity(cores[:1])
            psutil.Process().cpu_affinity(cores[-1:])
            await_ready(port)
            yield port, process
        finally:
            psutil.Process().cpu_affinity(cores)
            server.kill()
            server.wait()


def await_ready(port: int) -> None:
    deadline_s = time.monotonic() + START_S
    while b"loading:0" not in command(HOST, port, "INFO"):
        if time.monotonic() > deadline_s:
            raise SystemExit(f"valkey-server does not answer within {START_S:g} s")
        time.sleep(0.05)


async def timed(store: ValkeyStore, server: psutil.Process, batch: int, count: int) -> Figures:
    batches = [
        [Append("room", "ann", f"c7f3a:{n}", DATA) for n in range(first, first + batch)]
        for first in range(0, count, batch)
    ]
    own, others, began = cpu_s(), server_s(server), time.perf_counter()
    for one in batches:
        await store.append(one, time.time_ns() // 1_000_000)
    whole = time.perf_counter() - began
    node, broker = cpu_s() - own, server_s(server) - others
    own, events = cpu_s(), store.bus.events()
    for _ in range(count):
        await anext(events)
    hearing = cpu_s() - own
    own, after = cpu_s(), 0
    while (page := await store.read("room", after, 1000, 1 << 20)).entries:
        after = page.entries[-1].serial
    reading = cpu_s() - own
    each = 1e6 / count
    return Figures(node * each, broker * each, whole * 1e3 / len(batches), hearing * each, reading * each)


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def server_s(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)


if __name__ == "__main__":
    main()

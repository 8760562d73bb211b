"""What a message costs in a log that several nodes share: CPU of the node and of the server, and the time of a batch.

    python -m benchmarks.valkey_store [--messages N] [--rounds N]

A store and a valkey-server of its own, on one core each. Messages of 100 bytes on one channel, in batches; one bus
hears them all, so PUBLISH is in it, and so is what hearing costs where it says so. The least of the rounds counts.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import psutil
import uvloop
from scenarios.broker import program

from chatd.store.base import Append, Dedupe, Retention
from chatd.store.valkey.store import ValkeyStore

BATCHES: Final = (1, 10, 100, 1000)
POLICIES: Final = ("always", "everysec")
DATA: Final = b'"' + b"x" * 98 + b'"'
KEEP: Final = Retention(n=100_000, s=86_400, bytes=64 << 20)
HOST: Final = "127.0.0.1"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--messages", type=int, default=20_000, help="in each measurement [20000]")
    parser.add_argument("--rounds", type=int, default=3, help="[3]")
    asked = parser.parse_args()
    print("appendfsync  batch  node µs  server µs  ms a batch  hearing µs  reading µs")
    for policy in POLICIES:
        for batch in BATCHES:
            count = min(asked.messages, 3000 * batch) // batch * batch
            rounds = [uvloop.run(measure(policy, batch, count)) for _ in range(asked.rounds)]
            node, server, whole, hearing, reading = map(min, zip(*rounds, strict=True))
            print(f"{policy:11}{batch:7}{node:9.1f}{server:11.1f}{whole:12.2f}{hearing:12.1f}{reading:12.1f}")


async def measure(policy: str, batch: int, count: int) -> tuple[float, float, float, float, float]:
    """µs of the node and of the server for a message, ms for a batch, µs to hear and to read a message."""
    with tempfile.TemporaryDirectory() as directory:
        port = free_port()
        argv = [str(program()), "--port", str(port), "--bind", HOST, "--dir", directory, "--save", ""]
        with (Path(directory) / "log").open("wb") as log:
            server = subprocess.Popen([*argv, "--appendonly", "yes", "--appendfsync", policy], stdout=log)
        try:
            cores = sorted(os.sched_getaffinity(0))
            process = psutil.Process(server.pid)
            process.cpu_affinity([cores[0]])
            psutil.Process().cpu_affinity([cores[-1]])
            store = await opened(f"valkey://{HOST}:{port}/0")
            await store.bus.join(["room"])
            return await timed(store, process, batch, count)
        finally:
            psutil.Process().cpu_affinity(cores)
            server.kill()
            server.wait()


async def timed(
    store: ValkeyStore, server: psutil.Process, batch: int, count: int
) -> tuple[float, float, float, float, float]:
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
    await store.close()
    each = 1e6 / count
    return node * each, broker * each, whole * 1e3 / len(batches), hearing * each, reading * each


async def opened(url: str) -> ValkeyStore:
    deadline_s = time.monotonic() + 10
    while True:
        store = ValkeyStore(url, KEEP, Dedupe(300))
        try:
            await store.open()
            return store
        except Exception:
            await store.close()
            if time.monotonic() > deadline_s:
                raise
            await asyncio.sleep(0.05)


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def server_s(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)


def free_port() -> int:
    import socket

    with socket.create_server((HOST, 0)) as server:
        port: int = server.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())

"""The load client itself, for `benchmarks.loadgen`: an ``Engine`` with its figures, records on disk.

    python -m benchmarks.generator PORT CLIENTS CHANNELS PUBLISH_PER_S RUN_DIR

All that a worker does but its talk with Locust's master, twice a second. It says on stdout how much memory it
had before the engine, and how it went; it ends when stdin does or, with publishes, when the last is acked.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from time import monotonic, monotonic_ns, process_time
from typing import Any, Final

import psutil
import uvloop

from loadgen.engine import Engine
from loadgen.worker import REPORT_S, steady
from loadgen.workload import LoadSpec

from .peers.blaster import BODY_BYTES, NONCE

CONNECT_PER_S: Final = 2_000
READY_S: Final = 2.0  # from the last arrival to the first publish
PUBLISH_S: Final = 5.0
FOREVER_S: Final = 3600.0
LATE_S: Final = 10.0  # for answers, after the last publish fell due


def _spec(port: int, clients: int, channels: int, publish_per_s: float, run_dir: Path) -> LoadSpec:
    connect_over_s = clients / CONNECT_PER_S
    quiet_s = connect_over_s + READY_S if publish_per_s else FOREVER_S
    phases = [{"name": "quiet", "duration_s": quiet_s}]
    if publish_per_s:
        phases.append({"name": "publish", "duration_s": PUBLISH_S, "publish_per_s": publish_per_s})
    return LoadSpec.model_validate(
        {
            "run_dir": run_dir,
            "nonce": NONCE,
            "seed": 1,
            "targets": (f"ws://127.0.0.1:{port}",),
            "workload": {
                "clients": clients,
                "channels": channels,
                "channels_per_client": 1,
                "body_bytes": BODY_BYTES,
                "connect_over_s": connect_over_s,
                "phase": phases,
            },
        }
    )


async def _report(engine: Engine) -> None:
    """Twice a second, what a worker's report is made of."""
    while True:
        await asyncio.sleep(REPORT_S)
        engine.fold()
        engine.figures.take_recent()
        engine.figures.take_hiccups()
        engine.figures.take_locust()


def _waited_s() -> float:
    """How long this process's loop has been ready to run while something else had its core.

    Source: Linux, Documentation/scheduler/sched-stats.rst, /proc/<pid>/schedstat.
    """
    return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9


async def _published(engine: Engine, publish_s: float) -> dict[str, float]:
    """Figures of the phase that publishes, until everything is acked."""
    await asyncio.sleep(publish_s - monotonic())
    began_s, cpu_s, waited_s = monotonic(), process_time(), _waited_s()
    late_s = began_s + PUBLISH_S + LATE_S
    while monotonic() < late_s:
        await asyncio.sleep(0.2)
        state = engine.state()
        if not state.scheduled_left and not state.unacked:
            break
    taken_s, cpu_s, waited_s = monotonic() - began_s, process_time() - cpu_s, _waited_s() - waited_s
    engine.fold()
    return {
        "publishes": engine.figures.totals["sent"],
        "acked": engine.figures.totals["acked"],
        "taken_s": taken_s,
        "cpu_s": cpu_s,
        "waited_s": waited_s,
        "lag_p50_ms": engine.figures.lag.quantile_ms(0.5),
        "lag_p99_ms": engine.figures.lag.quantile_ms(0.99),
        "hiccup_p99_ms": engine.figures.hiccup.quantile_ms(0.99),
    }


async def main(port: int, clients: int, channels: int, publish_per_s: float, run_dir: Path) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    crashes: list[BaseException] = []

    def crashed(error: BaseException) -> None:
        crashes.append(error)
        ended.set()

    print(json.dumps({"rss_bytes": psutil.Process().memory_info().rss}), flush=True)
    spec = _spec(port, clients, channels, publish_per_s, run_dir)
    engine = Engine(spec, 1, 1, crashed=crashed)
    steady()
    began_s = monotonic()
    engine.start(monotonic_ns())
    reports = loop.create_task(_report(engine))
    said: dict[str, Any] = {}
    if publish_per_s:
        said = await _published(engine, began_s + spec.workload.phase[0].duration_s)
    else:
        loop.add_reader(sys.stdin.fileno(), ended.set)
        await ended.wait()
        loop.remove_reader(sys.stdin.fileno())
    reports.cancel()
    await engine.stop()
    if crashes:
        raise crashes[0]
    print(json.dumps(said | engine.figures.totals), flush=True)


if __name__ == "__main__":
    uvloop.run(main(*map(int, sys.argv[1:4]), float(sys.argv[4]), Path(sys.argv[5])))

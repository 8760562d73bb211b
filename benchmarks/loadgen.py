"""What the load client costs: deliveries and publishes a second and core, and memory a connection.

    python -m benchmarks.loadgen [--only ROW] [--quick]

The client has one core. On another, peers/blaster.py writes frames that it has built before, so that it is
not the server that is measured. The client is the real one: an engine, its sockets, its records on disk,
counted again at the end. Beside it, in the same rounds: picows alone, which makes nothing of a frame;
stock Locust with websocket-client, json and an event for each message; and k6 (`make k6`), left out with a
line where it is not there, with its own WebSockets, JSON.parse and a Trend. CPU is the kernel's count of
the process; what others on this machine do can only add to it, so each counts with the least of its rounds.

A whole run writes benchmarks/loadgen.json. A target that is missed is shown and is no failure: shared
machines are noisy.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from reports.history import HEADER_BYTES, RECORD, Kind

from . import report, servers, swarm
from .report import Bench, Figures, Row
from .servers import CLIENT_CPU, SERVER_CPU, free_port, pinned
from .swarm import Stalled

OUT: Final = Path(__file__).with_suffix(".json")
CLIENTS: Final = 200
SHARED: Final = {"all get it": 1, "four get it": CLIENTS // 4, "one gets it": CLIENTS}
"""Channels, by how many of the clients get a message."""
LOCUST: Final = "Locust"
K6: Final = "k6"
K6_BINARY: Final = servers.TOOLS / "bin/k6"
FLOOR: Final = "picows alone"
TEN: Final = 10  # frames in a read
HELD, LOCUST_HELD = 8_000, 1_000
RATES: Final = (10_000.0, 20_000.0, 30_000.0, 40_000.0)
PUBLISHERS: Final = (500, 100)
"""How many share the rate: of more, each socket is colder, and fewer acks come in one read."""
LAG_MS: Final = 5.0
K6_TIMES: Final = 8.0
START_S: Final = 60.0
ENOUGH_FILES: Final = HELD + 500


# ── processes ─────────────────────────────────────────────────────────────────────────────────


class Program:
    """A child that answers with lines of JSON."""

    def __init__(self, name: str, cpu: int, command: list[str], **env: str) -> None:
        with pinned(cpu):
            self.process = subprocess.Popen(
                command, cwd=servers.ROOT, env={**os.environ, **env}, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        self.name = name

    def said(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                found: dict[str, Any] = json.loads(line)
                return found
        raise Stalled(f"{self.name} ended with exit status {self.process.wait()}")

    def ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Stalled(f"{self.name} ended with exit status {self.process.wait()}") from None
        return self.said()

    def cpu_ns(self) -> int:
        """Of all threads so far: the kernel's CPUCLOCK_SCHED of that process."""
        return time.clock_gettime_ns(~self.process.pid << 3 | 2)

    def reads(self) -> int:
        """Calls of read(2) so far."""
        lines = Path(f"/proc/{self.process.pid}/io").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("syscr:"))

    def rss_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


class Side:
    """A load client under measurement, and a blaster of its own that it is connected to."""

    def __init__(self, name: str, clients: int, channels: int = 1, publish_per_s: float = 0.0) -> None:
        port = free_port()
        self.name, self.clients, self.blasted = name, clients, 0
        self.folder = Path(tempfile.mkdtemp(prefix="bench-"))
        self.server = Program("blaster", SERVER_CPU, _module("peers.blaster", port))
        self.server.said()
        numbers = (port, clients, channels, publish_per_s, self.folder)
        if name == LOCUST:
            publish = {"CHATPROOF_PUBLISH": "1"} if publish_per_s else {}
            self.client = Program(name, CLIENT_CPU, _locust(port, clients), **publish)
        elif name == K6:
            self.client = Program(name, CLIENT_CPU, _k6(port, clients), GOMAXPROCS="1")
        elif name == FLOOR:
            self.client = Program(name, CLIENT_CPU, _module("peers.reader_picows", port, clients))
        else:
            self.client = Program(name, CLIENT_CPU, _module("generator", *numbers))
        self.before_bytes = 0 if name in (FLOOR, K6) else int(self.client.said()["rss_bytes"])
        self.joined_s = 0.0

    def join(self) -> None:
        """Until every connection is subscribed."""
        began = time.monotonic()
        while self.server.ask({"do": "joined"})["connections"] < self.clients:
            if time.monotonic() > began + START_S or self.client.process.poll() is not None:
                raise Stalled(f"{self.name} did not connect {self.clients} clients in {START_S:g} s")
            time.sleep(0.1)
        self.joined_s = time.monotonic() - began
        time.sleep(0.5)

    def blast(self, seconds: float, a_write: int) -> Figures:
        cpu_ns, reads, began = self.client.cpu_ns(), self.client.reads(), time.monotonic()
        deliveries = self.server.ask({"do": "blast", "seconds": seconds, "a_write": a_write})["deliveries"]
        taken_s = time.monotonic() - began
        cpu_ns, reads = self.client.cpu_ns() - cpu_ns, self.client.reads() - reads
        self.blasted += deliveries
        return {
            "µs CPU": cpu_ns / 1e3 / deliveries,
            "a core and s": deliveries * 1e9 / cpu_ns,
            "frames/read": deliveries / reads if reads > deliveries // 100 else float("nan"),
            "of a core": cpu_ns / 1e9 / taken_s,
        }

    def check(self) -> None:
        """Whether the log of the load client has exactly what was sent, in order and undamaged.

        Raises:
            Stalled: it has not.
        """
        if self.name in (LOCUST, FLOOR, K6):
            return
        self.client.process.communicate(timeout=30)
        logs = sorted(self.folder.glob("events/*.rec"))
        kinds = [np.memmap(path, RECORD, "r", HEADER_BYTES) for path in logs]
        found = sum(int(np.count_nonzero((log["kind"] == Kind.RECV) & (log["flags"] == 0))) for log in kinds)
        odd = sum(int(np.isin(log["kind"], [Kind.BAD, Kind.LOST_LOG, Kind.GAP]).sum()) for log in kinds)
        if found != self.blasted or odd:
            raise Stalled(f"{self.name}: {self.blasted} were sent, {found} recorded, {odd} bad or lost")

    def end(self) -> None:
        self.client.end()
        self.server.end()
        shutil.rmtree(self.folder, ignore_errors=True)


def _module(name: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.{name}", *map(str, arguments)]


def _locust(port: int, users: int) -> list[str]:
    locustfile = str(servers.PEERS / "locust_websocket.py")
    rates = ["-u", str(users), "-r", str(users), "--host", f"ws://127.0.0.1:{port}"]
    quiet = ["--headless", "--only-summary", "--loglevel", "ERROR", "--reset-stats"]
    return [sys.executable, "-m", "locust", "-f", locustfile, *rates, *quiet]


def _k6(port: int, users: int) -> list[str]:
    script = str(servers.PEERS / "k6_websocket.js")
    told = ["-e", f"TARGET=ws://127.0.0.1:{port}/ws", "-e", f"USERS={users}"]
    quiet = ["--quiet", "--address", "", "--no-usage-report", "--summary-mode", "disabled"]
    return [str(K6_BINARY), "run", *quiet, *told, script]


@contextmanager
def joined(sides: list[Callable[[], Side]]) -> Iterator[list[Side]]:
    with ExitStack() as stack:
        there = []
        for make in sides:
            side = make()
            stack.callback(side.end)
            side.join()
            there.append(side)
        yield there


# ── rows ──────────────────────────────────────────────────────────────────────────────────────


def received(bench: Bench) -> list[Row]:
    """Deliveries, ten frames a read and one, with all clients on a channel, four, or each on its own."""
    rows = {
        TEN: Row("joined", f"deliveries to {CLIENTS} clients, checked and recorded; ten frames a read"),
        1: Row("single", "the same, one frame a read"),
    }  # fmt: skip
    seconds, rounds = (0.5, 1) if bench.quick else (1.5, 5)
    taken: dict[int, dict[str, list[Figures]]] = {TEN: {}, 1: {}}
    makers: list[Callable[[], Side]] = [
        *(lambda name=name, many=many: Side(name, CLIENTS, many) for name, many in SHARED.items()),
        lambda: Side(FLOOR, CLIENTS),
        lambda: Side(LOCUST, CLIENTS),
    ]
    if K6_BINARY.exists():
        makers.append(lambda: Side(K6, CLIENTS))
    with joined(makers) as sides:
        for side in sides:
            side.blast(0.3, TEN)  # to be warm
        for number in range(1, rounds + 1):
            for a_write in (TEN, 1):
                bench.say(f"deliveries, {a_write} a read, round {number} of {rounds}")
                for side in sides:
                    taken[a_write].setdefault(side.name, []).append(side.blast(seconds, a_write))
        for side in sides:
            side.check()
    for a_write, least, cheaper in ((TEN, 400_000.0, 20.0), (1, 150_000.0, 7.0)):
        row = rows[a_write]
        row.figures = {name: min(rounds, key=_cpu) for name, rounds in taken[a_write].items()}
        for name in SHARED:
            each = row.figures[name]
            row.at_least(f"≥ {least:,.0f} a core and second, {name}", each["a core and s"], least)
        times = row.ratio("µs CPU", LOCUST, "all get it")
        row.at_least(f"≥ {cheaper:g} times cheaper than stock Locust", times, cheaper)
        if K6 not in row.figures:
            row.skipped.append("skipped: k6: `make k6` installs it (needs Go)")
        elif a_write == TEN:
            times = row.ratio("µs CPU", K6, "all get it")
            row.at_least(f"≥ {K6_TIMES:g} times cheaper than k6", times, K6_TIMES)
    return list(rows.values())


def held(bench: Bench) -> list[Row]:
    """Connections of one worker, idle, each with a subscription."""
    row = Row("held", f"connections held by one process: {HELD:,}, by Locust {LOCUST_HELD:,}")
    for name, clients in (("loadgen", HELD), (LOCUST, LOCUST_HELD)):
        bench.say(f"{clients:,} connections of {name}")
        with joined([lambda name=name, clients=clients: Side(name, clients)]) as (side,):
            time.sleep(1.0)
            row.figures[name] = {
                "held": float(side.server.ask({"do": "joined"})["connections"]),
                "KiB each": (side.client.rss_bytes() - side.before_bytes) / clients / 1024,
                "s to connect": side.joined_s,
            }
    row.at_least(f"≥ {HELD:,} held", row.figures["loadgen"]["held"], HELD)
    row.at_most("≤ 25 KiB each", row.figures["loadgen"]["KiB each"], 25.0)
    return [row]


def publishes(bench: Bench) -> list[Row]:
    """Publishes by the schedule, each acked and recorded twice; Locust's, one after the other."""
    row = Row("publishes", "publishes by the schedule of one process, all acked and recorded")
    most = {}
    for clients in PUBLISHERS:
        for rate in RATES[:1] if bench.quick else RATES:
            bench.say(f"{rate:,.0f} publishes a second of {clients} clients")
            taken = (_published(clients, rate) for _ in range(bench.rounds(3)))
            figures = min(taken, key=lambda each: each["lag p99 ms"])
            row.figures[_named(rate, clients)] = figures
            if figures["lag p99 ms"] < LAG_MS:
                most[clients] = rate
    bench.say("publishes of Locust")
    with joined([lambda: Side(LOCUST, CLIENTS, publish_per_s=1.0)]) as (side,):
        time.sleep(1.0)
        acked, cpu_ns, began = (
            side.server.ask({"do": "joined"})["acked"],
            side.client.cpu_ns(),
            time.monotonic(),
        )
        time.sleep(3.0)
        acked = side.server.ask({"do": "joined"})["acked"] - acked
        cpu_ns, taken_s = side.client.cpu_ns() - cpu_ns, time.monotonic() - began
        row.figures[LOCUST] = _cost(acked, cpu_ns / 1e9, taken_s)
    for clients in PUBLISHERS:
        held = most.get(clients, 0.0)
        row.at_least(f"≥ 40,000 a second with lag p99 < {LAG_MS:g} ms, {clients} clients", held, 40_000.0)
        last = row.figures.get(_named(RATES[-1], clients), {})
        row.at_least(f"≥ 40,000 a core and second, {clients} clients", last.get("a core and s"), 40_000.0)
    return [row]


def _named(rate: float, clients: int) -> str:
    return f"{rate:,.0f}/s of {clients}"


def _published(clients: int, rate: float) -> Figures:
    side = Side("loadgen", clients, clients, rate)
    try:
        said = side.client.said()
        if said["acked"] != said["publishes"]:
            raise Stalled(f"{said['publishes']} publishes, {said['acked']} acks")
        return _cost(said["publishes"], said["cpu_s"], said["taken_s"]) | {
            "waited": said["waited_s"] / said["taken_s"],
            "lag p50 ms": said["lag_p50_ms"],
            "lag p99 ms": said["lag_p99_ms"],
            "reads late p99 ms": said["hiccup_p99_ms"],
        }
    finally:
        side.end()


def _cost(count: int, cpu_s: float, taken_s: float) -> Figures:
    return {
        "µs CPU": cpu_s * 1e6 / count,
        "a core and s": count / cpu_s,
        "a second": count / taken_s,
        "of a core": cpu_s / taken_s,
    }


def _cpu(figures: Figures) -> float:
    return figures["µs CPU"]


ROWS: Final[dict[str, Callable[[Bench], list[Row]]]] = {
    "received": received,
    "publishes": publishes,
    "held": held,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", choices=ROWS, metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--quick", action="store_true", help="one short round; the figures mean little")
    parser.add_argument("--out", type=Path, help=f"where the JSON goes; a whole run's goes to {OUT.name}")
    arguments = parser.parse_args()
    if len(servers.CPUS) < 2:
        print("one core only: client and server share it", file=sys.stderr)
    if swarm.raise_file_limit() < ENOUGH_FILES:
        print(f"ulimit -Hn is too low for {HELD:,} connections: must be {ENOUGH_FILES:,}", file=sys.stderr)
        return 1
    os.sched_setaffinity(0, {SERVER_CPU})
    bench = Bench(arguments.quick, lambda text: print(f"… {text}", file=sys.stderr, flush=True))
    began, rows, failed = time.monotonic(), [], False
    for name in arguments.only or ROWS:
        try:
            found = ROWS[name](bench)
        except Stalled as stalled:
            print(f"\n{name} failed: {stalled}", flush=True)
            failed = True
            continue
        rows += found
        print("\n".join(report.show(row) for row in found), flush=True)
    missed = sum(not target.met for row in rows for target in row.targets)
    print(f"\n{missed} targets missed; {time.monotonic() - began:.0f} s")
    whole = not (arguments.only or arguments.quick or failed)
    out = arguments.out or (OUT if whole else None)
    if out is not None:
        told = {name: version(name) for name in ("locust", "websocket-client", "numpy")}
        versions = report.versions({K6: [str(K6_BINARY), "version"]}) | told
        report.write(out, rows, quick=arguments.quick, versions=versions)
        print(f"written to {out}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

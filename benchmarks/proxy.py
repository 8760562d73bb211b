"""What a hop through the fault proxy costs: embedded, real Toxiproxy, and no proxy, side by side.

    python benchmarks/proxy.py [--rounds 3]

Rounds go through all in turn, so that a slow minute of the machine hurts all
alike; each figure is the median of its rounds. Ends by itself in less than 60 s.
"""

import argparse
import json
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

BUILT = Path(__file__).parents[1] / ".tools/bin/toxiproxy-server"
MESSAGE = b'{"type":"message","channel":"room:1","serial":58,"message":"c7:12","user":"c7","time":1,"data":"'
FRAME = bytes((0x81, 118)) + MESSAGE.ljust(117, b".") + b'"'  # a small chat frame, from the server
assert len(FRAME) == 120
CHUNK = FRAME * 2184  # 256 KiB
RULE = {  # reads every message and never matches
    "name": "never", "type": "frame", "attributes": {"action": "drop", "type": "gap"},
}  # fmt: skip
VIEW = ("--frame-view", "loadgen.drivers.chatd_view:FRAME_VIEW")
FRAMES = 20_000
BULK_MB = 256
RULE_MB = 16  # through a rule, which looks at every frame
COLUMNS = ("p50 µs", "p99 µs", "CPU µs/frame", "MB/s", "CPU ms/MB")


@dataclass(frozen=True)
class Hop:
    """A way from a client to a server: its name, the sockets' ends, the proxy's process."""

    name: str
    client: socket.socket
    server: socket.socket
    process: psutil.Process | None
    bulk_mb: int = BULK_MB

    def cpu_s(self) -> float:
        """CPU seconds that the proxy has used."""
        times = self.process.cpu_times() if self.process else None
        return times.user + times.system if times else 0.0


@contextmanager
def hop(name: str, command: list[str] | None, *, rule: bool = False) -> Iterator[Hop]:
    """Start a proxy, if there is a command, and connect through it."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        target, process = listener.getsockname(), None
        if command:
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            process = subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            toxics = [RULE] if rule else []
            target = create_proxy(f"http://127.0.0.1:{port}", f"127.0.0.1:{target[1]}", toxics)
        client = stack.enter_context(socket.create_connection(target))
        server = stack.enter_context(listener.accept()[0])
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bulk_mb = RULE_MB if rule else BULK_MB
        yield Hop(name, client, server, psutil.Process(process.pid) if process else None, bulk_mb)


def create_proxy(url: str, upstream: str, toxics: list[dict[str, Any]]) -> tuple[str, int]:
    """Where the new proxy listens; waits for the API to come up."""
    wanted = {"name": "bench", "upstream": upstream, "listen": "127.0.0.1:0", "toxics": toxics}
    body = json.dumps(wanted).encode()
    for attempt in range(200):
        try:
            with urllib.request.urlopen(f"{url}/proxies", data=body) as answer:
                host, port = json.load(answer)["listen"].split(":")
                return host, int(port)
        except OSError:
            if attempt == 199:
                raise
            time.sleep(0.05)
    raise AssertionError("unreachable")


def small_frames(way: Hop) -> dict[str, float]:
    """One frame at a time, from the send to the last byte received."""
    took, cpu = [], way.cpu_s()
    for _ in range(FRAMES):
        start = time.perf_counter_ns()
        way.server.sendall(FRAME)
        left = len(FRAME)
        while left:
            left -= len(way.client.recv(left))
        took.append(time.perf_counter_ns() - start)
    took.sort()
    return {
        "p50 µs": took[FRAMES // 2] / 1e3,
        "p99 µs": took[FRAMES * 99 // 100] / 1e3,
        "CPU µs/frame": (way.cpu_s() - cpu) / FRAMES * 1e6,
    }


def bulk(way: Hop) -> dict[str, float]:
    """As fast as it goes."""
    chunk, cpu, start = CHUNK, way.cpu_s(), time.perf_counter()
    total = way.bulk_mb * 1_000_000 // len(chunk) * len(chunk)
    sender = threading.Thread(target=lambda: [way.server.sendall(chunk) for _ in range(total // len(chunk))])
    sender.start()
    buffer, got = bytearray(1 << 18), 0
    while got < total:
        got += way.client.recv_into(buffer)
    sender.join()
    took, mb = time.perf_counter() - start, total / 1e6
    return {"MB/s": mb / took, "CPU ms/MB": (way.cpu_s() - cpu) * 1e3 / mb}


def measure(ways: list[Hop], rounds: int) -> dict[str, dict[str, float]]:
    """Median of each figure, by name of the way."""
    tests: list[Callable[[Hop], dict[str, float]]] = [small_frames, bulk]
    figures: dict[str, dict[str, list[float]]] = {way.name: {} for way in ways}
    for number in range(rounds + 1):
        for way in ways:
            for test in tests:
                for column, figure in test(way).items():
                    if number:  # the first round warms up
                        figures[way.name].setdefault(column, []).append(figure)
    return {
        name: {column: statistics.median(values) for column, values in columns.items()}
        for name, columns in figures.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    toxiproxy = shutil.which("toxiproxy-server") or (str(BUILT) if BUILT.exists() else None)
    with ExitStack() as stack:
        ways = [stack.enter_context(hop("no proxy", None))]
        if toxiproxy:
            ways.append(stack.enter_context(hop("toxiproxy", [toxiproxy])))
        else:
            print("toxiproxy-server is neither on PATH nor in .tools/bin: `make toxiproxy` builds it")
        embedded = [sys.executable, "-m", "chaos.proxy"]
        ways.append(stack.enter_context(hop("embedded", embedded)))
        ways.append(stack.enter_context(hop("with a rule", [*embedded, *VIEW], rule=True)))
        figures = measure(ways, rounds)
    print(f"{'':12}" + "".join(f"{column:>14}" for column in COLUMNS))
    for name, row in figures.items():
        print(f"{name:12}" + "".join(f"{row[column]:14.2f}" for column in COLUMNS))
    print(f"one frame of {len(FRAME)} bytes at a time, then {BULK_MB} MB; medians of {rounds} rounds, each")
    print("through all in turn; times include the row `no proxy`. No toxics, but in the last row a rule that")
    print(f"reads every message and never matches, with {RULE_MB} MB")


if __name__ == "__main__":
    main()

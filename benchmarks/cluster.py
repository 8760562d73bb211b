"""What several nodes on one broker cost: CPU a delivery and added latency for 1, 2 and 4 of them.

    python -m benchmarks.cluster [--quick]

The same subscribers, spread evenly, hear one channel; all that is published goes in at the first node.
References in the same run: a chatd without a broker, and Centrifugo and its engine with as many nodes on a
Valkey too. All servers share one core, clients have the other, so CPU means something and rates do not: the
machine is no larger with four nodes than with one. CPU is that of all nodes together; the broker's own stands
beside it, a message.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import report, servers
from .report import Bench, Figures, Row, medians
from .servers import Missing, Server
from .swarm import Member, Stalled, Swarm, quantile_ms, raise_file_limit, stamp

OUT = Path(__file__).with_suffix(".json")
SUBSCRIBERS = 480
RATE = 500  # messages a second
CHANNEL = "room:1"
TIMED = 10  # one subscriber in so many reads the time
NODES = (1, 2, 4)
REST_S = 0.01  # of silence between two messages at rest
QUIET_S = 10.0  # without an answer


@dataclass(eq=False)
class Cluster:
    """Nodes that are one chat, subscribers on all, a publisher on the first. ``broker``: None where alone."""

    name: str
    nodes: Sequence[Server]
    broker: Server | None

    def open(self) -> None:
        self.swarm, self.others = Swarm(), Swarm()
        share = SUBSCRIBERS // len(self.nodes)
        for node in self.nodes:
            joined = self.swarm.join(node.port, [node.join([CHANNEL], "subscriber")] * share)
            for number, member in enumerate(joined):
                member.timed = number % TIMED == 0
        first = self.nodes[0]
        self.publisher: Member = self.others.join(first.port, [first.speak("publisher")])[0]
        self.publisher.sock.setblocking(True)

    def close(self) -> None:
        self.swarm.close()
        self.others.close()

    def publish(self) -> None:
        request = self.nodes[0].publish(CHANNEL, [stamp(time.monotonic_ns())])
        self.publisher.sock.sendall(request)

    def await_all(self, messages: int) -> None:
        """Until every subscriber has so many messages, counted from the beginning."""
        due = time.monotonic() + QUIET_S
        while self.swarm.messages < messages * SUBSCRIBERS:
            if self.swarm.poll(0.1):
                due = time.monotonic() + QUIET_S
            elif time.monotonic() > due:
                raise Stalled(f"{self.name}: {self.swarm.messages} of {messages * SUBSCRIBERS} deliveries")
        self.others.poll(0)

    @property
    def received(self) -> int:
        return self.swarm.messages // SUBSCRIBERS

    def cpu_ns(self) -> tuple[int, int]:
        """Of all nodes, and of the broker, so far."""
        return sum(node.cpu_ns() for node in self.nodes), self.broker.cpu_ns() if self.broker else 0


def under_load(cluster: Cluster, seconds: float) -> Figures:
    """Offer ``RATE`` messages a second, evenly."""
    swarm, began = cluster.swarm, cluster.received
    swarm.late_ns.clear()
    before, start, sent = cluster.cpu_ns(), time.monotonic(), 0
    while (now := time.monotonic()) < start + seconds:
        if int((now - start) * RATE) > sent:
            cluster.publish()
            sent += 1
            cluster.others.poll(0)
        swarm.poll(0.0005)
    cluster.await_all(began + sent)
    return _figures(cluster, before, sent)


def at_rest(cluster: Cluster, messages: int) -> Figures:
    """One message at a time: the next comes when all have had the last, and a little later."""
    swarm, began, before = cluster.swarm, cluster.received, cluster.cpu_ns()
    swarm.late_ns.clear()
    for number in range(1, messages + 1):
        cluster.publish()
        cluster.await_all(began + number)
        quiet = time.monotonic() + REST_S
        while (left := quiet - time.monotonic()) > 0:
            swarm.poll(left)
    return _figures(cluster, before, messages)


def _figures(cluster: Cluster, before: tuple[int, int], messages: int) -> Figures:
    nodes_ns, broker_ns = (now - then for now, then in zip(cluster.cpu_ns(), before, strict=True))
    figures = {
        "CPU µs/delivery": nodes_ns / 1e3 / (messages * SUBSCRIBERS),
        "p50 ms": quantile_ms(cluster.swarm.late_ns, 0.5),
        "p99 ms": quantile_ms(cluster.swarm.late_ns, 0.99),
    }
    return figures | ({"broker µs/message": broker_ns / 1e3 / messages} if cluster.broker else {})


@contextmanager
def started(
    name: str, count: int, *, other: Callable[[str], Server] | None = None, alone: bool = False
) -> Iterator[Cluster]:
    """A fresh broker and nodes. Raises ``Missing`` where a program is not there.

    ``other`` makes a node that is no chatd, given HOST:PORT of the broker.
    """
    begun: list[Server] = []
    try:
        broker = None if alone else servers.valkey()
        if broker is not None:
            begun.append(broker)
            broker.launch()
            broker.await_port()
        nodes: list[Server] = []
        for number in range(1, count + 1):
            if other is not None:
                assert broker is not None
                nodes.append(other(f"127.0.0.1:{broker.port}"))
            elif broker is None:
                nodes.append(servers.chatd())
            else:
                url = f"valkey://127.0.0.1:{broker.port}/0"
                # They come to one node after the other: no node is to send them away meanwhile.
                nodes.append(servers.chatd(store=url, node=f"n{number}", rebalance=False))
            begun.append(nodes[-1])
            nodes[-1].launch()
        for node in nodes:
            node.await_port()
        cluster = Cluster(name, nodes, broker)
        cluster.open()
        try:
            yield cluster
        finally:
            cluster.close()
    finally:
        for server in begun:
            server.discard()


def rows(bench: Bench) -> list[Row]:
    loaded = Row("cluster_load", f"{SUBSCRIBERS} subscribers, {RATE} messages/s into the first node")
    quiet = Row("cluster_rest", f"{SUBSCRIBERS} subscribers, one message at a time into the first node")
    plans: list[tuple[str, int, Callable[[str], Server] | None, bool]] = [("chatd, no broker", 1, None, True)]
    for count in NODES:
        plans.append((f"chatd × {count}", count, None, False))
        plans.append((f"centrifuge × {count}", count, servers.centrifuge, False))
        plans.append((f"centrifugo × {count}", count, servers.centrifugo, False))
    load: dict[str, list[Figures]] = {}
    rest: dict[str, list[Figures]] = {}
    skipped: list[str] = []
    rounds = bench.rounds(3)
    for number in range(1, rounds + 1):
        for name, count, other, alone in plans:
            bench.say(f"round {number} of {rounds}: {name}")
            try:
                with started(name, count, other=other, alone=alone) as cluster:
                    at_rest(cluster, 20)  # warm up
                    load.setdefault(name, []).append(under_load(cluster, 1.0 if bench.quick else 3.0))
                    rest.setdefault(name, []).append(at_rest(cluster, 30 if bench.quick else 100))
            except Missing as missing:
                if number == 1:
                    skipped.append(f"skipped: {name}: {missing}")
    for row, taken in ((loaded, load), (quiet, rest)):
        row.figures, row.skipped = medians(taken), skipped
    _judge(loaded, quiet)
    return [loaded, quiet]


def _judge(loaded: Row, quiet: Row) -> None:
    cpu = "CPU µs/delivery"
    for count in NODES:
        own, other = f"chatd × {count}", f"centrifuge × {count}"
        loaded.at_most(f"× {count}: ≤ 1.0 × centrifuge, CPU", loaded.ratio(cpu, own, other), 1.0)
        quiet.at_most(f"× {count}: ≤ 1.5 × centrifuge, p99", quiet.ratio("p99 ms", own, other), 1.5)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short round; the figures mean little")
    parser.add_argument("--out", type=Path, help=f"where the JSON goes; a whole run's goes to {OUT.name}")
    arguments = parser.parse_args()
    raise_file_limit()
    os.sched_setaffinity(0, {servers.CLIENT_CPU})
    gc.disable()  # a collection among many sockets would be part of what is measured
    bench = Bench(arguments.quick, lambda text: print(f"… {text}", file=sys.stderr, flush=True))
    try:
        found = rows(bench)
    except Stalled as stalled:
        print(f"failed: {stalled}", file=sys.stderr)
        return 1
    print("\n".join(report.show(row) for row in found))
    out = arguments.out or (None if arguments.quick else OUT)
    if out is not None:
        versions = report.versions(servers.CENTRIFUGES)
        report.write(out, found, quick=arguments.quick, versions=versions)
        print(f"written to {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

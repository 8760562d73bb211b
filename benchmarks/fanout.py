"""Fan-out: what one delivery costs, under load and at rest.

Every server has the same subscribers and is offered the same messages, at a rate or, if it cannot keep
up, as fast as it delivers. CPU is that of the whole server process, the publisher's requests
included, over all deliveries.

The floor writes finished bytes to the same kind of transport, once per connection. Under load it
gets as many messages per write as chatd had in that round.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from . import servers
from .report import Bench, Figures, Row, medians
from .servers import Chatd, Relay, Server
from .swarm import Member, Stalled, Swarm, quantile_ms, stamp

SUBSCRIBERS = 500
RATE = 2000  # messages a second: a million deliveries
TIMED = 20  # one subscriber in so many reads the time
CHANNEL = "room:1"
REST_S = 0.005  # of silence between two messages at rest

MAKERS = (
    servers.floor,
    lambda: servers.chatd(),
    lambda: servers.chatd(store="sqlite", name="chatd, sqlite"),
    servers.nats,
    servers.centrifuge,
    servers.centrifugo,
    servers.websockets,
    servers.node_ws,
    servers.socketio,
)


class Stage:
    """One server with its subscribers and a publisher."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.swarm = Swarm()
        script = server.join([CHANNEL], "subscriber")
        for number, member in enumerate(self.swarm.join(server.port, [script] * SUBSCRIBERS)):
            member.timed = number % TIMED == 0
        self.others = Swarm()
        self.publisher: Member = self.others.join(server.port, [server.speak("publisher")])[0]
        self.publisher.sock.setblocking(True)

    def publish(self, count: int) -> None:
        stamps = [stamp(time.monotonic_ns())] * count
        self.publisher.sock.sendall(self.server.publish(CHANNEL, stamps))

    def await_all(self, messages: int) -> None:
        """Until every subscriber has so many messages, counted from the stage's beginning."""
        due = time.monotonic() + 10
        while self.swarm.messages < messages * SUBSCRIBERS:
            if self.swarm.poll(0.1):
                due = time.monotonic() + 10
            elif time.monotonic() > due:
                raise Stalled(f"{self.server.name} delivered {self.swarm.messages} messages only")
        self.others.poll(0)

    @property
    def received(self) -> int:
        return self.swarm.messages // SUBSCRIBERS

    def close(self) -> None:
        self.swarm.close()
        self.others.close()


def _under_load(stage: Stage, seconds: float, batch: int) -> Figures:
    """Offer ``RATE`` messages a second, ``batch`` at a time."""
    swarm, began = stage.swarm, stage.received
    swarm.late_ns.clear()
    client_ns, cpu_ns, start = time.process_time_ns(), stage.server.cpu_ns(), time.monotonic()
    sent, end = 0, start + seconds
    while (now := time.monotonic()) < end:
        due = min(int((now - start) * RATE), stage.received - began + stage.server.ahead) - sent
        if due >= batch:
            stage.publish(batch)
            sent += batch
            stage.others.poll(0)
        swarm.poll(0.0005)
    stage.await_all(began + sent)
    took, deliveries = time.monotonic() - start, sent * SUBSCRIBERS
    return {
        "CPU µs/delivery": (stage.server.cpu_ns() - cpu_ns) / 1e3 / deliveries,
        "deliveries/s": deliveries / took,
        "p50 ms": quantile_ms(swarm.late_ns, 0.5),
        "p99 ms": quantile_ms(swarm.late_ns, 0.99),
        "client CPU": (time.process_time_ns() - client_ns) / 1e9 / took,
    }


def _at_rest(stage: Stage, messages: int) -> Figures:
    """One message at a time: the next comes when all have had the last, and a little later."""
    swarm, began = stage.swarm, stage.received
    swarm.late_ns.clear()
    cpu_ns = stage.server.cpu_ns()
    for number in range(1, messages + 1):
        stage.publish(1)
        stage.await_all(began + number)
        quiet = time.monotonic() + REST_S
        while (left := quiet - time.monotonic()) > 0:
            swarm.poll(left)
    return {
        "CPU µs/delivery": (stage.server.cpu_ns() - cpu_ns) / 1e3 / (messages * SUBSCRIBERS),
        "p50 ms": quantile_ms(swarm.late_ns, 0.5),
        "p99 ms": quantile_ms(swarm.late_ns, 0.99),
    }


def _load_round(stages: Sequence[Stage], seconds: float) -> dict[str, Figures]:
    figures: dict[str, Figures] = {}
    batch = 10.0
    for stage in sorted(stages, key=lambda one: isinstance(one.server, Relay) and one.server.raw):
        raw = isinstance(stage.server, Relay) and stage.server.raw
        chatd = stage.server if isinstance(stage.server, Chatd) else None
        before = chatd.figure("chatd_deliveries_total", "chatd_writes_total") if chatd else []
        figures[stage.server.name] = _under_load(stage, seconds, max(1, round(batch)) if raw else 1)
        if raw:
            figures[stage.server.name]["frames/write"] = max(1, round(batch))
        if chatd:
            after = chatd.figure("chatd_deliveries_total", "chatd_writes_total")
            per_write = (after[0] - before[0]) / (after[1] - before[1])
            figures[stage.server.name]["frames/write"] = per_write
            if chatd.name == "chatd":
                batch = per_write
    return figures


def rows(bench: Bench, *, load: bool = True, rest: bool = True) -> list[Row]:
    """Both rows, on the same servers."""
    loaded = Row("fanout_load", f"fan-out under load: {SUBSCRIBERS} subscribers, {RATE:,} messages/s offered")
    quiet = Row("fanout_rest", f"fan-out at rest: {SUBSCRIBERS} subscribers, one message at a time")
    skipped: list[str] = []
    taken: dict[str, dict[str, list[Figures]]] = {"load": {}, "rest": {}}
    with servers.running(MAKERS, skipped.append) as running:
        stages = [Stage(server) for server in running]
        for stage in stages:  # warm up
            _at_rest(stage, 10)
        rounds = bench.rounds(3)
        for number in range(1, rounds + 1):
            bench.say(f"fan-out, round {number} of {rounds}")
            if load:
                for name, figures in _load_round(stages, 1.0 if bench.quick else 2.0).items():
                    taken["load"].setdefault(name, []).append(figures)
            for stage in stages if rest else ():
                taken["rest"].setdefault(stage.server.name, []).append(
                    _at_rest(stage, 30 if bench.quick else 80)
                )
        order = [stage.server.name for stage in stages]
        for stage in stages:
            stage.close()
    for row, part in ((loaded, "load"), (quiet, "rest")):
        found = medians(taken[part])
        row.figures = {name: found[name] for name in order if name in found}
        row.skipped = skipped
    if load:
        _judge_load(loaded)
    if rest:
        _judge_rest(quiet)
    return [row for row, wanted in ((loaded, load), (quiet, rest)) if wanted]


def _judge_load(row: Row) -> None:
    cpu = "CPU µs/delivery"
    row.at_most("≤ 1.3 × floor", row.ratio(cpu, "chatd", "floor"), 1.3)
    row.at_most("≤ 1.0 µs", row.figures["chatd"][cpu], 1.0)
    row.at_most("≤ 1.5 × nats-server", row.ratio(cpu, "chatd", "nats-server"), 1.5)
    row.at_most("≤ 1.0 × centrifuge (Centrifugo's engine)", row.ratio(cpu, "chatd", "centrifuge"), 1.0)


def _judge_rest(row: Row) -> None:
    row.at_most("≤ 1.25 × floor, CPU", row.ratio("CPU µs/delivery", "chatd", "floor"), 1.25)
    added = row.figures["chatd"]["p50 ms"] - row.figures["floor"]["p50 ms"]
    row.at_most("added latency ≤ 1 ms, at p50", added, 1.0)

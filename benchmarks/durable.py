"""Durable publish: how many messages a second are placed, flushed to disk and acknowledged.

A hundred connections keep a window of requests open. The references: what sqlite itself takes from
one thread that does nothing else, and nats-server's JetStream, told to flush before it answers. Every
ack echoes the id of its message, which here holds the stamp.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from . import servers
from .report import Bench, Figures, Row, Target, medians
from .servers import BODY, Chatd, Nats, Server, masked, pinned
from .swarm import Member, Stalled, Step, Swarm, quantile_ms, stamp

PUBLISHERS = 100
CHANNELS = 20
WINDOW = 64  # requests of one connection without an answer
BURST = 16  # requests that one write carries, when there is room for them
PACED = 10_000  # messages a second, for the latency of an ack
BEHIND = 10_000  # without an answer, before more would only be refused; they are timed from when due
DATA = b'"%b"' % (b"x" * BODY)
PADDING = (
    b"-" * 30
)  # keeps an ack longer than 125 bytes: the length's byte in the frame is then never the mark
CREATE = b'{"name":"S","subjects":["c.*"],"storage":"file","retention":"limits","discard":"old"}'


class Publishers:
    """The connections of one server, each with its own channel and ids."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.swarm = Swarm()
        scripts = [self._script(number) for number in range(PUBLISHERS)]
        self.members = self.swarm.join(server.port, scripts)
        self._number = {member: number for number, member in enumerate(self.members)}
        self._sent = 0
        self.swarm.on_messages = self._answered
        self.refill = False

    def _script(self, number: int) -> list[Step]:
        if isinstance(self.server, Nats):
            create = b"PUB $JS.API.STREAM.CREATE.S made %d\r\n%b\r\n" % (len(CREATE), CREATE)
            hello = b'CONNECT {"verbose":false}\r\nSUB made 1\r\nSUB a.%d.* 2\r\n' % number
            return (
                [Step(hello + create, b'"config"')] if number == 0 else [Step(hello + b"PING\r\n", b"PONG")]
            )
        return self.server.join((), f"p{number}")

    def _requests(self, member: Member, stamps: Sequence[bytes]) -> bytes:
        number = self._number[member]
        first, self._sent = self._sent + 1, self._sent + len(stamps)
        channel = number % CHANNELS
        if isinstance(self.server, Nats):
            return b"".join(
                b"PUB c.%d a.%d.%b %d\r\n%b\r\n" % (channel, number, mark, len(DATA), DATA) for mark in stamps
            )
        return b"".join(
            masked(
                b'{"type":"publish","id":%d,"channel":"room:%d","message":"%d%b%b","data":%b}'
                % (one, channel, one, mark, PADDING, DATA)
            )
            for one, mark in enumerate(stamps, first)
        )

    def send(self, member: Member, stamps: Sequence[bytes]) -> None:
        member.load += len(stamps)
        member.sock.setblocking(True)
        member.sock.sendall(self._requests(member, stamps))
        member.sock.setblocking(False)

    def _answered(self, member: Member, count: int) -> None:
        member.load -= count
        if self.refill and (room := WINDOW - member.load) >= BURST:
            self.send(member, [stamp(time.monotonic_ns())] * room)

    def drain(self) -> None:
        self.refill, due = False, time.monotonic() + 10
        while left := sum(member.load for member in self.members):
            if not self.swarm.poll(0.1) and time.monotonic() > due:
                nacks = self.server.figure("chatd_nacks_total") if isinstance(self.server, Chatd) else "?"
                raise Stalled(f"{self.server.name} left {left} publishes without an ack; refused: {nacks}")

    def saturate(self, seconds: float) -> Figures:
        """As many as it takes, with every window open; from the first request to the last ack."""
        swarm, acked = self.swarm, self.swarm.messages
        start, cpu_ns, client_ns = time.monotonic(), self.server.cpu_ns(), time.process_time_ns()
        self.refill = True
        for member in self.members:
            member.timed = False
            self.send(member, [stamp(time.monotonic_ns())] * WINDOW)
        while time.monotonic() < start + seconds:
            swarm.poll(0.01)
        self.drain()
        took, acked = time.monotonic() - start, swarm.messages - acked
        cpu_us, client_s = (self.server.cpu_ns() - cpu_ns) / 1e3, (time.process_time_ns() - client_ns) / 1e9
        return {"acked/s": acked / took, "CPU µs/message": cpu_us / acked, "client CPU": client_s / took}

    def pace(self, seconds: float) -> Figures:
        """``PACED`` a second, one at a time, over all connections in turn; acks are timed from when due."""
        swarm, members = self.swarm, self.members
        for member in members:
            member.timed = True
        swarm.late_ns.clear()
        start, sent, total = time.monotonic_ns(), 0, int(PACED * seconds)
        while sent < total:
            due = min(total, (time.monotonic_ns() - start) * PACED // 1_000_000_000)
            due = min(due, sent + BEHIND - sum(member.load for member in members))
            while sent < due:
                self.send(members[sent % PUBLISHERS], [stamp(start + sent * 1_000_000_000 // PACED)])
                sent += 1
                if sent % 32 == 0:
                    swarm.poll(0)
            swarm.poll(0.0005)
        self.drain()
        return {
            f"p50 ack ms at {PACED:,}/s": quantile_ms(swarm.late_ns, 0.5),
            f"p99 ack ms at {PACED:,}/s": quantile_ms(swarm.late_ns, 0.99),
        }


def _sqlite_alone(batch: int, seconds: float) -> Figures:
    """One thread that inserts ``batch`` rows a commit, as durable as chatd's store."""
    with tempfile.TemporaryDirectory(prefix="bench-") as home, pinned(servers.SERVER_CPU):
        db = sqlite3.connect(Path(home) / "log.db", isolation_level=None)
        db.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
            "CREATE TABLE log (channel INTEGER, serial INTEGER, time INTEGER, message TEXT, data BLOB);"
            "CREATE UNIQUE INDEX place ON log (channel, serial);"
        )
        rows, start, cpu_ns = 0, time.monotonic(), time.process_time_ns()
        took_ns: list[int] = []
        while time.monotonic() < start + seconds:
            db.execute("BEGIN IMMEDIATE")
            db.executemany(
                "INSERT INTO log VALUES (?, ?, ?, ?, ?)",
                [(1, rows + n, 1_790_000_000_000, f"p1:{rows + n}", DATA) for n in range(batch)],
            )
            before = time.monotonic_ns()
            db.execute("COMMIT")
            took_ns.append(time.monotonic_ns() - before)
            rows += batch
        took, cpu_us = time.monotonic() - start, (time.process_time_ns() - cpu_ns) / 1e3
        db.close()
    return {
        "acked/s": rows / took,
        "CPU µs/message": cpu_us / rows,
        "p50 commit ms": quantile_ms(took_ns, 0.5),
        "p99 commit ms": quantile_ms(took_ns, 0.99),
    }


def rows(bench: Bench) -> list[Row]:
    """chatd saturated and paced, beside JetStream and sqlite alone."""
    row = Row("durable", f"durable publish: acked after a flush, {PUBLISHERS} pipelining connections")
    taken: dict[str, list[Figures]] = {}
    seconds = 1.0 if bench.quick else 3.0
    makers = (lambda: servers.chatd(store="sqlite", dedupe_s=30), lambda: servers.nats(jetstream=True))
    with servers.running(makers, row.skipped.append) as running:
        publishers = [Publishers(server) for server in running]
        for one in publishers:
            one.saturate(0.2)  # warm up
        rounds = bench.rounds(3)
        for number in range(1, rounds + 1):
            bench.say(f"durable publish, round {number} of {rounds}")
            for one in publishers:
                figures = one.saturate(seconds)
                if isinstance(one.server, Chatd):
                    figures |= one.pace(seconds)
                taken.setdefault(one.server.name, []).append(figures)
            for batch in (100, 1000):
                name = f"sqlite alone, {batch:,} rows a commit"
                taken.setdefault(name, []).append(_sqlite_alone(batch, seconds / 2))
        for one in publishers:
            one.swarm.close()
    row.figures = medians(taken)
    mine = row.figures["chatd"]
    row.targets.append(Target("≥ 40,000 acked/s", mine["acked/s"], 40_000, least=True))
    row.at_most("p99 ack < 20 ms at 10,000/s", mine[f"p99 ack ms at {PACED:,}/s"], 20.0)
    return [row]

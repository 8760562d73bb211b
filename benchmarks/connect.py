"""Coming back: what a connection costs that logs in and resumes, and how long a whole node takes.

``connect``: TCP, upgrade, token, and ten channels resumed from a position with nothing missed. CPU of
the server, to the last channel's answer.

``comeback``: the server is killed and started again; thousands of clients notice, and each dials by
the rule that chatd's clients follow (full jitter, 250 ms doubling up to 4 s).
"""

from __future__ import annotations

import heapq
import random
import re
import time

from . import servers
from .report import Bench, Figures, Row, medians
from .servers import Centrifuge, Chatd
from .swarm import Member, Stalled, Swarm, stamp

CHANNELS = [f"room:{n}" for n in range(1, 401)]
EACH = 10  # channels of one client
HISTORY = 5  # messages of each channel
ARRIVALS = 1000
CLIENTS = 8000
RETRY_S = (0.25, 4.0)
_LIVE = re.compile(rb'"live","channel":"([^"]+)","position":\["([^"]+)",(\d+)\]')
_SUBSCRIBED = re.compile(rb'"id":(\d+),"subscribe":\{([^}]*)')
_EPOCH, _OFFSET = re.compile(rb'"epoch":"([^"]+)"'), re.compile(rb'"offset":(\d+)')


def channels_of(number: int) -> list[str]:
    """Neighbours share most of their channels, and all channels have members."""
    return [CHANNELS[(number * 3 + n) % len(CHANNELS)] for n in range(EACH)]


class Rooms:
    """Keeps every channel open on one server, with a little history, and knows their positions."""

    def __init__(self, server: Chatd | Centrifuge) -> None:
        self.server = server
        self.swarm = Swarm()
        self._fill()
        self.learn()

    def _fill(self) -> None:
        publisher = self.swarm.join(self.server.port, [self.server.speak("publisher")])[0]
        publisher.sock.setblocking(True)
        reader = self.swarm.join(self.server.port, [self.server.join(CHANNELS[:200], "r1")])
        reader += self.swarm.join(self.server.port, [self.server.join(CHANNELS[200:], "r2")])
        for name in CHANNELS:
            marks = [stamp(time.monotonic_ns())] * HISTORY
            publisher.sock.sendall(self.server.publish(name, marks))
            self.swarm.poll(0)
        due = time.monotonic() + 20
        while self.swarm.messages < HISTORY * len(CHANNELS):
            self.swarm.poll(0.1)
            if time.monotonic() > due:
                raise Stalled(f"{self.server.name} delivered {self.swarm.messages} messages only")
        for member in (publisher, *reader):
            self.swarm.drop(member)

    def learn(self) -> None:
        """Subscribe to all, and stay."""
        for half in (CHANNELS[:200], CHANNELS[200:]):
            (member,) = self.swarm.join(self.server.port, [self.server.join(half, "holder")])
            if isinstance(self.server, Chatd):
                for name, epoch, serial in _LIVE.findall(member.seen):
                    self.server.positions[name.decode()] = (epoch.decode(), int(serial))
            else:
                for number, answer in _SUBSCRIBED.findall(member.seen):
                    (epoch,), (offset,) = _EPOCH.findall(answer), _OFFSET.findall(answer)
                    self.server.positions[half[int(number) - 2]] = (epoch.decode(), int(offset))
        if set(self.server.positions) != set(CHANNELS):
            raise Stalled(f"{self.server.name} told {len(self.server.positions)} positions")


def _arrive(rooms: Rooms, count: int) -> Figures:
    """``count`` clients come; then they go, after the clock has stopped."""
    server, swarm = rooms.server, Swarm()
    scripts = [server.join(channels_of(n), f"u{n}", resume=True) for n in range(count)]
    cpu_ns, start = server.cpu_ns(), time.monotonic()
    swarm.join(server.port, scripts)
    took, cpu_ns = time.monotonic() - start, server.cpu_ns() - cpu_ns
    swarm.close()
    used = -1
    while (now := server.cpu_ns()) - used > 1_000_000:  # until the server is done with their leaving
        used = now
        time.sleep(0.1)
    return {"CPU µs/client": cpu_ns / 1e3 / count, "clients/s": count / took}


def rows(bench: Bench) -> list[Row]:
    row = Row("connect", f"connect, log in, resume {EACH} channels")
    taken: dict[str, list[Figures]] = {}
    makers = (
        lambda: servers.chatd(store="sqlite", auth=True, channels=len(CHANNELS)),
        servers.centrifuge,
        servers.centrifugo,
    )
    with servers.running(makers, row.skipped.append) as running:
        stages = [Rooms(server) for server in running if isinstance(server, Chatd | Centrifuge)]
        rounds = bench.rounds(3)
        for number in range(rounds + 1):
            bench.say(f"connect, round {number} of {rounds}")
            for stage in stages:
                figures = _arrive(stage, ARRIVALS if number else 100)  # the first warms up
                if number:
                    taken.setdefault(stage.server.name, []).append(figures)
        for stage in stages:
            stage.swarm.close()
    row.figures = medians(taken)
    row.at_most("≤ 400 µs", row.figures["chatd"]["CPU µs/client"], 400)
    row.at_most(
        "≤ 2 × centrifuge (Centrifugo's engine)", row.ratio("CPU µs/client", "chatd", "centrifuge"), 2.0
    )
    return [row]


class Comeback:
    """Clients that dial again by themselves."""

    def __init__(self, server: Chatd, count: int) -> None:
        self.server = server
        self.count = count
        self.back = 0
        self.swarm = Swarm()
        self._rng = random.Random(1)
        self._agenda: list[tuple[float, int]] = []
        self._number: dict[Member, int] = {}
        self._attempts = [0] * count
        scripts = [server.join(channels_of(n), f"u{n}", resume=True) for n in range(count)]
        self._scripts = scripts
        for number, member in enumerate(self.swarm.join(server.port, scripts, timeout_s=60)):
            self._number[member] = number
        self.swarm.on_lost = self._lost
        self.swarm.on_joined = self._joined

    def _joined(self, member: Member) -> None:
        self.back += 1

    def _lost(self, member: Member) -> None:
        number = self._number.pop(member)
        wait = self._rng.uniform(0, min(RETRY_S[1], RETRY_S[0] * 2 ** self._attempts[number]))
        self._attempts[number] += 1
        heapq.heappush(self._agenda, (time.monotonic() + wait, number))

    def turn(self) -> None:
        """Dial who is due, then see to the sockets."""
        for _ in range(64):
            if not self._agenda or self._agenda[0][0] > time.monotonic():
                break
            number = heapq.heappop(self._agenda)[1]
            self._number[self.swarm.dial(self.server.port, self._scripts[number])] = number
        self.swarm.poll(0.002)

    def run(self) -> Figures:
        """Kill the server, start it, wait for everybody."""
        self.server.stop()
        killed, up, due = time.monotonic(), 0.0, time.monotonic() + 60
        self.server.launch()
        start_ns = self.server.cpu_ns()
        while self.back < self.count:
            self.turn()
            if not up and self.back:
                up = time.monotonic()
            if time.monotonic() > due:
                raise Stalled(f"{self.count - self.back} of {self.count} clients are not back")
        ended = time.monotonic()
        return {
            "s to all back": ended - killed,
            "s since the first": ended - up,
            "CPU s of the server": (self.server.cpu_ns() - start_ns) / 1e9,
            "attempts/client": sum(self._attempts) / self.count,
        }


def comeback(bench: Bench) -> list[Row]:
    """All clients of a node, after kill -9."""
    count = CLIENTS // 8 if bench.quick else CLIENTS
    row = Row("comeback", f"{count:,} clients with {EACH} channels come back after kill -9 and a start")
    make = lambda: servers.chatd(store="sqlite", auth=True, channels=len(CHANNELS), retry_ms=[250, 4000])  # noqa: E731
    with servers.running([make], row.skipped.append) as running:
        for server in running:
            assert isinstance(server, Chatd)
            rooms = Rooms(server)
            rooms.swarm.close()
            bench.say(f"{count:,} clients connect")
            crowd = Comeback(server, count)
            bench.say("the server is killed and started again")
            row.figures[server.name] = crowd.run()
            crowd.swarm.on_lost = None
            crowd.swarm.close()
    row.at_most(
        f"{count:,} clients back < 10 s after the restart", row.figures["chatd"]["s to all back"], 10.0
    )
    return [row]

"""Slow consumers: what they cost the others, and how much memory each takes.

Two channels of one chatd, with as many subscribers, get the same messages in the same seconds. On one
of them a few subscribers read slowly and a few read nothing; the other one is the control group.
"""

from __future__ import annotations

import time

from . import servers
from .report import Bench, Figures, Row, medians
from .servers import Chatd
from .swarm import Stalled, Swarm, quantile_ms, stamp

SUBSCRIBERS = 500  # of each channel
SLOW, STALLED = 10, 5  # among them
RATE = 50  # messages a second, on each channel
BODY = 5000  # bytes of each
RECEIVE_BYTES = 4096  # what the kernel keeps for a bad one, so that chatd notices soon
SIP, SIP_S = 8 * 1024, 0.25  # what a slow one reads, and how often: a ninth of what comes
TIMED = 10
NAMES = ("beside slow ones", "control group")


class Groups:
    """The subscribers of both channels, the bad ones apart, and a publisher."""

    def __init__(self, server: Chatd) -> None:
        server.body_bytes = BODY
        self.server = server
        self.good = (Swarm(), Swarm())
        for n, swarm in enumerate(self.good):
            count = SUBSCRIBERS - (SLOW + STALLED if n == 0 else 0)
            script = server.join([f"room:{n}"], "subscriber")
            for number, member in enumerate(swarm.join(server.port, [script] * count)):
                member.timed = number % TIMED == 0
        self.bad = Swarm()
        self.bad.receive_bytes = RECEIVE_BYTES
        script = server.join(["room:0"], "slow")
        self.sippers = self.bad.join(server.port, [script] * (SLOW + STALLED))[:SLOW]
        self.others = Swarm()
        self.publisher = self.others.join(server.port, [server.speak("publisher")])[0]
        self.publisher.sock.setblocking(True)
        self._sip_at = 0.0

    def run(self, seconds: float) -> None:
        """Publish on both channels at ``RATE``, read, and sip."""
        start, sent = time.monotonic(), 0
        while (now := time.monotonic()) < start + seconds:
            if sent < (now - start) * RATE:
                rooms = ["room:0", "room:1"] if sent % 2 else ["room:1", "room:0"]
                mark = [stamp(time.monotonic_ns())]
                self.publisher.sock.sendall(b"".join(self.server.publish(room, mark) for room in rooms))
                sent += 1
            for swarm in self.good:
                swarm.poll(0)
            self.others.poll(0.0005)
            if now > self._sip_at:
                self._sip_at = now + SIP_S
                self._sip()

    def _sip(self) -> None:
        for member in self.sippers:
            try:
                if not member.sock.recv(SIP):
                    raise Stalled("chatd hung up on a slow consumer")
            except BlockingIOError:
                pass

    def close(self) -> None:
        for swarm in (*self.good, self.bad, self.others):
            swarm.close()


def rows(bench: Bench) -> list[Row]:
    bad = SLOW + STALLED
    row = Row(
        "slow",
        f"slow consumers: {SLOW} read slowly and {STALLED} nothing among {SUBSCRIBERS}; control beside",
    )
    taken: dict[str, list[Figures]] = {name: [] for name in NAMES}
    waiting: list[float] = []
    with servers.running([lambda: servers.chatd(store="sqlite")], row.skipped.append) as running:
        server = running[0]
        assert isinstance(server, Chatd)
        groups = Groups(server)
        bench.say("slow consumers fall behind")
        groups.run(4.0)
        rounds = bench.rounds(5)
        for number in range(1, rounds + 1):
            bench.say(f"slow consumers, round {number} of {rounds}")
            for swarm in groups.good:
                swarm.late_ns.clear()
            groups.run(2.0)
            for name, swarm in zip(NAMES, groups.good, strict=True):
                taken[name].append({f"p{q * 100:g} ms": quantile_ms(swarm.late_ns, q) for q in (0.5, 0.99)})
            slow, bytes_ = server.figure("chatd_slow_consumers", "chatd_queue_bytes")
            if slow < bad:
                row.skipped.append(f"only {slow:g} of {bad} were behind in round {number}")
            waiting.append(bytes_ / bad / 1024)
        groups.close()
    row.figures = medians(taken)
    row.figures[NAMES[0]]["KiB waiting for each"] = max(waiting)
    beside, control = (row.figures[name]["p99 ms"] for name in NAMES)
    row.at_most("p99 ≤ 1.5 × control group", beside / control, 1.5)
    row.at_most("p99 ≤ control group + 5 ms", beside - control, 5.0)
    row.at_most("≤ 64 KiB in user space for each", max(waiting), 64.0)
    return [row]

"""Many client sockets in one thread, cheap enough that the server is the limit.

No frame is decoded. Every message carries one ``MARK``, a byte that stands nowhere else in what
servers send, followed by 16 hexadecimal digits: when it was due (ns, monotonic). So counting
messages is counting a byte, wherever reads cut the stream; only a few sockets read the time.
"""

from __future__ import annotations

import resource
import select
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle

MARK = b"|"
STAMP = 16  # hexadecimal digits after the mark
SOURCES = tuple(f"127.0.0.{n}" for n in range(2, 18))  # one address has 28,000 ports
READ = 256 * 1024
EVENTS = 64  # handled before whoever publishes gets a turn
DIAL = 64  # sockets that join at once


@dataclass(frozen=True)
class Step:
    """Send ``data``, then wait until ``until`` has been seen ``count`` times."""

    data: bytes
    until: bytes
    count: int = 1


class Stalled(Exception):
    """The server did not answer in time, or hung up. The text says where."""


@dataclass(eq=False, slots=True)
class Member:
    """One socket."""

    sock: socket.socket
    steps: Iterator[Step] = field(default_factory=lambda: iter(()))
    step: Step | None = None
    seen: bytes = b""
    began_ns: int = 0
    timed: bool = False
    rest: bytes = b""
    load: int = 0  # for whoever drives it: messages without an answer, attempts to connect


class Swarm:
    """Sockets that joined one server. ``messages`` counts the marks that all of them received."""

    def __init__(self) -> None:
        self.members: dict[int, Member] = {}
        self.messages = 0
        self.bytes = 0
        self.receive_bytes = 0  # SO_RCVBUF; 0: the kernel's own
        self.late_ns: list[int] = []  # of the timed members: arrival minus due
        self._epoll = select.epoll()
        self._buffer = bytearray(READ)
        self._sources = cycle(SOURCES)
        self._waiting = 0
        self.on_joined: Callable[[Member], None] | None = None
        self.on_lost: Callable[[Member], None] | None = None
        self.on_messages: Callable[[Member, int], None] | None = None

    # Joining ----------------------------------------------------------------------------------------

    def dial(self, port: int, steps: Sequence[Step]) -> Member:
        """Connect and walk through the steps; ``on_joined`` is called at their end."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
        if self.receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_bytes)
        sock.bind((next(self._sources), 0))
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        member = Member(sock, iter(steps), began_ns=time.monotonic_ns())
        self.members[sock.fileno()] = member
        self._waiting += 1
        self._epoll.register(sock, select.EPOLLOUT)
        return member

    def join(self, port: int, scripts: Iterable[Sequence[Step]], *, timeout_s: float = 30.0) -> list[Member]:
        """Dial one socket per script, ``DIAL`` at a time; returns when all have joined."""
        joined, left = [], iter(scripts)
        due = time.monotonic() + timeout_s
        while True:
            while self._waiting < DIAL and (steps := next(left, None)) is not None:
                joined.append(self.dial(port, steps))
            if not self._waiting:
                return joined
            self.poll(0.1)
            if time.monotonic() > due:
                stuck = next(one for one in self.members.values() if one.step is not None)
                raise Stalled(
                    f"{self._waiting} clients wait for {stuck.step}; last read {stuck.seen[-200:]!r}"
                )

    def _advance(self, member: Member) -> None:
        member.step = next(member.steps, None)
        if member.step is None:
            self._waiting -= 1
            if self.on_joined is not None:
                self.on_joined(member)
        else:
            member.seen = b""
            member.sock.sendall(member.step.data)

    def _answer(self, member: Member, data: bytes) -> None:
        assert member.step is not None
        member.seen += data
        if member.seen.count(member.step.until) >= member.step.count:
            self._advance(member)

    # Reading ----------------------------------------------------------------------------------------

    def poll(self, timeout_s: float) -> int:
        """Handle what is ready, at most ``EVENTS`` sockets; returns how many were."""
        members, buffer = self.members, self._buffer
        events = self._epoll.poll(max(0.0, timeout_s), EVENTS)
        for fd, event in events:
            member = members.get(fd)
            if member is None:
                continue
            if event == select.EPOLLOUT:  # connected
                self._epoll.modify(fd, select.EPOLLIN)
                self._advance(member)
                continue
            try:
                size = member.sock.recv_into(buffer)
            except BlockingIOError:
                continue
            except OSError:
                size = 0
            if not size:
                self._lost(member)
            elif member.step is not None:
                self._answer(member, bytes(buffer[:size]))
            else:
                count = buffer.count(MARK, 0, size)
                self.messages += count
                self.bytes += size
                if member.timed:
                    self._time(member, bytes(buffer[:size]))
                if self.on_messages is not None:
                    self.on_messages(member, count)
        return len(events)

    def _time(self, member: Member, data: bytes) -> None:
        now = time.monotonic_ns()
        pieces = (member.rest + data).split(MARK)
        for piece in pieces[1:]:
            if len(piece) >= STAMP:
                self.late_ns.append(now - int(piece[:STAMP], 16))
        whole = len(pieces) == 1 or len(pieces[-1]) >= STAMP
        member.rest = b"" if whole else MARK + pieces[-1]

    def _lost(self, member: Member) -> None:
        self.drop(member)
        if self.on_lost is None:
            raise Stalled(f"the server hung up at {member.step}; last read {member.seen[-200:]!r}")
        self.on_lost(member)

    def drop(self, member: Member) -> None:
        """Close one socket."""
        if self.members.pop(member.sock.fileno(), None) is not None:
            self._waiting -= member.step is not None
            member.step = None
            member.sock.close()

    def close(self) -> None:
        for member in list(self.members.values()):
            self.drop(member)
        self._epoll.close()


def stamp(now_ns: int) -> bytes:
    """The mark and the time, as they stand in a message."""
    return b"%b%016x" % (MARK, now_ns)


def quantile_ms(late_ns: Sequence[int], q: float) -> float:
    """Nearest rank, ms."""
    ranked = sorted(late_ns)
    return ranked[min(len(ranked) - 1, int(q * len(ranked)))] / 1e6 if ranked else float("nan")


def raise_file_limit() -> int:
    """As many files as this process may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard

"""Probes for the words of Shows that are about connections and streams of a part of the clients.

``bench.early`` is a connection through proxy a that has carried bytes before the fault began.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from chaos.faults.base import Shows

if TYPE_CHECKING:
    from tests.conformance.faults import Bench

WAIT_S = 20.0  # for what must come
QUIET_S = 0.3  # in which what must not come does not


def ends(connection: socket.socket) -> bool:
    """Whether it ends, in whatever way, with no byte before that."""
    try:
        return connection.recv(65536) == b""
    except ConnectionResetError:
        return True


def echoes(connection: socket.socket, data: bytes = b"x") -> bool:
    connection.sendall(data)
    got = b""
    while len(got) < len(data) and (part := connection.recv(65536)):
        got += part
    return got == data


def unanswered(connection: socket.socket) -> bool:
    """Whether what is sent is not answered, and the connection does not end."""
    connection.sendall(b"x")
    return silent(connection)


def silent(connection: socket.socket) -> bool:
    before = connection.gettimeout()
    connection.settimeout(QUIET_S)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(before)
    return False


def turned_away(bench: Bench) -> bool:
    """Whether a new connection that speaks ends."""
    try:
        with bench.dial("a") as new:
            new.sendall(b"x")
            return ends(new)
    except ConnectionError:
        return True


@contextmanager
def cut(bench: Bench) -> Iterator[None]:
    assert ends(bench.early)
    with bench.dial("a") as new:
        assert echoes(new)
        yield
        assert echoes(new)


@contextmanager
def half_open(bench: Bench) -> Iterator[None]:
    assert unanswered(bench.early)
    with bench.dial("a") as new:
        assert echoes(new)
        yield
        assert echoes(new)
    assert ends(bench.early)


@contextmanager
def half_close(bench: Bench) -> Iterator[None]:
    assert bench.early.recv(1) == b""
    bench.early.sendall(b"x")  # and is not reset
    assert bench.early.recv(1) == b""
    with bench.dial("a") as new:
        assert echoes(new)
    yield


@contextmanager
def turn_away(bench: Bench) -> Iterator[None]:
    assert turned_away(bench)
    assert echoes(bench.early)
    yield
    assert echoes(bench.early)


UPGRADE = b"GET /ws?c=2 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: x\n\n"


def answer_to_upgrade(bench: Bench) -> bytes:
    with bench.dial("a") as new:
        new.sendall(UPGRADE)
        return new.recv(12)


@contextmanager
def forbidden(bench: Bench) -> Iterator[None]:
    assert answer_to_upgrade(bench) == b"HTTP/1.1 403"
    with bench.dial("a") as plain:
        assert echoes(plain, UPGRADE.replace(b"websocket", b"h2c"))
    assert echoes(bench.early, UPGRADE)
    yield
    assert answer_to_upgrade(bench) == UPGRADE[:12]


@contextmanager
def buffered(bench: Bench) -> Iterator[None]:
    with bench.dial("a") as other, bench.dial("a") as new:
        assert echoes(other, STREAM.replace(b"event-stream", b"plain"))
        new.sendall(STREAM)
        assert silent(new)
        yield
        assert new.recv(65536) == STREAM


@contextmanager
def first_fail(bench: Bench) -> Iterator[None]:
    assert [turned_away(bench), turned_away(bench)] == [True, True]
    with bench.dial("a") as third:
        assert echoes(third)
        yield
        assert echoes(third)
    assert echoes(bench.early)


@contextmanager
def late_connect(bench: Bench) -> Iterator[None]:
    echo_s = bench.echo_s("a")
    times_s = {"b": bench.echo_s("b"), "early": early_s(bench)}
    deadline = time.monotonic() + WAIT_S
    while not 5 * max(times_s.values()) < echo_s:  # at their best: a busy machine makes all things late
        assert time.monotonic() < deadline, (echo_s, times_s)
        times_s = {"b": min(times_s["b"], bench.echo_s("b")), "early": min(times_s["early"], early_s(bench))}
    yield


def early_s(bench: Bench) -> float:
    """Seconds for a byte to go and come back on the connection from before the fault."""
    start = time.monotonic()
    assert echoes(bench.early)
    return time.monotonic() - start


@contextmanager
def no_connect(bench: Bench) -> Iterator[None]:
    with bench.dial("a") as new:
        assert unanswered(new)
        assert echoes(bench.early)
        yield
        assert new.recv(1) == b"x"


@contextmanager
def flaps(bench: Bench) -> Iterator[None]:
    assert ends(bench.early)
    seen: list[bool] = []  # changes of whether a new connection is turned away
    deadline = time.monotonic() + WAIT_S
    while len(seen) < 4:
        assert time.monotonic() < deadline, seen
        away = turned_away_now(bench)
        if not seen or seen[-1] != away:
            seen.append(away)
    yield


def turned_away_now(bench: Bench) -> bool:
    try:
        with bench.dial("a") as new:
            return not echoes(new)
    except ConnectionError:
        return True


@contextmanager
def storm(bench: Bench) -> Iterator[None]:
    assert ends(bench.early)
    waiting = [bench.dial("a") for _ in range(3)]
    for each in waiting:
        each.sendall(b"x")
    assert all(silent(each) for each in waiting)
    yield
    for each in waiting:
        assert each.recv(1) == b"x"
        each.close()


@contextmanager
def severed(bench: Bench) -> Iterator[None]:
    with bench.dial("a") as new:
        assert unanswered(new)
        assert unanswered(bench.early)
        yield
        assert new.recv(1) == b"x"
        assert bench.early.recv(1) == b"x"


@contextmanager
def bursts(bench: Bench) -> Iterator[None]:
    with bench.dial("a") as connection:
        times = []
        for _ in range(30):
            start = time.monotonic()
            assert echoes(connection)
            times.append(time.monotonic() - start)
        late = [t for t in times if t > 0.15]
        assert 0 < len(late) < 30, times
        yield


@contextmanager
def stall(bench: Bench) -> Iterator[None]:
    with bench.dial("a") as new:
        assert unanswered(new)
        assert unanswered(bench.early)
        yield
        assert new.recv(1) == b"x"
        assert bench.early.recv(1) == b"x"


@contextmanager
def damaged(bench: Bench) -> Iterator[None]:
    with bench.dial("a") as connection:
        connection.sendall(b"x" * 100)
        got = b""
        while len(got) < 100:
            got += connection.recv(100)
        assert sum(each != ord("x") for each in got) >= 1
        yield
        assert ends(connection)


CONNECTION_PROBES: Mapping[Shows, Callable[[Bench], AbstractContextManager[None]]] = {
    Shows.CUT: cut,
    Shows.HALF_OPEN: half_open,
    Shows.HALF_CLOSE: half_close,
    Shows.TURNED_AWAY: turn_away,
    Shows.FORBIDDEN: forbidden,
    Shows.BUFFERED: buffered,
    Shows.FIRST_FAIL: first_fail,
    Shows.LATE_CONNECT: late_connect,
    Shows.NO_CONNECT: no_connect,
    Shows.FLAPS: flaps,
    Shows.STORM: storm,
    Shows.SEVERED: severed,
    Shows.BURSTS: bursts,
    Shows.STALL: stall,
    Shows.DAMAGED: damaged,
}

"""What every fault kind promises, measured through a real engine and a real process.

For one kind, with the keys of its ``example()``, aimed at proxy a (or at the process):

1. while it lasts, a client sees what the kind says it ``shows``;
2. clients of proxy b see nothing of it (wire faults);
3. when its lease ends all is as before: engine, process, and what a new client sees;
4. all five steps are recorded, and nothing was a problem.

Usage::

    with open_bench(EmbeddedEngine(), tmp_path) as bench:
        check_fault("latency", bench)

A new kind is measured by the word of its ``shows``; ``PROBES`` has one for each word.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from chaos.engines.base import Engine
from chaos.faults import FAULTS
from chaos.faults.base import Fault, Shows, Where
from chaos.journal import Journal
from chaos.nemesis import Nemesis
from chaos.plan import Common, FaultSpec, FaultSpecs, FaultsSection, make_plan
from chaos.process import ProcessSpec, Supervisor
from tests.broker import free_port
from tests.conformance.connection_probes import CONNECTION_PROBES
from tests.conformance.frame_probes import FRAME_PROBES, VIEW

S = 1_000_000_000
HICCUP_S = 0.05  # of the machine: less than this is no delay of an engine's
WAIT_S = 20.0  # for what must come
QUIET_S = 0.3  # in which what must not come does not
CLOSE = b"\x04"  # the echo server answers this by closing

WRITE = b"\x05"  # it answers this with w when a byte could be written to its file, and with f when not
WORKER = "import signal\nwhile True: signal.pause()\n"

ECHO = """
import os, signal, socket, sys, threading, time

def end():
    signal.sigwait([signal.SIGTERM])  # a handler would not run if it came just before accept blocks
    os._exit(0)

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
threading.Thread(target=end, daemon=True).start()
running = threading.Lock()

def written():
    try:
        with open(sys.argv[3], "ab", buffering=0) as file:
            return b"w" if file.write(b"x") else b"f"
    except OSError:
        return b"f"

def serve(connection):
    with connection:
        while (data := connection.recv(65536)) and not data.endswith(b"\\x04"):
            with running:
                connection.sendall(written() if data == b"\\x05" else data)

def hooks(listener):
    while True:
        connection = listener.accept()[0]
        request = connection.recv(65536)
        ms = int(request.split(b"ms=")[1].split()[0])
        assert b"Chatd-Test-Hook" in request and request.startswith(b"GET /hooks/block?")
        with running:
            connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
            connection.close()
            time.sleep(ms / 1000)

hooked = socket.create_server(("127.0.0.1", int(sys.argv[2])))
threading.Thread(target=hooks, args=(hooked,), daemon=True).start()
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
    while True:
        threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()
"""


class Bench:
    """An echo server as process chatd-1, proxies a and b to it on one engine, and an idle load worker."""

    began_s: float  # just before a fault's begin, on the monotonic clock
    early: socket.socket  # through proxy a, with a round trip behind it, from before a fault's begin

    def __init__(self, engine: Engine, supervisor: Supervisor, journal: Journal, directory: Path) -> None:
        self.engine, self.supervisor, self.journal = engine, supervisor, journal
        self.promoted: list[str] = []
        self.port, hooks = free_port(), free_port()
        supervisor.start(
            ProcessSpec(
                name="chatd-1",
                argv=(sys.executable, "-c", ECHO, str(self.port), str(hooks), str(directory / "data")),
                log=directory / "chatd-1.log",
                role="target",
                hooks=f"127.0.0.1:{hooks}",
            )
        )
        worker = (sys.executable, "-c", WORKER)
        supervisor.prepare(
            ProcessSpec(name=LATER, argv=worker, log=directory / f"{LATER}.log", role="target")
        )
        supervisor.start(
            ProcessSpec(name="worker-1", argv=worker, log=directory / "worker-1.log", role="harness")
        )
        engine.start(supervisor, log_dir=directory, run_id=directory.name, frame_view=VIEW)
        upstream = f"127.0.0.1:{self.port}"
        listens = engine.create(("a", "b"), upstream=upstream)
        self.ports = {name: int(listen.rpartition(":")[2]) for name, listen in listens.items()}
        self.ports["direct"] = self.port
        self.await_answer("direct")

    def promote(self, process: str) -> dict[str, str]:
        """As those do who know the brokers of a run."""
        self.promoted.append(process)
        return {"upstream": process}

    def dial(self, through: str) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.ports[through]), timeout=WAIT_S)

    def echo_s(self, through: str, size: int = 1) -> float:
        """Seconds for ``size`` bytes to go and come back on a new connection; the best of three."""
        times = []
        for _ in range(3):
            with self.dial(through) as connection:
                times.append(round_trip_s(connection, size))
        return min(times)

    def await_answer(self, through: str) -> None:
        """Until the echo server answers: a process that was just started needs a moment to listen."""
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                self.echo_s(through)
                return
            except (OSError, AssertionError):
                assert time.monotonic() < deadline, f"no echo through {through} after {WAIT_S} s"
                assert self.supervisor.wait("chatd-1", timeout_s=0.01) is None, "the echo server ended"

    def as_found(self) -> bool:
        return not any(self.engine.toxics(name) for name in ("a", "b"))


@contextmanager
def open_bench(engine: Engine, directory: Path) -> Iterator[Bench]:
    journal = Journal(directory / "faults.jsonl")
    supervisor = Supervisor(journal)
    try:
        yield Bench(engine, supervisor, journal, directory)
        assert engine.close() == []
    finally:
        supervisor.end_all()
        journal.close()


def round_trip_s(connection: socket.socket, size: int = 1) -> float:
    start, left = time.monotonic(), size
    connection.sendall(b"x" * size)
    while left:
        data = connection.recv(65536)
        assert data, f"the connection ended with {left} of {size} bytes to come"
        left -= len(data)
    return time.monotonic() - start


def sometime(condition: Callable[[], bool]) -> bool:
    """Whether it is so once within WAIT_S: for what a busy machine can hide for a while, and never feign."""
    deadline = time.monotonic() + WAIT_S
    while not (found := condition()) and time.monotonic() < deadline:
        pass
    return found


def ask(connection: socket.socket, what: bytes) -> bytes:
    connection.sendall(what)
    return connection.recv(65536)


def state(pid: int) -> str:
    """State of a process as the kernel has it: T is stopped; proc(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def nothing_comes(connection: socket.socket) -> bool:
    connection.settimeout(QUIET_S)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(WAIT_S)
    return False


def end_of(connection: socket.socket) -> type[Exception] | None:
    """Reads to the end: None is an orderly one."""
    try:
        while connection.recv(65536):
            pass
    except OSError as error:
        return type(error)
    return None


# One probe for each word of Shows. What is before ``yield`` happens while the fault lasts,
# the rest when it has ended. "Much" is five times what the same costs through proxy b at its best.


@contextmanager
def delay(bench: Bench) -> Iterator[None]:
    echo_s = bench.echo_s("a")
    assert echo_s > HICCUP_S
    assert sometime(lambda: echo_s > 5 * bench.echo_s("b"))
    yield


@contextmanager
def rate(bench: Bench) -> Iterator[None]:
    echo_s = bench.echo_s("a", 40_000)
    assert echo_s > HICCUP_S
    assert sometime(lambda: echo_s > 5 * bench.echo_s("b", 40_000))
    yield


@contextmanager
def late_close(bench: Bench) -> Iterator[None]:
    def close_s(through: str) -> float:
        with bench.dial(through) as connection:
            round_trip_s(connection)
            start = time.monotonic()
            connection.sendall(CLOSE)
            end_of(connection)
            return time.monotonic() - start

    late_s = close_s("a")
    assert late_s > HICCUP_S
    assert sometime(lambda: late_s > 5 * close_s("b"))
    yield


@contextmanager
def silence(bench: Bench) -> Iterator[None]:
    with bench.dial("a") as connection:
        connection.sendall(b"x")
        assert nothing_comes(connection)
        yield


@contextmanager
def close(bench: Bench) -> Iterator[None]:
    with bench.dial("a") as connection:
        connection.sendall(b"x" * 20_000)
        end_of(connection)  # within WAIT_S
    yield


@contextmanager
def reset(bench: Bench) -> Iterator[None]:
    try:  # RST may come as early as in connect
        with bench.dial("a") as connection:
            connection.sendall(b"x")  # a real Toxiproxy leaves an idle connection alone
            ended = end_of(connection)
    except ConnectionResetError:
        ended = ConnectionResetError
    assert ended is ConnectionResetError
    yield


@contextmanager
def slices(bench: Bench) -> Iterator[None]:
    def pieces(through: str) -> int:
        with bench.dial(through) as connection:
            connection.sendall(b"x" * 256)
            sizes = [0]
            while sum(sizes) < 256:
                sizes.append(len(connection.recv(65536)))
            return len(sizes) - 1

    assert sometime(lambda: pieces("a") > 5 * pieces("b"))  # a reader that is slow finds several at once
    yield


@contextmanager
def refused(bench: Bench) -> Iterator[None]:
    try:
        bench.dial("a").close()
    except ConnectionRefusedError:
        pass
    else:
        raise AssertionError("a new connection is not refused")
    yield


@contextmanager
def death(bench: Bench) -> Iterator[None]:
    exit_ = bench.supervisor.wait("chatd-1", timeout_s=WAIT_S)
    assert exit_ is not None
    assert exit_.planned
    assert exit_.signal == "SIGKILL"
    yield
    bench.await_answer("direct")
    assert bench.supervisor.pids()["chatd-1"] != exit_.pid


@contextmanager
def freeze(bench: Bench) -> Iterator[None]:
    pid = bench.supervisor.pids()["chatd-1"]
    with bench.dial("direct") as connection:
        connection.sendall(b"x")
        assert nothing_comes(connection)
        yield
        assert connection.recv(1) == b"x"
    assert bench.supervisor.pids()["chatd-1"] == pid


@contextmanager
def restart(bench: Bench) -> Iterator[None]:
    exit_ = bench.supervisor.wait("chatd-1", timeout_s=WAIT_S)
    assert exit_ is not None
    assert exit_.planned
    assert exit_.code == 0
    yield
    bench.await_answer("direct")
    assert bench.supervisor.pids()["chatd-1"] != exit_.pid


@contextmanager
def leave(bench: Bench) -> Iterator[None]:
    with restart(bench):
        assert "chatd-1" not in bench.supervisor.pids()
        yield


@contextmanager
def arrival(bench: Bench) -> Iterator[None]:
    pid = bench.supervisor.pids()[LATER]
    yield
    assert bench.supervisor.pids()[LATER] == pid
    bench.supervisor.signal(LATER, signal.SIGKILL)
    assert bench.supervisor.wait(LATER, timeout_s=WAIT_S) is not None


@contextmanager
def promotion(bench: Bench) -> Iterator[None]:
    assert bench.promoted == ["chatd-1"]
    yield
    assert bench.promoted == ["chatd-1"]


@contextmanager
def crashes(bench: Bench) -> Iterator[None]:
    def ends() -> list[str | None]:
        lines = [json.loads(line) for line in bench.journal.path.read_text().splitlines()]
        return [line["signal"] for line in lines if line["kind"] == "exit" and line["process"] == "chatd-1"]

    before = ends()
    assert before[-1] == "SIGKILL"
    bench.await_answer("direct")  # it is back, though the fault is in force
    yield
    assert ends() == [*before, "SIGKILL"]
    bench.await_answer("direct")


@contextmanager
def block(bench: Bench) -> Iterator[None]:
    with bench.dial("direct") as connection:
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"  # by itself, while the fault is in force
        assert time.monotonic() - bench.began_s > 2 * QUIET_S
    yield
    bench.await_answer("direct")


@contextmanager
def no_writes(bench: Bench) -> Iterator[None]:
    with bench.dial("direct") as connection:
        assert ask(connection, WRITE) == b"f"
        assert ask(connection, b"x") == b"x"
        yield
        assert ask(connection, WRITE) == b"w"


@contextmanager
def dead_load(bench: Bench) -> Iterator[None]:
    exit_ = bench.supervisor.wait("worker-1", timeout_s=WAIT_S)
    assert exit_ is not None
    assert (exit_.signal, exit_.planned) == ("SIGKILL", True)
    yield
    assert not bench.supervisor.running("worker-1")  # nobody takes its place
    bench.supervisor.restart("worker-1")


@contextmanager
def frozen_load(bench: Bench) -> Iterator[None]:
    def await_stopped(stopped: bool) -> None:  # a signal to a process that only just began takes a moment
        deadline = time.monotonic() + WAIT_S
        while (state(pid) == "T") is not stopped:
            assert time.monotonic() < deadline, state(pid)

    pid = bench.supervisor.pids()["worker-1"]
    await_stopped(True)
    yield
    await_stopped(False)
    assert bench.supervisor.pids()["worker-1"] == pid


PROBES: dict[Shows, Callable[[Bench], AbstractContextManager[None]]] = {
    Shows.DELAY: delay,
    Shows.RATE: rate,
    Shows.LATE_CLOSE: late_close,
    Shows.SILENCE: silence,
    Shows.CLOSE: close,
    Shows.RESET: reset,
    Shows.SLICES: slices,
    Shows.REFUSED: refused,
    Shows.DEATH: death,
    Shows.FREEZE: freeze,
    Shows.RESTART: restart,
    Shows.LEAVE: leave,
    Shows.ARRIVAL: arrival,
    Shows.PROMOTION: promotion,
    Shows.CRASHES: crashes,
    Shows.BLOCK: block,
    Shows.NO_WRITES: no_writes,
    Shows.DEAD_LOAD: dead_load,
    Shows.FROZEN_LOAD: frozen_load,
    **FRAME_PROBES,
    **CONNECTION_PROBES,
}
LATER = "chatd-2"  # not started with the others
AIMED = {Where.PROXY: "a", Where.PROCESS: "chatd-1", Where.WORKER: "worker-1"}


def check_fault(kind: str, bench: Bench, *, table: Mapping[str, type[Fault]] = FAULTS) -> None:
    """The promises of one kind. Leaves the bench as it was."""
    model = table[kind]
    on_wire = model.where is Where.PROXY
    fault_id = f"the-{kind}"
    arrives = model.shows is Shows.ARRIVAL
    target = LATER if arrives else AIMED[model.where]
    common = Common(id=fault_id, kind=kind, target=target, at_s=1.0, duration_s=60.0)
    specs = FaultSpecs(FaultsSection(), (FaultSpec(common, model.model_validate(model.example())),))
    plan = make_plan(specs, seed=1, clients=2, phases=(), processes=("chatd-1", LATER))
    t0_ns = time.monotonic_ns()
    nemesis = Nemesis(
        plan,
        t0_ns=t0_ns,
        engine=bench.engine,
        supervisor=bench.supervisor,
        journal=bench.journal,
        brokers=bench,
        table=table,
    )
    try:
        with bench.dial("a") as bench.early, bench.dial("b") as bystander:
            for connection in (bench.early, bystander):
                round_trip_s(connection)
            bench.began_s = time.monotonic()
            nemesis.step(t0_ns + 1 * S)
            assert list(nemesis.active(t0_ns)) == [fault_id]
            with PROBES[model.shows](bench):
                if on_wire:
                    round_trip_s(bystander)
                nemesis.step(t0_ns + 61 * S)
                assert nemesis.done
            if on_wire:
                round_trip_s(bystander)
        bench.await_answer("a")
    finally:
        nemesis.heal(time.monotonic_ns())
    assert bench.as_found()
    assert nemesis.problems == []
    lines = [json.loads(line) for line in bench.journal.path.read_text().splitlines()]
    own = [line for line in lines if line["id"] == fault_id and "target" in line]
    last = own[max(n for n, line in enumerate(own) if line["phase"] == "planned") :]
    assert [line["error"] for line in last] == [None] * len(last)
    phases = [line["phase"] for line in last]
    effects = phases.count("engine_effect")  # one more for each step
    assert effects >= 1
    assert phases == ["planned", "start", *["engine_effect"] * effects, "stop", "revert"]

"""A load worker: speaks Locust's worker protocol to a Locust master, and runs on uvloop.

Locust's protocol is msgpack of ``(type, data, node id)`` over a ZMQ DEALER. Its own
messages are client_ready, ack, heartbeat, spawn, spawning, spawning_complete, stats, client_stopped,
stop and quit. Ours, which Locust passes on untouched:

===================  =========  ==============================================================
register             to master  {index}: which stripe of the clients is mine
plan                 to worker  {spec: JSON of load.json, workers, index}
prepared             to master  {index, total, records}: log and schedule are there
refused              to master  {index, why}: the plan cannot be carried out
phase                to worker  {t0_ns, interactive, ahead_ns}: the phases of the schedule count from t0_ns
drain                to worker  {sentinels: {channel id: [epoch, serial]}}
reconnect_behind     to worker
finished             to master  {index, counters, files}: files are closed; the process ends
===================  =========  ==============================================================

With a master on another host, also (``guests``, ``clock``, ``collect``):

===================  =========  ==============================================================
register             to master  {index: 0, host, boot_id, versions}: give me a number
turned_away          to worker  {why}
clock                both ways  {asked_ns}, and back {index, asked_ns, worker_ns}
fetch                to worker  {name, offset}: a piece of a file
piece                to master  {index, name, offset, data}
collected            to worker  all files are there: the worker's may go
===================  =========  ==============================================================

One process for each core: ``python -m loadgen.worker --master-port P --index K``, or on another host
``chatproof load --worker``. It ends by itself when its master has been silent for 5 s; whatever ends it,
its log is closed properly first, and stays where it is when it could not be fetched.
gevent is never imported here: importing locust would patch the whole process.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.metadata
import json
import logging
import resource
import signal
import socket
import sys
import uuid
from pathlib import Path
from time import monotonic, monotonic_ns, process_time
from typing import Any, Final

import click
import msgpack
import psutil
import uvloop
from zmq.asyncio import Context
from zmq.constants import SocketOption, SocketType

from . import guests
from .collect import parcels, piece
from .engine import Engine
from .home import Home
from .recorder import RecorderError
from .roster import USER_CLASS
from .schedule import count_publishes
from .trust import AuthFailed
from .workload import LoadSpec, SpecError, parse_spec

log = logging.getLogger("loadgen.worker")

HEARTBEAT_S: Final = 1.0
REPORT_S: Final = 0.5
SWITCH_S: Final = 0.001  # at most, until another thread lets the loop go on
YOUNG: Final = 10_000  # objects more than before, until the collector looks at them
OLD: Final = 50  # of such looks at most of what is young, until it looks at all
MASTER_GONE_S: Final = 5.0
_LINGER_MS: Final = 500  # for the last messages, when the process ends


class Master:
    """The worker's end of the connection to its master."""

    def __init__(self, host: str, port: int, index: int) -> None:
        # What Locust's page calls it. Those of other hosts, several of each, have no number yet.
        name = f"worker-{index}" if index else socket.gethostname()
        self._id = f"{name}-{uuid.uuid4().hex[:12]}"
        self._context = Context()
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._socket = self._context.socket(SocketType.DEALER)
        self._socket.setsockopt(SocketOption.ROUTING_ID, self._id.encode())
        self._socket.setsockopt(SocketOption.LINGER, _LINGER_MS)
        self._socket.setsockopt(SocketOption.IPV6, int(":" in host))
        self._socket.connect(f"tcp://{self.address}")

    async def send(self, kind: str, data: object = None) -> None:
        await self._socket.send(msgpack.packb((kind, data, self._id)))

    async def receive(self) -> tuple[str, Any]:
        kind, data, _ = msgpack.unpackb(await self._socket.recv(), strict_map_key=False)
        return kind, data

    def close(self) -> None:
        self._socket.close()
        self._context.term()


class Worker:
    """One worker process, from registration to its last message.

    Args:
        home: what is allowed here, when the master is on another host; None: the run's own child.
    """

    def __init__(self, master: Master, index: int, home: Home | None = None) -> None:
        self._master, self._index, self._home = master, index, home
        self._engine: Engine | None = None
        self._spec: LoadSpec | None = None
        self._state = "ready"  # in Locust's words
        self._users = 0
        self._phase: tuple[int, bool, list[int]] | None = None  # of the message "phase"
        self._gate_open = False  # Locust has said "spawn"
        self._started_s = self._started_cpu_s = 0.0
        self._heard_s = monotonic()
        self._heard = False  # at all
        self._turned_away = ""
        self._collected, self._gone = asyncio.Event(), asyncio.Event()  # the records; the master
        self._process = psutil.Process()
        self._preparing: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        self._done = asyncio.Event()

    async def run(self) -> int:
        """Work until the master or a signal says stop; returns the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._done.set)
        await self._master.send("client_ready", importlib.metadata.version("locust"))
        away = self._home is not None
        if away:
            log.info("asking %s for work", self._master.address)
        await self._master.send("register", guests.introduction() if away else {"index": self._index})
        talking = [loop.create_task(work()) for work in (self._listen, self._beat)]
        reporting = loop.create_task(self._report())
        for task in (*talking, reporting):
            task.add_done_callback(self._task_ended)
        await self._done.wait()
        for task in (reporting, *([self._preparing] if self._preparing is not None else [])):
            task.cancel()
        await self._finish()
        for task in talking:
            task.cancel()
        self._master.close()
        return self._status()

    def _status(self) -> int:
        """0: done; 2: nobody to work for, or not for us; 5: records were left here; 70: a bug."""
        if self._failure is not None:
            return 70
        if self._home is None:
            return 0
        if self._turned_away or not self._heard:
            return 2
        return 0 if self._collected.is_set() else 5

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._crash(error)

    def _crash(self, error: BaseException) -> None:
        """A bug of ours: what follows could not be believed, so the worker ends, and the run is void."""
        if self._failure is None:
            self._failure = error
            if isinstance(error, AuthFailed):  # it says what to do; where it was found says nothing
                log.error("worker %d: %s", self._index, error)
            else:
                log.error("worker %d: internal error", self._index, exc_info=error)
        self._done.set()

    async def _listen(self) -> None:
        while True:
            kind, data = await self._master.receive()
            self._heard_s, self._heard = monotonic(), True
            await self._obey(kind, data)

    async def _obey(self, kind: str, data: Any) -> None:
        match kind:
            case "plan" if self._preparing is None:  # beside the listening, so the master stays heard
                self._preparing = asyncio.create_task(self._prepare(data))
                self._preparing.add_done_callback(self._task_ended)
            case "phase":
                self._phase = (data["t0_ns"], data["interactive"], data.get("ahead_ns") or [])
                self._begin()
            case "spawn":
                await self._spawn(data)
            case "drain" if self._engine is not None:
                self._engine.drain({int(c): (p[0], p[1]) for c, p in data["sentinels"].items()})
            case "reconnect_behind" if self._engine is not None:
                self._engine.reconnect_behind()
            case "stop":  # Locust's: end the users, be ready for the next test
                await self._stop_users()
            case "quit":
                self._done.set()
            case "clock" | "fetch" | "collected" | "turned_away" if self._home is not None:
                await self._obey_from_afar(kind, data)
            case "ack" | "heartbeat" | "spawning_complete":
                pass
            case _:
                log.warning("worker %d: message %r is not known here", self._index, kind)

    async def _obey_from_afar(self, kind: str, data: Any) -> None:
        match kind:
            case "clock" if self._index:  # that of before the plan has no number to answer with
                shown = {"index": self._index, "asked_ns": data["asked_ns"], "worker_ns": monotonic_ns()}
                await self._master.send("clock", shown)
            case "fetch" if self._spec is not None:
                name, offset = data["name"], data["offset"]
                content = await asyncio.to_thread(piece, _events(self._spec), name, offset)
                piece_of = {"index": self._index, "name": name, "offset": offset, "data": content}
                await self._master.send("piece", piece_of)
            case "collected":
                self._collected.set()
            case "turned_away":
                self._turned_away = str(data["why"])
                log.error("the master at %s: %s", self._master.address, self._turned_away)
                self._done.set()

    async def _prepare(self, data: Any) -> None:
        """Hold the plan: check it, start the log, draw the schedule."""
        try:
            self._index = data.get("index", self._index)
            text = data["spec"] if self._home is None else self._home.adapted(data["spec"])
            spec, workers = parse_spec(text), data["workers"]
            # In a thread: a worker that misses its heartbeats counts as lost.
            total = await asyncio.to_thread(count_publishes, spec.workload, spec.seed, self._index, workers)
            self._engine = Engine(spec, self._index, workers, crashed=self._crash, total=total)
        except (SpecError, RecorderError) as error:
            log.error("worker %d: %s", self._index, error)
            self._turned_away = str(error)
            await self._master.send("refused", {"index": self._index, "why": str(error)})
            self._done.set()
            return
        self._spec = spec
        if self._home is not None:
            log.info("worker %d of %d of %s", self._index, workers, self._master.address)
        steady()
        prepared = {"index": self._index, "total": self._engine.total, "records": str(_events(spec))}
        await self._master.send("prepared", prepared)

    def _begin(self) -> None:
        """Start the schedule once there is a time for it and Locust has opened the gate."""
        if self._engine is not None and self._phase is not None and self._gate_open and not self._started_s:
            self._started_s, self._started_cpu_s = monotonic(), process_time()
            t0_ns, interactive, ahead_ns = self._phase
            if ahead_ns:  # the master's time is not ours
                self._engine.figures.clocks_apart(self._index, ahead_ns)
                t0_ns -= ahead_ns[self._index - 1]
            self._engine.start(t0_ns, interactive=interactive)

    async def _spawn(self, data: Any) -> None:
        """Locust says how many users there should be: the gate for an interactive run, news for another."""
        self._users = int(data["user_classes_count"].get(USER_CLASS, 0))
        self._state = "spawning"
        await self._master.send("spawning")
        self._gate_open = True
        self._begin()
        if self._engine is not None:
            self._engine.open_sessions(self._users)
        self._state = "running"
        await self._master.send("spawning_complete", self._user_counts())

    async def _stop_users(self) -> None:
        self._users = 0
        if self._engine is not None:
            self._engine.open_sessions(0)
        self._state = "ready"
        await self._send_stats()
        await self._master.send("client_stopped")
        await self._master.send("client_ready", importlib.metadata.version("locust"))

    async def _beat(self) -> None:
        self._process.cpu_percent()
        while True:
            memory = self._process.memory_info().rss
            data = {
                "state": self._state,
                "current_cpu_usage": self._process.cpu_percent(),
                "current_memory_usage": memory,
            }
            await self._master.send("heartbeat", data)
            await asyncio.sleep(HEARTBEAT_S)
            patience_s = MASTER_GONE_S if self._home is None or self._heard else self._home.wait_s
            if monotonic() - self._heard_s > patience_s:
                who = f"worker {self._index}: the master" if self._heard else self._master.address
                log.error("%s has been silent for %g s", who, patience_s)
                self._done.set()
                self._gone.set()
                return

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            await self._send_stats()

    async def _send_stats(self) -> None:
        if self._engine is None:
            return
        self._engine.fold()
        figures = self._engine.figures
        delivery, lag = figures.take_recent()
        await self._master.send(
            "stats",
            {
                **figures.take_locust(),
                **self._user_counts(),
                "chatproof": {
                    "index": self._index,
                    **self._engine.state()._asdict(),
                    **figures.totals,
                    "lost": self._engine.recorder.lost,
                    "delivery": delivery,
                    "lag": lag,
                    "hiccup": figures.take_hiccups(),
                    "cpu_s": process_time(),
                    "rss_bytes": self._process.memory_info().rss,
                },
            },
        )

    def _user_counts(self) -> dict[str, Any]:
        return {"user_classes_count": {USER_CLASS: self._users}, "user_count": self._users}

    async def _finish(self) -> None:
        """Close sockets, then files; then say so, if anybody listens."""
        if self._engine is not None and self._spec is not None:
            await self._engine.stop()
            counters = self._counters(self._engine)
            path = _events(self._spec) / f"w{self._index}.counters.json"
            try:
                path.write_text(json.dumps(counters) + "\n")
            except OSError as error:
                log.error("worker %d: %s: %s", self._index, path, error.strerror)
            await self._send_stats()
            finished = {"index": self._index, "counters": counters}
            if self._home is None:
                await self._master.send("finished", finished)
            else:
                await self._hand_over(finished, self._home, self._spec)

    async def _hand_over(self, finished: dict[str, Any], home: Home, spec: LoadSpec) -> None:
        """Have the records fetched; they stay here when that does not come to its end."""
        files = [list(parcel) for parcel in await asyncio.to_thread(parcels, _events(spec))]
        await self._master.send("finished", {**finished, "files": files})
        over = [asyncio.create_task(event.wait()) for event in (self._collected, self._gone)]
        await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
        for task in over:
            task.cancel()
        if self._collected.is_set():
            log.info("worker %d: the master has its %d records", self._index, finished["counters"]["records"])
            home.clear()
        else:
            log.error("worker %d: its records were not fetched and stay in %s", self._index, _events(spec))

    def _counters(self, engine: Engine) -> dict[str, Any]:
        state, figures = engine.state(), engine.figures
        lag, hiccup = figures.lag.quantiles(), figures.hiccup.quantiles()
        return {
            "worker": self._index,
            "records": engine.recorder.count,
            "lost": engine.recorder.lost,
            "scheduled": state.scheduled,
            **figures.totals,
            **engine.tally.totals(),
            "unsent": state.unsent,
            "lag_p50_ms": lag.p50_ms,
            "lag_p99_ms": lag.p99_ms,
            "lag_max_ms": lag.max_ms,
            "hiccup_p99_ms": hiccup.p99_ms,
            "hiccup_max_ms": hiccup.max_ms,
            "cpu_s": process_time() - self._started_cpu_s,
            "wall_s": monotonic() - self._started_s if self._started_s else 0.0,
            "max_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }


def steady() -> None:
    """Of a process that is about to pace load: nothing else of it takes the interpreter for long."""
    # What lives now lives until the end: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    # Few cycles are made from now on, by dials. What waits for its ack is no garbage, however often it is
    # looked at: 5,000 messages under way took 13 ms each time.
    gc.set_threshold(YOUNG, gc.get_threshold()[1], OLD)
    sys.setswitchinterval(SWITCH_S)


def _events(spec: LoadSpec) -> Path:
    return spec.run_dir / "events"


async def work(host: str, port: int, index: int, home: Home | None = None) -> int:
    """Be worker ``index`` of the master at ``host``:``port``; returns the exit status.

    Args:
        home: with a master on another host, which gives the number: then ``index`` is 0.
    """
    return await Worker(Master(host, port, index), index, home).run()


def work_for(host: str, port: int, home: Home) -> int:
    """Be a worker of a master on another host, from its plan to its last record; returns the exit status."""
    return uvloop.run(work(host, port, 0, home))


@click.command()
@click.option("--master-host", default="127.0.0.1", show_default=True)
@click.option("--master-port", type=click.IntRange(1, 65535), required=True)
@click.option(
    "--index", type=click.IntRange(min=1), required=True, help="Which stripe of the clients is mine."
)
def main(master_host: str, master_port: int, index: int) -> None:
    """Send load as one worker of a Locust master that `loadgen.master` runs."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )
    sys.exit(uvloop.run(work(master_host, master_port, index)))


if __name__ == "__main__":
    main()

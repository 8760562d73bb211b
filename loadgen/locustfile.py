"""The load for people with a Locust of their own: ``locust -f loadgen/locustfile.py --host ws://127.0.0.1:8765``.

A Locust user is a chat session: the user count says how many are open, and the options ``--chat-…`` (or the
variables CHATPROOF_…) say what they do. The engine is that of ``loadgen.worker``: an open schedule, 40-byte
records, HDR histograms. Locust gets one entry an interval, never an event a message.

gevent has patched this process, so the engine's uvloop has a native thread. It begins in ``events.init``: one
that began at import would be lost in the fork of ``--processes``. In that thread there is no logging, no lock
that two threads want, no executor and no ``time.sleep``: patched ones are shared with greenlets, and hang.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import shutil
import sys
import tempfile
import traceback
from argparse import Namespace
from collections import deque
from collections.abc import Callable
from pathlib import Path
from time import monotonic, monotonic_ns, process_time, time
from typing import Any, Final

import gevent
import gevent.event
import gevent.monkey
import uvloop
from locust import User, constant, events, task
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner
from locust.stats import CSV_STATS_INTERVAL_SEC, RequestStats, StatsEntry, StatsError

from loadgen.engine import Engine
from loadgen.meters import Histogram
from loadgen.options import add_options, in_options, load_spec, three, unwritable
from loadgen.workload import LoadSpec, SpecError

log = logging.getLogger("loadgen.locustfile")

REPORT_S: Final = 0.5
BUILD_S: Final = 60.0  # for the engine to be there
QUIET_S: Final = 0.3  # nothing has arrived for so long: all is there
DRAIN_S: Final = 8.0  # an answer that does not come in 5 s is asked for once more
# A test after another would have the same message ids, which a server takes for repeats; so they count from
# the clock. A client that publishes more often than this, on average, may meet its next test's.
SEQUENCES_PER_S: Final = 100
LAG_MS: Final = 5.0  # a generator that is later than this says nothing about a server
_SUMS: Final = ("sent", "retries", "acked", "received", "connects", "lost", "unacked", "scheduled")


events.init_command_line_parser.add_listener(add_options)


class Ledger:
    """What all workers of a test have reported: counts, and histograms of three digits."""

    def __init__(self) -> None:
        self.delivery, self.lag = Histogram(), Histogram()
        self._workers: dict[int, dict[str, Any]] = {}

    def add(self, report: dict[str, Any]) -> None:
        self.delivery.merge(report["delivery"])
        self.lag.merge(report["lag"])
        self._workers[report["worker"]] = report

    def summary(self) -> dict[str, Any]:
        """Sums over the workers, and quantiles in milliseconds."""
        sums = {name: sum(report[name] for report in self._workers.values()) for name in _SUMS}
        own = ("worker", "cpu_s", "wall_s", "hiccup_max_ms")
        return {
            **sums,
            "delivery_ms": {
                f"p{100 * q:g}": self.delivery.quantile_ms(q) for q in (0.5, 0.9, 0.99, 0.999, 1.0)
            },
            "lag_p99_ms": self.lag.quantile_ms(0.99),
            "workers": [{name: report[name] for name in own} for _, report in sorted(self._workers.items())],
        }


class Native:
    """uvloop in a native thread, and what comes and goes between it and gevent's.

    ``call`` is for greenlets. ``heard`` runs as a greenlet, with what the thread has to say.
    """

    def __init__(self, heard: Callable[[str, Any], None]) -> None:
        self._heard = heard
        self._said: deque[tuple[str, Any]] = deque()
        self._engine: Engine | None = None
        self._index = 0
        self._began_s = self._began_cpu_s = 0.0
        self._loop = uvloop.new_event_loop()
        self._wake = gevent.get_hub().loop.async_()
        self._wake.start(self._hand_over)
        gevent.monkey.get_original("_thread", "start_new_thread")(self._run, ())

    def call(self, what: Callable[..., Any], *arguments: Any) -> None:
        self._loop.call_soon_threadsafe(what, *arguments)

    # In the greenlets' thread

    def _hand_over(self) -> None:
        while self._said:
            gevent.spawn(self._heard, *self._said.popleft())

    # In the native thread

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _say(self, kind: str, what: Any = None) -> None:
        self._said.append((kind, what))
        self._wake.send()

    def begin(self, spec: LoadSpec, index: int, workers: int, first: int) -> None:
        """Start the schedule of one test, with no session open yet."""
        try:
            self._index = index
            self._engine = Engine(
                spec, index, workers, crashed=self._crash, total=0, alone=True, first_seq=first
            )
            self._began_s, self._began_cpu_s = monotonic(), process_time()
            self._engine.start(monotonic_ns(), interactive=True)
            self._loop.call_later(REPORT_S, self._report_on, self._engine)
        except Exception as error:
            self._crash(error)
            return
        self._say("begun")

    def open(self, count: int) -> None:
        if self._engine is not None:
            self._engine.open_sessions(count)

    def drain(self, limit_s: float) -> None:
        """Say nothing new, and "drained" when all is answered and has arrived, or after ``limit_s``."""
        if self._engine is None:
            self._say("drained")
            return
        self._engine.hush()
        self._loop.create_task(self._wait_until_quiet(self._engine, monotonic() + limit_s))

    async def _wait_until_quiet(self, engine: Engine, until_s: float) -> None:
        received, quiet_s = -1, monotonic()
        while (now_s := monotonic()) < until_s:
            engine.fold()
            if engine.state().unacked or engine.figures.totals["received"] != received:
                received, quiet_s = engine.figures.totals["received"], now_s
            elif now_s - quiet_s >= QUIET_S:
                break
            await asyncio.sleep(0.02)
        self._report(engine)
        self._say("drained")

    def end(self) -> None:
        """Close the sockets and the log; "ended" is said afterwards."""
        engine, self._engine = self._engine, None
        self._loop.create_task(self._end(engine))

    async def _end(self, engine: Engine | None) -> None:
        if engine is not None:
            await engine.stop()
        self._say("ended")

    def _crash(self, error: BaseException) -> None:
        self._say("crashed", "".join(traceback.format_exception(error)))

    def _report_on(self, engine: Engine) -> None:
        if engine is self._engine:
            self._report(engine)
            self._loop.call_later(REPORT_S, self._report_on, engine)

    def _report(self, engine: Engine) -> None:
        try:
            engine.fold()
            figures, state = engine.figures, engine.state()
            delivery, lag = figures.take_recent()
            chat = {
                "worker": self._index,
                **figures.totals,
                "lost": engine.recorder.lost,
                "unacked": state.unacked,
                "scheduled": state.scheduled,
                "delivery": delivery,
                "lag": lag,
                "hiccup_max_ms": figures.hiccup.quantiles().max_ms,
                "cpu_s": process_time() - self._began_cpu_s,
                "wall_s": monotonic() - self._began_s,
            }
            self._say("report", (figures.take_locust(), chat))
        except Exception as error:
            self._crash(error)


class ChatLoad:
    """The load of one Locust process; a master has no engine, and adds up what its workers say."""

    def __init__(self, environment: Environment, allowed: tuple[str, ...]) -> None:
        self._env, self._allowed = environment, allowed
        self.ledger = Ledger()
        self._unsent: list[dict[str, Any]] = []  # for a worker's next report to its master
        self._sessions = self._own = 0  # users, and the sessions that they may open; 0: not known
        self._records: Path | None = None
        self._signals: dict[str, gevent.event.Event] = {
            name: gevent.event.Event() for name in ("begun", "drained", "ended")
        }
        self._drained_workers: set[str] = set()
        self._active = False
        runner = environment.runner
        self._native = None if isinstance(runner, MasterRunner) else Native(self._hear)
        if isinstance(runner, MasterRunner):
            runner.register_message("chat_drained", self._worker_drained)
        elif isinstance(runner, WorkerRunner):
            runner.register_message("chat_drain", self._drain_for_master, concurrent=True)
        for hook, listener in (
            (environment.events.test_start, self._start),
            (environment.events.test_stopping, self._stopping),
            (environment.events.test_stop, self._stopped),
            (environment.events.report_to_master, self._to_master),
            (environment.events.worker_report, self._from_worker),
        ):
            hook.add_listener(listener)

    def arrive(self) -> None:
        """One more user."""
        self._signals["begun"].wait(BUILD_S)
        self._count(1)

    def leave(self) -> None:
        self._count(-1)

    def _count(self, step: int) -> None:
        self._sessions += step
        if self._sessions > self._own > 0:
            there, self._own = self._own, 0  # said once
            log.warning("more users than sessions: %d here; --chat-clients says how many there are", there)
        if self._native is not None:
            self._native.call(self._native.open, self._sessions)

    # A test --------------------------------------------------------------------------------------------

    def _start(self, environment: Environment, **_: Any) -> None:
        self.ledger, self._unsent, self._sessions, self._active = Ledger(), [], 0, True
        options = environment.parsed_options
        if not isinstance(environment.runner, WorkerRunner):  # whose options are those of its master
            options.chat_nonce = secrets.randbits(63)
            options.chat_first = int(time() * SEQUENCES_PER_S) % 2**32
            # A worker that was started by itself knows neither --users nor how many others there are.
            options.chat_sessions = options.chat_clients or options.num_users or 1
            options.chat_dealt = self._workers(options)
            if (wrong := unwritable(options.chat_summary)) is not None:
                self._give_up(f"--chat-summary is {options.chat_summary}: {wrong}")
                return
        if self._native is None:
            return
        workers = options.chat_dealt
        index = environment.runner.worker_index + 1
        for signal in self._signals.values():
            signal.clear()
        keep = options.chat_records
        try:
            where = Path(tempfile.mkdtemp(prefix="chat-", dir=_made(keep) if keep else None))
            self._records = None if keep else where
            if index > workers:
                raise SpecError("options", [f"this is worker {index} of {workers}: see --chat-workers"])
            spec = load_spec(options, environment.host or "", self._allowed, where, workers)
        except OSError as failed:
            self._give_up(f"--chat-records is {keep or 'not given'}: cannot be written: {failed.strerror}")
            return
        except SpecError as wrong:
            self._give_up(in_options(wrong))
            return
        self._own = spec.workload.clients // workers
        self._native.call(self._native.begin, spec, index, workers, options.chat_first)
        if not self._signals["begun"].wait(BUILD_S):
            self._give_up(f"the load did not begin within {BUILD_S:g} s")

    def _workers(self, options: Namespace) -> int:
        if not isinstance(self._env.runner, MasterRunner):
            return 1
        given = options.chat_workers or options.processes or options.expect_workers
        return max(1, int(given or 1), self._env.runner.worker_count if not options.chat_workers else 1)

    def _give_up(self, why: str) -> None:
        log.error("%s", why)
        self._active = False
        self._signals["begun"].set()
        if self._env.web_ui is None:
            self._env.process_exit_code = 2
            gevent.spawn(self._env.runner.quit)
        else:  # which may try again; it lists this under Failures
            self._env.stats.log_error("", "start", why)
            gevent.spawn(self._env.runner.stop)

    def _stopping(self, environment: Environment, **_: Any) -> None:
        """Before the users go: what is under way arrives, so that the counts agree with the server's."""
        if not self._active:
            return
        if self._native is None:
            self._drained_workers.clear()
            environment.runner.send_message("chat_drain")
            there = len(environment.runner.clients.all)
            with gevent.Timeout(DRAIN_S + 2, False):
                while len(self._drained_workers) < there:
                    gevent.sleep(0.02)
        elif not self._signals["drained"].is_set():
            self._drain()
        if environment.parsed_options.csv_prefix:  # Locust rewrites it now and then, not at the end
            gevent.sleep(CSV_STATS_INTERVAL_SEC + 0.2)

    def _drain(self) -> None:
        assert self._native is not None
        self._native.call(self._native.drain, DRAIN_S)
        self._signals["drained"].wait(DRAIN_S + 1)

    def _drain_for_master(self, environment: Environment, msg: Any) -> None:
        self._drain()
        environment.runner._send_stats()
        environment.runner.send_message("chat_drained")

    def _worker_drained(self, environment: Environment, msg: Any) -> None:
        self._drained_workers.add(msg.node_id)

    def _stopped(self, environment: Environment, **_: Any) -> None:
        if not self._active:
            return
        self._active = False
        if self._native is not None:
            self._native.call(self._native.end)
            self._signals["ended"].wait(5)
            if self._records is not None:
                shutil.rmtree(self._records, ignore_errors=True)
        if not isinstance(environment.runner, WorkerRunner):
            self._tell(environment.parsed_options)

    def _tell(self, options: Namespace) -> None:
        found = self.ledger.summary()
        counts = ", ".join(f"{name} {found[name]:,}" for name in ("sent", "acked", "received"))
        times = ", ".join(
            f"{name.replace('p100', 'max')} {three(value)} ms" for name, value in found["delivery_ms"].items()
        )
        times = (
            f"delivered {times} after it was due" if self.ledger.delivery.count else "nothing was delivered"
        )
        log.info("%s; %s; generator's lag p99 %s ms", counts, times, three(found["lag_p99_ms"]))
        if found["lag_p99_ms"] > LAG_MS:
            log.warning("the generator was late (lag p99 above %g ms): its latencies say little", LAG_MS)
        if found["lost"]:
            log.warning("%d records could not be kept: the disk is full", found["lost"])
        if options.chat_summary:
            try:
                Path(options.chat_summary).write_text(json.dumps(found, indent=1) + "\n")
            except OSError as failed:
                log.error(
                    "--chat-summary is %s: cannot be written: %s", options.chat_summary, failed.strerror
                )
                self._env.process_exit_code = 2

    # What comes from the thread, and goes to the master --------------------------------------------------

    def _hear(self, kind: str, what: Any) -> None:
        if kind in self._signals:
            self._signals[kind].set()
        elif kind == "crashed":
            self._give_up(f"internal error of the load\n{what}")
        else:
            locust, chat = what
            merge(self._env.stats, locust)
            if isinstance(self._env.runner, WorkerRunner):
                self._unsent.append(chat)
            else:
                self.ledger.add(chat)

    def _to_master(self, client_id: str, data: dict[str, Any], **_: Any) -> None:
        data["chatproof"], self._unsent = self._unsent, []

    def _from_worker(self, client_id: str, data: dict[str, Any], **_: Any) -> None:
        for report in data.get("chatproof", ()):
            self.ledger.add(report)


def merge(stats: RequestStats, report: dict[str, Any]) -> None:
    """Add one interval of a worker (``Figures.take_locust``) to Locust's statistics."""
    for row in report["stats"]:
        stats.get(row["name"], row["method"]).extend(StatsEntry.unserialize(row, stats))
    if report["stats_total"]["num_requests"]:
        stats.total.extend(StatsEntry.unserialize(report["stats_total"], stats))
    for key, row in report["errors"].items():
        if key in stats.errors:
            stats.errors[key].occurrences += row["occurrences"]
        else:
            stats.errors[key] = StatsError.unserialize(row)


def _made(directory: str) -> str:
    Path(directory).mkdir(parents=True, exist_ok=True)
    return directory


def of_a_master_elsewhere() -> bool:
    """Whether ``--processes`` came with ``--worker``: then the first process leaves Ctrl-C to the others."""
    return "--worker" in sys.argv or "LOCUST_MODE_WORKER" in os.environ


@events.init.add_listener  # type: ignore[untyped-decorator]
def begin(environment: Environment, **_: Any) -> None:
    """Once for each process, after any fork."""
    # The native thread may not log: a logger that is off does not look for its level, which takes a lock.
    for name in ("asyncio", "picows", "loadgen.connection", "loadgen.client", "loadgen.engine"):
        logging.getLogger(name).disabled = True
    options = environment.parsed_options
    # Ctrl-C reaches all processes of a terminal at once; a worker that ends by itself sends no last report.
    if options.processes and isinstance(environment.runner, WorkerRunner) and not of_a_master_elsewhere():
        os.setpgid(0, 0)
    # Taken now: a master's message may change the options of its workers, but not whom they may load.
    hosts = tuple(filter(None, options.chat_allow_target.split(",")))
    ChatSession.load = ChatLoad(environment, hosts)
    # Timers count from when gevent looked at the clock last, before the imports: --run-time would be cut
    # short by as long as they took.
    gevent.get_hub().loop.update_now()


class ChatSession(User):  # type: ignore[misc]  # locust is not followed by mypy
    """One open session. What it says is the schedule's to decide."""

    wait_time = constant(1)
    load: ChatLoad

    def on_start(self) -> None:
        self.load.arrive()

    def on_stop(self) -> None:
        self.load.leave()

    @task  # type: ignore[untyped-decorator]
    def follow_the_schedule(self) -> None:
        """Nothing: the engine does it, in its own thread."""

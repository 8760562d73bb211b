"""The load's master: Locust's own ``MasterRunner`` and web UI, driven in JSON lines.

Commands come on standard input, events go to standard output, one JSON object a line
(nothing else is ever printed there)::

    {"cmd":"start","t0_ns":N}            {"event":"listening","port":P,"ui":URL or null}
    {"cmd":"drain","sentinels":{…}}      {"event":"ready","workers":W}
    {"cmd":"reconnect_behind"}           {"event":"stats",…}                 twice a second
    {"cmd":"stop"}, or end of file       {"event":"worker_lost","index":K,"why":…}
                                         {"event":"stopped","workers":[counters,…]}

With ``--away`` the workers come from other hosts: each is given a number when it registers, its clock is
compared with this one's for as long as it is there, and its records are fetched at the end (``collect``)::

    {"event":"arrived","index":K,"host":…}          {"event":"turned_away","host":…,"why":…}
    {"event":"clock","index":K,"host":…,"boot_id":…,"reading":[worker_ns,offset_ns,bound_ns]}
    {"event":"collecting","got_bytes":N,"of_bytes":N}     while they come

Without ``--ui`` the schedule owns the sessions and Locust's spawn only opens the gate. With it all
sessions are opened at the start, and from then on the user count of the page says how many of the
ordered sessions are open. Users are never
rebalanced: worker k of W owns the clients ≡ k (mod W), and a missing worker makes the run void.

``import locust`` patches the whole process, so nothing but this module and ``locustfile.py`` may do it.
"""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import stat
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, NoReturn

import click
import gevent
import gevent.event
import gevent.socket
from locust import User, stats, task
from locust.env import Environment
from locust.exception import RPCError
from locust.log import LogReader
from locust.runners import STATE_INIT, STATE_MISSING, STATE_STOPPED
from zmq.error import ZMQError

from .clock import BURST, BURST_S, PROBE_S, Reading
from .collect import NotCollected
from .dispatcher import StripedDispatcher
from .guests import Guests
from .page import Guard, PageError, Tables, add_tabs, read_login, wait_for_start
from .roster import Roster
from .workload import LoadSpec, SpecError, read_spec

log = logging.getLogger("loadgen.master")

STATS_S: Final = 0.5
ASKED_S: Final = 2.5  # a page that is open asks for its figures every 2 s
FINISH_S: Final = 10.0  # for the workers to close their files; and for each piece of one that is fetched


class ChatClient(User):  # type: ignore[misc]  # locust is not followed by mypy
    """The one kind of user: a client of ``loadgen.client``. Workers have it; the master only counts it."""

    @task  # type: ignore[untyped-decorator]
    def follow_the_schedule(self) -> None:
        """Never run here; the page lists it."""


class Page(NamedTuple):
    """Where the web UI is, and who may use it; None: everybody on this machine."""

    host: str
    port: int
    login: tuple[str, str] | None


class Master:
    """Locust's master and what goes between it and the JSON lines.

    Args:
        guests: who comes from other hosts, when all workers do; None: they are children of the run.
        listen: host and port that workers dial; port 0: any free one.
    """

    def __init__(
        self,
        spec: LoadSpec,
        spec_text: str,
        workers: int,
        out: IO[str],
        *,
        guests: Guests | None = None,
        listen: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self._spec, self._spec_text, self._out = spec, spec_text, out
        self._roster = Roster(spec, workers)
        self._guests = guests
        self._stop = gevent.event.Event()
        self._tables: Tables | None = None  # of the page
        self._interactive = False
        self._asked_s = -math.inf  # when a page asked for its figures last
        self._ready = self._started = False
        self._env = Environment(
            user_classes=[ChatClient],
            host=spec.targets[0],
            dispatcher_class=partial(StripedDispatcher, roster=self._roster, sleep=gevent.sleep),
        )
        self._runner = self._env.create_master_runner(*listen)
        for kind, hear in (
            ("register", self._register),
            ("prepared", self._prepared),
            ("refused", self._refused),
            ("finished", self._finished),
            ("clock", self._compared),
            ("piece", self._fetched),
        ):
            self._runner.register_message(kind, hear)
        self._env.events.worker_report.add_listener(self._reported)

    def run(self, page: Page | None) -> None:
        """Work until ``stop``, the end of standard input or a signal; then end the workers."""
        for number in (signal.SIGTERM, signal.SIGINT):
            gevent.signal_handler(number, self._stop.set)
        self._interactive = page is not None
        url = self._serve(page) if page is not None else None
        self._say("listening", port=self._runner.server.port, ui=url)
        background = [gevent.spawn(self._read_commands), gevent.spawn(self._tell_stats)]
        background += [gevent.spawn(self._compare_clocks)] if self._guests is not None else []
        self._stop.wait()
        gevent.killall(background)
        self._finish()
        if self._env.web_ui is not None:
            self._dismiss()
            self._env.web_ui.stop()
        self._runner.greenlet.kill(block=True)

    # What workers say ---------------------------------------------------------------------------------

    def _register(self, environment: Environment, msg: Any) -> None:
        index, roster = msg.data["index"], self._roster
        if self._guests is not None:
            index = self._guests.number(msg.data, taken=roster.nodes.keys())
            if why := self._guests.why_not(msg.data, index):
                self._say("turned_away", host=self._guests.host_in(msg.data), why=why)
                self._runner.send_message("turned_away", {"why": why}, client_id=msg.node_id)
                return
            self._guests.welcome(index, msg.data)
            self._say("arrived", index=index, host=self._guests.hosts[index].name)
        elif not 1 <= index <= roster.workers or index in roster.nodes:
            log.error("a worker came as number %s: that is taken, or not one of 1..%d", index, roster.workers)
            self._runner.send_message("quit", client_id=msg.node_id)
            return
        roster.nodes[index] = msg.node_id
        plan = {"spec": self._spec_text, "workers": roster.workers, "index": index}
        self._runner.send_message("plan", plan, client_id=msg.node_id)

    def _prepared(self, environment: Environment, msg: Any) -> None:
        self._roster.prepared.add(msg.data["index"])
        if self._guests is not None:
            self._guests.hosts[msg.data["index"]].records = str(msg.data["records"])
        self._tell_ready()

    def _tell_ready(self) -> None:
        """Once all workers hold the plan, and the clocks of those on other hosts are known."""
        clocks_known = self._guests is None or self._guests.compared
        if len(self._roster.prepared) == self._roster.workers and clocks_known and not self._ready:
            self._ready = True
            self._say("ready", workers=self._roster.workers)

    def _refused(self, environment: Environment, msg: Any) -> None:
        self._lose(msg.data["index"], msg.data["why"])

    def _finished(self, environment: Environment, msg: Any) -> None:
        index = msg.data["index"]
        self._roster.counters[index] = msg.data["counters"]
        if not self._stop.is_set():
            self._lose(index, "it ended before it was told to; see its log")
        if self._guests is not None:
            try:
                self._guests.announce(index, msg.data["files"], time.monotonic())
            except NotCollected as failed:
                self._lose(index, str(failed))
            self._fetch(index)

    def _compared(self, environment: Environment, msg: Any) -> None:
        """A worker on another host has said what its clock shows."""
        assert self._guests is not None
        index = msg.data["index"]
        if (kept := self._guests.heard(msg.data, time.monotonic_ns())) is not None:
            self._tell_clock(index, kept)
            self._tell_ready()

    def _tell_clock(self, index: int, kept: Reading) -> None:
        assert self._guests is not None
        host = self._guests.hosts[index]
        reading = [kept.worker_ns, kept.offset_ns, kept.bound_ns]
        self._say("clock", index=index, host=host.name, boot_id=host.boot_id, reading=reading)

    def _fetched(self, environment: Environment, msg: Any) -> None:
        """A piece of a file, as it was asked for."""
        assert self._guests is not None
        index, data = msg.data["index"], msg.data
        try:
            self._guests.take(index, data["name"], data["offset"], data["data"], time.monotonic())
        except NotCollected as failed:
            self._lose(index, str(failed))
        self._fetch(index)

    def _fetch(self, index: int) -> None:
        """Ask for the next piece, or tell the worker that everything is here."""
        assert self._guests is not None
        node = self._roster.nodes[index]
        try:
            wanted = self._guests.wanted(index)
        except NotCollected as failed:
            self._lose(index, str(failed))
            return
        if wanted is not None:
            self._runner.send_message("fetch", wanted._asdict(), client_id=node)
        elif self._guests.is_complete(index):
            self._runner.send_message("collected", client_id=node)

    def _reported(self, client_id: str, data: dict[str, Any]) -> None:
        if "chatproof" in data:
            report, now_s = data["chatproof"], time.monotonic()
            self._roster.report(report, now_s)
            if self._tables is not None:
                self._tables.add(report, now_s, self._roster.cpu.get(report["index"], 0.0))

    def _lose(self, index: int, why: str) -> None:
        if self._guests is not None:
            why = f"{why}{self._guests.whereabouts(index)}"
        if index not in self._roster.lost:
            self._roster.lost.add(index)
            self._say("worker_lost", index=index, why=why)

    # What the owner says ------------------------------------------------------------------------------

    def _read_commands(self) -> None:
        for line in _lines(sys.stdin.fileno()):
            try:
                command = json.loads(line)
                self._obey(command)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                log.error("command %r cannot be read: %s", line[:200], error)
        self._stop.set()

    def _obey(self, command: dict[str, Any]) -> None:
        match command["cmd"]:
            case "start":
                self._start(int(command["t0_ns"]))
            case "drain":
                self._runner.send_message("drain", {"sentinels": dict(command["sentinels"])})
            case "reconnect_behind":
                self._runner.send_message("reconnect_behind")
            case "stop":
                self._stop.set()
            case other:
                log.error("command %r is not known: start, drain, reconnect_behind, stop are", other)

    def _start(self, t0_ns: int) -> None:
        if self._started:
            log.error("command 'start' came twice: the schedule is running already")
            return
        self._started = True
        if self._tables is not None:
            self._tables.begin(t0_ns / 1e9)
        ahead_ns = self._guests.ahead_ns() if self._guests is not None else []
        phase = {"t0_ns": t0_ns, "interactive": self._interactive, "ahead_ns": ahead_ns}
        self._runner.send_message("phase", phase)
        workload = self._spec.workload
        # Headless, this opens the gate and the schedule opens the sessions; else it opens them, as fast
        # as the schedule would, and the page may then ask for more or fewer.
        ramp_s = workload.connect_over_s if self._interactive else 0.0
        log.info("the load starts: %d workers, %d clients", self._roster.workers, workload.clients)
        gevent.spawn(self._runner.start, workload.clients, workload.clients / max(ramp_s, 1.0))

    # What goes out ------------------------------------------------------------------------------------

    def _tell_stats(self) -> None:
        roster = self._roster
        while True:
            gevent.sleep(STATS_S)
            for index, node in roster.nodes.items():
                worker = self._runner.clients.get(node)
                if worker is None or worker.state == STATE_MISSING:
                    self._lose(index, "it has not been heard for 3 s")
            # Sums over some of the workers only would say that less is left to do than there is.
            if self._started and len(roster.reports.keys() | roster.lost) == roster.workers:
                self._say("stats", t_ns=time.monotonic_ns(), **roster.stats(time.monotonic()))

    def _compare_clocks(self) -> None:
        assert self._guests is not None
        while True:
            self._ask_clocks(1)
            gevent.sleep(PROBE_S if self._guests.compared else BURST_S)

    def _ask_clocks(self, times: int) -> None:
        for _ in range(times):
            # One that still draws its schedule would answer late, and its first reading be a bad one.
            for index in sorted(self._roster.prepared - self._roster.lost):
                node = self._roster.nodes[index]
                asked = {"asked_ns": time.monotonic_ns()}
                self._runner.send_message("clock", asked, client_id=node)
            gevent.sleep(BURST_S if times > 1 else 0)

    def _say(self, event: str, **fields: Any) -> None:
        try:
            self._out.write(json.dumps({"event": event, **fields}) + "\n")
            self._out.flush()
        except (BrokenPipeError, ValueError):
            self._stop.set()  # nobody listens any more

    def _finish(self) -> None:
        """Tell the workers to end, and wait for their counters."""
        roster, guests = self._roster, self._guests
        if guests is not None:
            self._ask_clocks(BURST)
            gevent.sleep(2 * PROBE_S)  # for the answers
            for index, kept in guests.close():
                self._tell_clock(index, kept)
        self._runner.send_message("quit")
        with gevent.Timeout(FINISH_S, False):
            while set(roster.nodes) - roster.lost - set(roster.counters):
                gevent.sleep(0.02)
        for index in sorted(set(roster.nodes) - set(roster.counters)):
            self._lose(index, f"it did not close its log within {FINISH_S:g} s")
        while guests is not None and (coming := guests.under_way()):
            gevent.sleep(STATS_S / 2)
            self._say("collecting", got_bytes=guests.got_bytes, of_bytes=guests.of_bytes)
            for index in coming:
                if guests.give_up(index, time.monotonic() - FINISH_S):
                    self._lose(index, f"its records stopped coming for {FINISH_S:g} s")
        self._say("stopped", workers=[counters for _, counters in sorted(roster.counters.items())])

    # The page -----------------------------------------------------------------------------------------

    def _serve(self, page: Page) -> str:
        run, events = self._spec.run_dir.name, self._env.events
        stats.PERCENTILES_TO_CHART = [0.5, 0.95, 0.99]
        self._env.locustfile = run  # the page's word for what was run, and a part of its files' names
        ui = self._env.create_web_ui(page.host, page.port, delayed_start=True)
        ui.app.debug = False
        guard = Guard(host=page.host, login=page.login, target=self._spec.targets[0])
        ui.app.before_request(guard)
        ui.app.after_request(guard.framed_by_nobody)
        wait_for_start(ui.app, self._waiting)
        self._tables = tables = Tables()
        add_tabs(ui.app, ui.template_args, tables, run, self._shown_now)
        for begun in (events.reset_stats, events.test_start):
            begun.add_listener(lambda **_: tables.clear())
        ui.start()
        gevent.spawn(stats.stats_history, self._runner)  # what the page's charts show
        while ui.server is None or not ui.server.started:
            if ui.greenlet.dead:
                raise PageError(f"the page cannot be served on {page.host} port {page.port}; see the log")
            gevent.sleep(0.01)
        shown = f"[{page.host}]" if ":" in page.host else page.host
        return f"http://{shown}:{ui.server.server_port}"

    def _waiting(self) -> str | None:
        if self._runner.state != STATE_INIT:
            return None
        return f"{len(self._roster.prepared)} of {self._roster.workers} workers are ready"

    def _shown_now(self) -> dict[str, Any]:
        """For the page; it asks on for as long as the state is that of a load."""
        self._asked_s = time.monotonic()
        return {"state": self._runner.state, "user_count": self._runner.user_count}

    def _dismiss(self) -> None:
        """Tell a page that is open that this is the end, or it would ask for ever."""
        self._runner.update_state(STATE_STOPPED)
        now_s = time.monotonic()
        while now_s - ASKED_S < self._asked_s < now_s and time.monotonic() < now_s + ASKED_S:
            gevent.sleep(0.05)


def _lines(descriptor: int) -> Iterator[bytes]:
    """Lines of a pipe, terminal or file, without standing in the way of other greenlets."""
    kind = os.fstat(descriptor).st_mode
    waits = stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind) or os.isatty(descriptor)
    rest = b""
    while True:
        if waits:
            gevent.socket.wait_read(descriptor)
        chunk = os.read(descriptor, 65_536)
        *lines, rest = (rest + chunk).split(b"\n")
        yield from filter(None, lines)
        if not chunk:
            if rest:
                yield rest
            return


def _own_stdout() -> IO[str]:
    """Standard output for the events alone: whatever a library prints goes to standard error."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


def _set_up_logs() -> None:
    """Warnings go to standard error; what the page shows as its log is told a little more."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    (errors,) = logging.getLogger().handlers
    errors.setLevel(logging.WARNING)
    logging.getLogger().addHandler(page := LogReader())
    page.name = "log_reader"  # by which the page finds it
    page.setFormatter(logging.Formatter("[%(asctime)s] %(levelname)s/%(name)s: %(message)s"))


def _fail(out: IO[str], why: str) -> NoReturn:
    out.write(json.dumps({"event": "failed", "why": why}) + "\n")
    out.flush()
    sys.exit(2)


@click.command()
@click.option("--spec", "spec_file", type=click.Path(path_type=Path), required=True, help="config/load.json")
@click.option("--workers", type=click.IntRange(1, 1024), required=True, help="How many workers will come.")
@click.option("--away", is_flag=True, help="They come from other hosts, by themselves.")
@click.option("--bind-host", default="127.0.0.1", show_default=True, help="What workers dial.")
@click.option("--bind-port", type=click.IntRange(0, 65535), default=0, help="Its port; 0: any free one.")
@click.option("--ui/--no-ui", default=False, help="Serve Locust's web UI.")
@click.option("--ui-host", default="127.0.0.1", show_default=True, help="What it listens on.")
@click.option("--ui-login-file", type=click.Path(path_type=Path), help="One line, user:password.")
@click.option(
    "--ui-port", type=click.IntRange(0, 65535), default=0, help="Port of the web UI; 0: any free one."
)
def main(
    spec_file: Path, workers: int, away: bool, bind_host: str, bind_port: int,
    ui: bool, ui_host: str, ui_login_file: Path | None, ui_port: int,
) -> None:  # fmt: skip
    """Run the Locust master of a load. Commands on standard input, events on standard output."""
    _set_up_logs()
    try:
        spec = read_spec(spec_file)
        page = Page(ui_host, ui_port, read_login(ui_login_file, ui_host)) if ui else None
    except (SpecError, PageError) as error:
        click.echo(error, err=True)
        sys.exit(2)
    sys.argv = sys.argv[:1]  # Locust's page reads the command line as if it were its own
    out = _own_stdout()
    guests = Guests(spec.run_dir / "events", workers) if away else None
    listen = (f"[{bind_host}]" if ":" in bind_host else bind_host, bind_port)
    try:
        master = Master(spec, spec_file.read_text(), workers, out, guests=guests, listen=listen)
    except (RPCError, SystemExit, ZMQError) as error:  # Locust ends the process where a port is taken
        _fail(out, f"workers cannot be listened for on {bind_host} port {bind_port}: {error}")
    try:
        master.run(page)
    except PageError as error:
        _fail(out, str(error))


if __name__ == "__main__":
    main()

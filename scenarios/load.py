"""Handle on the load: a Locust master and its workers, spoken to in JSON lines.

The master answers on its standard output; a reader thread puts its events into a
queue, so that the run's one loop can wait for "an event, or the next fault", whichever
comes first.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from chaos.process import ProcessSpec, Supervisor
from reports.clock import host_clocks, uncertainty_ns

from .away import Away

START_S = 30.0  # for the master to listen


@dataclass(frozen=True, slots=True)
class Page:
    """Where Locust's page is served; port 0: any free one. Off loopback it needs a login."""

    host: str = "127.0.0.1"
    port: int = 0
    login_file: Path | None = None

    def options(self) -> list[str]:
        """Of ``loadgen.master``."""
        login = ["--ui-login-file", str(self.login_file)] if self.login_file else []
        return ["--ui", "--ui-host", self.host, "--ui-port", str(self.port), *login]


class LoadFailed(Exception):
    """The load could not be started or ended by itself; the message says which process and why."""


class Load:
    """One master and ``workers`` workers, each a process of the supervisor.

    Args:
        away: the workers are not ours to start: they come from other hosts.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        run_path: Path,
        *,
        workers: int,
        page: Page | None,
        away: Away | None = None,
    ) -> None:
        self._supervisor, self._path, self._workers = supervisor, run_path, workers
        self._clocks: dict[str, dict[str, Any]] = {}  # of workers on other hosts, as run.json has them
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        self.stats: dict[str, Any] = {}
        self.ui_url: str | None = None
        self.hit: frozenset[int] = frozenset()  # workers that a fault of the plan may take away
        self.gone: set[int] = set()  # those of them that are gone
        argv = [sys.executable, "-m", "loadgen.master", "--spec", str(run_path / "config/load.json")]
        argv += ["--workers", str(workers), *(page.options() if page else [])]
        argv += away.options() if away else []
        master = supervisor.start(
            ProcessSpec(
                name="master", argv=tuple(argv), log=run_path / "logs/master.log", role="harness",
                stdin=True, stdout=True,
            )
        )  # fmt: skip
        assert master.stdin is not None
        assert master.stdout is not None
        self._stdin: IO[bytes] = master.stdin
        threading.Thread(target=self._read, args=(master.stdout.fileno(),), daemon=True).start()

    def _read(self, stdout: int) -> None:
        for line in open(stdout, "rb", closefd=False):
            try:
                event = json.loads(line)
            except ValueError:
                event = {"event": "noise", "text": line.decode(errors="replace").rstrip()}
            self._events.put(event if isinstance(event, dict) else {"event": "noise", "text": str(event)})
        self._events.put({"event": "closed"})

    def await_workers(self, away: Away, told: Callable[[str], None], targets: Sequence[str]) -> None:
        """Wait until as many workers have come from other hosts as are expected, and hold the plan.

        Args:
            told: is given a line whenever something happens that a person waits for.
            targets: what the load dials, for the command that starts a worker.
        Raises:
            LoadFailed: they did not come in time.
        """
        listening = self.expect("listening", START_S)
        self.ui_url = listening.get("ui")
        command = away.command(listening["port"], targets)
        told(
            f"load      waiting for {self._workers} workers; start each on its host with\n          {command}"
        )
        deadline = time.monotonic() + away.wait_s
        arrived, why = 0, "none was turned away"
        while (left_s := deadline - time.monotonic()) > 0:
            for event in self.poll(left_s):
                match event["event"]:
                    case "ready":
                        return
                    case "arrived":
                        arrived += 1
                        told(f"          worker {event['index']} of {self._workers} is on {event['host']}")
                    case "turned_away":
                        why = f"one on {event['host']} was turned away: {event['why']}"
                        told(f"          {why}")
                    case "closed" | "worker_lost":
                        raise LoadFailed(f"workers were waited for: {event.get('why', 'the master ended')}")
        raise LoadFailed(
            f"{arrived} of {self._workers} workers came within {away.wait_s:g} s, and {why}; "
            f"start each on its host with: {command}"
        )

    def clock(self) -> dict[str, Any]:
        """What run.json says of the clocks of other hosts; {}: there are none."""
        if not self._clocks:
            return {}
        found = {"workers": self._clocks}
        return {**found, "uncertainty_ns": uncertainty_ns(host_clocks({"clock": found}))}

    def connect_workers(self, timeout_s: float = START_S) -> None:
        """Start the workers and wait until all of them hold the plan.

        Raises:
            LoadFailed: the master or a worker did not get that far.
        """
        listening = self.expect("listening", timeout_s)
        self.ui_url = listening.get("ui")
        for index in range(1, self._workers + 1):
            argv = [sys.executable, "-m", "loadgen.worker", "--master-host", "127.0.0.1"]
            argv += ["--master-port", str(listening["port"]), "--index", str(index)]
            log = self._path / f"logs/worker-{index}.log"
            spec = ProcessSpec(name=f"worker-{index}", argv=tuple(argv), log=log, role="harness")
            self._supervisor.start(spec)
        self.expect("ready", timeout_s)

    def send(self, command: str, **fields: Any) -> None:
        """Give the master a command; one that is gone is noticed by its closed output instead."""
        try:
            self._stdin.write(json.dumps({"cmd": command, **fields}).encode() + b"\n")
            self._stdin.flush()
        except (BrokenPipeError, ValueError):
            return

    def poll(self, timeout_s: float) -> Iterator[Mapping[str, Any]]:
        """Events that are there, waiting up to ``timeout_s`` for the first; keeps ``stats`` current."""
        wait_s = max(0.0, timeout_s)
        while True:
            try:
                event = self._events.get(timeout=wait_s) if wait_s else self._events.get_nowait()
            except queue.Empty:
                return
            wait_s = 0.0
            if event["event"] == "stats":
                self.stats = event
            elif event["event"] == "worker_lost" and event["index"] in self.hit:
                self.gone.add(event["index"])
                continue
            elif event["event"] == "clock":
                clock = {"host": event["host"], "boot_id": event["boot_id"], "readings": []}
                self._clocks.setdefault(str(event["index"]), clock)["readings"].append(event["reading"])
                continue
            yield event

    def expect(self, name: str, timeout_s: float) -> Mapping[str, Any]:
        """Wait for one event.

        Raises:
            LoadFailed: it did not come in time, or the master ended.
        """
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            for event in self.poll(left_s):
                if event["event"] == name:
                    return event
                if event["event"] in ("closed", "worker_lost", "failed"):
                    why = event.get("why", "it ended")
                    raise LoadFailed(
                        f"the load did not get to {name!r}: {why}; see logs/ in the run directory"
                    )
        raise LoadFailed(f"the load did not get to {name!r} within {timeout_s:g} s; see logs/master.log")

    def end(self, timeout_s: float) -> list[str]:
        """End the load so that its records are closed, and those of other hosts here.

        Args:
            timeout_s: for the master to say something; records that are still coming count.
        Returns:
            What went wrong, a sentence each; records may be missing then.
        """
        self.send("stop")
        wrong: list[str] = []
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            for event in self.poll(left_s):
                match event["event"]:
                    case "stopped":
                        return wrong
                    case "collecting":
                        deadline = time.monotonic() + timeout_s
                    case "worker_lost":
                        wrong.append(
                            f"worker {event['index']}: {event['why']}; see logs/ in the run directory"
                        )
                    case "closed":
                        return [*wrong, "the load's master has ended; see logs/master.log"]
        return [*wrong, f"the load has not ended within {timeout_s:g} s; see logs/master.log"]

"""Processes of a run: started, watched, signalled and ended here and nowhere else.

Three promises:

- Ctrl-C reaches only the controller: each child leads a session of its own.
- Nothing outlives the controller, not even ``kill -9`` of it: the kernel kills a child,
  paused or not, when the thread that started it dies (PR_SET_PDEATHSIG, prctl(2)).
  Hence children are started from the main thread only: another thread may end early.
- Every exit is recorded once, with whether it was asked for. A process is its process
  group: signals go to the whole group, and what a dead leader leaves behind dies with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import os
import resource
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal, Protocol

Role = Literal["target", "harness"]

HOOK_S = 2.0  # for a process to answer on its port of test hooks
HOOK_HEADER = "Chatd-Test-Hook"  # a page of another site cannot send it unasked
REAP_S = 10.0  # SIGKILL cannot be refused, but the kernel may need time to free a large process


class ProcessError(Exception):
    """A process cannot be started, or is not there."""


class NotRunning(ProcessError):
    """There is no such process, or it has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """How to start one process, the first time and again."""

    name: str
    argv: tuple[str, ...]
    log: Path  # stderr, and stdout unless piped, are appended
    role: Role
    env: Mapping[str, str] = field(default_factory=dict)  # on top of ours
    stdin: bool = False  # True: a pipe
    stdout: bool = False
    hooks: str = ""  # HOST:PORT where it answers GET /hooks/NAME?ms=N, if anywhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    process: str
    role: Role
    pid: int
    t: int  # ns, CLOCK_MONOTONIC
    fault_id: str  # "" = by no fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """The end of a process. ``code`` and ``signal``: exactly one is set."""

    process: str
    role: Role
    pid: int
    t: int  # ns when it was seen, CLOCK_MONOTONIC
    fault_id: str
    code: int | None
    signal: str | None
    planned: bool  # someone here asked for it
    error: str | None = None
    ready: bool = True  # False: it had not yet served anybody


class ProcessJournal(Protocol):
    """Where starts and exits are written; chaos.journal.Journal is one."""

    def started(self, start: Started) -> None: ...
    def exited(self, exit_: Exit) -> None: ...


@dataclass(slots=True)
class Process:
    """A process that was started. Pipes are unbuffered, None unless the spec asked for them."""

    spec: ProcessSpec
    popen: subprocess.Popen[bytes]
    asked: list[int] = field(default_factory=list)  # signals sent that end a process
    fault_id: str = ""  # of the last of them
    expected: bool = False
    ready: bool = True  # unless its start is being waited for
    error: str | None = None
    exit: Exit | None = None

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def stdin(self) -> IO[bytes] | None:
        return self.popen.stdin

    @property
    def stdout(self) -> IO[bytes] | None:
        return self.popen.stdout

    def send(self, signum: int) -> None:
        """Signal the group. Its id cannot be another's: the leader is ours and not yet reaped."""
        os.killpg(self.pid, signum)

    def planned(self, returncode: int) -> bool:
        """Whether this end is the one that was asked for: a crash just before SIGKILL is not."""
        return self.expected or signal.SIGTERM in self.asked or -returncode in self.asked


_prctl = getattr(
    ctypes.PyDLL(None), "prctl", None
)  # Linux; looked up before any fork, called with the GIL held
_PR_SET_PDEATHSIG = 1


def _die_with(parent: int) -> Callable[[], None]:
    """What the child does between fork and exec. It takes no lock and starts no thread."""

    def before_exec() -> None:
        if _prctl is not None:
            _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
            if os.getppid() != parent:  # the controller died before prctl: no signal will come
                os.kill(os.getpid(), signal.SIGKILL)

    return before_exec


class Supervisor:
    """Owns the processes of a run, by name."""

    def __init__(self, journal: ProcessJournal, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._journal = journal
        self._clock = clock
        self._processes: dict[str, Process] = {}  # in order of first start
        self._prepared: dict[str, ProcessSpec] = {}  # that were not started yet
        self._unseen: list[Exit] = []

    def start(self, spec: ProcessSpec, *, fault_id: str = "") -> Process:
        """Start a process and return at once.

        Raises:
            ProcessError: it cannot be executed, or one of that name runs.
            RuntimeError: not called from the main thread.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                "processes are started from the main thread: they die with the thread that starts them"
            )
        if self.running(spec.name):
            raise ProcessError(f"process {spec.name!r} runs already")
        try:
            with spec.log.open("ab") as log:
                popen = subprocess.Popen(
                    spec.argv,
                    bufsize=0,
                    stdin=subprocess.PIPE if spec.stdin else subprocess.DEVNULL,
                    stdout=subprocess.PIPE if spec.stdout else log,
                    stderr=log,
                    env={**os.environ, **spec.env},
                    start_new_session=True,
                    preexec_fn=_die_with(os.getpid()),
                )
        except OSError as error:
            raise ProcessError(f"process {spec.name!r} cannot be started: {error}") from error
        process = self._processes[spec.name] = Process(spec, popen)
        self._journal.started(
            Started(process=spec.name, role=spec.role, pid=popen.pid, t=self._clock(), fault_id=fault_id)
        )
        return process

    def prepare(self, spec: ProcessSpec) -> None:
        """Know how to start a process that is to come later, by ``restart``."""
        self._prepared[spec.name] = spec

    def restart(self, name: str, *, fault_id: str = "") -> Process:
        """Start a process again as it was started first, or one that was prepared; SIGKILL one that runs.

        Raises:
            NotRunning: no process of that name was ever started or prepared.
            ProcessError: it cannot be ended or started.
        """
        if (spec := self._prepared.pop(name, None)) is not None:
            return self.start(spec, fault_id=fault_id)
        process = self._get(name)
        if self._reap(process) is None:
            if process.asked and signal.SIGKILL not in process.asked:
                process.error = (
                    f"still running after {signal.Signals(process.asked[-1]).name}: ended by SIGKILL"
                )
            self._ask(process, signal.SIGKILL, fault_id)
            if self.wait(name, timeout_s=REAP_S) is None:
                raise ProcessError(f"process {name!r} does not end within {REAP_S:g} s of SIGKILL")
        _close_pipes(process)
        return self.start(process.spec, fault_id=fault_id)

    def signal(self, name: str, signum: int, *, fault_id: str = "") -> int:
        """Send a signal; the pid that it went to.

        Raises:
            NotRunning: it has ended, or was never started.
        """
        process = self._running(name)
        self._ask(process, signum, fault_id)
        return process.pid

    def limit_files(self, name: str, most_bytes: int | None) -> int:
        """Let no file of a process grow beyond this, or as before with None; the pid that was limited.

        Writes beyond it fail with EFBIG where the process ignores SIGXFSZ, as Python does; setrlimit(2).

        Raises:
            NotRunning: it has ended, or was never started.
            OSError: the kernel refuses.
        """
        process = self._running(name)
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(
            process.pid, resource.RLIMIT_FSIZE, (hard if most_bytes is None else most_bytes, hard)
        )
        return process.pid

    def hook(self, name: str, hook: str, *, ms: int) -> int:
        """Ask for a test hook of a process; the pid that was asked.

        Raises:
            NotRunning: it has ended, was never started, or hangs up.
            ProcessError: it has no such hook, or does not answer in time.
        """
        process = self._running(name)
        if not process.spec.hooks:
            raise ProcessError(f"process {name!r} has no test hooks")
        connection = http.client.HTTPConnection(process.spec.hooks, timeout=HOOK_S)
        try:
            connection.request("GET", f"/hooks/{hook}?ms={ms}", headers={HOOK_HEADER: "1"})
            status = connection.getresponse().status
        except (ConnectionError, http.client.HTTPException) as error:
            raise NotRunning(f"process {name!r} does not take a hook: {error}") from error
        except OSError as error:
            raise ProcessError(f"process {name!r} does not answer its hook {hook!r}: {error}") from error
        finally:
            connection.close()
        if status != http.client.OK:
            raise ProcessError(f"process {name!r} refuses its hook {hook!r} with {status}")
        return process.pid

    def expect_exit(self, name: str) -> None:
        """From now on, the end of this process is planned: it was told to end by other means."""
        self._get(name).expected = True

    def running(self, name: str) -> bool:
        process = self._processes.get(name)
        return process is not None and self._reap(process) is None

    def poll(self) -> list[Exit]:
        """Reap what has ended; exits not returned before, in the order they were seen. Never blocks."""
        for process in self._processes.values():
            self._reap(process)
        exits, self._unseen = self._unseen, []
        return exits

    def wait(self, name: str, *, timeout_s: float) -> Exit | None:
        """Wait for the end of a process; None when it still runs after ``timeout_s``."""
        process = self._get(name)
        if process.exit is None:
            _await_end(process.pid, timeout_s)
        return self._reap(process)

    def pids(self) -> dict[str, int]:
        """Pids of the processes that run, by name, in order of first start."""
        return {name: process.pid for name, process in self._processes.items() if self._reap(process) is None}

    def end_all(self, *, grace_s: float = 5.0) -> None:
        """End every process, the last started first, each with up to ``grace_s`` for its own end.

        A paused one is woken first, so that it can end in order. Whatever interrupts this
        (a second Ctrl-C, a full disk), what is left is killed before it goes on up.
        """
        left = [process for process in reversed(self._processes.values()) if self._reap(process) is None]
        try:
            for process in left:
                self._end(process, grace_s)
        finally:
            for process in self._processes.values():
                if process.exit is None:
                    process.send(signal.SIGKILL)
                    _await_end(process.pid, REAP_S)
                    with contextlib.suppress(OSError):  # of the journal: the others must die too
                        self._reap(process)
                _close_pipes(process)

    def _end(self, process: Process, grace_s: float) -> None:
        process.expected = True
        process.send(signal.SIGCONT)
        process.send(signal.SIGTERM)
        if self.wait(process.spec.name, timeout_s=grace_s) is None:
            process.error = f"still running {grace_s:g} s after SIGTERM: ended by SIGKILL"
            process.send(signal.SIGKILL)
            self.wait(process.spec.name, timeout_s=REAP_S)

    def _get(self, name: str) -> Process:
        if (process := self._processes.get(name)) is None:
            known = ", ".join(self._processes) or "none"
            raise NotRunning(f"process {name!r} was never started: there are {known}")
        return process

    def _running(self, name: str) -> Process:
        process = self._get(name)
        if self._reap(process) is not None:
            raise NotRunning(f"process {name!r} is not running")
        return process

    def _ask(self, process: Process, signum: int, fault_id: str) -> None:
        if signum in (signal.SIGTERM, signal.SIGKILL, signal.SIGINT):
            process.asked.append(signum)
            process.fault_id = fault_id
        process.send(signum)

    def _reap(self, process: Process) -> Exit | None:
        """The exit of a process, recorded when it is first seen; None while it runs."""
        if process.exit is not None:
            return process.exit
        if not _await_end(process.pid, 0):
            return None
        with suppress(ProcessLookupError):  # its end was under way a moment ago
            process.send(signal.SIGKILL)  # while the leader is a zombie its group id is safe: nobody stays
        returncode = process.popen.wait()
        process.exit = exit_ = Exit(
            process=process.spec.name,
            role=process.spec.role,
            pid=process.pid,
            t=self._clock(),
            fault_id=process.fault_id,
            code=returncode if returncode >= 0 else None,
            signal=signal.Signals(-returncode).name if returncode < 0 else None,
            planned=process.planned(returncode),
            error=process.error,
            ready=process.ready,
        )
        self._unseen.append(exit_)
        self._journal.exited(exit_)
        return exit_


def _await_end(pid: int, timeout_s: float) -> bool:
    """Whether our child ends within ``timeout_s``; it stays a zombie, to be reaped by the caller."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:  # a busy kernel says so of a child in the middle of its end, not yet reaped
        return True
    try:
        return _readable(fd, timeout_s)
    finally:
        os.close(fd)


def _readable(fd: int, timeout_s: float) -> bool:
    poll = select.poll()  # select(2) cannot watch descriptors from 1024 up
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1_000))


def _close_pipes(process: Process) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def read_line(process: Process, *, timeout_s: float) -> bytes:
    """The next line of a process's piped stdout, without its end.

    Raises:
        ProcessError: no whole line within ``timeout_s``; the text ends with the last lines of its log.
    """
    stdout = process.stdout
    if stdout is None:
        raise ValueError(f"process {process.spec.name!r} has no stdout pipe")
    deadline, line = time.monotonic() + timeout_s, b""
    while not line.endswith(b"\n"):
        if not _readable(stdout.fileno(), max(0.0, deadline - time.monotonic())):
            raise ProcessError(
                f"process {process.spec.name!r} says nothing for {timeout_s:g} s{log_tail(process)}"
            )
        if not (byte := stdout.read(1)):
            raise ProcessError(
                f"process {process.spec.name!r} ended before it said anything{log_tail(process)}"
            )
        line += byte
    return line[:-1]


def log_tail(process: Process, *, lines: int = 5) -> str:
    """The end of a process's log, to go into an error; "" when there is nothing."""
    tail = process.spec.log.read_text(errors="replace").splitlines()[-lines:]
    return "".join(f"\n  {process.spec.log.name}: {line}" for line in tail)

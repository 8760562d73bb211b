"""The supervisor with real processes. Each test waits on an event: a pipe, or a pidfd."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos import process as process_module
from chaos.process import (
    Exit,
    NotRunning,
    Process,
    ProcessError,
    ProcessSpec,
    Started,
    Supervisor,
    log_tail,
    read_line,
)

WAIT_S = 30.0
SAY = "import signal, sys\nprint('ready', flush=True)\n"
STAY = SAY + "signal.pause()\n"  # SIGTERM ends it, by the signal
# Not a handler, which does not run when the signal comes just before pause blocks.
ORDERLY = (
    "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
    + SAY
    + "signal.sigwait([signal.SIGTERM])\nsys.exit(0)\n"
)
STUBBORN = (
    "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SAY + "while True: signal.pause()\n"
)


class Lines:
    """A journal in memory."""

    def __init__(self) -> None:
        self.starts: list[Started] = []
        self.exits: list[Exit] = []

    def started(self, start: Started) -> None:
        self.starts.append(start)

    def exited(self, exit_: Exit) -> None:
        self.exits.append(exit_)


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def supervisor(lines: Lines) -> Iterator[Supervisor]:
    supervisor = Supervisor(lines)
    yield supervisor
    supervisor.end_all(grace_s=0)


@pytest.fixture
def start(supervisor: Supervisor, tmp_path: Path):
    def start(code: str, *, name: str = "chatd-1", role: str = "target") -> Process:
        """Start Python with this code, and wait until it has said that it is ready."""
        spec = ProcessSpec(
            name=name,
            argv=(sys.executable, "-c", code),
            log=tmp_path / f"{name}.log",
            role=role,  # type: ignore[arg-type]
            stdout=True,
        )
        process = supervisor.start(spec)
        assert read_line(process, timeout_s=WAIT_S) == b"ready"
        return process

    return start


def state(pid: int) -> str:
    """State of a process as the kernel has it: T is stopped, Z a zombie; proc(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def ends(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    try:
        return bool(poll.poll(WAIT_S * 1000))
    finally:
        os.close(pidfd)


def test_an_unplanned_exit_is_recorded_once(start, supervisor, lines):
    process = start(SAY + "sys.exit(3)")
    exit_ = supervisor.wait("chatd-1", timeout_s=WAIT_S)
    assert exit_ is not None
    assert (exit_.process, exit_.pid, exit_.code, exit_.signal) == ("chatd-1", process.pid, 3, None)
    assert exit_.planned is False
    assert supervisor.poll() == [exit_]
    assert supervisor.poll() == []
    assert lines.exits == [exit_]


@pytest.mark.parametrize(
    ("code", "signum", "exit_code", "name"),
    [
        pytest.param(STAY, signal.SIGKILL, None, "SIGKILL", id="killed"),
        pytest.param(STAY, signal.SIGTERM, None, "SIGTERM", id="ended by SIGTERM itself"),
        pytest.param(ORDERLY, signal.SIGTERM, 0, None, id="ended in order"),
    ],
)
def test_an_exit_that_a_fault_asked_for_carries_its_id(start, supervisor, code, signum, exit_code, name):
    process = start(code)
    assert supervisor.signal("chatd-1", signum, fault_id="k1") == process.pid
    exit_ = supervisor.wait("chatd-1", timeout_s=WAIT_S)
    assert (exit_.fault_id, exit_.planned, exit_.code, exit_.signal) == ("k1", True, exit_code, name)


def test_a_crash_before_a_kill_that_came_too_late_is_not_planned(start, supervisor):
    process = start(SAY + "sys.exit(7)")
    assert ends(os.pidfd_open(process.pid))
    with pytest.raises(NotRunning, match="'chatd-1' is not running"):
        supervisor.signal("chatd-1", signal.SIGKILL, fault_id="k1")
    (exit_,) = supervisor.poll()
    assert (exit_.code, exit_.planned, exit_.fault_id) == (7, False, "")


def test_an_end_that_is_not_the_signal_sent_is_not_planned(start):
    process = start(STAY)
    process.asked.append(signal.SIGKILL)  # sent to what was a zombie already
    assert process.planned(3) is False
    assert process.planned(-signal.SIGKILL) is True


def test_an_expected_exit_is_planned(start, supervisor):
    start(SAY + "sys.exit(0)", role="harness")
    supervisor.expect_exit("chatd-1")
    assert supervisor.wait("chatd-1", timeout_s=WAIT_S).planned is True


def test_a_paused_process_stands_still_until_it_is_woken(start, supervisor):
    process = start(STAY)
    supervisor.signal("chatd-1", signal.SIGSTOP, fault_id="p1")
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    assert state(process.pid) == "T"
    assert supervisor.running("chatd-1")
    supervisor.signal("chatd-1", signal.SIGCONT, fault_id="p1")
    os.waitid(os.P_PID, process.pid, os.WCONTINUED | os.WNOWAIT)
    assert state(process.pid) != "T"


def test_restart_gives_a_new_process_and_one_log(start, supervisor, lines):
    first = start("import sys\nprint('I am here', file=sys.stderr, flush=True)\n" + STAY)
    supervisor.signal("chatd-1", signal.SIGKILL, fault_id="k1")
    second = supervisor.restart("chatd-1", fault_id="k1")
    assert read_line(second, timeout_s=WAIT_S) == b"ready"
    assert second.pid != first.pid
    assert supervisor.pids() == {"chatd-1": second.pid}
    assert second.spec.log.read_text() == "I am here\n" * 2
    assert [start.fault_id for start in lines.starts] == ["", "k1"]


def test_a_child_that_the_kernel_does_not_find_in_the_middle_of_its_end_is_reaped(
    start, supervisor, monkeypatch
):
    process, asked = start(STAY), []

    def missing(pid: int) -> int:
        asked.append(pid)
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))

    process.send(signal.SIGKILL)
    with monkeypatch.context() as patched:
        patched.setattr(os, "pidfd_open", missing)
        (gone,) = supervisor.poll()
    assert (gone.process, gone.signal, asked) == ("chatd-1", "SIGKILL", [process.pid])


def test_restart_kills_what_does_not_end_and_says_so(start, supervisor, lines):
    start(STUBBORN)
    supervisor.signal("chatd-1", signal.SIGTERM, fault_id="r1")
    second = supervisor.restart("chatd-1", fault_id="r1")
    assert read_line(second, timeout_s=WAIT_S) == b"ready"
    (exit_,) = lines.exits
    assert (exit_.signal, exit_.planned, exit_.fault_id) == ("SIGKILL", True, "r1")
    assert exit_.error == "still running after SIGTERM: ended by SIGKILL"


def test_end_all_ends_the_last_started_first_and_may_be_called_twice(start, supervisor, lines):
    start(ORDERLY, name="chatd-1")
    start(ORDERLY, name="proxy", role="harness")
    start(ORDERLY, name="worker-1", role="harness")
    supervisor.end_all(grace_s=WAIT_S)
    assert [(e.process, e.code, e.planned) for e in lines.exits] == [
        ("worker-1", 0, True),
        ("proxy", 0, True),
        ("chatd-1", 0, True),
    ]
    supervisor.end_all(grace_s=WAIT_S)
    assert len(lines.exits) == 3
    assert supervisor.pids() == {}


def test_end_all_wakes_a_paused_process_so_that_it_ends_in_order(start, supervisor, lines):
    process = start(ORDERLY)
    supervisor.signal("chatd-1", signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    supervisor.end_all(grace_s=WAIT_S)
    assert [exit_.code for exit_ in lines.exits] == [0]


def test_end_all_kills_what_does_not_end_in_time(start, supervisor, lines):
    start(STUBBORN)
    supervisor.end_all(grace_s=0.05)
    (exit_,) = lines.exits
    assert exit_.signal == "SIGKILL"
    assert exit_.error == "still running 0.05 s after SIGTERM: ended by SIGKILL"


def test_an_interrupted_end_all_leaves_nothing_behind(start, supervisor, lines, monkeypatch):
    processes = [start(STUBBORN, name=name) for name in ("one", "two")]

    def interrupted(*_args: object, **_kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(supervisor, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        supervisor.end_all(grace_s=WAIT_S)
    assert [process.exit.signal for process in processes] == ["SIGKILL", "SIGKILL"]


def test_a_journal_that_cannot_be_written_does_not_keep_processes_alive(tmp_path):
    class Full(Lines):
        def exited(self, exit_: Exit) -> None:
            raise OSError(28, "No space left on device")

    supervisor = Supervisor(Full())
    spec = [
        ProcessSpec(name=n, argv=("sleep", "60"), log=tmp_path / n, role="target") for n in ("one", "two")
    ]
    processes = [supervisor.start(s) for s in spec]
    with pytest.raises(OSError, match="No space left"):
        supervisor.end_all(grace_s=WAIT_S)
    assert all(process.exit is not None for process in processes)
    supervisor.end_all()


def test_what_a_dead_leader_leaves_behind_dies_with_it(start, supervisor):
    code = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], stdout=subprocess.DEVNULL)
print("ready", flush=True)
print(child.pid, flush=True)
sys.exit(0)
"""
    process = start(code)
    grandchild = os.pidfd_open(int(read_line(process, timeout_s=WAIT_S)))
    supervisor.wait("chatd-1", timeout_s=WAIT_S)
    assert ends(grandchild)


def test_a_child_leads_its_own_session_so_that_ctrl_c_does_not_reach_it(start):
    process = start(STAY)
    assert os.getsid(process.pid) == os.getpgid(process.pid) == process.pid


CONTROLLER = """
import os, signal, sys
from pathlib import Path
from chaos.journal import Journal
from chaos.process import ProcessSpec, Supervisor, read_line

supervisor = Supervisor(Journal(Path(sys.argv[1]) / "faults.jsonl"))
for name in ("one", "two"):
    argv = (sys.executable, "-c", sys.argv[2])
    process = supervisor.start(
        ProcessSpec(name=name, argv=argv, log=Path(sys.argv[1]) / name, role="target", stdout=True)
    )
    read_line(process, timeout_s=30)
supervisor.signal("two", signal.SIGSTOP)
os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
print(*supervisor.pids().values(), flush=True)
signal.pause()
"""


def test_kill_minus_9_of_the_controller_leaves_no_child_not_even_a_paused_one(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", CONTROLLER, str(tmp_path), STUBBORN], stdout=subprocess.PIPE
    ) as controller:
        assert controller.stdout is not None
        children = [os.pidfd_open(int(pid)) for pid in controller.stdout.readline().split()]
        assert len(children) == 2
        controller.kill()
        assert all(ends(child) for child in children)


def test_processes_are_started_from_the_main_thread_only(supervisor, tmp_path):
    spec = ProcessSpec(name="x", argv=("sleep", "60"), log=tmp_path / "x.log", role="target")
    raised: list[BaseException] = []

    def elsewhere() -> None:
        try:
            supervisor.start(spec)
        except RuntimeError as error:
            raised.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert "main thread" in str(raised[0])


@pytest.mark.parametrize("call", ["signal", "restart", "wait"])
def test_an_unknown_process_is_an_error_that_names_the_known_ones(start, supervisor, call):
    start(STAY)
    arguments = {"signal": (signal.SIGTERM,), "restart": (), "wait": ()}[call]
    keywords = {"timeout_s": 0} if call == "wait" else {}
    with pytest.raises(NotRunning, match="'chatd-2' was never started: there are chatd-1"):
        getattr(supervisor, call)("chatd-2", *arguments, **keywords)


def test_a_program_that_does_not_exist_is_an_error_without_a_process(supervisor, tmp_path, lines):
    spec = ProcessSpec(name="x", argv=("/no/such/program",), log=tmp_path / "x.log", role="target")
    with pytest.raises(ProcessError, match=r"process 'x' cannot be started: .*No such file"):
        supervisor.start(spec)
    assert not lines.starts


def test_a_name_runs_once(start, supervisor):
    process = start(STAY)
    with pytest.raises(ProcessError, match="'chatd-1' runs already"):
        supervisor.start(process.spec)


def test_stdin_and_environment_reach_the_process(supervisor, tmp_path):
    code = "import os, sys\nprint(sys.stdin.readline().strip() + os.environ['COLOUR'], flush=True)"
    process = supervisor.start(
        ProcessSpec(
            name="master",
            argv=(sys.executable, "-c", code),
            log=tmp_path / "master.log",
            role="harness",
            env={"COLOUR": "green"},
            stdin=True,
            stdout=True,
        )
    )
    process.stdin.write(b"it is \n")
    assert read_line(process, timeout_s=WAIT_S) == b"it isgreen"


def test_a_process_that_says_nothing_is_an_error_with_the_end_of_its_log(supervisor, tmp_path):
    code = "import sys\nprint('no such option', file=sys.stderr)\nsys.exit(2)"
    spec = ProcessSpec(
        name="proxy",
        argv=(sys.executable, "-c", code),
        log=tmp_path / "proxy.log",
        role="harness",
        stdout=True,
    )
    with pytest.raises(ProcessError, match=r"(?s)ended before it said anything.*proxy\.log: no such option"):
        read_line(supervisor.start(spec), timeout_s=WAIT_S)


def test_a_silent_process_is_given_up_in_time(start):
    process = start(STAY)
    with pytest.raises(ProcessError, match=r"says nothing for 0\.01 s"):
        read_line(process, timeout_s=0.01)
    assert log_tail(process) == ""


FILE = (
    SAY
    + """
while sys.stdin.read(1):
    try:
        print(open(sys.argv[1], "ab", buffering=0).write(b"x"), flush=True)
    except OSError as error:
        print(error.errno, flush=True)
"""
)


def test_a_process_whose_files_may_not_grow_can_write_again_afterwards(supervisor, tmp_path):
    spec = ProcessSpec(
        name="chatd-1", argv=(sys.executable, "-c", FILE, str(tmp_path / "data")), log=tmp_path / "log",
        role="target", stdin=True, stdout=True,
    )  # fmt: skip
    process = supervisor.start(spec)
    assert read_line(process, timeout_s=WAIT_S) == b"ready"

    def write() -> bytes:
        process.stdin.write(b"w")
        return read_line(process, timeout_s=WAIT_S)

    assert write() == b"1"
    assert supervisor.limit_files("chatd-1", 0) == process.pid
    assert write() == str(errno.EFBIG).encode()
    supervisor.limit_files("chatd-1", None)
    assert write() == b"1"


def hooked(supervisor: Supervisor, tmp_path: Path, hooks: str) -> None:
    argv = (sys.executable, "-c", STAY)
    supervisor.start(ProcessSpec(name="chatd-1", argv=argv, log=tmp_path / "log", role="target", hooks=hooks))


@pytest.mark.parametrize("action", ["limit", "hook"])
def test_nothing_can_be_asked_of_a_process_that_is_gone(supervisor, start, action):
    start(SAY + "sys.exit(0)")
    supervisor.wait("chatd-1", timeout_s=WAIT_S)
    with pytest.raises(NotRunning, match="'chatd-1' is not running"):
        supervisor.limit_files("chatd-1", 0) if action == "limit" else supervisor.hook("chatd-1", "x", ms=1)


def test_a_process_without_hooks_says_so(supervisor, tmp_path):
    hooked(supervisor, tmp_path, "")
    with pytest.raises(ProcessError, match="has no test hooks"):
        supervisor.hook("chatd-1", "block", ms=1)


def test_a_process_that_does_not_listen_for_hooks_counts_as_gone(supervisor, tmp_path):
    with socket.socket() as deaf:  # holds the port, and does not listen
        deaf.bind(("127.0.0.1", 0))
        hooked(supervisor, tmp_path, f"127.0.0.1:{deaf.getsockname()[1]}")
        with pytest.raises(NotRunning, match="does not take a hook"):
            supervisor.hook("chatd-1", "block", ms=1)


def test_a_hook_that_is_not_answered_ends_in_time(supervisor, tmp_path, monkeypatch):
    monkeypatch.setattr(process_module, "HOOK_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hooked(supervisor, tmp_path, f"127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(ProcessError, match="does not answer its hook 'block'"):
            supervisor.hook("chatd-1", "block", ms=1)

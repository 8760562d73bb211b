"""Every ack is written after a completed flush that follows its message: the system calls say so."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
from pathlib import Path

import pytest

from tests.chatd.process import Daemon
from tests.chatd.reader import Reader

STRACE = shutil.which("strace")
CALLS = "fdatasync,fsync,pwrite64,write,writev,sendto,sendmsg"
LINE = re.compile(r"^(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)$")

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]


class Trace:
    """What strace saw, in its order: a process is stopped at each call's begin and end."""

    def __init__(self, text: str) -> None:
        self.stored: dict[str, int] = {}  # message id → line where it is first written to the log
        self.acked: dict[str, int] = {}  # message id → line where its ack is first written to a socket
        self.flushes: list[tuple[int, int]] = []  # begin and end of each that succeeded
        begun: dict[str, int] = {}
        for at, line in enumerate(text.splitlines()):
            if (found := LINE.match(line)) is None:
                continue
            thread, resumed, called, rest = found.groups()
            if called in ("fdatasync", "fsync") and "-wal>" in rest:
                begun[thread] = at
            if (resumed or called) in ("fdatasync", "fsync") and thread in begun and rest.endswith("= 0"):
                self.flushes.append((begun.pop(thread), at))
            elif called == "pwrite64" and "-wal>" in rest:
                for message in re.findall(r"ann:(\d+)\.", rest):
                    self.stored.setdefault(message, at)
            elif called and "TCP:" in rest:
                for message in re.findall(r'\\"ack\\"[^}]*?ann:(\d+)\.', rest):
                    self.acked.setdefault(message, at)

    def flushed_between(self, begin: int, end: int) -> bool:
        return any(begin < first and last < end for first, last in self.flushes)


@pytest.mark.skipif(STRACE is None, reason="strace is missing: apt-get install strace")
def test_each_ack_follows_a_completed_flush_that_follows_its_commit(daemon: Daemon, tmp_path: Path) -> None:
    trace_file = tmp_path / "trace.txt"
    assert STRACE is not None
    options = [STRACE, "-D", "-f", "-yy", "-s", "100000", "-e", f"trace={CALLS}", "-o", str(trace_file)]

    async def main() -> None:
        daemon.start(under=options)
        one = await Reader.dial(daemon.port, "ann")
        other = await Reader.dial(daemon.port, "ann")
        for number in range(1, 31):  # one by one, then many at once, over two connections
            one.publish(f"ann:{number}.")
            await one.until(lambda n=number: one.count("ack") == n)  # type: ignore[misc]
        for number in range(31, 231):
            (one if number % 2 else other).publish(f"ann:{number}.")
        await one.until(lambda: one.count("ack") == 130)
        await other.until(lambda: other.count("ack") == 100)
        await Reader.hang_up()

    asyncio.run(main())
    assert daemon.send(signal.SIGTERM) == 0
    trace = Trace(trace_file.read_text(errors="replace"))
    assert set(trace.acked) == set(trace.stored) == {str(number) for number in range(1, 231)}
    late = {
        message
        for message, acked in trace.acked.items()
        if not trace.flushed_between(trace.stored[message], acked)
    }
    assert not late
    assert len(trace.flushes) >= 31


def test_the_trace_tells_a_flush_that_came_too_late() -> None:
    wal, peer = "3</data/chatd.db-wal>", "9<TCP:[127.0.0.1:1->127.0.0.1:2]>"
    good = [
        f'10 pwrite64({wal}, "..ann:1...", 4096, 0) = 4096',
        f"10 fdatasync({wal} <unfinished ...>",
        f'11 write({peer}, "{{}}", 4) = 4',
        "10 <... fdatasync resumed>)            = 0",
        f'11 write({peer}, "{{\\"type\\":\\"ack\\",\\"id\\":1,\\"message\\":\\"ann:1.\\"}}", 40) = 40',
    ]
    trace = Trace("\n".join(good))
    assert trace.flushed_between(trace.stored["1"], trace.acked["1"])
    trace = Trace("\n".join([*good[:3], good[4], good[3]]))
    assert not trace.flushed_between(trace.stored["1"], trace.acked["1"]), "the flush was not over"
    trace = Trace("\n".join([*good[1:4], good[0], good[4]]))
    assert not trace.flushed_between(trace.stored["1"], trace.acked["1"]), "the flush was of something else"

"""Whether what the load says can be believed: a stalled server shows, and a full disk makes a run void."""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from reports.history import History, Kind, open_history
from reports.latency import CLASSES
from tests.e2e.test_run import ROOT, chatproof, run, until_load

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

LOAD = """
version = 1
why = "Can the figures of this load be believed?"

[server]
retry_ms = [50, 200]

[workload]
clients = 30
channels = 6
channels_per_client = 2
connect_over_s = 0.3

[[workload.phase]]
name = "load"
duration_s = {duration_s}
publish_per_s = {per_s}

[deadlines]
drain_quiet_s = 1.0

[[gate]] # a tenth of it is the lag that a run may have: a busy machine must not void this one
id = "some-day"
kind = "threshold"
metric = "delivery"
expr = "p(99) < 20s"
"""
STALLS = """
[[fault]]
id = "stopped"
kind = "pause"
target = "chatd-1"
at_s = 1.4
duration_s = 1.8

[[fault]]
id = "gone"
kind = "kill"
target = "chatd-1"
at_s = 3.8
duration_s = 1.8
"""


FULL_DISK = """
import errno, os
import reports.history

real = os.posix_fallocate
reports.history.SEGMENT_BYTES = 1 << 16

def fallocate(descriptor, offset, length):
    if os.readlink(f"/proc/self/fd/{descriptor}").endswith("/w1-3.rec"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    real(descriptor, offset, length)

os.posix_fallocate = fallocate
"""


def write(tmp_path: Path, *, duration_s: float, per_s: float, faults: str = "") -> str:
    (tmp_path / "load.toml").write_text(LOAD.format(duration_s=duration_s, per_s=per_s) + faults)
    return "load.toml"


class ClosedLoop(threading.Thread):
    """Measures as most load clients do: a message is sent when the last was answered, and timed from then."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url, self._over = url, threading.Event()
        self.took_s: list[float] = []

    def run(self) -> None:
        at = self._url + "/ws"
        with (
            suppress(ConnectionClosed),  # the server is killed before a late machine has stopped this
            connect(at, subprotocols=[Subprotocol("chatd.v1")], proxy=None, open_timeout=30) as socket,
        ):
            socket.send('{"type":"connect","id":0,"client":"closed"}')
            socket.recv(timeout=30)
            number = 0
            while not self._over.wait(0.002):
                number += 1
                sent_s = time.monotonic()
                publish = {
                    "type": "publish",
                    "id": number,
                    "channel": "room:closed",
                    "message": f"closed:{number}",
                }
                socket.send(json.dumps(publish | {"data": "x"}))
                while f'"message":"closed:{number}"' not in str(socket.recv(timeout=30)):
                    pass
                self.took_s.append(time.monotonic() - sent_s)

    def stop(self) -> list[float]:
        self._over.set()
        self.join(40)
        assert not self.is_alive()
        return sorted(self.took_s)


def spans(tmp_path: Path) -> dict[str, tuple[int, int]]:
    """From when to when each fault was on."""
    found: dict[str, dict[str, int]] = {}
    for line in (tmp_path / "runs/latest/faults.jsonl").read_text().splitlines():
        told = json.loads(line)
        if "target" in told:
            found.setdefault(told["id"], {})[told["phase"]] = told["t"]
    return {name: (phases["start"], phases["revert"]) for name, phases in found.items()}


def p99_s(history: History, name: str, due: tuple[int, int]) -> float:
    """Of a class of latencies, of messages that fell due in that time."""
    took = CLASSES[name](history).filter(pl.col("due_ns").is_between(*due)).collect()["took_ns"]
    assert len(took) > 20, f"{len(took)} of {name}"
    value = took.quantile(0.99, "nearest")
    assert value is not None
    return value / 1e9


def test_a_stalled_server_shows_in_every_message_that_fell_due_meanwhile(tmp_path: Path) -> None:
    """Coordinated omission: a client that waits for answers has one slow message while the server is stopped.

    Where the server is gone, not even an open load can send. What it sends late is timed from when it was
    due; from when it left (``service``) it would be quick.
    """
    process = chatproof("run", write(tmp_path, duration_s=6.0, per_s=80.0, faults=STALLS), cwd=tmp_path)
    until_load(tmp_path, s=0.3)
    spec = json.loads((tmp_path / "runs/latest/config/load.json").read_text())
    closed = ClosedLoop(spec["targets"][0])
    closed.start()
    until_load(tmp_path, s=3.6)
    took_s = closed.stop()
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    history, when = open_history(tmp_path / "runs/latest"), spans(tmp_path)
    assert [took > 1.4 for took in took_s[-2:]] == [False, True]
    assert p99_s(history, "delivery", (0, 2**62)) > 1.0
    assert p99_s(history, "delivery", when["stopped"]) > 1.4
    assert p99_s(history, "delivery", when["gone"]) > 1.4
    assert p99_s(history, "service", when["gone"]) < p99_s(history, "delivery", when["gone"]) - 1.0


def test_a_disk_that_fills_up_makes_the_run_void_and_accuses_nobody(tmp_path: Path) -> None:
    """The worker's third segment of 64 KiB has no room; its first two are whole."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full/sitecustomize.py").write_text(FULL_DISK)
    scenario = write(tmp_path, duration_s=2.6, per_s=500.0)
    status, output, summary = run(scenario, cwd=tmp_path, path=f"{tmp_path / 'full'}{os.pathsep}{ROOT}")
    assert status == 5, output
    assert any("could not be written by the load workers" in reason for reason in summary["void"])
    assert not any(found["count"] for found in summary["classes"].values())
    lost = open_history(tmp_path / "runs/latest").scan().filter(kind=int(Kind.LOST_LOG)).collect()["serial"]
    assert lost.sum() > 100

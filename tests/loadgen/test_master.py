"""A real master and two real workers, driven in JSON lines, against a small chat server."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from chatd.protocol import messages as wire
from loadgen.workload import parse_spec, predict
from reports.history import HEADER_BYTES, RECORD, Kind
from tests.loadgen.tiny_server import ServerThread, TinyServer

ROOT = Path(__file__).parents[2]
CLIENTS = 6


class Load:
    """Master and workers as processes."""

    def __init__(self, path: Path, url: str, *options: str, workers: int = 2) -> None:
        self.spec = {
            "run_dir": str(path), "nonce": 5, "seed": 3, "targets": [url],
            "workload": {
                "clients": CLIENTS, "channels": 3, "connect_over_s": 0.1,
                "phase": [
                    {"name": "silence", "duration_s": 1.2},
                    {"name": "load", "duration_s": 0.5, "publish_per_s": 60},
                ],
            },
        }  # fmt: skip
        self.path = path
        file = path / "load.json"
        file.write_text(json.dumps(self.spec))
        argv = [sys.executable, "-m", "loadgen.master", "--spec", str(file), "--workers", str(workers)]
        self.workers: list[subprocess.Popen[bytes]] = []
        with (path / "master.log").open("w") as log:
            pipe = subprocess.PIPE
            self.master = subprocess.Popen(
                [*argv, *options], cwd=ROOT, text=True, stdin=pipe, stdout=pipe, stderr=log
            )
        self.listening = self.expect("listening")
        self.workers = [self.worker(index) for index in range(1, workers + 1)]

    def worker(self, index: int) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "loadgen.worker", "--master-port", str(self.listening["port"])]
        return subprocess.Popen([*argv, "--index", str(index)], cwd=ROOT, stderr=subprocess.DEVNULL)

    def say(self, command: str, **fields: Any) -> None:
        assert self.master.stdin is not None
        self.master.stdin.write(json.dumps({"cmd": command, **fields}) + "\n")
        self.master.stdin.flush()

    def event(self) -> dict[str, Any]:
        assert self.master.stdout is not None
        line = self.master.stdout.readline()
        assert line, "the master ended: " + (self.path / "master.log").read_text()
        event = json.loads(line)
        assert isinstance(event, dict)
        return event

    def expect(self, name: str, **fields: Any) -> dict[str, Any]:
        while True:
            event = self.event()
            if event["event"] == name and all(event[key] == value for key, value in fields.items()):
                return event

    def records(self) -> Any:
        raw = [path.read_bytes() for path in sorted(self.path.glob("events/w*-*.rec"))]
        return np.concatenate([np.frombuffer(part, RECORD, offset=HEADER_BYTES) for part in raw])

    def close(self) -> None:
        assert self.master.stdin is not None
        assert self.master.stdout is not None
        self.master.stdin.close()
        for process in (self.master, *self.workers):
            try:
                process.wait(12)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.master.stdout.close()


@pytest.fixture
def server() -> Iterator[TinyServer]:
    with ServerThread() as server:
        yield server


def test_a_headless_run_from_start_to_stop(tmp_path: Path, server: TinyServer) -> None:
    load = Load(tmp_path, server.url)
    try:
        assert load.listening["ui"] is None
        assert load.expect("ready") == {"event": "ready", "workers": 2}
        load.say("start", t0_ns=time.monotonic_ns() + 500_000_000)
        assert load.expect("stats")["scheduled_left"] > 0
        load.expect("stats", live=6)
        stats = load.expect("stats", scheduled_left=0, unacked=0)
        spec = parse_spec(json.dumps(load.spec))
        expected = predict(spec.workload, spec.seed)
        while stats["received"] < expected.deliveries:
            stats = load.expect("stats")
        assert (stats["clients"], stats["connected"], stats["live"]) == (CLIENTS,) * 3
        assert stats["scheduled"] == stats["sent"] == stats["acked"] == expected.publishes
        assert [worker["index"] for worker in stats["workers"]] == [1, 2]
        tops = {str(channel): ["E1", len(server.logs[f"room:{channel}"]) + 1] for channel in (1, 2, 3)}
        load.say("drain", sentinels=tops)
        assert load.expect("stats", behind=12)
        load.say("reconnect_behind")
        load.say("stop")
        stopped = load.expect("stopped")
        assert [counters["worker"] for counters in stopped["workers"]] == [1, 2]
        assert sum(counters["received"] for counters in stopped["workers"]) >= expected.deliveries
        assert load.master.wait(10) == 0
        assert [worker.wait(10) for worker in load.workers] == [0, 0]
    finally:
        load.close()
    rows = load.records()
    assert (rows["kind"] == Kind.SEND).sum() == (rows["kind"] == Kind.ACK).sum() == expected.publishes
    assert (rows["kind"] == Kind.RECV).sum() == expected.deliveries
    assert set(rows["client"].tolist()) == set(range(1, 7))
    for index in (1, 2):
        counters = json.loads((tmp_path / f"events/w{index}.counters.json").read_text())
        assert counters == stopped["workers"][index - 1]


def test_a_worker_that_dies_is_told_and_the_others_finish(tmp_path: Path, server: TinyServer) -> None:
    load = Load(tmp_path, server.url)
    try:
        load.expect("ready")
        load.say("start", t0_ns=time.monotonic_ns() + 500_000_000)
        load.expect("stats", live=6)
        load.workers[1].kill()
        assert load.expect("worker_lost")["index"] == 2
        assert load.master.stdin is not None
        load.master.stdin.close()  # the end of the commands is "stop"
        stopped = load.expect("stopped")
        assert [counters["worker"] for counters in stopped["workers"]] == [1]
    finally:
        load.close()
    header_only = (tmp_path / "events/w2-1.rec").stat().st_size
    assert header_only > HEADER_BYTES  # killed: its segment was never cut


def test_the_page_closes_and_opens_sessions_and_keeps_strangers_out(
    tmp_path: Path, server: TinyServer
) -> None:
    load = Load(tmp_path, server.url, "--ui")
    try:
        load.expect("ready")
        load.say("start", t0_ns=time.monotonic_ns())
        address = urlsplit(load.listening["ui"])
        assert address.hostname == "127.0.0.1"

        def ask(method: str, path: str, body: str | None = None, **headers: str) -> int:
            connection = http.client.HTTPConnection("127.0.0.1", address.port or 0, timeout=5)
            if body is not None:
                headers["Content-Type"] = "application/x-www-form-urlencoded"
            connection.request(method, path, body, headers)
            status = connection.getresponse().status
            connection.close()
            return status

        form = "user_count=3&spawn_rate=10&host=ws://192.0.2.1:80"
        assert ask("GET", "/", Host="rebound.example.org") == 403
        assert ask("POST", "/swarm", form, Origin="http://elsewhere.example.org") == 403
        assert ask("GET", "/") == 200
        load.expect("stats", live=CLIENTS, clients=CLIENTS)
        assert ask("POST", "/swarm", form, Origin=f"http://127.0.0.1:{address.port}") == 200
        load.expect("stats", live=3, clients=3)
        connects = [frame for _, frame in server.frames if isinstance(frame, wire.Connect)]
        assert {str(frame.client) for frame in connects} == {f"c{c}" for c in range(1, CLIENTS + 1)}
        load.say("stop")
        load.expect("stopped")
    finally:
        load.close()


def test_a_bad_specification_is_told_on_standard_error_and_exits_2(tmp_path: Path) -> None:
    (tmp_path / "load.json").write_text('{"nonce": -1}')
    argv = [sys.executable, "-m", "loadgen.master", "--spec", str(tmp_path / "load.json"), "--workers", "1"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=15, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "nonce is -1" in done.stderr
    assert "Traceback" not in done.stderr

"""A real master and two real workers, driven in JSON lines, against a small chat server."""

from __future__ import annotations

import base64
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgpack
import numpy as np
import pytest
import zmq

from chatd.protocol import messages as wire
from loadgen.guests import introduction
from loadgen.workload import parse_spec, predict
from reports.history import HEADER_BYTES, RECORD, Kind
from tests.loadgen.tiny_server import ServerThread, TinyServer

ROOT = Path(__file__).parents[2]
CLIENTS = 6


class Load:
    """Master and workers as processes."""

    def __init__(
        self,
        path: Path,
        url: str,
        *options: str,
        workers: int = 2,
        children: int | None = None,
        first: str = "listening",
        phases: list[dict[str, Any]] | None = None,
    ) -> None:
        silence = {"name": "silence", "duration_s": 1.2}
        self.spec = {
            "run_dir": str(path), "nonce": 5, "seed": 3, "targets": [url],
            "workload": {
                "clients": CLIENTS, "channels": 3, "connect_over_s": 0.1,
                "phase": phases or [silence, {"name": "load", "duration_s": 0.5, "publish_per_s": 60}],
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
        self.listening = self.expect(first)
        ours = workers if children is None else children
        self.workers = [self.worker(index) for index in range(1, ours + 1)]

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
                process.wait(30)
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
        spec = parse_spec(json.dumps(load.spec))
        expected = predict(spec.workload, spec.seed)
        stats = load.expect("stats")
        assert stats["scheduled"] + stats["scheduled_left"] == expected.publishes
        load.expect("stats", live=6)
        stats = load.expect("stats", scheduled_left=0, unacked=0)
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
        assert load.master.wait(30) == 0
        assert [worker.wait(30) for worker in load.workers] == [0, 0]
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


def ask(url: str, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, str]:
    """Status and body of a request to the page; ``_`` in a header's name stands for ``-``."""
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(url).port or 0, timeout=30)
    if body is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    answer = response.status, response.read().decode()
    connection.close()
    return answer


def test_the_page_closes_and_opens_sessions_and_keeps_strangers_out(
    tmp_path: Path, server: TinyServer
) -> None:
    load = Load(tmp_path, server.url, "--ui")
    try:
        load.expect("ready")
        load.say("start", t0_ns=time.monotonic_ns())
        url = load.listening["ui"]
        assert urlsplit(url).hostname == "127.0.0.1"
        form = "user_count=3&spawn_rate=10"
        load.expect("stats", live=CLIENTS, clients=CLIENTS)
        assert ask(url, "GET", "/", Host="rebound.example.org")[0] == 403
        assert ask(url, "POST", "/swarm", form, Origin="http://elsewhere.example.org")[0] == 403
        assert ask(url, "GET", "/stop", Sec_Fetch_Site="cross-site")[0] == 403
        refused = json.loads(ask(url, "POST", "/swarm", form + "&host=ws://192.0.2.1:80", Origin=url)[1])
        assert (refused["success"], "the target is the plan's" in refused["message"]) == (False, True)
        for _ in range(3):  # nothing of that has had an effect
            assert load.expect("stats")["live"] == CLIENTS
        assert ask(url, "GET", "/", Sec_Fetch_Site="cross-site")[0] == 200  # a link to the page
        assert ask(url, "POST", "/swarm", f"{form}&host={server.url}", Origin=url)[0] == 200
        load.expect("stats", live=3, clients=3)
        connects = [frame for _, frame in server.frames if isinstance(frame, wire.Connect)]
        assert {str(frame.client) for frame in connects} == {f"c{c}" for c in range(1, CLIENTS + 1)}
        load.say("stop")
        load.expect("stopped")
    finally:
        load.close()


def test_the_page_has_a_tab_for_latency_and_one_for_the_generator(tmp_path: Path, server: TinyServer) -> None:
    load = Load(tmp_path, server.url, "--ui")
    try:
        load.expect("ready")
        load.say("start", t0_ns=time.monotonic_ns())
        url = load.listening["ui"]
        load.expect("stats")
        shown = ask(url, "GET", "/")[1]
        assert "Delivery latency" in shown
        assert "Hiccup p99 (ms)" in shown
        stats = load.expect("stats", scheduled_left=0, unacked=0)
        expected = predict(parse_spec(json.dumps(load.spec)).workload, 3).deliveries
        while stats["received"] < expected:
            stats = load.expect("stats")
        tabs = json.loads(ask(url, "GET", "/stats/requests")[1])["extended_stats"]
        rows = {tab["key"]: tab["data"] for tab in tabs}
        whole, *seconds = rows["delivery"]
        assert (whole["second"], whole["deliveries"]) == ("all", expected)
        assert 0 < whole["p50_ms"] <= whole["p99_ms"] <= whole["max_ms"]
        assert seconds
        assert sum(row["deliveries"] for row in seconds) <= expected
        assert [row["second"] for row in seconds] == list(range(seconds[0]["second"], -1, -1))
        assert [row["worker"] for row in rows["generator"]] == [1, 2, "all"]
        for row in rows["generator"]:
            assert row["hiccup_max_ms"] >= row["hiccup_p99_ms"] > 0
            assert row["memory_mib"] > 1
        lines = ask(url, "GET", "/delivery.csv")[1].splitlines()
        assert lines[0] == "second,deliveries,p50_ms,p90_ms,p99_ms,p99_9_ms,max_ms"
        assert lines[1].startswith(f"all,{expected},")
        assert ask(url, "GET", "/generator.csv", Host="rebound.example.org")[0] == 403
        load.say("stop")
        load.expect("stopped")
    finally:
        load.close()


def test_with_a_login_every_part_of_the_page_asks_for_it(tmp_path: Path, server: TinyServer) -> None:
    (tmp_path / "login").write_text("ann:correct horse battery\n")
    load = Load(tmp_path, server.url, "--ui", "--ui-login-file", str(tmp_path / "login"), workers=1)
    try:
        load.expect("ready")
        url = load.listening["ui"]
        right, wrong = (
            "Basic " + base64.b64encode(said).decode()
            for said in (b"ann:correct horse battery", b"ann:correct horse")
        )
        for path in ("/", "/stats/requests", "/delivery.csv", "/stop", "/assets/none.js", "/nowhere"):
            assert ask(url, "GET", path)[0] == 401, path
            assert ask(url, "GET", path, Authorization=wrong)[0] == 401, path
        assert ask(url, "GET", "/", Authorization=right)[0] == 200
        assert ask(url, "GET", "/", Authorization=right, Host="rebound.example.org")[0] == 403
        load.say("stop")
        load.expect("stopped")
    finally:
        load.close()


@pytest.mark.parametrize(
    ("login", "fault"),
    [
        pytest.param(None, "off loopback it needs a login", id="no-login"),
        pytest.param("ann:short", "at least 12 characters", id="a-short-password"),
        pytest.param("correct horse battery", "one line, user:password", id="no-user"),
    ],
)
def test_a_page_that_is_open_to_strangers_is_not_served(
    tmp_path: Path, login: str | None, fault: str
) -> None:
    options = []
    if login is not None:
        (tmp_path / "login").write_text(login)
        options = ["--ui-login-file", str(tmp_path / "login")]
    argv = [sys.executable, "-m", "scenarios", "run", "smoke", "--ui", "--ui-host", "0.0.0.0", *options]
    environment = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=80, check=False
    )
    assert done.returncode == 2
    assert fault in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_bad_specification_is_told_on_standard_error_and_exits_2(tmp_path: Path) -> None:
    (tmp_path / "load.json").write_text('{"nonce": -1}')
    argv = [sys.executable, "-m", "loadgen.master", "--spec", str(tmp_path / "load.json"), "--workers", "1"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=80, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "nonce is -1" in done.stderr
    assert "Traceback" not in done.stderr


class Visitor:
    """Something that comes from another host, spoken by hand."""

    def __init__(self, port: int) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.ROUTING_ID, b"visitor")
        self.socket.connect(f"tcp://127.0.0.1:{port}")

    def say(self, kind: str, data: object) -> None:
        self.socket.send(msgpack.packb((kind, data, "visitor")))

    def expect(self, kind: str) -> Any:
        while True:
            assert self.socket.poll(30_000), f"no {kind!r} came"
            got, data, _ = msgpack.unpackb(self.socket.recv(), strict_map_key=False)
            if got == kind:
                return data

    def close(self) -> None:
        self.socket.close(0)
        self.context.term()


def test_a_visitor_of_another_version_is_turned_away_and_one_of_ours_is_still_waited_for(
    tmp_path: Path, server: TinyServer
) -> None:
    load = Load(tmp_path, server.url, "--away", workers=1, children=0)
    visitor = Visitor(load.listening["port"])
    try:
        ours = introduction()
        theirs = ours["versions"] | {"chatproof": "0.0.7"}
        visitor.say("register", ours | {"host": "mars", "versions": theirs})
        why = visitor.expect("turned_away")["why"]
        assert "the worker has chatproof 0.0.7" in why
        assert f"the master has chatproof {ours['versions']['chatproof']}" in why
        assert load.expect("turned_away") == {"event": "turned_away", "host": "mars", "why": why}
        visitor.say("register", ours | {"host": "mars"})
        assert load.expect("arrived") == {"event": "arrived", "index": 1, "host": "mars"}
        assert visitor.expect("plan")["index"] == 1
    finally:
        visitor.close()
        load.close()


def test_a_port_that_is_taken_is_said_and_no_traceback(tmp_path: Path, server: TinyServer) -> None:
    taken = urlsplit(server.url).port
    load = Load(tmp_path, server.url, "--bind-port", str(taken), workers=1, children=0, first="failed")
    try:
        why = load.listening["why"]
        assert f"workers cannot be listened for on 127.0.0.1 port {taken}" in why
        assert load.master.wait(30) == 2
    finally:
        load.close()


def test_a_page_that_cannot_be_served_ends_the_master_and_is_said(tmp_path: Path, server: TinyServer) -> None:
    taken = urlsplit(server.url).port
    load = Load(tmp_path, server.url, "--ui", "--ui-port", str(taken), workers=1, children=0, first="failed")
    try:
        assert load.listening["why"] == f"the page cannot be served on 127.0.0.1 port {taken}; see the log"
        assert load.master.wait(30) == 2
    finally:
        load.close()

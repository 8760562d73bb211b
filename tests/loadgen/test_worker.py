"""A worker on its own: what it imports, what it refuses, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

ROOT = Path(__file__).parents[2]


def test_a_worker_has_no_gevent_in_it() -> None:
    code = "import sys, loadgen.worker; print(sorted({'gevent', 'locust', 'zmq.green'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=80, check=True
    )
    assert done.stdout.strip() == "[]"


def test_once_steady_it_does_not_look_for_garbage_among_what_is_under_way_but_frees_cycles() -> None:
    code = """if True:
        import gc, loadgen.worker
        loadgen.worker.steady()
        looks = []
        gc.callbacks.append(lambda phase, info: looks.append(phase))
        under_way = [[number] for number in range(5_000)]
        print(len(looks))
        class Cycle:
            alive = 0
            def __init__(self):
                Cycle.alive += 1
                self.itself = self
            def __del__(self):
                Cycle.alive -= 1
        for _ in range(3 * loadgen.worker.YOUNG):
            Cycle()
        print(Cycle.alive <= loadgen.worker.YOUNG)
    """
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=80, check=True
    )
    assert done.stdout.split() == ["0", "True"]


class Locust:
    """The master's side of Locust's protocol, spoken by hand to one worker process."""

    def __init__(self, *command: str) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        argv = [sys.executable, *(command or ("-m", "loadgen.worker", "--index", "1"))]
        self.worker = subprocess.Popen(
            [*argv, "--master-port", str(self.port)], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        self.identity = b""

    def expect(self, kind: str) -> Any:
        while True:
            assert self.socket.poll(30_000), f"no {kind!r} came"
            self.identity, payload = self.socket.recv_multipart()
            got, data, node = msgpack.unpackb(payload, strict_map_key=False)
            assert node.encode() == self.identity
            if got == "heartbeat" and kind != "heartbeat":
                self.send("heartbeat")
            if got == kind:
                return data

    def send(self, kind: str, data: Any = None) -> None:
        self.socket.send_multipart([self.identity, msgpack.packb((kind, data, self.identity.decode()))])

    def plan(self, path: Path, target: str = "ws://127.0.0.1:9") -> dict[str, Any]:
        spec = {
            "run_dir": str(path), "nonce": 1, "seed": 1, "targets": [target],
            "workload": {
                "clients": 3, "channels": 2, "phase": [{"name": "a", "duration_s": 5, "publish_per_s": 9}]
            },
        }  # fmt: skip
        return {"spec": json.dumps(spec), "workers": 1}

    def close(self) -> None:
        if self.worker.poll() is None:
            self.worker.kill()
        self.worker.communicate()
        self.socket.close(0)
        self.context.term()


@pytest.fixture
def locust() -> Iterator[Locust]:
    locust = Locust()
    yield locust
    locust.close()


def test_it_registers_and_holds_the_plan(locust: Locust, tmp_path: Path) -> None:
    assert locust.expect("client_ready").startswith("2.")
    assert locust.expect("register") == {"index": 1}
    locust.send("ack", {"index": 0})
    locust.send("plan", locust.plan(tmp_path))
    assert locust.expect("prepared")["total"] > 0
    assert locust.expect("heartbeat")["state"] == "ready"
    locust.send("quit")
    assert locust.expect("finished")["counters"]["records"] == 0
    assert locust.worker.wait(30) == 0
    assert (tmp_path / "events/w1-1.rec").stat().st_size == 64


def test_a_plan_for_a_server_of_others_is_refused_with_the_reason(locust: Locust, tmp_path: Path) -> None:
    locust.expect("register")
    locust.send("plan", locust.plan(tmp_path, "ws://192.0.2.1:80"))
    assert "only loopback may be loaded" in locust.expect("refused")["why"]
    locust.worker.wait(30)
    assert not (tmp_path / "events").exists()


def test_a_target_in_a_spawn_message_is_of_no_effect(locust: Locust, tmp_path: Path) -> None:
    locust.expect("register")
    locust.send("plan", locust.plan(tmp_path))
    locust.expect("prepared")
    spawn = {"user_classes_count": {"ChatClient": 3}, "host": "ws://192.0.2.1:80", "parsed_options": {}}
    locust.send("spawn", spawn)
    assert locust.expect("spawning_complete") == {"user_classes_count": {"ChatClient": 3}, "user_count": 3}
    locust.send("phase", {"t0_ns": 0, "interactive": True})
    locust.expect("stats")
    locust.send("quit")
    assert locust.expect("finished")["counters"]["connects"] == 0


def test_sigterm_closes_the_files(locust: Locust, tmp_path: Path) -> None:
    locust.expect("register")
    locust.send("plan", locust.plan(tmp_path))
    locust.expect("prepared")
    locust.worker.send_signal(signal.SIGTERM)
    counters = locust.expect("finished")["counters"]
    assert locust.worker.wait(30) == 0
    assert json.loads((tmp_path / "events/w1.counters.json").read_text()) == counters
    assert set(counters) == {
        "worker", "records", "lost", "scheduled", "sent", "retries", "acked", "received", "connects",
        "dropped", "given_up", "skipped", "repeats", "unsent",
        "lag_p50_ms", "lag_p99_ms", "lag_max_ms", "hiccup_p99_ms", "hiccup_max_ms", "cpu_s", "wall_s",
        "max_rss_bytes",
    }  # fmt: skip


def test_a_worker_whose_master_is_gone_closes_its_files_and_ends(locust: Locust, tmp_path: Path) -> None:
    locust.expect("register")
    locust.send("plan", locust.plan(tmp_path))
    locust.expect("prepared")
    assert locust.worker.wait(40) == 0  # nothing is said to it from here on
    assert (tmp_path / "events/w1.counters.json").exists()
    assert locust.worker.stderr is not None
    assert "silent for 5 s" in locust.worker.stderr.read()


# `chatproof load`, without the other commands: what they import takes seconds.
COMMAND = ("-c", "from loadgen.cli import load; load()")
GUEST = (*COMMAND, "--worker", "--master-host", "127.0.0.1")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Locust]:
    """A worker whose master is on another host, as far as it knows."""
    records = ("--records", str(tmp_path))
    locust = Locust(*GUEST, *records)
    yield locust
    locust.close()


def said(locust: Locust) -> str:
    assert locust.worker.stderr is not None
    return locust.worker.stderr.read()


def test_a_worker_of_another_host_introduces_itself_and_says_what_its_clock_shows(
    elsewhere: Locust, tmp_path: Path
) -> None:
    introduced = elsewhere.expect("register")
    assert introduced["index"] == 0
    assert set(introduced["versions"]) == {"chatproof", "numpy"}
    elsewhere.send("plan", {**elsewhere.plan(tmp_path / "not-here"), "index": 7, "workers": 9})
    records = Path(elsewhere.expect("prepared")["records"])
    assert records.parent.parent == tmp_path
    before_ns = time.monotonic_ns()
    elsewhere.send("clock", {"asked_ns": 5})
    shown = elsewhere.expect("clock")
    assert (shown["index"], shown["asked_ns"]) == (7, 5)
    assert before_ns <= shown["worker_ns"] <= time.monotonic_ns()


def test_its_records_are_handed_over_and_then_go(elsewhere: Locust, tmp_path: Path) -> None:
    elsewhere.expect("register")
    elsewhere.send("plan", {**elsewhere.plan(tmp_path / "not-here"), "index": 1})
    records = Path(elsewhere.expect("prepared")["records"])
    elsewhere.send("quit")
    files = elsewhere.expect("finished")["files"]
    assert [name for name, _, _ in files] == ["w1-1.rec", "w1.counters.json", "w1.names.jsonl"]
    elsewhere.send("fetch", {"name": "w1-1.rec", "offset": 0})
    piece = elsewhere.expect("piece")
    assert (piece["name"], len(piece["data"])) == ("w1-1.rec", 64)
    assert records.exists()
    elsewhere.send("collected")
    assert elsewhere.worker.wait(30) == 0
    assert not records.exists()


def test_records_that_nobody_fetches_stay_and_it_says_where(elsewhere: Locust, tmp_path: Path) -> None:
    elsewhere.expect("register")
    elsewhere.send("plan", {**elsewhere.plan(tmp_path / "not-here"), "index": 1})
    records = Path(elsewhere.expect("prepared")["records"])
    elsewhere.send("quit")
    elsewhere.expect("finished")
    assert elsewhere.worker.wait(40) == 5  # nothing is said to it from here on
    assert (records / "w1.counters.json").exists()
    assert f"were not fetched and stay in {records}" in said(elsewhere)


def test_a_worker_that_is_turned_away_says_why_and_ends_with_2(elsewhere: Locust) -> None:
    elsewhere.expect("register")
    elsewhere.send("turned_away", {"why": "the worker has chatproof 1, and the master has chatproof 2"})
    assert elsewhere.worker.wait(30) == 2
    assert "the worker has chatproof 1, and the master has chatproof 2" in said(elsewhere)


def test_a_worker_to_whom_nobody_answers_ends_with_2() -> None:
    argv = [sys.executable, *GUEST, "--master-port", "9", "--wait-s", "1"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=80, check=False)
    assert done.returncode == 2
    assert "127.0.0.1:9 has been silent for 1 s" in done.stderr

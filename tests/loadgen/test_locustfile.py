"""Stock Locust with our locustfile, against a real chatd: the counts of both agree to the message."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.broker import free_port
from tests.chatd.process import Daemon

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "CHATPROOF_RATE": "60"}
pytestmark = pytest.mark.e2e


@pytest.fixture
def chatd(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path / "data")
    daemon.start()
    yield daemon
    if daemon.process is not None:
        daemon.process.terminate()
        daemon.process.communicate(timeout=40)


def locust(path: Path, host: str, *options: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "locust", "-f", str(ROOT / "loadgen/locustfile.py"), "--host", host]
    argv += ["--headless", "-u", "10", "-r", "10", "--chat-summary", "summary.json", *options]
    return subprocess.run(
        argv, cwd=path, env=ENVIRONMENT, capture_output=True, text=True, timeout=80, check=False
    )


def processes(count: int) -> list[str]:
    """Options for so many workers, with a port of their own: that of Locust may be another test's."""
    port = str(free_port())
    return ["--processes", str(count), "--master-bind-port", port, "--master-port", port]


def figure(chatd: Daemon, name: str) -> int:
    page = asyncio.run(chatd.page("/metrics"))[1]
    return next(int(line.split()[1]) for line in page.splitlines() if line.startswith(name + " "))


def test_the_counts_of_a_headless_test_are_those_of_the_server(tmp_path: Path, chatd: Daemon) -> None:
    host = f"ws://127.0.0.1:{chatd.port}"
    records = tmp_path / "records"
    done = locust(tmp_path, host, "-t", "5s", "--csv", "out", "--chat-records", str(records))
    assert done.returncode == 0, done.stderr
    placed, delivered = [figure(chatd, f"chatd_{name}_total") for name in ("publishes", "deliveries")]
    assert placed > 100
    with (tmp_path / "out_stats.csv").open() as file:
        rows = {row["Name"]: int(row["Request Count"]) for row in csv.DictReader(file)}
    assert rows == {"ack": placed, "delivery": delivered, "Aggregated": placed + delivered}
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["sent"], summary["acked"], summary["received"]) == (placed, placed, delivered)
    assert (summary["connects"], summary["unacked"], summary["lost"]) == (10, 0, 0)
    assert 0 < summary["delivery_ms"]["p50"] <= summary["delivery_ms"]["p99"]
    assert f"sent {placed:,}, acked {placed:,}, received {delivered:,}; delivered p50 " in done.stderr
    assert list(records.glob("chat-*/events/w1-1.rec"))


def test_a_test_is_as_long_as_it_was_asked_to_be_however_long_the_imports_take(
    tmp_path: Path, chatd: Daemon
) -> None:
    slow = tmp_path / "slow.py"
    busy = "import time\nuntil_s = time.monotonic() + 3\nwhile time.monotonic() < until_s: pass\n"
    slow.write_text(busy + "from loadgen.locustfile import *\n")
    done = locust(tmp_path, f"ws://127.0.0.1:{chatd.port}", "-t", "4s", "-f", str(slow))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "summary.json").read_text())["workers"][0]["wall_s"] > 3.5


def test_forked_workers_share_the_load_and_add_up(tmp_path: Path, chatd: Daemon) -> None:
    host = f"ws://127.0.0.1:{chatd.port}"
    done = locust(tmp_path, host, "-t", "5s", *processes(2), "--json-file", "out")
    assert done.returncode == 0, done.stderr
    placed = figure(chatd, "chatd_publishes_total")
    assert placed > 100
    stats = {row["name"]: row["num_requests"] for row in json.loads((tmp_path / "out.json").read_text())}
    assert stats["ack"] == placed
    assert stats["delivery"] == figure(chatd, "chatd_deliveries_total")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [row["worker"] for row in summary["workers"]] == [1, 2]
    assert (summary["acked"], summary["connects"]) == (placed, 10)


def test_workers_that_were_started_by_themselves_know_how_many_sessions_there_are(
    tmp_path: Path, chatd: Daemon
) -> None:
    port = str(free_port())
    argv = [sys.executable, "-m", "locust", "-f", str(ROOT / "loadgen/locustfile.py"), "--worker"]
    argv += ["--master-host", "127.0.0.1", "--master-port", port]
    workers = [
        subprocess.Popen(argv, cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.DEVNULL) for _ in range(2)
    ]
    master = ["--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port]
    done = locust(tmp_path, f"ws://127.0.0.1:{chatd.port}", "-t", "5s", *master, "--expect-workers", "2")
    assert done.returncode == 0, done.stderr
    assert [worker.wait(30) for worker in workers] == [0, 0]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["connects"] == 10
    assert summary["received"] == 2 * summary["sent"] > 0
    assert [row["worker"] for row in summary["workers"]] == [1, 2]


def test_ctrl_c_ends_a_test_with_what_it_has_found(tmp_path: Path, chatd: Daemon) -> None:
    argv = [sys.executable, "-m", "locust", "-f", str(ROOT / "loadgen/locustfile.py"), "--headless"]
    argv += ["--host", f"ws://127.0.0.1:{chatd.port}", "-u", "10", "-r", "10", *processes(2)]
    argv += ["--chat-summary", "summary.json", "-t", "60s"]
    log = tmp_path / "log"
    with log.open("w") as err:
        test = subprocess.Popen(
            argv,
            cwd=tmp_path,
            env=ENVIRONMENT,
            stdout=err,
            stderr=err,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(
                signal.SIGINT, signal.SIG_DFL
            ),  # in the background it is ignored
        )
    until_s = time.monotonic() + 40
    while figure(chatd, "chatd_publishes_total") < 20:
        assert time.monotonic() < until_s, log.read_text()
        with suppress(subprocess.TimeoutExpired):
            pytest.fail(f"it ended with {test.wait(0.2)}: {log.read_text()}")
    os.killpg(test.pid, signal.SIGINT)  # as a terminal does
    assert test.wait(30) == 0, log.read_text()
    assert "Traceback" not in log.read_text()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["acked"] == figure(chatd, "chatd_publishes_total")


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        pytest.param(["--chat-summary", "no/such/file"], "--chat-summary is no/such/file: ", id="summary"),
        pytest.param(["--chat-records", "/dev/null/x"], "--chat-records is /dev/null/x: ", id="records"),
        pytest.param(["--chat-rate", "-1"], "--chat-rate: is -1: must be 0 or more", id="rate"),
    ],
)
def test_an_option_that_cannot_be_met_is_one_line_and_no_traceback(
    tmp_path: Path, options: list[str], fault: str
) -> None:
    done = locust(tmp_path, "ws://127.0.0.1:9", "-t", "5s", *options)
    assert done.returncode == 2
    assert fault in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("host", "fault"),
    [
        pytest.param("ws://192.0.2.1:80", "only loopback may be loaded", id="a-host-of-others"),
        pytest.param("http://127.0.0.1:1", "must be ws://HOST:PORT", id="not-a-websocket"),
    ],
)
def test_a_target_that_may_not_be_loaded_ends_with_status_2(tmp_path: Path, host: str, fault: str) -> None:
    done = locust(tmp_path, host, "-t", "5s")
    assert done.returncode == 2
    assert fault in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_is_not_there_is_an_error_in_locusts_words(tmp_path: Path) -> None:
    done = locust(tmp_path, "ws://127.0.0.1:9", "-t", "2s")
    assert done.returncode == 1
    assert "errno 111" in done.stdout + done.stderr


def test_a_second_test_of_the_same_server_sends_new_messages(tmp_path: Path, chatd: Daemon) -> None:
    host = f"ws://127.0.0.1:{chatd.port}"
    acked = 0
    for _ in range(2):
        assert locust(tmp_path, host, "-t", "3s").returncode == 0
        acked += json.loads((tmp_path / "summary.json").read_text())["acked"]
    assert figure(chatd, "chatd_publishes_total") == acked > 20


def test_on_the_page_a_test_that_cannot_begin_is_a_failure_and_another_may_be_tried(
    tmp_path: Path, chatd: Daemon
) -> None:
    port = free_port()
    argv = [sys.executable, "-m", "locust", "-f", str(ROOT / "loadgen/locustfile.py")]
    argv += ["--web-host", "127.0.0.1", "--web-port", str(port), "--host", f"ws://127.0.0.1:{chatd.port}"]
    log = tmp_path / "log"
    with log.open("w") as err:
        page = subprocess.Popen(argv, cwd=tmp_path, env=ENVIRONMENT, stdout=err, stderr=err)

    def asked(path: str, form: str | None = None) -> dict[str, Any]:
        data = None if form is None else f"user_count=5&spawn_rate=5&{form}".encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", data, timeout=40) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def until(state: str, *, of: str = "Aggregated") -> dict[str, Any]:
        """The page's figures, once the test is in that state and there are some of that name."""
        until_s = time.monotonic() + 40
        while True:
            assert time.monotonic() < until_s, log.read_text()
            with suppress(OSError):
                found = asked("stats/requests")
                if found["state"] == state and of in [row["name"] for row in found["stats"]]:
                    return found
            with suppress(subprocess.TimeoutExpired):
                pytest.fail(f"it ended with {page.wait(0.3)}: {log.read_text()}")

    try:
        until("ready")  # its log says that it starts the page before anybody can ask for it
        asked("swarm", "host=ws://192.0.2.1:80")
        (error,) = until("stopped")["errors"]
        assert "--host is 'ws://192.0.2.1:80': only loopback may be loaded" in error["error"]
        asked("swarm", f"host=ws://127.0.0.1:{chatd.port}&chat_rate=50")
        assert until("running", of="ack")["errors"] == []
    finally:
        page.terminate()
        page.wait(30)
    assert "Traceback" not in log.read_text()

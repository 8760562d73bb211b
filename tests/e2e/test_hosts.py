"""Load from two other hosts: network namespaces with clocks that are hours off."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from reports.history import Flag, Kind
from tests.e2e.test_run import ROOT, run

PORT = 5557
HOUR_S = 3600
AHEAD_S = {1: HOUR_S, 2: 5 * HOUR_S}  # of the hosts' CLOCK_MONOTONIC
MASTER = "10.213.77.1"
TOOLS = ("ip", "unshare")


def lacking() -> str:
    """What of this machine keeps the test from being run; empty: nothing does."""
    if os.geteuid():
        return (
            "network and time namespaces can be made by root only: run the tests as root, as in a container"
        )
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"{' and '.join(missing)} not found: install iproute2 and util-linux"
    if not Path("/proc/self/ns/time").exists():
        return "the kernel has no time namespaces: they came with Linux 5.6"
    try:
        for made in ("add", "del"):
            subprocess.run(["ip", "netns", made, f"cp-try-{os.getpid()}"], check=True, capture_output=True)
    except subprocess.CalledProcessError as error:
        why = error.stderr.decode().strip()
        return f"ip netns cannot be used here ({why}): give the container CAP_SYS_ADMIN and CAP_NET_ADMIN"
    return ""


LACKING = lacking()
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(400),
    pytest.mark.skipif(bool(LACKING), reason=LACKING or "nothing is lacking"),
]
SCENARIO = """
version = 1
why = "Does a load from two other hosts say the same as one from here?"

[server]
retry_ms = [100, 1000]

[workload]
clients = 20
channels = 4
channels_per_client = 2
connect_over_s = 0.5

[[workload.phase]]
name = "all"
duration_s = 4.0
publish_per_s = 40.0

[[fault]]
id = "cut"
kind = "down"
target = "a"
at_s = 2.0
duration_s = 0.5

[expect]
resumes = true

[[gate]]
id = "some-day"
kind = "threshold"
metric = "delivery"
expr = "p(99) < 10s"
"""


class Hosts:
    """One namespace for the run and two for workers, on one bridge."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names = [f"cp-{os.getpid()}-{index}" for index in range(3)]
        self.workers: dict[int, subprocess.Popen[bytes]] = {}
        (path / "hosts.toml").write_text(SCENARIO)

    def open(self) -> None:
        for name in self.names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        first = self.names[0]
        _ip("-n", first, "link", "add", "bridge0", "type", "bridge")
        _ip("-n", first, "addr", "add", f"{MASTER}/24", "dev", "bridge0")
        _ip("-n", first, "link", "set", "bridge0", "up")
        for index, name in enumerate(self.names[1:], start=1):
            port = ("-n", first, "link")
            _ip(*port, "add", f"to{index}", "type", "veth", "peer", "name", "out0", "netns", name)
            _ip(*port, "set", f"to{index}", "master", "bridge0", "up")
            _ip("-n", name, "addr", "add", f"10.213.77.{index + 1}/24", "dev", "out0")
            _ip("-n", name, "link", "set", "out0", "up")

    def close(self) -> None:
        for worker in self.workers.values():
            worker.kill()
            worker.wait()
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def start_worker(self, index: int) -> None:
        argv = ["ip", "netns", "exec", self.names[index]]
        argv += ["unshare", "--time", "--monotonic", str(AHEAD_S[index]), "--fork", "--kill-child=SIGKILL"]
        argv += [sys.executable, "-m", "scenarios", "load", "--worker", "--master-host", MASTER]
        argv += ["--allow-target", MASTER, "--records", str(self.path)]
        log = (self.path / f"worker-{index}.log").open("wb")
        with log:
            env = {**os.environ, "PYTHONPATH": str(ROOT)}
            self.workers[index] = subprocess.Popen(argv, cwd=self.path, env=env, stdout=log, stderr=log)

    def run(self, *options: str) -> tuple[int, str, dict[str, Any]]:
        """Exit status, output and summary of the run, with the workers of both hosts."""
        arguments = ["hosts.toml", "--expect-workers", "2", "--bind-host", MASTER, "--allow-target", MASTER]
        prefix = ("ip", "netns", "exec", self.names[0])
        return run(*arguments, *options, cwd=self.path, prefix=prefix)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    hosts = Hosts(tmp_path)
    try:
        hosts.open()
        yield hosts
    finally:
        hosts.close()


def test_clocks_that_are_hours_off_change_no_verdict_and_no_latency(hosts: Hosts) -> None:
    for index in (1, 2):
        hosts.start_worker(index)
    status, output, summary = hosts.run()
    assert status == 0, output
    assert f"chatproof load --worker --master-host {MASTER} --master-port {PORT}" in output
    assert [worker.wait(60) for worker in hosts.workers.values()] == [0, 0]
    assert summary["verdict"] == "valid"
    assert summary["coverage"]["resumed"] > 5
    latest = hosts.path / "runs/latest"
    clock = json.loads((latest / "run.json").read_text())["clock"]
    ahead_ns = sorted(-each["readings"][0][1] for each in clock["workers"].values())
    for each, true_s in zip(ahead_ns, sorted(AHEAD_S.values()), strict=True):
        assert abs(each - true_s * 10**9) < clock["uncertainty_ns"]
    live = (pl.col("kind") == Kind.RECV) & (pl.col("flags") & int(Flag.REPLAYED) == 0)
    logs = [pl.read_parquet(latest / f"events/w{index}.parquet") for index in (1, 2)]
    received = pl.concat(log.filter(live & (pl.col("publisher") > 0)) for log in logs)
    took_ns = received["t"] - received["t2"]
    assert len(took_ns) > 500
    # Not one arrives before it was due, and the median is what one host would show: no hour is left in it.
    assert took_ns.min() >= -clock["uncertainty_ns"]  # type: ignore[operator]
    assert 0 < summary["latency_ms"]["delivery"]["p50"] < 500
    assert 0 < summary["load"]["clock_uncertainty_ms"] < 1000
    report = (latest / "report/report.md").read_text()
    assert re.search(r"due → received, live ± [\d.]+\s(ms|s)", report)
    assert not [path for path in hosts.path.iterdir() if path.name.startswith("chatproof-")]


def test_a_worker_that_is_lost_voids_the_run_and_the_others_records_come_back(hosts: Hosts) -> None:
    for index in (1, 2):
        hosts.start_worker(index)

    def kill_in_the_load() -> None:
        live = hosts.path / "runs/latest/run.json"
        while not (live.exists() and '"t0_ns"' in live.read_text()):
            time.sleep(0.1)
        time.sleep(1.0)
        hosts.workers[2].send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill_in_the_load)
    killer.start()
    status, output, summary = hosts.run()
    killer.join()
    assert status == 5, output
    reasons = " ".join(summary["void"])
    assert "it has not been heard for 3 s" in reasons
    assert "which keeps its records in" in reasons
    assert hosts.workers[1].wait(60) == 0
    kept = [path for path in hosts.path.iterdir() if path.name.startswith("chatproof-")]
    assert len(kept) == 1
    logs = {path.name for path in (hosts.path / "runs/latest/events").glob("w[12].parquet")}
    assert len(logs) == 1
    assert list(kept[0].glob("events/*.rec"))

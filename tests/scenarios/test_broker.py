"""The run's own broker: started, asked, and replaced by its replica."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import pytest

from chaos.process import ProcessError, Supervisor
from scenarios import broker
from scenarios.broker import Brokers, command, start_brokers
from scenarios.layout import layout
from scenarios.ready import free_port
from scenarios.rundir import RunDirectory
from scenarios.sampler import Sampler
from scenarios.server import Server
from scenarios.wiring import Wiring


class Engine:
    """Remembers where proxies were led."""

    def __init__(self) -> None:
        self.led: dict[str, str] = {}

    def reroute(self, proxy: str, upstream: str) -> None:
        self.led[proxy] = upstream


@pytest.mark.e2e
def test_a_replica_has_what_the_broker_had_and_takes_its_place(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    server = Server(nodes=2, store="valkey", replicas=1)
    found = start_brokers(layout(server), Wiring(), supervisor, RunDirectory(tmp_path, "own"))
    assert found is not None
    assert set(supervisor.pids()) == {"broker-1", "broker-2"}
    assert command(*found.first, "SET k v").startswith(b"+OK")
    until_s = time.monotonic() + 30
    while not command(*found.first, "WAIT 1 500").startswith(b":1"):
        assert time.monotonic() < until_s
    told = found.promote("broker-2")
    host, _, port = told["upstream"].rpartition(":")
    assert (host, int(port)) != found.first
    assert b"role:master" in command(host, int(port), "INFO")
    assert command(host, int(port), "GET k").startswith(b"$1\r\nv")


def test_links_of_nodes_are_led_to_the_replica_and_its_own_link_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(broker, "command", lambda host, port, line: b"+OK\r\n+OK\r\n")
    engine = Engine()
    listening = {"a1": "h:1", "link-1": "h:2", "link-2": "h:3", "link-replica": "h:4"}
    wiring = Wiring(cast(Any, engine), frozenset(listening), listening)
    brokers = Brokers({"broker-1": ("h", 10), "broker-2": ("h", 20)}, wiring)
    assert brokers.promote("broker-2") == {"upstream": "h:20", "links": ["link-1", "link-2"]}
    assert engine.led == {"link-1": "h:20", "link-2": "h:20"}


def test_a_replica_that_does_not_answer_is_not_promoted() -> None:
    brokers = Brokers({"broker-2": ("127.0.0.1", free_port("127.0.0.1"))}, Wiring())
    with pytest.raises(ProcessError, match="'broker-2' is not promoted: it answers b''"):
        brokers.promote("broker-2")


def test_ports_lie_below_those_that_the_kernel_gives_away() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(12_000 <= free_port("127.0.0.1") < lowest for _ in range(20))


def test_rates_are_of_two_samples_and_old_ones_say_nothing(tmp_path: Path) -> None:
    sampler = Sampler(dict, {})
    sampler.stop(tmp_path)
    now_ns = 10**12
    before = {"t": now_ns - 2 * 10**9, "n": 10.0, "g": 7.0}
    last = {"t": now_ns - 10**9, "n": 30.0, "g": 8.0}
    old = {"t": now_ns - 10**10, "n": 5.0}
    sampler._newest = {
        "chatd-1": (before, last),
        "chatd-2": (last, last),
        "chatd-3": (last, before),
        "x": (old, old),
    }
    assert sampler.gauge("g", now_ns) == {"chatd-1": 8.0, "chatd-2": 8.0, "chatd-3": 7.0}
    assert sampler.rate_per_s("n", now_ns) == {"chatd-1": 20.0, "chatd-2": 0.0, "chatd-3": 0.0}

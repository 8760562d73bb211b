"""Clients behind a real HAProxy: which node they come to, and a whole run with a node that is killed."""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import polars as pl
import pytest

from chaos.journal import Journal
from chaos.process import Supervisor
from reports.history import CONN_OK, Kind, Transport
from scenarios.balancer import HOST, Behind, config_text, start_balancer
from scenarios.ready import free_port
from scenarios.rundir import RunDirectory
from tests.balancer import needs_haproxy
from tests.e2e.test_run import run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400), needs_haproxy]

LEFT_OUT_S = 30.0  # far more than two checks take

RUN = """
version = 1
why = "A node of three behind a balancer dies: is anything lost, by whatever people come?"

[server]
nodes = 3
store = "valkey"
balancer = "haproxy"
http_port = "free"
retry_ms = [100, 1000]

[workload]
clients = 30
channels = 6
channels_per_client = 2
connect_over_s = 0.5
balance = "least"

[[workload.persona]]
name = "page"
weight = 0.4
transport = "websocket"

[[workload.persona]]
name = "streaming"
weight = 0.4
transport = "sse"

[[workload.persona]]
name = "polling"
weight = 0.2
transport = "poll"

[[workload.phase]]
name = "warm-up"
duration_s = 1.0
publish_per_s = 30.0
warmup = true

[[workload.phase]]
name = "chaos"
duration_s = 3.5
publish_per_s = 40.0

[[fault]]
id = "kill-one"
kind = "kill"
target = "chatd-2"
at_s = 2.0
duration_s = 1.5

[expect]
resumes = true

[[gate]]
id = "nothing-lost"
kind = "integrity"
metric = "lost"
max = 0

[[gate]] # a tenth of it is the lag that a run may have: a busy machine must not void this one
id = "some-day"
kind = "threshold"
metric = "delivery"
expr = "p(99) < 20s"
"""


class Door(ThreadingHTTPServer):
    """One address of a node: answers with its own name, with 503 while it is not ``ready``."""

    daemon_threads = True
    request_queue_size = 128  # while this process stands still, checks and clients wait

    def __init__(self, name: str) -> None:
        super().__init__((HOST, 0), _Answer)
        self.name, self.ready = name, True
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def at(self) -> str:
        return f"{HOST}:{self.server_address[1]}"

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Answer(BaseHTTPRequestHandler):
    server: Door

    def do_GET(self) -> None:
        body = self.server.name.encode()
        self.send_response(200 if self.server.ready else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


class Town:
    """Three nodes behind a balancer, each with a door for either half and one for its pages."""

    def __init__(self, tmp_path: Path, stack: ExitStack) -> None:
        names = [f"{door}{node}" for node in (1, 2, 3) for door in ("a", "b", "pages")]
        self.doors = {name: Door(name) for name in names}
        for door in self.doors.values():
            stack.callback(door.close)
        behind = [
            Behind(f"n{n}", (self.doors[f"a{n}"].at, self.doors[f"b{n}"].at), (HOST, self._pages(n)))
            for n in (1, 2, 3)
        ]
        self.listen = HOST, free_port(HOST)
        journal = Journal(tmp_path / "faults.jsonl")
        stack.callback(journal.close)
        supervisor = Supervisor(journal)
        stack.callback(supervisor.end_all)
        config = config_text(self.listen, "round_robin", behind, clients=40)
        start_balancer("balancer-1", self.listen, config, supervisor, RunDirectory(tmp_path / "runs", "x"))

    def _pages(self, node: int) -> int:
        return int(self.doors[f"pages{node}"].server_address[1])

    def dial(self, client: int) -> str:
        """The door that a client comes to; the status if it is not let in."""
        connection = http.client.HTTPConnection(*self.listen, timeout=30)
        try:
            connection.request("GET", f"/ws?c={client}")
            answer = connection.getresponse()
            return answer.read().decode() if answer.status == 200 else str(answer.status)
        finally:
            connection.close()


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with ExitStack() as stack:
        yield Town(tmp_path, stack)


def until(done: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + LEFT_OUT_S
    while not done():
        assert time.monotonic() < deadline_s, f"not within {LEFT_OUT_S:g} s"


def test_a_client_keeps_its_half_on_every_node(town: Town) -> None:
    found = {client: town.dial(client) for client in range(1, 13)}
    assert all(door.startswith("ab"[client % 2]) for client, door in found.items())
    assert Counter(found.values()) == dict.fromkeys(("a1", "a2", "a3", "b1", "b2", "b3"), 2)


def test_a_node_that_is_not_ready_is_left_out_for_both_halves_until_it_is_again(town: Town) -> None:
    town.doors["pages2"].ready = False
    until(lambda: {town.dial(client) for client in range(1, 13)} == {"a1", "b1", "a3", "b3"})
    town.doors["pages2"].ready = True
    until(lambda: {town.dial(client) for client in range(1, 13)} >= {"a2", "b2"})


def test_who_is_refused_at_one_door_is_led_to_that_of_another_node(town: Town) -> None:
    town.doors["a2"].ready = False  # of the door; the node goes on saying that it is ready
    town.doors["b3"].close()
    assert {town.dial(client) for client in range(1, 25)} == {"a1", "a3", "b1", "b2"}


def test_with_no_node_left_the_balancer_itself_is_not_ready(town: Town) -> None:
    for node in (1, 2, 3):
        town.doors[f"pages{node}"].ready = False
    until(lambda: town.dial(1) == "503")
    connection = http.client.HTTPConnection(*town.listen, timeout=30)
    connection.request("GET", "/readyz")
    assert connection.getresponse().status == 503
    connection.close()


def test_a_node_of_three_is_killed_behind_it_and_nothing_is_lost(tmp_path: Path) -> None:
    (tmp_path / "behind.toml").write_text(RUN)
    status, output, summary = run("behind.toml", "--workers", "1", cwd=tmp_path)
    assert status == 0, output
    assert summary["via"] == "haproxy (least), direct"
    (killed,) = summary["faults"]
    latest = tmp_path / "runs/latest"
    on = nodes_of(latest)
    assert on[Transport.WEBSOCKET] == {1: 4, 2: 4, 3: 4}  # HAProxy had spread 12 evenly
    assert sum(on[Transport.SSE].values()) == 12
    # Who waited for a poll's answer got it from another node: nobody but HAProxy saw that one go.
    assert 4 + on[Transport.SSE][2] <= killed["effects"]["closes"] <= 4 + on[Transport.SSE][2] + 6
    steps = [json.loads(line) for line in (latest / "faults.jsonl").read_text().splitlines()]
    own = [(step["kind"], step.get("planned")) for step in steps if step.get("process") == "balancer-1"]
    assert own == [("start", None), ("exit", True)]
    seen = (latest / "logs/balancer-1.log").read_text()
    assert "Server nodes/n2 is DOWN" in seen
    assert "Server nodes/n2 is UP" in seen
    by = Counter(re.findall(r'nodes-http/n\d \S+ 200 .*"(GET /sse|GET /poll|POST /publish)\?', seen))
    assert by.keys() == {"GET /sse", "GET /poll", "POST /publish"}
    load = json.loads((latest / "config/load.json").read_text())
    node = json.loads((latest / "config/chatd-1.json").read_text())
    assert [target + "/ws" for target in load["targets"]] == [node["advertise"]]
    assert len(load["http_targets"]) == 1


def nodes_of(latest: Path) -> dict[Transport, Counter[int]]:
    """Which nodes the clients were on first, by how they came."""
    rows = pl.concat([pl.read_parquet(path) for path in sorted((latest / "events").glob("w*.parquet"))])
    made = rows.filter((pl.col("kind") == Kind.CONN) & (pl.col("serial") == CONN_OK) & (pl.col("client") > 0))
    first = made.sort("t").group_by("client").agg(pl.col("flags", "publisher").first())
    found: dict[Transport, Counter[int]] = {way: Counter() for way in Transport}
    for _, way, node in first.iter_rows():
        found[Transport(way)][int(node)] += 1
    return found

"""Probes of the steady state: how often they are asked, what is written, and a real round trip."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.journal import Journal
from chaos.process import Supervisor
from loadgen.workload import Phase, Workload
from scenarios import steady
from scenarios.cluster import start_cluster
from scenarios.layout import layout
from scenarios.rundir import RunDirectory
from scenarios.server import Server
from scenarios.steady import ProbeFailed, RoundTrip, Steady, all_ready, probes_of
from scenarios.wiring import Wiring


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Callable[..., Steady]]:
    opened: list[Steady] = []

    def ask(**probes: Callable[[], None]) -> Steady:
        opened.append(Steady(tmp_path / "probes.jsonl", probes))
        return opened[-1]

    yield ask
    for each in opened:
        each.close()


def failing(times: int) -> Callable[[], None]:
    left = iter([True] * times)

    def probe() -> None:
        if next(left, False):
            raise ProbeFailed("not yet")

    return probe


def lines(tmp_path: Path) -> list[tuple[Any, ...]]:
    told = [json.loads(line) for line in (tmp_path / "probes.jsonl").read_text().splitlines()]
    return [(line["when"], line["probe"], line["ok"], line["why"]) for line in told]


def test_all_probes_are_asked_though_one_fails(asked, tmp_path):
    assert asked(one=failing(1), two=failing(0)).ask("before") == ["one: not yet"]
    assert lines(tmp_path) == [("before", "one", False, "not yet"), ("before", "two", True, "")]


def test_they_are_asked_until_all_are_well(asked, tmp_path, monkeypatch):
    monkeypatch.setattr(steady, "PERIOD_S", 0.0)
    assert asked(one=failing(2)).ask_until_well("after", float("inf")) == []
    assert [ok for _, _, ok, _ in lines(tmp_path)] == [False, False, True]


def test_when_the_time_is_over_the_last_failures_are_told(asked):
    assert asked(one=failing(9)).ask_until_well("after", 0.0) == ["one: not yet"]


def test_while_the_load_goes_on_they_are_asked_in_the_background(asked, tmp_path, monkeypatch):
    monkeypatch.setattr(steady, "PERIOD_S", 0.001)
    told = iter(range(3))
    probes = asked(one=lambda: None if next(told, None) is not None else probes._stop.set())
    probes.start()
    probes._thread.join(timeout=30)
    probes.stop()
    assert {when for when, *_ in lines(tmp_path)} == {"during"}
    assert len(lines(tmp_path)) == 4


def test_what_cannot_be_asked_is_left_out(asked):
    probes = probes_of(lambda: False, RoundTrip(["ws://127.0.0.1:1"], "chatd", "r"))
    assert list(probes) == ["ready", "round_trip"]
    assert asked(**probes).ask("before")[0] == "ready: GET /readyz is not answered with 200"
    assert list(probes_of(lambda: True, None)) == ["ready"]
    assert probes_of(None, None) == {}


@pytest.mark.e2e
def test_a_message_goes_to_a_real_chatd_and_comes_back_each_time(tmp_path):
    rundir = RunDirectory(tmp_path, "probed")
    journal = Journal(tmp_path / "faults.jsonl")
    supervisor = Supervisor(journal)
    try:
        server = Server(store="memory")
        load = Workload(clients=1, channels=2, phase=(Phase(name="calm", duration_s=1.0),))
        cluster = start_cluster(server, layout(server), Wiring(), supervisor, rundir, workload=load)
        probe = RoundTrip(cluster.urls, "chatd", "r", patience_s=30.0)
        probe()
        probe()
        supervisor.limit_files("chatd-1", 0)  # of no matter to a store in memory
        probe()
    finally:
        supervisor.end_all()
        journal.close()


def test_nobody_who_listens_is_a_failure_and_so_is_somebody_who_does_not_answer(asked, monkeypatch):
    monkeypatch.setattr(steady, "ANSWER_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert asked(one=RoundTrip([f"ws://127.0.0.1:{port}"], "chatd", "r")).ask("during")
    assert asked(one=RoundTrip([f"ws://127.0.0.1:{port}"], "chatd", "r")).ask("during")


def test_of_several_nodes_those_that_run_must_all_be_ready():
    pages = {"chatd-1": ("h", 1), "chatd-2": ("h", 2)}

    def well(*processes: str, unready: int = 0) -> bool:
        return all_ready(pages, processes.__contains__, lambda _host, port, _path: port != unready)()

    assert well("chatd-1", "chatd-2")
    assert well("chatd-1")
    assert not well()
    assert not well("chatd-1", "chatd-2", unready=2)
    assert well("chatd-1", unready=2)

"""Who may come from other hosts, and what a master may have done there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loadgen.clock import BURST
from loadgen.guests import Guests, introduction, versions
from loadgen.home import Home
from loadgen.workload import SpecError, parse_spec


def test_workers_are_numbered_as_they_come_until_all_are_there(tmp_path: Path) -> None:
    guests, said = Guests(tmp_path, 2), introduction()
    assert [guests.number(said, taken=taken) for taken in ([], [1], [2], [1, 2])] == [1, 2, 1, 0]
    assert guests.why_not(said, 1) == ""
    assert guests.why_not(said, 0) == "all 2 workers are there already"


@pytest.mark.parametrize("name", ["chatproof", "numpy"])
def test_another_version_is_turned_away_and_both_are_named(tmp_path: Path, name: str) -> None:
    said = introduction() | {"versions": {**versions(), name: "0.0.7"}}
    why = Guests(tmp_path, 1).why_not(said, 1)
    assert f"the worker has {'chatproof 0.0.7' if name == 'chatproof' else 'chatproof'}" in why
    assert f"{name} 0.0.7" in why
    assert f"the master has chatproof {versions()['chatproof']}, numpy {versions()['numpy']}" in why


def test_one_that_says_no_versions_is_told_how_to_start(tmp_path: Path) -> None:
    assert "chatproof load --worker" in Guests(tmp_path, 1).why_not({"index": 3}, 1)


def test_clocks_are_known_when_all_workers_have_a_reading(tmp_path: Path) -> None:
    guests = Guests(tmp_path, 2)
    for index in (1, 2):
        guests.welcome(index, introduction())
        assert not guests.compared
        for at in range(BURST):
            said = {"index": index, "asked_ns": at * 10, "worker_ns": at * 10 + 4 - index * 1000}
            guests.heard(said, at * 10 + 8)
    assert guests.compared
    assert guests.ahead_ns() == [1000, 2000]
    assert guests.close() == []


def test_it_is_said_where_records_were_left(tmp_path: Path) -> None:
    guests = Guests(tmp_path, 1)
    guests.welcome(1, {**introduction(), "host": "mars"})
    assert guests.whereabouts(1) == " (on mars)"
    guests.hosts[1].records = "/var/tmp/x/events"
    assert guests.whereabouts(1) == " (on mars, which keeps its records in /var/tmp/x/events)"


# ── the worker's own host ───────────────────────────────────────────────────────────────────


def plan(**more: Any) -> str:
    workload = {"clients": 3, "channels": 2, "phase": [{"name": "a", "duration_s": 5}]} | more
    return json.dumps({
        "run_dir": "/nowhere", "nonce": 1, "seed": 1, "allow_targets": ["192.0.2.1"],
        "targets": ["ws://192.0.2.1:80"], "workload": workload,
    })  # fmt: skip


def test_a_master_cannot_allow_a_target_and_cannot_say_where_records_go(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"--allow-target 192\.0\.2\.1"):
        parse_spec(Home(scratch=tmp_path).adapted(plan()))
    spec = parse_spec(Home(scratch=tmp_path, allow_targets=("192.0.2.1",)).adapted(plan()))
    assert spec.run_dir.parent == tmp_path


def test_the_directory_goes_when_the_records_are_elsewhere(tmp_path: Path) -> None:
    home = Home(scratch=tmp_path, allow_targets=("192.0.2.1",))
    run_dir = parse_spec(home.adapted(plan())).run_dir
    assert run_dir.is_dir()
    home.clear()
    assert not run_dir.exists()


def test_a_program_is_run_only_where_it_is_allowed(tmp_path: Path) -> None:
    wanted = plan(auth={"command": ["sh", "-c", "echo {client}"]})
    with pytest.raises(SpecError, match="--allow-command sh"):
        Home(scratch=tmp_path, allow_targets=("192.0.2.1",)).adapted(wanted)
    assert not list(tmp_path.iterdir())
    allowed = Home(scratch=tmp_path, allow_targets=("192.0.2.1",), allow_commands=("sh",))
    assert parse_spec(allowed.adapted(wanted)).workload.auth is not None


@pytest.mark.parametrize("text", ["no json", "[]", "{}", '{"workload": 4}'])
def test_a_plan_that_cannot_be_read_is_a_line_and_no_traceback(tmp_path: Path, text: str) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        Home(scratch=tmp_path).adapted(text)

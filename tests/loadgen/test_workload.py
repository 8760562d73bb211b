"""The workload section and load.json: all faults at once, fair channels, and who may be loaded."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.cli import prediction_text
from loadgen.workload import (
    SpecError,
    Workload,
    client_channels,
    message_id,
    parse_message_id,
    parse_spec,
    read_spec,
    target_fault,
)

PHASES = [{"name": "load", "duration_s": 4, "publish_per_s": 20}]
SPEC: dict[str, Any] = {
    "run_dir": "/tmp/run",
    "nonce": 1,
    "seed": 2,
    "targets": ["ws://127.0.0.1:8765"],
    "workload": {"clients": 10, "channels": 3, "phase": PHASES},
}


def faults(**changes: Any) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse_spec(json.dumps({**SPEC, **changes}), source="load.json")
    return list(caught.value.faults)


def test_a_whole_specification_is_read() -> None:
    spec = parse_spec(
        json.dumps({**SPEC, "workload": {**SPEC["workload"], "reconnect": {"base_s": 1, "cap_s": 2}}})
    )
    assert spec.workload.channels_per_client == 2
    assert spec.workload.reconnect != "server-hint"


def test_clients_over_http_need_a_target_of_their_own_that_may_be_loaded() -> None:
    workload = {**SPEC["workload"], "persona": [{"name": "p", "weight": 1, "transport": "poll"}]}
    (missing,) = faults(workload=workload)
    assert "http_targets has 0: must have 1" in missing
    targets = ["ws://127.0.0.1:1", "http://example.org:1", "https://127.0.0.1:443"]
    (wrong,) = faults(workload=workload, http_targets=targets)
    assert "'ws://127.0.0.1:1' must be http://HOST:PORT or https://HOST:PORT" in wrong
    assert "--allow-target example.org" in wrong
    assert "443" not in wrong


def test_every_fault_is_reported_at_once_with_field_and_value() -> None:
    phases = [{"name": "a", "duration_s": -1}]
    workload = {"clients": 0, "channels": 3, "phase": phases, "clinets": 3, "driver": "irc"}
    found = faults(targets=["http://127.0.0.1:1", "ws://example.org:1"], workload=workload)
    assert len(found) == 5, found
    for part in (
        "workload.driver is 'irc': must be one of centrifugo, chatd",
        "'http://127.0.0.1:1' must be ws://",
        "--allow-target example.org",
        "workload.clients is 0",
        "workload.phase.0.duration_s is -1",
        "workload.clinets is 3",
    ):
        assert any(part in fault for fault in found), part


@pytest.mark.parametrize(
    ("workload", "part"),
    [
        pytest.param({"channels_per_client": 4}, "must be at most 3", id="more channels than there are"),
        pytest.param({"phase": PHASES * 2}, "phase names are used twice: load", id="two phases of one name"),
        pytest.param(
            {"reconnect": {"base_s": 2, "cap_s": 1}}, "must be at least base_s", id="cap below base"
        ),
        pytest.param({"reconnect": "sometimes"}, "server-hint", id="unknown policy"),
        pytest.param(
            {"absence": [{"at_s": 2, "duration_s": 1, "share": 0.5, "clients": 2}]},
            "exactly one of share and clients",
            id="an absence of a share and of a number",
        ),
        pytest.param(
            {"absence": [{"at_s": 2, "duration_s": 1}]},
            "exactly one of",
            id="an absence of nobody in particular",
        ),
        pytest.param(
            {"absence": [{"at_s": 2, "duration_s": 1, "share": 0}]}, "greater than 0", id="an absence of none"
        ),
        pytest.param({"absence": [{"at_s": 2, "duration_s": 0, "share": 1}]}, "greater than 0", id="no time"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(workload: dict[str, Any], part: str) -> None:
    assert part in "\n".join(faults(workload={**SPEC["workload"], **workload}))


def test_an_absence_that_does_not_fit_is_told_with_all_that_is_wrong_with_it_and_the_rest() -> None:
    found = faults(
        workload={
            **SPEC["workload"],
            "body_bytes": -1,
            "absence": [
                {"at_s": 2, "duration_s": 1, "clients": 1},
                {"at_s": 0.5, "duration_s": 99, "clients": 11},
            ],
        }
    )
    text = "\n".join(found)
    assert len(found) == 2, found
    for part in (
        "body_bytes is -1",
        "number 2: at_s + duration_s is 99.5: must be at most 4, the end of the load",
        "number 2: at_s is 0.5: must be at least 1, connect_over_s",
        "number 2: clients is 11: must be at most 10, all that there are",
    ):
        assert part in text
    assert "number 1" not in text


def test_a_file_that_is_missing_or_no_json_gets_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none\.json: No such file"):
        read_spec(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(SpecError, match="Invalid JSON"):
        read_spec(tmp_path / "bad.json")


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        pytest.param("ws://127.0.0.1:1", (), id="loopback"),
        pytest.param("ws://127.8.8.8:1", (), id="any address of 127/8"),
        pytest.param("ws://localhost:1/path", (), id="localhost"),
        pytest.param("wss://[::1]:1", (), id="loopback of IPv6"),
        pytest.param("wss://chat.example.org", ("chat.example.org",), id="named by the user"),
    ],
)
def test_loopback_and_named_hosts_may_be_loaded(url: str, allowed: tuple[str, ...]) -> None:
    assert target_fault(url, allowed) is None


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("ws://10.0.0.1:1", id="a private network"),
        pytest.param("ws://127.0.0.1.example.org:1", id="a name that begins like loopback"),
        pytest.param("ws://localhost@example.org:1", id="loopback as a user name"),
        pytest.param("ws://0.0.0.0:1", id="all interfaces"),
        pytest.param("http://127.0.0.1:1", id="not a WebSocket"),
        pytest.param("ws://:1", id="no host"),
        pytest.param("ws://127.0.0.1:port", id="no port"),
        pytest.param("ws://[::1", id="no URL"),
    ],
)
def test_nothing_else_may_be_loaded(url: str) -> None:
    assert target_fault(url, ("chat.example.org",)) is not None


@given(
    clients=st.integers(1, 60),
    channels=st.integers(1, 12),
    per_client=st.integers(1, 12),
    seed=st.integers(0, 2**63 - 1),
)
def test_channels_are_dealt_evenly_and_none_twice(
    clients: int, channels: int, per_client: int, seed: int
) -> None:
    plan = Workload.model_validate(
        {
            "clients": clients,
            "channels": channels,
            "channels_per_client": min(per_client, channels),
            "phase": PHASES,
        }
    )
    dealt = client_channels(plan, seed)
    assert dealt[0] == ()
    assert len(dealt) == clients + 1
    assert all(len(set(hand)) == plan.channels_per_client for hand in dealt[1:])
    sizes = Counter(channel for hand in dealt for channel in hand)
    assert set(sizes) <= set(range(1, channels + 1))
    counts = [sizes[channel] for channel in range(1, channels + 1)]
    assert max(counts) - min(counts) <= 1


@given(publisher=st.integers(0, 2**32 - 1), pub_seq=st.integers(0, 2**32 - 1))
def test_a_message_id_names_publisher_and_count(publisher: int, pub_seq: int) -> None:
    assert parse_message_id(message_id(publisher, pub_seq)) == (publisher, pub_seq)


@pytest.mark.parametrize("message", ["", "c1", "x1:2", "c1:x", "c-1:2", f"c1:{2**32}", "c:1"])
def test_other_message_ids_name_nobody(message: str) -> None:
    assert parse_message_id(message) == (0, 0)


def test_the_prediction_is_a_table_to_read() -> None:
    text = prediction_text(Workload.model_validate(SPEC["workload"]), 2)
    assert [line.split()[0] for line in text.splitlines() if not line.startswith(" ")] == [
        "duration", "connections", "publishes", "deliveries", "fan-out", "records", "log", "files", "memory",
    ]  # fmt: skip
    assert "10 on 3 channel(s)" in text
    assert " a worker, chatd 4" in text


def test_the_memory_of_another_server_is_not_called_that_of_chatd() -> None:
    text = prediction_text(Workload.model_validate({**SPEC["workload"], "driver": "centrifugo"}), 2)
    assert " a worker, server, if as chatd: 4" in text


def test_the_prediction_tells_of_absences_and_what_they_cost() -> None:
    absent = {**SPEC["workload"], "absence": [{"at_s": 1, "duration_s": 1.5, "share": 0.5}]}
    text = prediction_text(Workload.model_validate(absent), 2, retain_n=1)
    assert "absences     5, " in text
    assert "publishes left out of them" in text
    assert "deliveries retained no longer" in text

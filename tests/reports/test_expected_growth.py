"""Memory that grows because a server keeps what it promises to: told from the contract, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from reports.expected_growth import as_json, expected_growth, sentence
from reports.periods import NS

CONTRACT: dict[str, Any] = {"dedupe_s": 300.0, "durability": "fsync", "retain_n": 100, "retain_s": 86400.0}


def run(*, warmup_s: float = 3.0, steady_s: float = 60.0, contract: object = CONTRACT) -> dict[str, Any]:
    edge = 1_000 * NS + round(warmup_s * NS)
    return {
        "t0_ns": 1_000 * NS,
        "phases": [
            {"name": "warm-up", "start_ns": 1_000 * NS, "end_ns": edge, "warmup": True},
            {"name": "steady", "start_ns": edge, "end_ns": edge + round(steady_s * NS), "warmup": False},
        ],
        "contract": contract,
    }


def told(made: dict[str, Any]) -> str:
    found = as_json(expected_growth(made))
    return "" if found is None else sentence(found).replace("\u00a0", " ")


def test_a_window_that_is_longer_than_the_run_bounds_its_growth() -> None:
    assert told(run()) == (
        "Memory may grow and not leak: by its contract the server keeps the id of each message for 300 s "
        "(dedupe_s); the slope was taken over 60 s. A longer run of 1,200 s or more would tell: "
        "--soak-s 1200."
    )


def test_the_length_that_would_tell_does() -> None:
    found = expected_growth(run())
    assert found is not None
    assert found.enough_s is not None
    assert told(run(steady_s=found.enough_s)) == ""
    assert told(run(steady_s=found.enough_s / 2)) != ""


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(run(warmup_s=300.0), id="it was full before"),
        pytest.param(run(contract={**CONTRACT, "dedupe_s": 10.0}), id="it is short"),
        pytest.param(run(contract={**CONTRACT, "dedupe_s": None}), id="it is not said"),
        pytest.param(run(contract={**CONTRACT, "dedupe_s": "long"}), id="it is no number"),
        pytest.param(run(contract={**CONTRACT, "capabilities": ["ack"]}), id="it is not promised"),
        pytest.param(run(contract={}), id="no contract"),
        pytest.param(run(contract=None), id="none at all"),
        pytest.param({**run(), "phases": []}, id="no phases"),
    ],
)
def test_nothing_is_said_where_nothing_bounds_the_growth(made: dict[str, Any]) -> None:
    assert told(made) == ""


def test_a_log_in_memory_grows_until_its_retention_is_reached() -> None:
    made = told(run(contract={**CONTRACT, "durability": "memory"}))
    kept = "its log in memory, the messages of each channel for 86,400 s (retain_s), at most 100 (retain_n)"
    assert f"for 300 s (dedupe_s) and {kept};" in made
    assert made.endswith("Until such a bound is reached, growth is no sign of a leak.")
    assert "--soak-s" not in made

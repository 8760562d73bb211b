"""Fault kinds are values: their keys, their rules, the actions that they ask for."""

from __future__ import annotations

import signal

import pytest
from pydantic import ValidationError

from chaos.engines.base import TOXIPROXY_ABILITIES
from chaos.faults import FAULTS
from chaos.faults.bandwidth import Bandwidth
from chaos.faults.base import AddToxic, RemoveToxic, Script, SetEnabled, Signal, Start, Toxic, Where
from chaos.faults.down import Down
from chaos.faults.kill import Kill
from chaos.faults.latency import Latency
from chaos.faults.limit_data import LimitData
from chaos.faults.pause import Pause
from chaos.faults.reset_peer import ResetPeer
from chaos.faults.restart import Restart
from chaos.faults.slicer import Slicer
from chaos.faults.slow_close import SlowClose
from chaos.faults.timeout import Timeout
from chaos.plan import Common


@pytest.mark.parametrize(
    ("fault", "toxic_type", "attributes"),
    [
        pytest.param(
            Latency(latency_ms=200, jitter_ms=50), "latency", {"latency": 200, "jitter": 50}, id="latency"
        ),
        pytest.param(Bandwidth(rate_kb_per_s=10), "bandwidth", {"rate": 10}, id="bandwidth"),
        pytest.param(SlowClose(delay_ms=7), "slow_close", {"delay": 7}, id="slow_close"),
        pytest.param(Timeout(timeout_ms=9), "timeout", {"timeout": 9}, id="timeout"),
        pytest.param(ResetPeer(timeout_ms=9), "reset_peer", {"timeout": 9}, id="reset_peer"),
        pytest.param(
            Slicer(average_bytes=64, variation_bytes=8, delay_us=3),
            "slicer",
            {"average_size": 64, "size_variation": 8, "delay": 3},
            id="slicer",
        ),
        pytest.param(LimitData(bytes=5), "limit_data", {"bytes": 5}, id="limit_data"),
    ],
)
def test_a_toxic_kind_adds_its_toxic_and_takes_it_away(fault, toxic_type, attributes):
    assert fault.script("x", ("a",)) == Script(
        apply=(AddToxic("a", Toxic("x_downstream", toxic_type, "downstream", 1.0, attributes)),),
        revert=(RemoveToxic("a", "x_downstream"),),
    )


def test_both_directions_on_all_proxies_are_four_toxics_with_names_unique_on_each_proxy():
    script = Latency(latency_ms=1, direction="both", toxicity=0.5).script("x", ("a", "b"))
    added = [(action.proxy, action.toxic.name, action.toxic.stream) for action in script.apply]
    assert added == [
        ("a", "x_upstream", "upstream"),
        ("a", "x_downstream", "downstream"),
        ("b", "x_upstream", "upstream"),
        ("b", "x_downstream", "downstream"),
    ]
    assert {action.toxic.toxicity for action in script.apply} == {0.5}
    assert [(action.proxy, action.name) for action in script.revert] == [(p, n) for p, n, _ in added]


@pytest.mark.parametrize(
    ("fault", "script"),
    [
        pytest.param(Down(), Script((SetEnabled("t", False),), (SetEnabled("t", True),)), id="down"),
        pytest.param(Kill(), Script((Signal("t", signal.SIGKILL),), (Start("t"),)), id="kill"),
        pytest.param(
            Restart(), Script((Signal("t", signal.SIGTERM),), (Start("t"),), ends_with="t"), id="restart"
        ),
        pytest.param(
            Pause(), Script((Signal("t", signal.SIGSTOP),), (Signal("t", signal.SIGCONT),)), id="pause"
        ),
    ],
)
def test_other_kinds_ask_for_these_actions(fault, script):
    assert fault.script("x", ("t",)) == script


REFUSED = [
    ("latency", {}, "latency_ms", "required"),
    ("latency", {"latency_ms": -1}, "latency_ms", "greater than or equal to 0"),
    ("latency", {"latency_ms": 1.5}, "latency_ms", "valid integer"),
    ("latency", {"latency_ms": True}, "latency_ms", "valid integer"),
    ("latency", {"latency_ms": 86_400_001}, "latency_ms", "less than or equal to 86400000"),
    ("latency", {"latency_ms": 5, "jitter_ms": 6}, "jitter_ms", r"at most latency_ms \(5\)"),
    ("latency", {"latency_ms": 5, "direction": "up"}, "direction", "'downstream', 'upstream' or 'both'"),
    ("latency", {"latency_ms": 5, "toxicity": 0.0}, "toxicity", "greater than 0"),
    ("latency", {"latency_ms": 5, "toxicity": 1.1}, "toxicity", "less than or equal to 1"),
    ("latency", {"latency_ms": 5, "toxicity": float("nan")}, "toxicity", "finite"),
    ("bandwidth", {"rate_kb_per_s": 0}, "rate_kb_per_s", "greater than or equal to 1"),
    ("slicer", {"average_bytes": 0}, "average_bytes", "greater than or equal to 1"),
    (
        "slicer",
        {"average_bytes": 8, "variation_bytes": 8},
        "variation_bytes",
        r"less than average_bytes \(8\)",
    ),
    ("limit_data", {"bytes": 0}, "bytes", "greater than or equal to 1"),
    ("down", {"direction": "both"}, "direction", "not permitted"),
    ("kill", {"signal": "SIGTERM"}, "signal", "not permitted"),
]


@pytest.mark.parametrize(
    ("kind", "keys", "field", "rule"), [pytest.param(*row, id=f"{row[0]} {row[1]}") for row in REFUSED]
)
def test_a_kind_refuses_what_breaks_its_rules(kind, keys, field, rule):
    with pytest.raises(ValidationError, match=rule) as refused:
        FAULTS[kind].model_validate(keys)
    assert [error["loc"] for error in refused.value.errors()] == [(field,)]


@pytest.mark.parametrize("kind", FAULTS)
def test_a_kind_is_documented_has_an_example_and_keys_of_its_own(kind):
    model = FAULTS[kind]
    assert model.__doc__
    assert not set(model.model_fields) & set(Common.model_fields)
    assert all(field.description for field in model.model_fields.values())
    fault = model.model_validate(model.example())
    assert model.model_validate(fault.model_dump()) == fault


@pytest.mark.parametrize("kind", FAULTS)
def test_a_script_undoes_each_of_its_actions_on_every_target(kind):
    model = FAULTS[kind]
    targets = ("a", "b") if model.where is Where.PROXY else ("chatd-1",)
    script = model.model_validate(model.example()).script("x", targets)
    assert script.apply
    assert script.revert
    assert model.needs() <= TOXIPROXY_ABILITIES

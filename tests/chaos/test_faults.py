"""Fault kinds are values: their keys, their rules, the actions that they ask for."""

from __future__ import annotations

import signal

import pytest
from pydantic import ValidationError

from chaos.engines.embedded import EmbeddedEngine
from chaos.faults import FAULTS
from chaos.faults.bandwidth import Bandwidth
from chaos.faults.base import (
    AddToxic,
    Hook,
    LimitFiles,
    RemoveToxic,
    Script,
    SetEnabled,
    Signal,
    Start,
    Step,
    Toxic,
    Where,
)
from chaos.faults.client_kill import ClientKill
from chaos.faults.client_pause import ClientPause
from chaos.faults.crash_loop import CrashLoop
from chaos.faults.disk_full import DiskFull
from chaos.faults.down import Down
from chaos.faults.kill import Kill
from chaos.faults.latency import Latency
from chaos.faults.limit_data import LimitData
from chaos.faults.loop_block import LoopBlock
from chaos.faults.pause import Pause
from chaos.faults.reset_peer import ResetPeer
from chaos.faults.restart import Restart
from chaos.faults.rolling import Rolling
from chaos.faults.slicer import Slicer
from chaos.faults.slow_close import SlowClose
from chaos.faults.term import Term
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
        pytest.param(
            ClientPause(),
            Script((Signal("t", signal.SIGSTOP),), (Signal("t", signal.SIGCONT),)),
            id="client_pause",
        ),
        pytest.param(ClientKill(), Script((Signal("t", signal.SIGKILL),), ()), id="client_kill"),
        pytest.param(
            Term(deadline_s=3),
            Script(
                (Signal("t", signal.SIGTERM),),
                (Start("t"),),
                steps=(Step(3.0, (Signal("t", signal.SIGKILL),)),),
            ),
            id="term",
        ),
        pytest.param(
            CrashLoop(every_s=2),
            Script(
                (Signal("t", signal.SIGKILL), Start("t")),
                (Start("t"),),
                steps=(
                    Step(2.0, (Signal("t", signal.SIGKILL), Start("t")), undo=(Start("t"),), every_s=2.0),
                ),
            ),
            id="crash_loop",
        ),
        pytest.param(
            LoopBlock(block_ms=300, every_s=1),
            Script(
                (Hook("t", "block", 300),),
                (Hook("t", "block", 0),),
                steps=(Step(1.0, (Hook("t", "block", 300),), every_s=1.0, lasts_s=0.3),),
            ),
            id="loop_block",
        ),
        pytest.param(DiskFull(), Script((LimitFiles("t", 0),), (LimitFiles("t", None),)), id="disk_full"),
    ],
)
def test_other_kinds_ask_for_these_actions(fault, script):
    assert fault.script("x", ("t",)) == script


def test_rolling_gives_each_process_its_turn():
    script = Rolling(deadline_s=3, pause_s=1).script("x", ("n1", "n2"))
    assert script == Script(
        apply=(Signal("n1", signal.SIGTERM),),
        revert=(Start("n1"),),
        steps=(
            Step(3.0, (Start("n1"),), when_gone="n1"),
            Step(4.0, (Signal("n2", signal.SIGTERM),), undo=(Start("n2"),)),
            Step(7.0, (Start("n2"),), when_gone="n2"),
        ),
    )


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
    ("term", {"deadline_s": 0}, "deadline_s", "greater than 0"),
    ("rolling", {"pause_s": -1}, "pause_s", "greater than 0"),
    ("crash_loop", {"every_s": 0}, "every_s", "greater than 0"),
    ("loop_block", {"block_ms": 0}, "block_ms", "greater than or equal to 1"),
    ("loop_block", {"block_ms": 10_001}, "block_ms", "less than or equal to 10000"),
    ("loop_block", {"block_ms": 1000, "every_s": 1}, "every_s", r"more than block_ms \(1000\)"),
    ("disk_full", {"free_bytes": 1}, "free_bytes", "not permitted"),
    ("client_kill", {"after_s": 1}, "after_s", "not permitted"),
]


@pytest.mark.parametrize(
    ("kind", "keys", "field", "rule"), [pytest.param(*row, id=f"{row[0]} {row[1]}") for row in REFUSED]
)
def test_a_kind_refuses_what_breaks_its_rules(kind, keys, field, rule):
    with pytest.raises(ValidationError, match=rule) as refused:
        FAULTS[kind].model_validate(keys)
    assert [error["loc"] for error in refused.value.errors()] == [(field,)]


@pytest.mark.parametrize(
    ("fault", "duration_s", "rule"),
    [
        pytest.param(Term(deadline_s=3), 2.9, "must be at least 3, deadline_s", id="term"),
        pytest.param(Rolling(deadline_s=3), 2.9, "must be at least 3, deadline_s", id="rolling"),
        pytest.param(CrashLoop(every_s=2), 2.0, "must be more than 2, every_s", id="crash_loop"),
        pytest.param(LoopBlock(block_ms=900), 0.8, "must be at least 0.9, block_ms", id="loop_block"),
        pytest.param(ClientPause(), 2.1, "must be at most 2", id="client_pause"),
    ],
)
def test_a_kind_refuses_a_lease_in_which_it_cannot_do_what_it_says(fault, duration_s, rule):
    assert fault.misfit(duration_s).startswith(rule)
    assert fault.misfit(2.0 if isinstance(fault, ClientPause) else 60.0) is None


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
    assert script.revert or kind in ("client_kill", "node_start", "promote")  # what they do stays
    assert model.needs() <= EmbeddedEngine.claims

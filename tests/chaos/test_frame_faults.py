"""Faults on messages as values: their toxic, whom they accuse, what they need; refused before a run."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.engines.toxiproxy import ToxiproxyEngine
from chaos.faults import FAULTS
from chaos.faults.base import AddToxic, RemoveToxic, Toxic
from chaos.faults.frame import FrameFault
from chaos.faults.frame_drop import FrameDrop
from chaos.plan import FaultsError, parse_faults
from chaos.proxy.body import new_toxic
from chaos.proxy.chain import attributes
from chaos.proxy.frame_view import load_view
from chaos.proxy.toxics import TOXICS
from tests.chaos.nemesis_bench import Bench

VIEW = load_view("loadgen.drivers.chatd_view:FRAME_VIEW")
KINDS = {kind: model for kind, model in FAULTS.items() if issubclass(model, FrameFault)}
CALM = {"frame_delay", "frame_close", "frame_suppress_ping", "frame_fragment"}
HOSTILE = {"frame_oversize", "frame_bad_mask", "frame_bad_utf8"}
S = 1_000_000_000


def fault(kind: str, **keys: Any) -> dict[str, Any]:
    common = {"id": "x", "kind": kind, "target": "a", "at_s": 1, "duration_s": 2}
    return common | FAULTS[kind].example() | keys


def problems(*faults: dict[str, Any], view: Any = VIEW, **section: Any) -> list[str]:
    try:
        parse_faults(section, faults, run_s=60, view=view)
    except FaultsError as refused:
        return list(refused.problems)
    return []


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_kind_asks_of_the_toxic_is_what_the_toxic_takes(kind: str) -> None:
    script = KINDS[kind].model_validate(KINDS[kind].example()).script("x", ("a",))
    (added,) = script.apply
    assert isinstance(added, AddToxic)
    toxic = added.toxic
    assert set(toxic.attributes) <= set(attributes(TOXICS["frame"]()))
    assert new_toxic({"type": toxic.type, "attributes": dict(toxic.attributes)})  # refuses what breaks a rule
    assert script.revert == (RemoveToxic("a", toxic.name, counted=True),)


def test_a_match_reaches_the_toxic() -> None:
    made = FrameDrop(type="ack", channel="r", after=1, every=2, times=3, messages=0.5, opcode="text")
    (added,) = made.planned("x", ("a",), (2, 4)).apply
    taken = {
        "action": "drop", "opcode": "text", "type": "ack", "channel": "r", "after": 1, "every": 2, "times": 3,
        "probability": 0.5,
    }  # fmt: skip
    assert added == AddToxic("a", Toxic("x_downstream", "frame", "downstream", 1.0, taken))


@pytest.mark.parametrize("kind", KINDS)
def test_what_no_network_does_runs_only_in_a_self_test(kind: str) -> None:
    assert problems(fault(kind), self_test=True) == []
    told = problems(fault(kind))
    if kind in CALM | HOSTILE:
        assert told == []
    else:
        assert told == [
            f"fault 1 ('x'): kind is '{kind}': no network does this to a single message, so an honest server "
            "would be accused; set faults.self_test to true to test the checker with it"
        ]


@pytest.mark.parametrize("kind", sorted(HOSTILE))
@pytest.mark.parametrize("direction", ["downstream", "both"])
def test_frames_that_break_the_protocol_may_only_be_a_clients(kind: str, direction: str) -> None:
    (told,) = problems(fault(kind, direction=direction))
    assert f"direction is '{direction}': to the client it looks like the server's own misbehaviour" in told


@pytest.mark.parametrize("code", [1001, 1011, 1012, 1013])
def test_intermediaries_close_with_these_codes(code: int) -> None:
    assert problems(fault("frame_close", code=code)) == []


@pytest.mark.parametrize("code", [1000, 1002, 4003, 4503])
def test_other_codes_are_the_servers_own_word(code: int) -> None:
    (told,) = problems(fault("frame_close", code=code))
    assert f"code is {code}: intermediaries send 1001, 1011, 1012, 1013, all others are" in told


@pytest.mark.parametrize(
    ("table", "value"),
    [
        pytest.param(fault("frame_delay", type="message"), "type is 'message'", id="type"),
        pytest.param(fault("frame_delay", channel="r"), "channel is 'r'", id="channel"),
        pytest.param(fault("frame_move"), "action is 'move'", id="move"),
        pytest.param(fault("frame_rewrite"), "action is 'rewrite'", id="rewrite"),
        pytest.param(fault("frame_inject", payload="", body="1"), "body is '1'", id="body"),
    ],
)
def test_what_must_be_read_is_refused_where_the_driver_cannot(table: dict[str, Any], value: str) -> None:
    (told,) = problems(table, view=None, self_test=True)
    assert told == (
        f"fault 1 ('x'): {value}: the driver of this scenario cannot read the server's messages; "
        "without it messages are told apart by opcode, direction and count"
    )


def test_opcode_and_count_need_no_view() -> None:
    assert problems(fault("frame_drop", opcode="text", every=3), view=None, self_test=True) == []


def test_a_type_that_no_message_has_is_refused_with_a_near_one() -> None:
    (told,) = problems(fault("frame_delay", type="mesage"))
    assert told == (
        "fault 1 ('x'): type is 'mesage': no message of this server has it; did you mean 'message'?"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_real_toxiproxy_is_refused_before_the_run(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ToxiproxyEngine, "problems", staticmethod(lambda toxiproxy: []))
    (told,) = problems(fault(kind), engine="toxiproxy", self_test=True)
    assert "engine toxiproxy cannot do it" in told
    assert "toxic:frame" in told
    assert told.endswith("set faults.engine to embedded")


@pytest.mark.parametrize(
    ("kind", "keys", "rule"),
    [
        pytest.param("frame_close", {"code": 1006}, "must be a close code that may be sent", id="1006"),
        pytest.param("frame_delay", {"delay_ms": 0}, "greater than or equal to 1", id="no delay"),
        pytest.param("frame_delay", {"every": 0}, "greater than or equal to 1", id="every 0"),
        pytest.param("frame_delay", {"messages": 0.0}, "greater than 0", id="no share"),
        pytest.param("frame_delay", {"opcode": "audio"}, "'data', 'text', 'binary'", id="opcode"),
        pytest.param("frame_inject", {"payload": "x", "body": "y"}, "no payload beside it", id="both"),
        pytest.param(
            "frame_suppress_ping", {"opcode": "text"}, "must be liveness, ping or pong", id="no ping"
        ),
        pytest.param("frame_oversize", {"message_bytes": 1 << 25}, "less than or equal to", id="too large"),
        pytest.param("frame_rewrite", {"changes": []}, "at least 1 item", id="no change"),
        pytest.param("frame_rewrite", {"changes": [{"field": "a"}]}, "set takes a value", id="no value"),
        pytest.param(
            "frame_rewrite",
            {"changes": [{"field": "a", "how": "add", "value": "1"}]},
            "add takes a whole number",
            id="add a text",
        ),
    ],
)
def test_bad_keys_are_refused_with_the_rule(kind: str, keys: dict[str, Any], rule: str) -> None:
    told = problems(fault(kind, **keys), self_test=True)
    assert len(told) == 1
    assert rule in told[0]


def test_what_the_toxic_counted_is_recorded_and_one_that_cannot_be_asked_is_removed_all_the_same() -> None:
    for counted in ({"acted": 3}, None):
        bench = Bench(fault("frame_delay"))
        bench.engine.counted = counted
        bench.step(1)
        bench.step(3)
        assert bench.engine.calls[-1] == "remove a x_downstream"
        assert bench.journal.lines[-1]["effect"][0]["counts"] == counted

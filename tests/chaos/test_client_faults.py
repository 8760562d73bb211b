"""Faults on clients as values: whom they hit, what they refuse, which engine can do them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from chaos.engines.embedded import EmbeddedEngine
from chaos.engines.toxiproxy import ToxiproxyEngine
from chaos.faults import FAULTS
from chaos.faults.base import AIMED, SILENT, AddToxic, RemoveToxic
from chaos.faults.clients import ClientFault
from chaos.plan import FaultsError, Plan, make_plan, parse_faults

KINDS = [kind for kind, model in FAULTS.items() if issubclass(model, ClientFault)]
CONNECTION_KINDS = [kind for kind in KINDS if not kind.startswith("frame_")]


def fault(kind: str, **keys: Any) -> dict[str, Any]:
    return {
        "id": "f", "kind": kind, "target": "all", "at_s": 1, "duration_s": 5,
        **FAULTS[kind].example(), **keys,
    }  # fmt: skip


def planned(kind: str, *, seed: int = 1, clients: int = 40, **keys: Any) -> Plan:
    section = {"self_test": True}
    specs = parse_faults(section, [fault(kind, **keys)], run_s=60, clients=clients)
    return make_plan(specs, seed=seed, clients=clients, phases=())


def problems(kind: str, *, section: dict[str, Any] | None = None, **keys: Any) -> list[str]:
    with pytest.raises(FaultsError) as refused:
        parse_faults(section or {}, [fault(kind, **keys)], run_s=60, clients=40)
    return list(refused.value.problems)


def hit(plan: Plan) -> tuple[int, ...]:
    ordinals = plan.faults[0].ordinals
    assert ordinals is not None
    return ordinals


@pytest.mark.parametrize("kind", CONNECTION_KINDS)
def test_the_same_seed_gives_the_same_bytes_and_the_plan_comes_back(kind):
    if kind == "partition":
        keys: dict[str, Any] = {"groups": 4, "cut_off": [1]}
    else:
        keys = {"share": 0.25}
    plan = planned(kind, **keys)
    assert plan.to_bytes() == planned(kind, **keys).to_bytes()
    assert Plan.from_bytes(plan.to_bytes()) == plan
    assert len(hit(plan)) == 10
    added = [action.toxic for action in plan.script(plan.faults[0]).apply if isinstance(action, AddToxic)]
    assert {toxic.ordinals for toxic in added} == {hit(plan)}


def test_another_seed_or_another_fault_hits_others():
    one = hit(planned("disconnect", clients=40, share=0.25))
    assert one != hit(planned("disconnect", seed=2, share=0.25))
    assert one != hit(planned("disconnect", id="g", share=0.25))


@pytest.mark.parametrize(
    ("keys", "who"),
    [
        pytest.param({"ordinals": [9, 3, 3]}, (3, 9), id="named"),
        pytest.param({"target": "a"}, tuple(range(2, 41, 2)), id="all of a proxy"),
        pytest.param({"share": 0.001}, None, id="a small share is one"),
    ],
)
def test_who_is_hit(keys, who):
    found = hit(planned("disconnect", **keys))
    assert found == who if who else len(found) == 1


def test_more_of_the_same_hits_those_and_more():
    few, many = (hit(planned("disconnect", clients=40, share=share)) for share in (0.2, 0.5))
    assert set(few) < set(many)


def test_with_nobody_left_out_connections_without_an_ordinal_are_hit_too():
    plan = planned("disconnect")
    (added,) = [action.toxic for action in plan.script(plan.faults[0]).apply if action.proxy == "a"]
    assert added.ordinals is None
    assert added.live


def test_a_partition_cuts_off_groups():
    assert hit(planned("partition", groups=4, cut_off=[1, 3])) == tuple(range(1, 41, 2))


@pytest.mark.parametrize("kind", CONNECTION_KINDS)
def test_every_toxic_that_is_added_is_removed_in_the_other_order(kind):
    model = FAULTS[kind]
    script = model.model_validate(model.example()).script("f", ("a",))
    added = [action.toxic.name for action in script.apply if isinstance(action, AddToxic)]
    removed = [action.name for action in script.revert if isinstance(action, RemoveToxic)]
    assert removed == added[::-1]
    assert all(name.startswith("f_") for name in added)


@pytest.mark.parametrize("kind", CONNECTION_KINDS)
def test_a_real_toxiproxy_is_refused_before_the_run_with_the_remedy(kind, monkeypatch):
    monkeypatch.setattr(ToxiproxyEngine, "problems", staticmethod(lambda _: []))
    section = {"engine": "toxiproxy", "toxiproxy": "http://127.0.0.1:8474", "self_test": True}
    (told,) = problems(kind, section=section)
    assert "engine toxiproxy cannot do it" in told
    assert AIMED in told
    assert "set faults.engine to embedded" in told


def test_silence_is_refused_before_the_run_where_there_is_no_right_for_it(monkeypatch):
    monkeypatch.setattr("chaos.engines.embedded.can_be_silent", lambda: False)
    (told,) = problems("disconnect", how="silent")
    assert "CAP_NET_ADMIN" in told
    assert "use a blackhole that drops" in told
    assert EmbeddedEngine.cannot(AIMED) == ""
    assert SILENT not in FAULTS["disconnect"].needs()


def test_damage_is_for_self_tests_only():
    (told,) = problems("corrupt")
    assert "an honest server would be accused" in told


def test_a_close_code_of_the_server_s_own_is_for_self_tests_only():
    (told,) = problems("disconnect", how="ws_close", code=4001)
    assert "intermediaries send 1001, 1011, 1012, 1013" in told


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        pytest.param({"ordinals": [41]}, "ordinals has 41: no client of that number dials", id="too high"),
        pytest.param({"ordinals": [0]}, "ordinals has 0: no client", id="client 0 is not load"),
        pytest.param({"ordinals": [3], "target": "a"}, "a has 20 of 40 clients", id="the other proxy"),
        pytest.param({"clients": 21, "target": "b"}, "must be at most 20, all that dial", id="too many"),
    ],
)
def test_clients_that_are_not_there_are_refused(keys, says):
    (told,) = problems("disconnect", **keys)
    assert says in told


def test_a_rule_about_several_keys_is_told_without_a_key():
    (told,) = problems("disconnect", share=0.5, ordinals=[1])
    assert told.startswith("fault 1 ('f'): write at most one of clients, share and ordinals")


def test_groups_of_which_nobody_dials_the_target_are_refused():
    (told,) = problems("partition", target="a", groups=2, cut_off=[1])
    assert "no client that dials the target is in such a group" in told


REFUSED = [
    ("disconnect", {"share": 0.5, "clients": 3}, "at most one of clients, share and ordinals"),
    ("disconnect", {"share": 0.0}, "greater than 0"),
    ("disconnect", {"ordinals": []}, "at least 1 item"),
    ("disconnect", {"how": "kill"}, "'fin', 'rst', 'silent' or 'ws_close'"),
    ("disconnect", {"after_ms": 1, "mid_frame": True}, "at most one of after_ms, after_bytes and mid_frame"),
    ("disconnect", {"after_bytes": 1, "after_messages": 1}, "mid_frame or after_messages"),
    ("disconnect", {"after_messages": -1}, "greater than or equal to 0"),
    ("disconnect", {"how": "ws_close", "after_messages": 2, "mid_frame": True}, "goes between two messages"),
    ("disconnect", {"how": "ws_close", "after_bytes": 9}, "goes between two messages"),
    ("disconnect", {"how": "ws_close", "code": 999}, "greater than or equal to 1000"),
    ("half_open", {"side": "both"}, "'client' or 'server'"),
    ("half_close", {"direction": "both"}, "'downstream' or 'upstream'"),
    ("blackhole", {"mode": "eat"}, "'hold' or 'drop'"),
    ("limit_time", {"lifetime_ms": -1}, "greater than or equal to 0"),
    ("refuse", {"refused": 1.5}, "less than or equal to 1"),
    ("fail_first_n", {"attempts": 0}, "greater than or equal to 1"),
    ("connect_delay", {"delay_ms": 5, "jitter_ms": 6}, r"at most delay_ms \(5\)"),
    ("connect_blackhole", {"how": "queue", "share": 0.5}, "a full queue hits all clients"),
    ("flap", {"up_ms": 0}, "greater than or equal to 1"),
    ("storm", {"how": "silent"}, "'fin' or 'rst'"),
    ("partition", {"groups": 3}, "groups and cut_off together"),
    ("partition", {"groups": 3, "cut_off": [3]}, "cut_off has 3: groups are numbered from 0 to 2"),
    ("partition", {"groups": 3, "cut_off": [0], "share": 0.5}, "or one of clients, share and ordinals"),
    ("loss", {"lost": 0.6}, "less than or equal to 0.5"),
    ("loss", {"burst": 0.5}, "greater than or equal to 1"),
    ("delay", {"p50_ms": 9, "p99_ms": 9}, "p99_ms is 9: must be above p50_ms, which is 9"),
    ("delay", {"distribution": "pareto", "p50_ms": 0}, "must be 1 or more for a pareto"),
    ("delay", {"distribution": "flat"}, "'normal', 'lognormal', 'pareto' or 'spike'"),
    ("stall", {"share": 2.0}, "less than or equal to 1"),
    ("corrupt", {"chunks": 0.0}, "greater than 0"),
]


@pytest.mark.parametrize(
    ("kind", "keys", "rule"), [pytest.param(*row, id=f"{row[0]} {row[1]}") for row in REFUSED]
)
def test_a_kind_refuses_what_breaks_its_rules(kind, keys, rule):
    with pytest.raises(ValidationError, match=rule):
        FAULTS[kind].model_validate({**FAULTS[kind].example(), **keys})


def test_every_kind_has_a_row_of_refusals():
    without_rules = {"accept_close", "refuse_upgrade", "buffer_stream"}  # beyond whom it hits
    assert {row[0] for row in REFUSED} | without_rules >= set(CONNECTION_KINDS)

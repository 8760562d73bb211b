"""Swarm plans: legal for every seed, free of contradictions, the same on every machine, and of every kind."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from chaos.faults import FAULTS
from chaos.faults.base import Where
from chaos.plan import make_plan, parse_faults
from chaos.proxy.frame_view import load_view
from chaos.swarm import BROKER, ENVELOPE, LEFT_OUT, RECOVER_S, Ground, SwarmSection, swarm
from chaos.wires import links, proxies
from loadgen.drivers.chatd import ChatdDriver

RUN_S, WARMUP_S = 25.0, 2.5
SECTION = SwarmSection()
SOAK = range(1, 51)
seeds = st.integers(0, 2**63 - 1)


def drawn(seed: int, section: SwarmSection = SECTION, **keys: Any) -> list[dict[str, Any]]:
    return swarm(section, seed, **{"run_s": RUN_S, "warmup_s": WARMUP_S, **keys})


def over(table: dict[str, Any]) -> bool:
    return "-over-" in table["id"]


def end_s(table: dict[str, Any]) -> float:
    return float(table["at_s"] + table["duration_s"])


@settings(deadline=None)
@given(seeds)
def test_every_swarm_is_a_legal_plan_within_the_run(seed):
    tables = drawn(seed)
    specs = parse_faults({}, tables, run_s=RUN_S, view=load_view(str(ChatdDriver.frame_view)))
    plan = make_plan(specs, seed=seed, clients=4, phases=())
    assert len(plan.faults) == len(tables) >= 1
    assert min(table["at_s"] for table in tables) >= WARMUP_S + 2  # something to compare with
    assert max(map(end_s, tables)) <= RUN_S - 0.5


@settings(deadline=None)
@given(seeds)
def test_no_two_faults_of_a_swarm_contradict_each_other(seed):
    tables = drawn(seed)
    mains = [table for table in tables if not over(table)]
    carried = {t["id"].split("-")[0] for t in tables if over(t) and not ENVELOPE[t["kind"]].alone}
    drawn_for_itself = [table["kind"] for table in mains if table["id"].split("-")[0] not in carried]
    assert len(set(drawn_for_itself)) == len(drawn_for_itself)
    assert all(ENVELOPE[table["kind"]].alone for table in mains)
    assert all(b["at_s"] - end_s(a) >= RECOVER_S for a, b in pairwise(mains))
    for upper in filter(over, tables):
        under = [m for m in mains if m["at_s"] < end_s(upper) and end_s(m) > upper["at_s"]]
        assert len(under) == 1
        assert under[0]["kind"] in ENVELOPE[upper["kind"]].over
        assert upper["target"] == "all"


def test_no_process_has_two_faults_at_once():  # a paused one, for one, answers no test hook
    assert {FAULTS[kind].where for kind, envelope in ENVELOPE.items() if envelope.over} == {Where.PROXY}


@settings(deadline=None)
@given(seeds)
def test_every_key_is_within_its_envelope(seed):
    for table in drawn(seed):
        envelope = ENVELOPE[table["kind"]]
        assert over(table) or table["target"] in envelope.targets
        for key, (low, high) in envelope.keys.items():
            assert low <= table[key] <= high


@settings(deadline=None)
@given(seeds, st.integers(1, 3), st.integers(0, 3))
def test_there_are_no_more_faults_than_asked_for(seed, least, more):
    tables = drawn(seed, SwarmSection(least=least, most=least + more), run_s=300.0)
    assert least <= len([table for table in tables if not over(table)]) <= least + more


def test_same_seed_same_faults_and_another_seed_others():
    assert drawn(7) == drawn(7)
    assert len({str(drawn(seed)) for seed in SOAK}) == len(SOAK)


def test_the_draws_of_a_seed_are_pinned():
    """A changed draw makes yesterday's seed another run: change it knowingly."""
    assert drawn(7, SwarmSection(kinds=("kill", "latency"), least=2, most=2)) == [
        {"id": "0-over-latency", "kind": "latency", "target": "all", "duration_s": 2.2, "at_s": 5.4,
         "latency_ms": 124},
        {"id": "0-kill", "kind": "kill", "target": "chatd-*", "duration_s": 1.2, "at_s": 5.9},
        {"id": "1-latency", "kind": "latency", "target": "all", "duration_s": 3.5, "at_s": 11.4,
         "latency_ms": 221},
    ]  # fmt: skip


MIXED: Final = Ground(ways=("fallback", "poll", "sse"))


def test_the_seeds_of_a_soak_use_every_kind_that_may_be_drawn():
    used = {table["kind"] for seed in SOAK for table in drawn(seed)}
    assert used == {kind for kind, one in ENVELOPE.items() if not one.ways or "websocket" in one.ways}
    mixed = {table["kind"] for seed in SOAK for table in drawn(seed, ground=MIXED)}
    assert mixed >= {"refuse_upgrade", "buffer_stream"}


def test_what_nobody_would_meet_is_not_drawn():
    kinds = {way: set[str]() for way in ("websocket", "fallback", "sse", "poll")}
    for way, found in kinds.items():
        found |= {t["kind"] for seed in SOAK for t in drawn(seed, ground=Ground(ways=(way,)))}
    assert {way for way, found in kinds.items() if "refuse_upgrade" in found} == {"websocket", "fallback"}
    assert {way for way, found in kinds.items() if "frame_close" in found} == {"websocket", "fallback"}
    assert {way for way, found in kinds.items() if "buffer_stream" in found} == {"sse"}


@settings(deadline=None)
@given(seeds)
def test_a_stream_that_is_held_is_so_for_long_enough_to_be_given_up(seed):
    tables = drawn(seed, SwarmSection(kinds=("down", "reset_peer", "buffer_stream", "kill")), ground=MIXED)
    mains = [table for table in tables if not over(table)]
    for upper in (table for table in tables if table["kind"] == "buffer_stream"):
        (under,) = [m for m in mains if m["id"].split("-")[0] == upper["id"].split("-")[0]]
        assert end_s(upper) - end_s(under) >= 1 + 3 + 0.4  # to dial, to wait, to spare
        assert all(m["at_s"] - end_s(upper) >= RECOVER_S - 0.6 for m in mains if m["at_s"] > under["at_s"])


def test_every_kind_may_be_drawn_or_says_why_not():
    assert set(ENVELOPE) | set(LEFT_OUT) == set(FAULTS), (
        "add a line to ENVELOPE or LEFT_OUT of chaos/swarm.py"
    )
    assert not set(ENVELOPE) & set(LEFT_OUT)


def test_a_run_without_processes_of_its_own_has_faults_of_the_wire_only():
    kinds = {table["kind"] for seed in SOAK for table in drawn(seed, ground=Ground(processes=()))}
    assert kinds
    assert {FAULTS[kind].where for kind in kinds} == {Where.PROXY}


THREE: Final = Ground((*proxies(3), *links(3)), ("chatd-1", "chatd-2", "chatd-3", BROKER))


@settings(deadline=None)
@given(seeds)
def test_every_swarm_over_several_nodes_is_a_legal_plan(seed):
    tables = drawn(seed, ground=THREE, run_s=40.0)
    where = {"proxies": THREE.proxies, "processes": THREE.processes}
    view = load_view(str(ChatdDriver.frame_view))
    specs = parse_faults({}, tables, run_s=40.0, view=view, clients=60, **where)
    assert len(make_plan(specs, seed=seed, clients=60, phases=(), **where).faults) == len(tables) >= 1


def test_over_several_nodes_each_part_is_struck_alone():
    tables = [table for seed in SOAK for table in drawn(seed, ground=THREE, run_s=40.0)]
    aimed = {table["target"] for table in tables}
    assert aimed >= {
        "chatd-1",
        "chatd-2",
        "chatd-3",
        BROKER,
        "link-1",
        "link-2",
        "link-3",
        "node-2",
        "a",
        "all",
    }
    assert "disk_full" not in {table["kind"] for table in tables}  # the log is the broker's
    assert {t["target"] for t in tables if t["kind"] == "rolling"} == {"chatd-*"}


@settings(deadline=None)
@given(seeds)
def test_what_lies_over_another_fault_has_clients_that_feel_both(seed):
    tables = drawn(seed, ground=THREE, run_s=60.0)
    for upper in filter(over, tables):
        (under,) = [t for t in tables if t["id"].split("-")[0] == upper["id"].split("-")[0] and not over(t)]
        assert not under["target"].startswith(("link-", "broker-"))


def test_a_broker_with_a_replica_is_not_struck():
    both = Ground(THREE.proxies, (*THREE.processes, "broker-2"))
    assert not [t for seed in SOAK for t in drawn(seed, ground=both) if "broker" in t["target"]]


def test_what_the_engine_cannot_do_is_not_drawn():
    assert {table["kind"] for seed in SOAK for table in drawn(seed, able=["kill"])} == {"kill"}


@pytest.mark.parametrize(
    ("section", "rule"),
    [
        pytest.param({"kinds": ["latency", "client_kill"]}, "client_kill cannot be drawn", id="a void kind"),
        pytest.param({"kinds": ["slow_close"]}, "able to stand alone", id="only kinds laid over others"),
        pytest.param({"least": 3, "most": 2}, "must be at least 3, least", id="most below least"),
        pytest.param({"least": 0}, "greater than or equal to 1", id="none"),
        pytest.param({"seed": -1}, "greater than or equal to 0", id="a negative seed"),
        pytest.param({"fault": 3}, "not permitted", id="an unknown key"),
    ],
)
def test_a_section_that_breaks_a_rule_is_refused(section, rule):
    with pytest.raises(ValidationError, match=rule):
        SwarmSection.model_validate(section)

"""Personas: who is what, who says how much, and what a driver's server must offer for it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from loadgen.absences import absences, deafness, drops, sessions
from loadgen.actions import NEEDS, Action, needs
from loadgen.drivers.base import Capability
from loadgen.moves import Move, moves
from loadgen.personas import KINDS, Persona, assigned, members, shares
from loadgen.schedule import SECOND_NS, SETTLE_NS, blocks, striped
from loadgen.workload import Workload, client_channels, membership, predict


def workload(*personas: dict[str, Any], **changes: Any) -> Workload:
    fields: dict[str, Any] = {
        "clients": 40,
        "channels": 8,
        "connect_over_s": 0.5,
        "phase": [{"name": "load", "duration_s": 12.0, "publish_per_s": 60}],
        "persona": [{"weight": 1.0, **persona} for persona in personas],
        **changes,
    }
    return Workload.model_validate(fields)


def said(plan: Workload, seed: int) -> Any:
    return np.concatenate([block.publishes for block in blocks(plan, seed)])


def done(plan: Workload, seed: int) -> Any:
    return np.concatenate([block.acts for block in blocks(plan, seed)])


@given(
    weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=6),
    clients=st.integers(1, 200),
)
def test_every_client_is_of_one_persona_and_every_persona_has_one(weights: list[float], clients: int) -> None:
    counts = shares(weights, clients)
    assert sum(counts) == clients
    assert min(counts) >= (1 if clients >= len(weights) else 0)
    for weight, count in zip(weights, counts, strict=True):
        assert abs(count - weight / sum(weights) * clients) < 1 + len(weights)


def test_a_kind_gives_what_is_not_written() -> None:
    plan = workload({"name": "a", "kind": "chatty", "burst": 3}, {"name": "b", "kind": "lurker"})
    assert (plan.persona[0].talk, plan.persona[0].burst, plan.persona[0].arrivals) == (4.0, 3, "burst")
    assert plan.persona[1].talk == 0.0
    for kind, gives in KINDS.items():
        made = Persona(name="x", kind=kind, weight=1)  # type: ignore[arg-type]
        assert {key: getattr(made, key) for key in gives} == gives


def test_publishes_are_shared_out_by_talk_and_lurkers_say_nothing() -> None:
    plan = workload(
        {"name": "quiet", "kind": "lurker"}, {"name": "some", "talk": 1}, {"name": "much", "talk": 4}
    )
    dealt = assigned(plan, 3)
    by_persona = Counter(dealt[said(plan, 3)["client"] - 1].tolist())
    assert by_persona[0] == 0
    assert 3 < by_persona[2] / by_persona[1] < 5.3


def test_only_the_speakers_of_a_phase_speak_in_it() -> None:
    phases = [
        {"name": "one", "duration_s": 5.0, "publish_per_s": 40, "speakers": ["caster"]},
        {"name": "all", "duration_s": 5.0, "publish_per_s": 40},
    ]
    plan = workload({"name": "caster", "weight": 0.05}, {"name": "others"}, phase=phases)
    whole = said(plan, 1)
    first = whole[whole["due_ns"] < 5 * SECOND_NS]
    assert set(first["client"].tolist()) <= set(members(plan, 1, 0).tolist())
    assert len(set(whole["client"].tolist())) > 20


def test_a_burst_is_of_one_client_on_one_channel_with_its_gap() -> None:
    plan = workload({"name": "a", "kind": "chatty", "burst": 5, "burst_gap_s": 0.7})
    whole = said(plan, 2)
    found = 0
    for client in set(whole["client"].tolist()):
        own = whole[whole["client"] == client]
        for row in own:
            gaps = (own["due_ns"] - row["due_ns"]) / SECOND_NS
            rest = own[np.abs(gaps - 0.7) < 1e-6]
            found += len(rest)
            assert set(rest["channel"].tolist()) <= set(client_channels(plan, 2)[client])
    assert found > 0.6 * len(whole)  # four of five have a successor, but for those cut at the edges


def test_bots_speak_evenly_and_in_turn() -> None:
    plan = workload({"name": "bots", "kind": "bot"}, clients=4, connect_over_s=0)
    whole = said(plan, 1)
    for client in range(1, 5):
        gaps = np.diff(whole["due_ns"][whole["client"] == client]) / SECOND_NS
        assert gaps == pytest.approx(np.full(len(gaps), 4 / 60), abs=1e-6)


@pytest.mark.parametrize("picker", ["by-size", "largest", "direct", "rooms"])
def test_a_picker_picks_among_the_clients_own_channels(picker: str) -> None:
    plan = workload(
        {"name": "a", "picker": picker},
        topology={"zipf": 1.0, "direct_per_client": 1.0, "sized": [{"channels": 1, "share": 1.0}]},
    )
    whole, channels, sizes = said(plan, 4), client_channels(plan, 4), membership(plan, 4).sizes
    assert len(whole) > 100
    for row in whole:
        own = channels[int(row["client"])]
        channel = int(row["channel"])
        assert channel in own
        if picker == "largest":
            assert sizes[channel] == max(sizes[list(own)])
        if picker == "direct":
            assert channel > 9
        if picker == "rooms":
            assert channel <= 9


ACTING = {
    "name": "busy", "kind": "flapper", "drop_every_s": 3.0, "session_s": 3.0, "away_s": 1.0,
    "arrive_at_s": 1.0, "rates": {"typing_per_s": 0.5, "reaction_per_s": 0.3, "churn_per_s": 0.2},
}  # fmt: skip
HUSHED = {"name": "zombie", "deaf_after_s": 2.0, "deaf_s": 2.0, "rates": {"receipt_per_s": 0.5}}


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), workers=st.sampled_from([2, 5]))
def test_the_stripes_of_the_workers_are_the_whole_list(seed: int, workers: int) -> None:
    plan = workload(ACTING, HUSHED, {"name": "chatty", "kind": "chatty"})
    whole = [said(plan, seed).tolist(), done(plan, seed).tolist(), moves(plan, seed).tolist()]
    for kind in (0, 1):
        parts = [row for k in range(1, workers + 1) for block in striped(blocks(plan, seed), k, workers)
                 for row in block[kind].tolist()]  # fmt: skip
        assert sorted(parts) == sorted(whole[kind])
    assert moves(plan, seed).tolist() == whole[2]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**63 - 1))
def test_nobody_acts_before_it_is_there_while_it_is_away_or_while_it_is_deaf(seed: int) -> None:
    plan = workload(ACTING, HUSHED)
    arrived = sessions(plan, seed)["due_ns"]
    for events in (said(plan, seed), done(plan, seed)):
        assert (events["due_ns"] >= arrived[events["client"] - 1] + SETTLE_NS).all()
        for table in (absences(plan, seed), deafness(plan, seed)):
            for begin, end, client in table.tolist():
                due = events["due_ns"][events["client"] == client]
                assert not ((due >= begin) & (due < end + SETTLE_NS)).any()


def test_actions_come_as_often_as_their_rates_and_factors_say() -> None:
    phases = [
        {"name": "quiet", "duration_s": 30.0, "actions": 0.0},
        {"name": "busy", "duration_s": 100.0, "actions": 2.0},
    ]
    rates = {"typing_per_s": 0.2, "history_per_s": 0.05}
    plan = workload({"name": "a", "rates": rates}, phase=phases)
    acts = done(plan, 1)
    counts = Counter(acts["action"].tolist())
    assert acts["due_ns"].min() >= 30 * SECOND_NS
    for action, rate in ((Action.TYPING, 0.2), (Action.HISTORY, 0.05)):
        expected = 40 * rate * 2 * 100
        assert abs(counts[action] - expected) < 4 * np.sqrt(expected)


def test_reactions_count_among_the_publishes_of_their_client() -> None:
    whole = said(workload({"name": "a", "rates": {"reaction_per_s": 0.5}}), 1)
    assert set(whole["action"].tolist()) == {Action.PUBLISH, Action.REACTION}
    for client in set(whole["client"].tolist()):
        own = whole["pub_seq"][whole["client"] == client].tolist()
        assert own == list(range(1, len(own) + 1))


def test_drops_and_deafness_recur_within_half_and_one_and_a_half_of_their_time() -> None:
    plan = workload({"name": "a", "drop_every_s": 2.0}, {"name": "b", "deaf_after_s": 2.0, "deaf_s": 1.0})
    lost, deaf = drops(plan, 1), deafness(plan, 1)
    for client in members(plan, 1, 0).tolist():
        gaps = np.diff(lost["due_ns"][lost["client"] == client]) / SECOND_NS
        assert len(gaps) >= 3
        assert ((gaps >= 0.99) & (gaps <= 3.01)).all()
    for client in members(plan, 1, 1).tolist():
        own = deaf[deaf["client"] == client]
        assert len(own) >= 3
        assert (own["end_ns"] <= 12 * SECOND_NS).all()
        assert (own["end_ns"][:-1] - own["begin_ns"][:-1] == SECOND_NS).all()


def test_those_who_go_are_back_before_the_end_and_the_late_arrive_when_they_should() -> None:
    plan = workload({"name": "a", "session_s": 2.0, "away_s": 1.0}, {"name": "late", "arrive_at_s": 6.0})
    gone = absences(plan, 1)
    assert len(gone) > 30
    assert (gone["end_ns"] <= 12 * SECOND_NS).all()
    late = sessions(plan, 1)["due_ns"][members(plan, 1, 1) - 1]
    assert ((late >= 6 * SECOND_NS) & (late <= 7 * SECOND_NS)).all()


def test_a_slow_reader_catches_up_when_the_load_is_over() -> None:
    plan = workload({"name": "slow", "kind": "slow"}, {"name": "others"})
    rows = moves(plan, 1)
    last = rows[rows["move"] == Move.CATCH_UP]
    assert sorted(last["client"].tolist()) == members(plan, 1, 0).tolist()
    assert set(last["due_ns"].tolist()) == {12 * SECOND_NS}


def test_the_prediction_counts_what_personas_do() -> None:
    plan = workload(ACTING, HUSHED, {"name": "fresh", "recover": "fresh", "outbox": "drop"})
    told, acts = predict(plan, 3), Counter(done(plan, 3)["action"].tolist())
    assert (told.typing, told.receipts, told.churns) == tuple(
        acts[action] for action in (Action.TYPING, Action.RECEIPT, Action.CHURN)
    )
    assert told.reactions == (said(plan, 3)["action"] == Action.REACTION).sum() > 0
    assert (told.drops, told.deaf) == (len(drops(plan, 3)), len(deafness(plan, 3)))
    assert told.connections == 40 + len(absences(plan, 3)) + told.drops
    assert not told.resumes
    assert predict(workload(ACTING), 3).resumes


def test_who_reads_all_that_is_kept_gets_it_at_each_return_and_who_is_fresh_gets_nothing() -> None:
    absent = {"absence": [{"at_s": 4, "duration_s": 4, "clients": 40}]}
    resumed, fresh, whole = (
        predict(workload({"name": "a", "recover": way}, **absent), 3)
        for way in ("resume", "fresh", "history")
    )
    assert fresh.replayed == 0
    assert resumed.deliveries == fresh.deliveries + resumed.replayed
    assert whole.replayed > 2 * resumed.replayed
    channels = client_channels(workload({"name": "a"}, **absent), 3)
    before = said(workload({"name": "a"}, **absent), 3)
    before = before[before["due_ns"] <= 8 * SECOND_NS]["channel"]
    expected = sum(int((before == channel).sum()) for own in channels for channel in own)
    assert whole.replayed == expected


@pytest.mark.parametrize(
    ("personas", "changes", "part"),
    [
        pytest.param([{"name": "a"}, {"name": "a"}], {}, "names are used twice: a", id="two of one name"),
        pytest.param([{"name": "a"}], {"clients": 0}, "greater than or equal to 1", id="no clients"),
        pytest.param([{"name": f"p{n}"} for n in range(41)], {}, "one for each persona", id="too many"),
        pytest.param([{"name": "a", "kind": "lurker"}], {}, "nobody publishes in it", id="only lurkers"),
        pytest.param(
            [{"name": "a"}],
            {"phase": [{"name": "p", "duration_s": 5, "speakers": ["b"]}]},
            "there is no such persona",
            id="an unknown speaker",
        ),
        pytest.param([{"name": "a", "arrive_at_s": 11.5}], {}, "the end of the load", id="too late"),
        pytest.param([{"name": "a", "side": "odd"}], {"channels": 3, "channels_per_client": 3},
                     "the odd rooms", id="too few rooms on its side"),
        pytest.param([{"name": "a", "kind": "ghost"}], {}, "lurker", id="an unknown kind"),
        pytest.param([{"name": "a", "rates": {"typing_per_min": 3}}], {}, "typing_per_min", id="a rate"),
        pytest.param([{"name": "a", "weight": 0}], {}, "greater than 0", id="no weight"),
        pytest.param([{"name": "a", "transport": "pigeon"}], {}, "'fallback'", id="a transport"),
        pytest.param([{"name": "a", "transport": "sse"}], {"driver": "centrifugo"},
                     "knows WebSockets alone", id="a server without HTTP"),
        pytest.param([{"name": "a", "transport": "poll", "rates": {"typing_per_s": 1}}], {},
                     "driver 'chatd_http' does not offer", id="typing over HTTP"),
        pytest.param([{"name": "a", "transport": "fallback", "read_per_s": 5}], {},
                     "'fallback' may poll: nothing waits for who asks", id="a slow fallback"),
        pytest.param([{"name": "a", "transport": "poll", "read_per_s": 5}], {},
                     "read_per_s goes with transport 'websocket' or 'sse'", id="a slow poll"),
        pytest.param([{"name": "a", "transport": "sse"}],
                     {"pause": [{"at_s": 3, "duration_s": 1, "clients": 1}]},
                     "write an absence", id="unsubscribing over HTTP"),
        pytest.param([{"name": "a", "transport": "sse"}], {"channels": 40, "channels_per_client": 33},
                     "must be at most 32", id="more channels than a request holds"),
    ],
)  # fmt: skip
def test_personas_that_do_not_fit_are_refused(
    personas: list[dict[str, Any]], changes: dict[str, Any], part: str
) -> None:
    with pytest.raises(ValidationError, match=part):
        workload(*personas, **changes)


def test_what_a_server_does_not_offer_is_refused_with_the_remedy() -> None:
    rates = {f"{action.name.lower()}_per_s": 1.0 for action in NEEDS}
    given = {"name": "a", "weight": 1, "rates": rates, "watch_presence": True, "recover": "history"}
    persona = Persona.model_validate(given)
    lines = list(needs([persona], frozenset({Capability.ACK}), "plain"))
    assert len(lines) == 8  # six actions, presence of others, history on return
    assert all("driver 'plain'" in line and "does not offer" in line for line in lines)
    assert not list(needs([persona], frozenset(Capability), "chatd"))

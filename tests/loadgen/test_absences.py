"""Absences: who is away when, the same whoever asks; and what the schedule and the prediction make of it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.absences import SECOND_NS, absences, joined, pauses, sessions
from loadgen.schedule import SETTLE_NS, publishes, stripe
from loadgen.workload import Workload, client_channels, predict


def workload(**changes: Any) -> Workload:
    fields: dict[str, Any] = {
        "clients": 20,
        "channels": 6,
        "connect_over_s": 1.0,
        "phase": [{"name": "load", "duration_s": 8.0, "publish_per_s": 60}],
        **changes,
    }
    return Workload.model_validate(fields)


def of(*tables: tuple[float, float, float | int]) -> list[dict[str, Any]]:
    """Absences as (at_s, duration_s, share as a float or clients as an int)."""
    return [
        {"at_s": at, "duration_s": long, ("clients" if isinstance(who, int) else "share"): who}
        for at, long, who in tables
    ]


tables = st.lists(
    st.tuples(
        st.floats(1, 6).map(lambda at: round(at, 2)),
        st.floats(0.1, 2).map(lambda long: round(long, 2)),
        st.one_of(st.integers(1, 20), st.floats(0.01, 1)),
    ),
    min_size=1,
    max_size=3,
).map(lambda rows: of(*rows))
seeds = st.integers(0, 2**63 - 1)


def away(plan: Workload, seed: int, client: int) -> list[tuple[int, int]]:
    return [(begin, end) for begin, end, who in absences(plan, seed).tolist() if who == client]


@pytest.mark.parametrize(
    ("who", "count"),
    [
        pytest.param(7, 7, id="a number"),
        pytest.param(0.25, 5, id="a share"),
        pytest.param(0.001, 1, id="a share of less than one client"),
        pytest.param(1.0, 20, id="everybody"),
    ],
)
def test_as_many_go_as_the_table_says(who: float, count: int) -> None:
    gone = absences(workload(absence=of((2, 3, who))), 4)
    assert len(set(gone["client"].tolist())) == len(gone) == count
    assert set(gone["begin_ns"].tolist()) == {2 * SECOND_NS}
    assert set(gone["end_ns"].tolist()) == {5 * SECOND_NS}
    assert set(gone["client"].tolist()) <= set(range(1, 21))


def test_who_goes_is_drawn_from_the_seed_and_anew_for_each_table() -> None:
    plan = workload(absence=of((2, 1, 6), (4, 1, 6)))
    assert absences(plan, 1).tolist() == absences(plan, 1).tolist()
    assert absences(plan, 1).tolist() != absences(plan, 2).tolist()
    gone = absences(plan, 1)
    first, second = (set(gone["client"][gone["begin_ns"] == at * SECOND_NS].tolist()) for at in (2, 4))
    assert first != second


def test_overlapping_absences_of_a_client_are_one() -> None:
    plan = workload(absence=of((2, 2, 1.0), (3, 2, 5), (6, 1, 1.0)))
    spans = {client: away(plan, 9, client) for client in range(1, 21)}
    longer = [client for client, own in spans.items() if own[0] == (2 * SECOND_NS, 5 * SECOND_NS)]
    assert len(longer) == 5
    assert all(len(own) == 2 for own in spans.values())


@given(spans=st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20)), max_size=8))
def test_joined_spans_cover_the_same_moments_and_do_not_touch(spans: list[tuple[int, int]]) -> None:
    given_spans = [(begin, begin + long) for begin, long in spans]
    whole = joined(given_spans)
    assert {t for b, e in whole for t in range(b, e)} == {t for b, e in given_spans for t in range(b, e)}
    assert all(one[1] < other[0] for one, other in pairwise(whole))


@settings(max_examples=40)
@given(plan=tables.map(lambda rows: workload(absence=rows)), seed=seeds)
def test_nobody_publishes_while_it_is_away_or_has_only_just_come_back(plan: Workload, seed: int) -> None:
    whole = np.concatenate(list(publishes(plan, seed)))
    for begin, end, client in absences(plan, seed).tolist():
        due = whole["due_ns"][whole["client"] == client]
        assert not ((due >= begin) & (due < end + SETTLE_NS)).any()
    for client in set(whole["client"].tolist()):
        own = whole[whole["client"] == client]
        assert own["pub_seq"].tolist() == list(range(1, len(own) + 1))


@settings(max_examples=40)
@given(plan=tables.map(lambda rows: workload(absence=rows)), seed=seeds, workers=st.sampled_from([2, 5]))
def test_the_list_is_the_same_for_any_number_of_workers(plan: Workload, seed: int, workers: int) -> None:
    whole = np.concatenate(list(publishes(plan, seed)))
    parts = [np.concatenate(list(stripe(publishes(plan, seed), k, workers))) for k in range(workers)]
    together = np.concatenate(parts)
    assert sorted(together.tolist()) == sorted(whole.tolist())


def test_what_the_others_say_does_not_change_because_some_are_away() -> None:
    quiet, plan = workload(), workload(absence=of((2, 3, 4)))
    gone = set(absences(plan, 3)["client"].tolist())

    def said(plan: Workload) -> list[Any]:
        rows = [row for block in publishes(plan, 3) for row in block.tolist()]
        return [row for row in rows if row[1] not in gone]

    assert said(quiet) == said(plan)


@settings(max_examples=30, deadline=None)
@given(
    plan=tables.map(lambda rows: workload(absence=rows)),
    seed=seeds,
    retain_n=st.one_of(st.none(), st.integers(1, 30)),
)
def test_the_prediction_counts_live_replayed_and_trimmed_deliveries_one_by_one(
    plan: Workload, seed: int, retain_n: int | None
) -> None:
    whole = np.concatenate(list(publishes(plan, seed))).tolist()
    arrived, channels = sessions(plan, seed)["due_ns"], client_channels(plan, seed)
    live = replayed = trimmed = gaps = 0
    for client in range(1, 21):
        spans = away(plan, seed, client)
        for channel in channels[client]:
            there = [due for due, _, of, *_ in whole if of == channel and due >= arrived[client - 1]]
            missed = [sum(begin <= due < end for due in there) for begin, end in spans]
            kept = [count if retain_n is None else min(count, retain_n) for count in missed]
            live += len(there) - sum(missed)
            replayed += sum(kept)
            trimmed += sum(missed) - sum(kept)
            gaps += sum(count > left for count, left in zip(missed, kept, strict=True))
    found = predict(plan, seed, retain_n=retain_n)
    assert (found.publishes, found.replayed, found.trimmed) == (len(whole), replayed, trimmed)
    assert found.deliveries == live + replayed
    assert found.absences == len(absences(plan, seed))
    assert found.connections == 20 + found.absences
    assert found.records == found.connections * 6 + 2 * len(whole) + live + replayed + gaps


def test_publishes_that_fall_into_absences_are_counted_as_left_out() -> None:
    plan, quiet = workload(absence=of((2, 3, 0.5))), workload()
    assert predict(plan, 6).left_out == predict(quiet, 6).publishes - predict(plan, 6).publishes > 0
    assert predict(quiet, 6)[7:11] == (0, 0, 0, 0)


def test_the_second_of_a_return_carries_its_replay() -> None:
    plan = workload(absence=of((2, 4, 0.9)))
    found = predict(plan, 6)
    assert found.replayed > 100
    assert found.deliveries_per_s_peak >= found.replayed


def test_a_pause_is_drawn_as_an_absence_is_and_takes_nothing_from_the_schedule() -> None:
    paused = workload(pause=of((2.0, 1.0, 7)))
    rows = pauses(paused, 3).tolist()
    assert len(rows) == 7
    assert {(begin, end) for begin, end, _ in rows} == {(2 * SECOND_NS, 3 * SECOND_NS)}
    assert [block.tolist() for block in publishes(paused, 3)] == [
        block.tolist() for block in publishes(workload(), 3)
    ]
    assert not len(absences(paused, 3))


@pytest.mark.parametrize(
    ("pause", "fault"),
    [
        pytest.param((7.5, 1.0, 7), "the end of the load", id="too late"),
        pytest.param((2.0, 1.0, 21), "all that there are", id="too many"),
    ],
)
def test_a_pause_must_fit_the_workload(pause: tuple[float, float, int], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        workload(pause=of(pause))

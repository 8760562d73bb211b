"""Catching up: who counts as having been away, how long it took, and the two groups of the others."""

from __future__ import annotations

import dataclasses
from typing import Any

import polars as pl
import pytest

from reports.catch_up import MIN_SAMPLES, Groups, catch_ups, groups, returns
from reports.checks import run_checks
from reports.evaluate import GateResult, GateVerdict, Measures, evaluate
from reports.gates import parse_gates
from reports.histogram import Histogram
from reports.history import Flag, History, Kind, Mark
from reports.pipeline import analyse
from reports.sessions import closes
from tests.reports.synthetic import Cut, Slow, Synthetic, in_memory

AWAY = frozenset({1, 2})  # on channels 1 to 4 of 8, as 5 and 6 are; 3, 4, 7 and 8 are on the others


def chat(**more: Any) -> Synthetic:
    fields = {"clients": 8, "channels": 8, "rate": 400.0, "warmup_s": 1.0, "steady_s": 8.0, "spread": 0.1}
    return Synthetic(**{**fields, "cuts": [Cut(3, 5, clients=AWAY, on_purpose=True, replay_s=0.5)], **more})


def found_in(history: History) -> pl.DataFrame:
    return catch_ups(history, closes(history))


def on(client: int) -> set[int]:
    return set(chat().subscriptions(client))


def test_the_clients_of_these_tests_share_channels_as_they_should() -> None:
    shared = on(1) | on(2)
    assert all(on(client) & shared for client in (5, 6))
    assert not any(on(client) & shared for client in (3, 4, 7, 8))


def test_each_return_has_its_requests_its_replay_and_its_end() -> None:
    history = in_memory(chat())
    found = found_in(history)
    assert set(found["client"]) == AWAY
    assert found.height == 4
    replayed = history.scan().filter(
        (pl.col("kind") == Kind.RECV) & (pl.col("flags") & int(Flag.REPLAYED) != 0)
    )
    assert found["replayed"].sum() == replayed.collect().height > 20
    for back in returns(found):
        assert back.took_ns == pytest.approx(505_000_000, abs=2)
        assert back.replayed_per_s == pytest.approx(back.replayed / 0.505, rel=1e-3)


def test_who_was_cut_off_by_a_fault_has_not_been_away() -> None:
    assert found_in(in_memory(chat(cuts=[Cut(3, 5, clients=AWAY)]))).height == 0


def test_a_close_of_the_drain_is_no_absence() -> None:
    made = chat()
    made.add(Kind.MARK, 2.5, worker=0, serial=Mark.DRAIN)
    assert found_in(in_memory(made)).height == 0


def cut_off_while_catching_up() -> History:
    """No replay of client 1 ever ends."""
    history = in_memory(chat())
    late = (pl.col("kind") == Kind.LIVE) & (pl.col("client") == 1) & (pl.col("serial") > 0)
    return dataclasses.replace(history, frame=history.scan().filter(~late))


def test_a_client_cut_off_while_it_catches_up_has_no_end() -> None:
    history = cut_off_while_catching_up()
    backs = {back.client: back for back in returns(found_in(history))}
    assert backs[1].caught_up_ns is None
    assert backs[1].replayed_per_s is None
    assert backs[2].took_ns is not None


def test_groups_are_those_who_share_a_channel_and_those_who_do_not_at_the_same_time() -> None:
    slow = Slow(4.9, 7.1, 50, clients=frozenset({5, 6}))
    history = in_memory(chat(slows=[slow, Slow(2, 4, 400)]))
    seen = groups(history, found_in(history))
    affected, control = seen.affected.quantile_us(0.5), seen.control.quantile_us(0.5)
    assert affected is not None
    assert control is not None
    assert affected > 50_000 > 10_000 > control
    assert seen.control.max_ms is not None
    assert seen.control.max_ms < 100  # what was slow before belongs to no catch-up


def measured(history: History, **gate: Any) -> GateResult:
    (parsed,) = parse_gates({"gate": [{"id": "g", "kind": "threshold", **gate}]}, source="test")
    (result,) = analyse(history, run_checks(history), (parsed,)).results
    return result


@pytest.mark.parametrize(
    ("metric", "holds", "fails"),
    [
        ("catch_up", "max < 1s", "min > 1s"),
        ("catch_up", "count == 2", "count > 2"),
        ("catch_up.replayed_per_s", "min > 50/s", "p(50) < 50/s"),
        ("catch_up.others_ratio", "p(99) <= 1.5x", "p(50) > 1.5x"),
        ("catch_up.others_excess", "p(99) <= 5ms", "mean > 5ms"),
    ],
)
def test_a_gate_on_catching_up_passes_and_fails(metric: str, holds: str, fails: str) -> None:
    history = in_memory(chat())
    assert measured(history, metric=metric, expr=holds).verdict is GateVerdict.PASS
    failed = measured(history, metric=metric, expr=fails)
    assert (failed.verdict, failed.why) == (GateVerdict.FAIL, "")
    assert failed.actual is not None


@pytest.mark.parametrize(
    ("metric", "expr"),
    [
        ("catch_up", "max < 1s"),
        ("catch_up.replayed_per_s", "min > 1/s"),
        ("catch_up.others_ratio", "p(99) < 2x"),
        ("catch_up.others_excess", "p(99) < 5ms"),
    ],
)
def test_where_nobody_was_away_the_gate_fails(metric: str, expr: str) -> None:
    result = measured(in_memory(chat(cuts=[])), metric=metric, expr=expr)
    assert result.verdict is GateVerdict.FAIL
    assert "a missing metric fails its gate" in result.why


def few() -> Histogram:
    return Histogram.of_us([1000] * (MIN_SAMPLES - 1))


@pytest.mark.parametrize(
    ("others", "named"),
    [
        (Groups(few(), Histogram.of_us([1000] * 500)), "the affected group got 99"),
        (Groups(Histogram.of_us([1000] * 500), few()), "the control group got 99"),
    ],
    ids=["too few affected", "too few beside them"],
)
def test_a_comparison_of_few_deliveries_is_none(others: Groups, named: str) -> None:
    (gate,) = parse_gates(
        {"gate": [{"id": "g", "kind": "threshold", "metric": "catch_up.others_ratio", "expr": "p(99) < 2x"}]},
        source="test",
    )
    measures = Measures(
        history=in_memory(chat(bare=True)), classes={}, intervals=pl.DataFrame(), others=others
    )
    (result,) = evaluate([gate], measures)
    assert result.verdict is GateVerdict.FAIL
    assert named in result.why


def test_who_had_not_caught_up_when_it_was_cut_off_fails_the_gate() -> None:
    history = cut_off_while_catching_up()
    result = measured(history, metric="catch_up", expr="max < 1s")
    assert (result.verdict, result.actual) == (GateVerdict.FAIL, None)
    assert result.why == "clients that came back and were cut off before they had caught up: 1"

"""Gates about some of the clients, or what server and load counted, seen passing and failing."""

from __future__ import annotations

from typing import Any

import pytest

from reports.catch_up import MIN_SAMPLES
from reports.evaluate import GateResult, GateVerdict, Measures, evaluate
from reports.gates import parse_gates
from reports.latency import by_second
from reports.recovery import recoveries
from reports.sessions import closes, presence, stays
from reports.timeline import timeline
from reports.usage import Usage
from tests.reports.synthetic import Cut, Slow, Synthetic, fault_lines, in_memory, small

ODD, EVEN = [1, 3, 5, 7], [2, 4, 6, 8]
COMPARED = {"persona": "odd", "against": "even"}


def chat(**more: Any) -> Synthetic:
    return small(**{"personas": {"odd": ODD, "even": EVEN}, "spread": 0.1, **more})


def judged(made: Synthetic, *, given: dict[str, Any] | None = None, **gate: Any) -> GateResult:
    history = in_memory(made)
    (parsed,) = parse_gates({"gate": [{"id": "g", "kind": "threshold"} | gate]}, source="test")
    stayed = stays(history)
    measures = Measures(
        history=history,
        classes={},
        recoveries=recoveries(history, closes(history), stayed),
        intervals=timeline(history, by_second(history), presence(history, stayed)),
        **(given or {}),
    )
    (result,) = evaluate([parsed], measures)
    return result


def test_a_persona_is_held_against_another() -> None:
    made = chat(slows=[Slow(1, 10, 40, parity=1)])
    excess = judged(made, metric="delivery.excess", expr="p(99) <= 5ms", where=COMPARED)
    assert (excess.verdict, excess.unit) == (GateVerdict.FAIL, "ms")
    assert excess.actual == pytest.approx(40, abs=2)
    ratio = judged(made, metric="delivery.ratio", expr="mean <= 1.5x", where=COMPARED)
    assert (ratio.verdict, ratio.unit) == (GateVerdict.FAIL, "x")
    assert ratio.actual is not None
    assert ratio.actual > 8
    swapped = {"persona": "even", "against": "odd"}
    assert judged(made, metric="delivery.ratio", expr="mean < 1x", where=swapped).verdict is GateVerdict.PASS
    assert (
        judged(made, metric="delivery.excess", expr="mean < 0ms", where=swapped).verdict is GateVerdict.PASS
    )


def test_few_deliveries_compare_nothing() -> None:
    found = judged(chat(rate=3.0), metric="delivery.ratio", expr="mean <= 99x", where=COMPARED)
    assert (found.verdict, found.actual) == (GateVerdict.FAIL, None)
    assert f"of {MIN_SAMPLES} that a comparison needs" in found.why


@pytest.mark.parametrize(
    "metric", ["delivery.ratio", "dials_per_client", "recovery.all_back", "resumes.refused"]
)
def test_a_persona_that_the_run_lacks_fails_its_gate(metric: str) -> None:
    unit = {"recovery.all_back": "s"}.get(metric, "x")
    stat = {"resumes.refused": "mean", "delivery.ratio": "mean"}.get(metric, "max")
    where = {"persona": "ghost"} | ({"against": "odd"} if metric == "delivery.ratio" else {})
    found = judged(chat(), metric=metric, expr=f"{stat} < 9{unit}", where=where)
    assert found.verdict is GateVerdict.FAIL
    assert "where.persona is 'ghost'" in found.why


def test_who_is_late_is_late_in_its_own_persona_only() -> None:
    made = chat(cuts=[Cut(4, 5)], late={(2, 0): 3.0}, faults=fault_lines("cut", "down", 4, 5))
    gate = {"metric": "recovery.all_back", "expr": "max < 2s"}
    assert judged(made, **gate).verdict is GateVerdict.FAIL
    assert judged(made, **gate, where={"persona": "even"}).verdict is GateVerdict.FAIL
    assert judged(made, **gate, where={"persona": "odd"}).verdict is GateVerdict.PASS


def test_spreads_dials_and_refused_resumes_are_gated() -> None:
    made = chat(cuts=[Cut(4, 5)], slows=[Slow(6, 9, 70, clients=frozenset({1}))])
    assert judged(made, metric="fan_out", expr="p(90) < 50ms").verdict is GateVerdict.FAIL
    assert judged(made, metric="fan_out", expr="p(50) < 50ms").verdict is GateVerdict.PASS
    dialled = judged(made, metric="dials_per_client", expr="max <= 1x")
    assert (dialled.actual, dialled.verdict) == (1.0, GateVerdict.PASS)  # all come back within a second
    assert judged(made, metric="resumes.refused", expr="mean > 0x").verdict is GateVerdict.FAIL
    nobody = judged(Synthetic(bare=True), metric="resumes.refused", expr="mean < 1x")
    assert nobody.why.startswith("nobody asked to go on")


def server(rss: int, before: int | None) -> Usage:
    return Usage(
        process="chatd-1", target=True, cpu_s=1.0, cpu_us_per_delivery=None,
        rss_max_bytes=rss << 20, rss_before_bytes=None if before is None else before << 20,
    )  # fmt: skip


def test_memory_is_that_of_the_server() -> None:
    harness = Usage(
        process="worker-1", target=False, cpu_s=1.0, cpu_us_per_delivery=None, rss_max_bytes=1 << 40
    )
    given = {"usage": [server(60, 50), harness]}
    found = judged(chat(), metric="memory", expr="max <= 60MiB", given=given)
    assert (found.actual, found.unit, found.verdict) == (60.0, "MiB", GateVerdict.PASS)
    grown = judged(chat(), metric="memory.per_channel", expr="max < 5MiB", given=given)
    assert (grown.actual, grown.verdict) == (5.0, GateVerdict.FAIL)  # two channels


@pytest.mark.parametrize("metric", ["memory", "memory.per_channel"])
def test_memory_that_was_not_sampled_fails_its_gate(metric: str) -> None:
    given = {"usage": [server(60, None)] if metric == "memory.per_channel" else []}
    found = judged(chat(), metric=metric, expr="max < 1GiB", given=given)
    assert (found.verdict, found.actual) == (GateVerdict.FAIL, None)


def test_ephemerals_are_added_up_over_kinds_and_workers() -> None:
    given = {
        "workers": [
            {"worker": 1, "typing_heard": 5, "presence_heard": 1, "history_heard": 100},
            {"worker": 2, "receipt_heard": 3, "receipt_failed": 2},
        ]
    }
    assert judged(chat(), metric="ephemerals.heard", expr="count >= 9", given=given).actual == 9
    refused = judged(chat(), metric="ephemerals.refused", max=0, given=given)
    assert (refused.actual, refused.verdict) == (2, GateVerdict.FAIL)
    assert judged(chat(), metric="ephemerals.refused", max=0).verdict is GateVerdict.FAIL  # nobody counted

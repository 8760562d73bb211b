"""When latency and backlog are as they should be after a fault, and why that may not be known."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from reports.evaluate import GateResult, GateVerdict, Measures, evaluate
from reports.gates import objective_ms, parse_gates
from reports.history import Flag, Kind
from reports.periods import NS, FaultWindow
from reports.recovery import Recovery, spans
from reports.recovery_stages import (
    NO_LOAD,
    NO_OBJECTIVE,
    NO_REVERT,
    Backlog,
    Stage,
    backlog,
    backlog_back,
    latency_back,
)
from tests.reports.synthetic import T0, Cut, S, Synthetic, fault_lines, in_memory, small


def window(begin_s: float | None, end_s: float | None, ident: str = "f") -> FaultWindow:
    begin, end = (None if at is None else T0 + round(at * NS) for at in (begin_s, end_s))
    return FaultWindow(
        id=ident, kind="down", target="all", planned_ns=begin, applied_ns=begin, reverted_ns=end
    )


# ── p99 within the objective ──────────────────────────────────────────────────────────────

SLOW, FINE, IDLE, LOST = (10, 90.0), (10, 40.0), (0, None), (10, None)  # due in a second, and their p99


def slo(
    seconds: list[tuple[int, float | None]],
    *others: FaultWindow,
    of: FaultWindow | None = None,
    objective: float | None = 50.0,
) -> Stage:
    intervals = pl.DataFrame(
        {
            "second": range(len(seconds)),
            "scheduled": [due for due, _ in seconds],
            "p99_ms": [p99 for _, p99 in seconds],
        },
        schema={"second": pl.Int64, "scheduled": pl.Int64, "p99_ms": pl.Float64},
    )
    return latency_back(of or window(1, 2.5), others, intervals, objective_ms=objective, zero_ns=T0)


@pytest.mark.parametrize(
    ("seconds", "after_s"),
    [
        pytest.param([FINE] * 8, 0.0, id="it never left it"),
        pytest.param([FINE, SLOW, SLOW, *[FINE] * 5], 0.5, id="from the second after the revert on"),
        pytest.param([FINE, SLOW, SLOW, FINE, FINE, SLOW, *[FINE] * 5], 3.5, id="one bad second begins anew"),
        pytest.param([FINE, SLOW, SLOW, FINE, IDLE, *[FINE] * 4], 0.5, id="nothing due is passed over"),
        pytest.param([FINE, SLOW, SLOW, FINE, LOST, *[FINE] * 5], 2.5, id="nothing arrived is not within"),
        pytest.param([FINE, SLOW, SLOW, *[(9, 50.0)] * 5], 0.5, id="at the objective is within"),
    ],
)
def test_the_first_of_five_seconds_within_the_objective_counts(
    seconds: list[tuple[int, float | None]], after_s: float
) -> None:
    assert slo(seconds) == Stage(after_s)


def test_four_seconds_are_not_enough() -> None:
    assert slo([FINE, SLOW, SLOW, *[FINE] * 4]) == Stage(None, NO_LOAD)


def test_seconds_after_the_load_do_not_count() -> None:
    assert slo([FINE, SLOW, SLOW, *[FINE] * 4, *[IDLE] * 9]) == Stage(None, NO_LOAD)


def test_a_fault_that_begins_meanwhile_ends_the_wait() -> None:
    seconds = [FINE, SLOW, SLOW, *[FINE] * 9]
    assert slo(seconds, window(7.9, 9, "kill")) == Stage(None, "kill began first")
    assert slo(seconds, window(8, 9, "kill")) == Stage(0.5)


def test_a_fault_that_is_still_in_force_leaves_nothing_to_see() -> None:
    told = Stage(None, "wire was still in force")
    assert slo([FINE] * 9, window(0.5, 4, "wire")) == told
    assert slo([FINE] * 9, window(0.5, None, "wire")) == told
    assert slo([FINE] * 9, window(0.5, 2.2, "wire"), window(None, None, "never")) == Stage(0.0)


def test_without_an_objective_or_a_revert_there_is_no_recovery() -> None:
    assert slo([FINE] * 9, objective=None) == Stage(None, NO_OBJECTIVE)
    assert slo([FINE] * 9, of=window(1, None)) == Stage(None, NO_REVERT)


def gates(*tables: dict[str, Any]) -> Any:
    given = [{"id": f"g{i}", "kind": "threshold", "metric": "delivery"} | t for i, t in enumerate(tables)]
    return parse_gates({"gate": given}, source="test")


def test_the_objective_is_the_tightest_gate_on_p99_of_all_deliveries() -> None:
    found = gates(
        {"expr": "p(99) < 80ms", "where": {"fault": "none"}},
        {"expr": "p(99) <= 0.07s", "phase": "steady"},
        {"expr": "p(50) < 5ms"},
        {"expr": "p(99) > 1ms"},
        {"expr": "p(99) < 6ms", "where": {"persona": "fast"}},
        {"expr": "p(99) < 6ms", "where": {"channel": "room:1"}},
        {"expr": "p(99) < 6ms", "where": {"fault": "cut"}},
        {"expr": "p(99) < 6ms", "metric": "ack"},
    )
    assert objective_ms(found) == 70.0
    assert objective_ms(gates({"expr": "p(50) < 5ms"})) is None


# ── backlog as before ─────────────────────────────────────────────────────────────────────


def in_flight(*steps: tuple[float, int], load_s: float = 60) -> Backlog:
    at = np.array([T0 + round(at * NS) for at, _ in steps], np.int64)
    return Backlog(at, np.array([count for _, count in steps], np.int64), T0 + round(load_s * NS))


BEFORE = ((1, 0), (6, 4), (7, 2))  # at 10 s the fault begins, at 12 s it is reverted
FAULT = window(10, 12)


@pytest.mark.parametrize(
    ("steps", "after_s"),
    [
        pytest.param([], 0.0, id="it never rose"),
        pytest.param([(11, 4)], 0.0, id="no more than at most before"),
        pytest.param([(11, 40), (11.5, 3)], 0.0, id="down again before the revert"),
        pytest.param([(11, 40), (13, 5), (14.25, 4), (15, 9)], 2.25, id="the first time that it is"),
    ],
)
def test_a_backlog_is_back_at_its_highest_of_the_five_seconds_before(
    steps: list[tuple[float, int]], after_s: float
) -> None:
    assert backlog_back(FAULT, [], in_flight(*BEFORE, *steps)) == Stage(after_s)


def test_what_was_before_those_five_seconds_is_no_measure() -> None:
    seen = in_flight((1, 9), (5, 2), (11, 40), (13, 9), (14, 2))
    assert backlog_back(FAULT, [], seen) == Stage(2.0)


def test_nor_is_what_an_earlier_fault_left() -> None:
    seen = in_flight((1, 0), (6, 9), (8, 2), (11, 40), (13, 9), (14, 2))
    assert backlog_back(FAULT, [], seen) == Stage(1.0)
    assert backlog_back(FAULT, [window(5, 8, "earlier")], seen) == Stage(2.0)


@pytest.mark.parametrize(
    ("fault", "others", "seen", "why"),
    [
        pytest.param(window(10, None), [], in_flight(*BEFORE), NO_REVERT, id="no revert"),
        pytest.param(FAULT, [], in_flight((11, 3)), "nothing was published before it", id="nothing before"),
        pytest.param(
            FAULT, [], in_flight(*BEFORE, (11, 40), (61, 0)), NO_LOAD, id="empty when the load was over"
        ),
        pytest.param(FAULT, [], in_flight(*BEFORE, load_s=11), NO_LOAD, id="no load after it"),
        pytest.param(
            FAULT, [window(13, 14, "kill")], in_flight(*BEFORE, (11, 40), (13.5, 0)), "kill began first",
            id="the next one came first",
        ),
        pytest.param(
            FAULT, [window(11, 14, "wire")], in_flight(*BEFORE, (11, 40), (13, 0)),
            "wire was still in force", id="another at the revert",
        ),
        pytest.param(
            FAULT, [window(9, 11, "wire")], in_flight(*BEFORE), "wire was in force when it began",
            id="another at the start",
        ),
    ],
)  # fmt: skip
def test_why_it_is_not_known_is_said(
    fault: FaultWindow, others: list[FaultWindow], seen: Backlog, why: str
) -> None:
    assert backlog_back(fault, others, seen) == Stage(None, why)


def test_a_message_is_in_the_backlog_from_when_it_was_due_to_its_first_ack() -> None:
    made = Synthetic(bare=True, clients=2, channels=1)

    def put(kind: Kind, t: float, number: int, publisher: int = 1, due: float = 0.0, **more: int) -> None:
        made.add(
            kind, t, t2=T0 + round(due * S), client=publisher, publisher=publisher, pub_seq=number, **more
        )

    put(Kind.SEND, 1.5, 1, due=1.0)
    put(Kind.SEND, 2.5, 1, due=1.0, flags=int(Flag.RETRY))
    put(Kind.SEND, 2.0, 2, due=2.0)
    put(Kind.SEND, 2.6, 3, due=2.6)  # never acked: nobody waits for it to the end
    put(Kind.ACK, 3.0, 1)
    put(Kind.ACK, 3.5, 1)
    put(Kind.ACK, 4.0, 2)
    put(Kind.SEND, 4.5, 1, publisher=0, due=4.5)  # the run's own
    put(Kind.ACK, 4.6, 1, publisher=0)
    seen = backlog(in_memory(made))
    assert [((at - T0) / S, n) for at, n in zip(seen.at_ns.tolist(), seen.count.tolist(), strict=True)] == [
        (1.0, 1),
        (2.0, 2),
        (3.0, 1),
        (4.0, 0),
    ]
    assert seen.last_due_ns == T0 + 2 * S


def test_a_run_without_a_message_has_no_backlog() -> None:
    seen = backlog(in_memory(Synthetic(bare=True)))
    assert (len(seen.at_ns), seen.last_due_ns) == (0, None)
    assert backlog_back(FAULT, [], seen).after_s is None


# ── spans ─────────────────────────────────────────────────────────────────────────────────


def test_a_span_lasts_until_all_are_back_or_to_the_revert() -> None:
    faults = [*fault_lines("cut", "down", 4, 5, target="b"), *fault_lines("idle", "latency", 7, 8)]
    found = spans(in_memory(small(cuts=[Cut(4, 5, 1)], faults=faults)))
    assert found["cut"][0] < T0 + 5 * S < found["cut"][1] < T0 + 6 * S
    assert found["idle"] == (T0 + 7 * S + 1_000_000, T0 + 8 * S)


def test_a_span_with_somebody_who_never_came_back_lasts_to_the_end() -> None:
    made = Synthetic(bare=True, clients=1, channels=1, faults=fault_lines("f", "down", 4, 6))
    made.add(Kind.LIVE, 0.2, client=1, channel=1)
    made.add(Kind.CLOSE, 4.1, client=1, serial=1006)
    made.add(Kind.CONN, 9.0, client=1, serial=101)
    assert spans(in_memory(made))["f"][1] == T0 + 9 * S


def test_without_a_fault_there_is_no_span() -> None:
    assert spans(in_memory(small())) == {}


# ── gates ─────────────────────────────────────────────────────────────────────────────────


def recovered(fault: str, slo: Stage, in_flight: Stage) -> Recovery:
    return Recovery(
        fault=fault, cut_off=0, subscriptions=0, never_back=0, all_back_s=None, replayed=0,
        slo=slo, backlog=in_flight,
    )  # fmt: skip


FOUND = [
    recovered("cut", Stage(1.5), Stage(0.25)),
    recovered("kill", Stage(4.0), Stage(2.0)),
]


def judged(metric: str, expr: str, found: list[Recovery], **gate: Any) -> GateResult:
    (parsed,) = gates({"metric": metric, "expr": expr, **gate})
    measures = Measures(
        history=in_memory(Synthetic(bare=True)), classes={}, intervals=pl.DataFrame(), recoveries=found
    )
    (result,) = evaluate([parsed], measures)
    return result


@pytest.mark.parametrize(
    ("metric", "expr", "actual", "verdict"),
    [
        ("recovery.slo", "max < 5s", 4000.0, GateVerdict.PASS),
        ("recovery.slo", "max < 4s", 4000.0, GateVerdict.FAIL),
        ("recovery.slo", "p(50) <= 1.5s", 1500.0, GateVerdict.PASS),
        ("recovery.backlog", "max <= 2s", 2000.0, GateVerdict.PASS),
        ("recovery.backlog", "mean < 1s", 1125.0, GateVerdict.FAIL),
        ("recovery.backlog", "count == 2", 2.0, GateVerdict.PASS),
    ],
)
def test_a_gate_on_a_stage_passes_and_fails(
    metric: str, expr: str, actual: float, verdict: GateVerdict
) -> None:
    result = judged(metric, expr, FOUND)
    assert (result.actual, result.verdict) == (actual, verdict)


def test_a_gate_on_a_stage_may_be_about_one_fault() -> None:
    assert judged("recovery.slo", "max < 2s", FOUND, where={"fault": "cut"}).verdict is GateVerdict.PASS
    assert judged("recovery.slo", "max < 2s", FOUND, where={"fault": "kill"}).verdict is GateVerdict.FAIL


@pytest.mark.parametrize("metric", ["recovery.slo", "recovery.backlog"])
def test_a_fault_after_which_it_was_not_seen_fails_the_gate(metric: str) -> None:
    found = [*FOUND, recovered("late", Stage(None, NO_LOAD), Stage(None, NO_LOAD))]
    result = judged(metric, "max < 60s", found)
    assert (result.verdict, result.actual) == (GateVerdict.FAIL, None)
    assert result.why == ("not seen after late (the load ended first): a missing metric fails its gate")
    assert judged(metric, "max < 60s", found, where={"fault": "cut"}).verdict is GateVerdict.PASS


@pytest.mark.parametrize("metric", ["recovery.slo", "recovery.backlog"])
def test_a_gate_on_a_stage_fails_where_no_fault_was_applied(metric: str) -> None:
    for found, where in (([], {}), (FOUND, {"fault": "other"})):
        result = judged(metric, "max < 60s", found, where=where)
        assert result.verdict is GateVerdict.FAIL
        assert result.why == "no such fault was applied: a missing metric fails its gate"

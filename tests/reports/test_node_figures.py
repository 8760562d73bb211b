"""Figures of several nodes: how evenly they were used, how long they ran, what went with a fork."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from reports.evaluate import GateVerdict, Measures, evaluate
from reports.gates import Gate
from reports.history import History, Kind
from reports.latency import Selection
from reports.node_figures import counts, forked_away, node_figures, record_count, running, spread
from reports.recovery import aways_ms
from tests.reports.synthetic import T0, Cut, S, Synthetic, fault_lines, in_memory, small


def process_line(kind: str, at_s: float, process: str) -> dict[str, Any]:
    line = {"id": "", "kind": kind, "phase": "engine_effect", "t": T0 + round(at_s * S), "role": "target"}
    return line | {"process": process, "pid": 1, "signal": "SIGKILL", "code": None}


STARTS = [process_line("start", 0.0, "chatd-1"), process_line("start", 0.0, "chatd-2")]


def history(
    *rows: tuple[Kind, float, dict[str, int]], faults: list[Any] | None = None, nodes: int = 2
) -> History:
    run = {"t0_ns": T0, "phases": [{"name": "p", "start_ns": T0, "end_ns": T0 + 4 * S, "warmup": False}]}
    made = Synthetic(bare=True, clients=9, faults=STARTS if faults is None else faults, run=run, nodes=nodes)
    for kind, at_s, fields in rows:
        made.add(kind, at_s, **fields)
    return in_memory(made)


def conn(at_s: float, client: int, node: int, status: int = 101) -> tuple[Kind, float, dict[str, int]]:
    return Kind.CONN, at_s, {"client": client, "publisher": node, "serial": status}


def close(at_s: float, client: int) -> tuple[Kind, float, dict[str, int]]:
    return Kind.CLOSE, at_s, {"client": client, "serial": 1006}


def test_nodes_are_counted_while_they_run_also_those_that_nobody_is_on():
    made = history(
        conn(0.5, 1, 1), conn(0.5, 2, 1), close(1.5, 1), conn(1.6, 1, 2),
        faults=[STARTS[0], process_line("start", 1.0, "chatd-2"), process_line("exit", 3.5, "chatd-1")],
    )  # fmt: skip
    counted = counts(made, until_ns=T0 + 4 * S)
    assert counted.rows() == [(0, 1, 2), (0, 2, 0), (1, 1, 1), (1, 2, 1), (2, 1, 1), (2, 2, 1), (3, 2, 1)]
    assert spread(counted).rows() == [(0, 2.0), (1, 1.0), (2, 1.0), (3, 1.0)]
    assert running(counted, 2).rows() == [(0, 1.0), (1, 1.0), (2, 1.0), (3, 0.5)]


def test_nobody_connected_has_no_spread_and_one_node_has_no_figures():
    assert spread(counts(history(), until_ns=T0 + 2 * S)).rows() == []
    alone = node_figures(history(conn(0.5, 1, 1), faults=STARTS[:1], nodes=1))
    assert {name: frame.height for name, frame in alone.items()} == {"nodes.spread": 0, "nodes.running": 0}


def fork(at_s: float, serial: int, channel: int = 1) -> tuple[Kind, float, dict[str, int]]:
    return Kind.EPOCH, at_s, {"client": 1, "channel": channel, "publisher": 1, "epoch": 2, "serial": serial}


def ack(serial: int, channel: int = 1, epoch: int = 1) -> tuple[Kind, float, dict[str, int]]:
    return (
        Kind.ACK,
        1.0,
        {"client": 2, "channel": channel, "publisher": 2, "pub_seq": 9, "serial": serial, "epoch": epoch},
    )


def test_acks_beyond_a_fork_are_counted_the_lowest_answer_about_it_counts():
    made = history(
        ack(5), ack(6), ack(7), ack(7), ack(9, channel=2), ack(9, epoch=2), fork(2, 6), fork(2.1, 5)
    )
    assert forked_away(made) == 2
    assert record_count(made, "forked_away") == 2
    assert record_count(made, "forks") == 1
    fresh = (Kind.EPOCH, 1.0, {"client": 1, "channel": 1, "publisher": 0, "epoch": 2})
    assert record_count(history(fresh, ack(5)), "forks") == 0


def test_refusals_are_counted_and_not_what_failed_on_the_way():
    nack = (Kind.NACK, 2.0, {"client": 1, "t2": 503})
    ours = (Kind.NACK, 2.0, {"client": 1, "t2": 0})
    made = history(conn(1, 1, 1), conn(1, 2, 0, 503), conn(1, 3, 0, 65_536 + 111), nack, ours)
    assert record_count(made, "refused_dials") == 1
    assert record_count(made, "nacks", Selection(phase="p")) == 1


def gate(metric: str, expr: str, **more: Any) -> Gate:
    return Gate.model_validate({"id": "g", "kind": "threshold", "metric": metric, "expr": expr, **more})


@pytest.mark.parametrize(
    ("metric", "expr", "verdict"),
    [
        ("nodes.spread", "max <= 1.5x", GateVerdict.PASS),
        ("nodes.spread", "p(50) < 1.2x", GateVerdict.FAIL),
        ("nodes.running", "mean <= 1x", GateVerdict.PASS),
        ("nodes.running", "mean < 1x", GateVerdict.FAIL),
        ("refused_dials", "count == 0", GateVerdict.PASS),
        ("forks", "count >= 1", GateVerdict.FAIL),
        ("recovery.away", "max < 1s", GateVerdict.FAIL),  # nobody was cut off: silence is no pass
    ],
)
def test_they_are_gated(metric, expr, verdict):
    made = history(*(conn(0.2, client, 1 + (client > 3)) for client in range(1, 5)))
    measures = Measures(history=made, classes={}, intervals=pl.DataFrame())
    (result,) = evaluate([gate(metric, expr)], measures)
    assert result.verdict is verdict


def test_how_long_a_subscription_was_away_counts_from_its_own_end():
    faults = fault_lines("cut", "down", 4, 9, ordinals=[2, 4])
    made = in_memory(
        small(cuts=[Cut(4.1, 4.2, clients=frozenset({2, 4}))], late={(2, 0): 0.9, (4, 0): 1.9}, faults=faults)
    )
    found = sorted(aways_ms(made))
    assert found == pytest.approx([1_004, 1_004, 2_004, 2_004], abs=1)
    assert sorted(aways_ms(made, "cut")) == found
    assert aways_ms(made, "another") == []

"""Of several nodes: who was on which, how evenly, and whom a fault on one of them could reach."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reports.connection_effects import arrived
from reports.effects import Scene, effects
from reports.history import History, Kind
from reports.nodes import lifetimes, node_of, on, stints, windows
from reports.sessions import closes
from tests.reports.synthetic import MS, T0, S, Synthetic, fault_lines, in_memory


def process_line(kind: str, at_s: float, process: str, fault: str = "") -> dict[str, Any]:
    line = {"id": fault, "kind": kind, "phase": "engine_effect", "t": T0 + round(at_s * S)}
    return line | {"process": process, "role": "target", "pid": 1, "signal": "SIGKILL", "code": None}


def history(*connections: tuple[float, int, int, float | None], faults: list[Any] | None = None) -> History:
    """Each connection: when, client, node, and when it ended."""
    made = Synthetic(bare=True, clients=9, faults=faults or [], run={"t0_ns": T0})
    for begin_s, client, node, end_s in connections:
        made.add(Kind.CONN, begin_s, client=client, publisher=node, serial=101)
        if end_s is not None:
            made.add(Kind.CLOSE, end_s, client=client, serial=1006)
    found = in_memory(made)
    return replace(found, names=replace(found.names, nodes=(None, "n1", "n2")))


STARTS = [process_line("start", 0.0, "chatd-1"), process_line("start", 0.0, "chatd-2")]


@pytest.mark.parametrize(
    ("target", "node"),
    [
        ("chatd-2", 2),
        ("node-3", 3),
        ("link-12", 12),
        ("a2", 2),
        ("b1", 1),
        ("a", None),
        ("all", None),
        ("chatd-*", None),
        ("broker-1", None),
        ("worker-1", None),
    ],
)
def test_a_target_tells_its_node(target, node):
    assert node_of(target) == node


def test_a_stint_lasts_from_the_answer_of_a_node_to_the_next_end():
    made = history((1, 1, 1, 3), (4, 1, 2, None), (2, 2, 1, 5), (6, 3, 0, None))
    rows = [(c, n, (a - T0) / S, None if b is None else (b - T0) / S) for c, n, a, b in stints(made).rows()]
    assert rows == [(1, 1, 1.0, 3.0), (2, 1, 2.0, 5.0), (1, 2, 4.0, None)]
    assert on(stints(made), T0 + round(2.5 * S)) == {1: {1, 2}}
    assert on(stints(made), T0 + round(4.5 * S)) == {1: {2}, 2: {1}}
    assert on(stints(made), T0 + 5 * S) == {2: {1}}


def test_a_process_lives_from_each_start_to_the_exit_after_it():
    lines = [*STARTS, process_line("exit", 2, "chatd-2"), process_line("start", 3, "chatd-2"), {"id": "f"}]
    assert lifetimes(lines) == {1: [(T0, None)], 2: [(T0, T0 + 2 * S), (T0 + 3 * S, None)]}


def test_a_fault_on_one_node_reaches_who_was_on_it_when_it_began():
    lines = [
        *fault_lines("kill", "kill", 2, 4, target="chatd-2"),
        *fault_lines("cut", "down", 2, 4, target="node-1", ordinals=[1, 2, 3]),
        *fault_lines("link", "partition", 2, 4, target="link-1"),
        *fault_lines("all", "kill", 2, 4, target="broker-1"),
    ]
    made = history(
        (1, 1, 1, None), (1, 2, 2, None), (1, 3, 1, 1.5), (1.6, 3, 2, None), (5, 4, 2, None), faults=lines
    )
    assert {w.id: w.ordinals for w in windows(made)} == {"kill": {2, 3}, "cut": {1}, "link": {1}, "all": None}


def test_with_one_node_a_fault_on_it_reaches_everybody():
    made = Synthetic(bare=True, faults=fault_lines("kill", "kill", 2, 4, target="chatd-1"), run={"t0_ns": T0})
    assert [w.ordinals for w in windows(in_memory(made))] == [None]


def test_the_ends_of_connections_to_other_nodes_are_not_a_kills_doing():
    lines = [
        *fault_lines("kill", "kill", 2, 4, target="chatd-2"),
        process_line("exit", 2.01, "chatd-2", "kill"),
        process_line("start", 4, "chatd-2", "kill"),
    ]
    made = history((1, 1, 1, 2.1), (1, 2, 2, 2.1), (1, 3, 2, 2.1), faults=lines)
    (found,) = effects(made, closes(made))
    assert (found.had_effect, found.effects["closes"]) == (True, 2)


def test_a_node_that_is_started_by_a_fault_is_seen_and_so_is_who_came_to_it():
    lines = [*fault_lines("join", "node_start", 2, 6, target="chatd-2"), *STARTS[:1]]
    started = process_line("start", 2, "chatd-2", "join")
    scenes = {}
    for name, own in {"none": lines, "one": [*lines, started]}.items():
        made = history((3, 1, 2, None), (3, 2, 1, None), (1, 3, 2, None), faults=own)
        window = windows(made)[0]
        scenes[name] = Scene(
            history=made,
            window=window,
            begin_ns=T0 + 2 * S + MS,
            end_ns=T0 + 6 * S,
            closes=closes(made),
            others=(),
        )
    assert arrived(scenes["one"]) == ({"starts": 1, "clients": 1}, "")
    assert arrived(scenes["none"]) == ({"starts": 0, "clients": 0}, "no process was started for it")

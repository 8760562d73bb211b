"""Each of several nodes in the report: its lives, who was on it, what it delivered, and what that cost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from reports import figures, markdown
from reports.analysis import Analysis
from reports.history import History, Kind
from reports.nodes import Life, lifetimes, lives
from reports.per_node import MOST_NODES, Node, per_node
from reports.render import report_html
from reports.sections import host
from reports.usage import Usage
from tests.reports.synthetic import T0, S, Synthetic, exit_line, fault_lines, in_memory, small, start_line
from tests.reports.test_sections import RUNS, analysed, several_nodes


def line(kind: str, at_s: float, node: int, fault: str = "", **more: Any) -> dict[str, Any]:
    made = start_line(fault, at_s) if kind == "start" else exit_line(fault, at_s)
    return made | {"process": f"chatd-{node}"} | more


TWO = [line("start", -1, 1), line("start", -1, 2), line("exit", 4, 2, "kill"), line("start", 6, 2, "kill")]


def history(
    *connections: tuple[int, int, float, float | None], faults: list[Any] | None = None, nodes: int = 2
) -> History:
    """Ten seconds; each connection: client, node, from, until."""
    run = {"t0_ns": T0, "phases": [{"name": "p", "start_ns": T0, "end_ns": T0 + 10 * S, "warmup": False}]}
    made = Synthetic(bare=True, clients=99, run=run, nodes=nodes, faults=TWO if faults is None else faults)
    for client, node, begin, end in connections:
        made.add(Kind.CONN, begin, client=client, publisher=node, serial=101)
        if end is not None:
            made.add(Kind.CLOSE, end, client=client, serial=1006)
    return in_memory(made)


def found(made: History, samples: dict[str, pl.DataFrame] | None = None, *used: Usage) -> list[Node]:
    return list(per_node(made, samples or {}, used, length_s=10))


def sampled(**columns: list[float]) -> dict[str, pl.DataFrame]:
    """Two nodes, a sample every two seconds from 1 s on; the second node is another process from 6 s on."""
    times = [1, 3, 7, 9]
    base = {"t": [T0 + t * S for t in times] * 2, "process": ["chatd-1"] * 4 + ["chatd-2"] * 4}
    pids = {
        "pid": [1, 1, 1, 1, 2, 2, 3, 3],
        "rss_bytes": [1 << 20] * 8,
        "cpu_s": columns.pop("cpu_s", [0.0] * 8),
    }
    counted = {name: [float(v) for v in values] for name, values in columns.items()}
    return {"chatd": pl.DataFrame(base | counted), "processes": pl.DataFrame(base | pids)}


def test_a_run_with_one_node_has_no_rows_and_no_chart() -> None:
    alone = analysed(small(faults=[line("start", -1, 1)]))
    assert alone.nodes == ()
    assert figures.connections_by_node(alone).empty
    assert "Nodes" not in "".join(markdown.block(block) for block in host.build(alone))


def test_lives_say_when_each_process_ran_and_what_ended_it() -> None:
    kill = lives([*TWO, line("exit", 8, 2, signal=None, code=3, planned=False)])[2]
    assert [life.ended for life in kill] == ["SIGKILL, kill", "exit 3, not planned"]
    assert [life.planned for life in kill] == [True, False]
    assert lifetimes(TWO) == {1: [(T0 - S, None)], 2: [(T0 - S, T0 + 4 * S), (T0 + 6 * S, None)]}


@pytest.mark.parametrize(
    ("odd", "known"),
    [
        pytest.param(line("start", 7, 2), 3, id="a start without an exit before it"),
        pytest.param(line("start", 3, 2), 2, id="a start before what came before"),
        pytest.param(line("exit", 3, 2), 2, id="an exit before its start"),
        pytest.param(line("exit", 7, 2, t="noon"), 2, id="no time"),
        pytest.param(line("exit", 7, 2, t=10**30), 2, id="no time of this world"),
        pytest.param({"process": "chatd-2", "kind": "exit"}, 2, id="no time at all"),
        pytest.param(line("start", 7, 2, process="chatd-" + "9" * 5000), 2, id="no number"),
    ],
)
def test_odd_lines_of_a_strange_run_make_no_odd_lives(odd: dict[str, Any], known: int) -> None:
    own = lives([*TWO, odd])[2]
    assert len(own) == known
    ends = [t for life in own for t in (life.begin_ns, life.end_ns) if t is not None]
    assert ends == sorted(ends)
    assert found(history((1, 2, 0.5, None), faults=[*TWO, odd]))


def test_connections_are_counted_while_a_node_runs_and_shared_with_all() -> None:
    cut = ((2, 2, 0.5, 4), (3, 2, 0.5, 4), (2, 1, 5, None), (3, 2, 8.5, None))
    one, two, every = found(history((1, 1, 0.5, None), *cut))
    assert (one.p50, one.peak, one.peak_share) == (2.0, 2, 1.0)  # at 5 s, when nobody was elsewhere
    assert (two.p50, two.peak) == (1.0, 2)  # while it ran: two for 3 s, nobody for 3 s, one for 2 s
    assert (two.p50_share, two.peak_share) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert (every.number, every.p50, every.peak) == (0, 2.5, 3)


def test_the_line_of_a_node_is_broken_while_it_did_not_run() -> None:
    one, two, _ = found(history((1, 1, 0.5, None), (2, 2, 0.5, 4.01), (3, 2, 7, None)))
    assert one.line == ((0.0, 0.0), (0.5, 1.0), (10.0, 1.0))
    assert two.line == (
        (0.0, 0.0), (0.5, 1.0), (4.0, 1.0), (4.001, None), (6.0, 0.0), (7.0, 1.0), (10.0, 1.0),
    )  # fmt: skip


def test_a_hole_stays_a_hole_however_often_clients_came_and_went() -> None:
    busy = [
        (c, 2, b / 97, b / 97 + 0.003) for b in range(1, 950) for c in (1 + b % 50,) if not 3.9 < b / 97 < 6.1
    ]
    _, two, _ = found(history(*busy))
    assert len(two.line) <= 420
    assert [x for x, y in two.line if y is None] == [4.001]
    assert not [x for x, y in two.line if y is not None and 4 < x < 6]
    xs = [x for x, _ in two.line]
    assert xs == sorted(xs)


def test_deliveries_are_added_over_the_lives_of_a_node() -> None:
    counted = sampled(chatd_deliveries_total=[100, 300, 700, 900, 100, 300, 350, 400])
    one, two, every = found(history((1, 1, 0.5, None)), counted)
    assert (one.deliveries, two.deliveries, every.deliveries) == (900, 700, 1600)


def test_cpu_is_set_against_the_deliveries_of_the_same_samples() -> None:
    counted = sampled(
        cpu_s=[1.0, 1.1, 1.3, 1.4, 1.0, 1.1, 0.3, 0.4],
        chatd_deliveries_total=[100, 300, 700, 900, 100, 300, 350, 400],
    )
    one, two, every = found(history((1, 1, 0.5, None)), counted)
    assert one.cpu_us == pytest.approx(0.4 / 800 * 1e6)
    assert two.cpu_us == pytest.approx((0.1 + 0.4) / (200 + 400) * 1e6)
    assert every.cpu_us == pytest.approx(0.9 / 1400 * 1e6)


def test_the_bus_is_shown_where_it_is_metered() -> None:
    counted = sampled(
        chatd_deliveries_total=[1] * 8,
        chatd_bus_doubts_total=[0, 1, 1, 2, 0, 3, 1, 1],
        chatd_resets_total=[0] * 8,
    )
    one, two, every = found(history((1, 1, 0.5, None)), counted)
    assert (one.bus, two.bus) == ({"doubts": 2, "resets": 0}, {"doubts": 4, "resets": 0})
    assert every.bus == {"doubts": 6, "resets": 0}


def test_memory_is_the_largest_that_was_sampled() -> None:
    used = [
        Usage(process=f"chatd-{n}", target=True, cpu_s=1, cpu_us_per_delivery=1, rss_max_bytes=n)
        for n in (1, 2)
    ]
    assert [node.rss_bytes for node in found(history((1, 1, 0.5, None)), None, *used)] == [1, 2, 3]


@pytest.mark.parametrize(
    "samples",
    [
        {"chatd": pl.DataFrame({"t": ["noon"], "process": ["chatd-1"], "chatd_deliveries_total": ["many"]})},
        {
            "chatd": pl.DataFrame(
                {"t": [T0], "process": ["chatd-1"], "chatd_deliveries_total": [float("nan")]}
            )
        },
        {"chatd": pl.DataFrame({"t": [T0], "process": ["chatd-1"], "chatd_deliveries_total": ["many"]})},
        {"processes": pl.DataFrame({"t": [T0]})},
    ],
)
def test_samples_of_another_shape_are_no_figures(samples: dict[str, pl.DataFrame]) -> None:
    nodes = found(history((1, 1, 0.5, None)), samples)
    assert [(node.deliveries, node.cpu_us) for node in nodes] == [(None, None)] * 3


def test_nodes_that_are_not_ours_have_connections_alone() -> None:
    one, two, _ = found(history((1, 1, 0.5, None), (2, 2, 1.5, 3), faults=[]))
    assert (one.name, one.lives, one.peak, two.line[-1]) == ("n1", (), 1, (10.0, 0.0))
    assert one.deliveries is None


def told(analysis: Analysis) -> list[str]:
    text = "".join(markdown.block(block) for block in host.build(analysis))
    return text.replace("\u00a0", " ").splitlines()


def test_the_section_has_a_row_a_node_and_one_for_all() -> None:
    rows = [row for row in told(analysed(several_nodes())) if row.startswith(("| `chatd", "| all", "| Node"))]
    assert rows[0].startswith("| Node | Connections (p50) | Connections (peak) | Deliveries |")
    assert rows[1].startswith("| `chatd-1` | 3 (38 %) | 3 (")
    assert rows[1].endswith("| start – end |")
    assert rows[2].startswith("| `chatd-2` | 3 (38 %) | 3 (")
    assert rows[2].endswith("| start – 4.00 s (SIGKILL, kill); 6.00 s – end |")
    assert rows[4].startswith("| all | 8 | 8 |")


def test_a_node_that_ended_before_the_end_or_unasked_says_so() -> None:
    made = several_nodes()
    made.faults += [
        line("exit", 9, 1, signal=None, code=0),
        line("exit", 14, 3, signal="SIGSEGV", planned=False),
        line("exit", 14, 2, signal=None, code=0),
    ]
    rows = [row.split(" | ")[-1].strip(" |") for row in told(analysed(made)) if row.startswith("| `chatd")]
    assert rows == [
        "start – 9.00 s (exit 0)",
        "start – 4.00 s (SIGKILL, kill); 6.00 s – end",
        "start – 14.0 s (SIGSEGV, not planned)",
    ]


def test_a_node_that_died_again_and_again_has_a_row_that_can_be_read() -> None:
    crashes = [
        x
        for n in range(40)
        for x in (line("exit", 1 + n / 5, 2, "loop"), line("start", 1.1 + n / 5, 2, "loop"))
    ]
    made = several_nodes()
    made.faults = [
        line("start", -1, 1),
        line("start", -1, 2),
        *fault_lines("loop", "crash_loop", 1, 9),
        *crashes,
    ]
    (row,) = [row for row in told(analysed(made)) if row.startswith("| `chatd-2`")]
    assert row.endswith("; 35 more |")


def test_the_chart_has_a_line_a_node_and_the_faults_as_bands() -> None:
    drawn = figures.connections_by_node(analysed(several_nodes()))
    (panel,) = drawn.panels
    assert [series.name for series in panel.series] == ["chatd-1", "chatd-2", "chatd-3"]
    assert {series.kind for series in panel.series} == {"step"}
    assert [band.label for band in drawn.bands] == ["warm-up", "kill"]
    assert "chart-nodes" in report_html(analysed(several_nodes()))


def test_of_many_nodes_the_chart_has_those_that_can_be_told_apart_and_the_table_a_bounded_number() -> None:
    lines = [line("start", -1, n) for n in range(1, 201)]
    connections = [(n, n, 0.5, None) for n in range(1, 99)]
    nodes = found(history(*connections, faults=lines, nodes=200))
    assert len(nodes) == MOST_NODES + 1
    many = replace(analysed(several_nodes()), nodes=tuple(nodes))
    drawn = figures.connections_by_node(many)
    assert len(drawn.panels[0].series) == 6
    assert "Of 64 nodes, the 6 with the highest peaks." in drawn.says


def test_several_nodes_that_nobody_came_to_are_shown_all_the_same() -> None:
    one, two, every = found(history())
    assert (one.peak, one.peak_share, one.p50_share, every.p50) == (0, None, None, 0.0)
    assert two.lives[0] == Life(begin_ns=T0 - S, end_ns=T0 + 4 * S, ended="SIGKILL, kill")
    assert "several nodes" in RUNS

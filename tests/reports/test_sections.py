"""Every section, for runs under faults, quiet, aborted and empty; golden text where it is sensible."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

import reports
from reports import figures, html, markdown, svg
from reports.analysis import Analysis, summary
from reports.blocks import Picture
from reports.charts import MAX_POINTS
from reports.checks import run_checks
from reports.checks.result import CAP
from reports.effects import FaultEffect
from reports.gates import parse_gates
from reports.history import Flag, Kind, Transport
from reports.pipeline import analyse
from reports.recovery import spans
from reports.render import report_html, report_markdown
from reports.sections import SECTIONS, capacity, faults, host
from tests.reports.schema_check import violations
from tests.reports.synthetic import (
    T0,
    Cut,
    S,
    Synthetic,
    exit_line,
    fault_lines,
    in_memory,
    small,
    start_line,
)

GATES = parse_gates(
    {"gate": [{"id": "p99", "kind": "threshold", "metric": "delivery", "expr": "p(50) < 65ms"}]}, source="t"
)


def analysed(made: Synthetic) -> Analysis:
    history = in_memory(made)
    return analyse(
        history, run_checks(history, spans=spans(history)), GATES, workers=[{"worker": 1, "lag_p99_ms": 1.0}]
    )


def several_nodes() -> Synthetic:
    """Three nodes; the second is killed at 4 s, with all that are on it, and is back at 6 s."""
    lines = [start_line("", -1.0) | {"process": f"chatd-{n}"} for n in (1, 2, 3)]
    killed = exit_line("kill", 4.0, process="chatd-2")
    on_two = frozenset(client for client in range(1, 9) if client // 2 % 3 == 1)
    return small(
        nodes=3,
        cuts=[Cut(4, 6, clients=on_two), Cut(4.8, 5.1, clients=frozenset({1}), on_purpose=True)],
        faults=[
            *lines, *fault_lines("kill", "kill", 4, 6, target="chatd-2"), killed,
            start_line("kill", 6.0) | {"process": "chatd-2"},
        ],
    )  # fmt: skip


RUNS = {
    "under faults": lambda: small(
        cuts=[Cut(4, 5, 1)],
        faults=[*fault_lines("cut", "down", 4, 5, target="b"), *fault_lines("idle", "latency", 7, 8)],
    ),
    "quiet": small,
    "several nodes": several_nodes,
    "aborted": lambda: small(
        run={"status": "aborted", "duration_s": None}, faults=fault_lines("f", "down", 8, 9)[:1]
    ),
    "empty": lambda: Synthetic(bare=True, clients=2, channels=1),
    "no manifest": lambda: Synthetic(
        bare=True,
        run=dict.fromkeys(
            ["scenario", "phases", "t0_ns", "contract", "host", "load", "versions", "via", "why", "expect"]
        ),
    ),
}


@pytest.fixture(scope="module", params=RUNS)
def analysis(request: pytest.FixtureRequest) -> Analysis:
    return analysed(RUNS[request.param]())


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_renders_for_every_kind_of_run(analysis: Analysis, name: str) -> None:
    blocks = SECTIONS[name][1](analysis)
    assert bool(blocks) == (name != "comparison")  # that one needs a baseline
    for block in blocks:
        html.block(block)
        markdown.block(block)


def test_a_section_is_a_module_of_its_name_with_a_docstring() -> None:
    folder = Path(faults.__file__).parent
    assert set(SECTIONS) == {path.stem for path in folder.glob("*.py")} - {"__init__"}


@pytest.fixture(scope="module")
def stormy() -> Analysis:
    return analysed(RUNS["under faults"]())


def lines(analysis: Analysis, name: str) -> list[str]:
    text = "".join(markdown.block(block) for block in SECTIONS[name][1](analysis))
    return text.replace("\u00a0", " ").splitlines()


def test_the_verdict_comes_with_why_and_the_gates(stormy: Analysis) -> None:
    assert lines(stormy, "verdict")[:2] == [
        "**? UNKNOWN** – Fault idle (latency) had no measured effect: "
        "the latency of its clients did not shift.",
        "",
    ]
    row = next(line for line in lines(stormy, "verdict") if line.startswith("| `p99`"))
    assert row.startswith("| `p99` | ✓ pass | delivery p(50) < 65ms".replace("<", "&lt;"))


def test_the_glance_has_the_figures_that_people_ask_for_first(stormy: Analysis) -> None:
    heads = [line.split(" | ")[0].removeprefix("| ") for line in lines(stormy, "glance") if "|" in line][2:]
    assert heads == [
        "Deliveries",
        "Lost",
        "Duplicated",
        "Reordered",
        "Delivery rate",
        "p50 delivery",
        "p99 delivery",
        "p99.9 delivery",
        "Longest delivery",
        "Worst recovery",
    ]


def test_what_the_server_does_not_promise_is_said_and_has_no_count() -> None:
    made = small(run={"contract": {"profile": "effectively-once", "capabilities": ["ack", "ack-position"]}})
    poor = analysed(made)
    rows = {row.split(" | ")[0].strip("| `"): row.split(" | ") for row in lines(poor, "integrity")}
    assert rows["D1"][1:3] == ["–", "not promised"]
    assert rows["L6"][1:3] == ["0", "✓ none"]
    tiles = {row.split(" | ")[0].strip("| "): row for row in lines(poor, "glance")}
    assert "– | not promised by this server" in tiles["Lost"]
    assert summary(poor)["anomalies"] == {"lost": None, "duplicated": None, "reordered": None}
    told = summary(poor)["classes"]
    assert (told["D1"]["count"], told["D1"]["lacks"], told["D1"]["gated"]) == (None, ["serial"], False)
    assert (told["L6"]["count"], told["L6"]["lacks"]) == (0, [])


def test_faults_are_shown_with_their_effects_and_recovery(stormy: Analysis) -> None:
    text = lines(stormy, "faults")
    cut = next(line for line in text if "`cut`" in line)
    assert cut.startswith(
        "| 1 | `cut` | down | b | 4.00 | 4.00 | 1.00 | 5.00 | ✓ seen | closes 4, clients 4 |"
    )
    idle = next(line for line in text if "`idle`" in line)
    assert "? none | the latency of its clients did not shift" in idle
    assert any(line.startswith("| `cut` | 4 | 8 | 0 | ") for line in text)


def test_recovery_has_all_of_its_stages_and_says_of_which_nothing_is_known() -> None:
    made = RUNS["under faults"]()
    arrived = made.records()[1]
    again = (arrived["kind"] == Kind.RECV) & (arrived["client"] % 2 == 0)  # of those who were not cut off
    again &= (arrived["t"] > T0 + round(4.1 * S)) & (arrived["t"] < T0 + round(4.9 * S))
    again &= arrived["flags"] == 0
    copies = arrived[again]
    for row in copies:
        made._rows[1].append((int(row["t"]) + 1000, *row.tolist()[1:]))
    assert len(copies) > CAP  # more than there are examples of
    history = in_memory(made)
    p99 = {"id": "p99", "kind": "threshold", "metric": "delivery", "expr": "p(99) < 2s"}
    told = analyse(
        history,
        run_checks(history, spans=spans(history)),
        parse_gates({"gate": [p99]}, source="t"),
        workers=[{"worker": 1, "lag_p99_ms": 1.0}],
    )
    text = lines(told, "faults")
    head = next(i for i, line in enumerate(text) if line.startswith("| Recovery after"))
    assert text[head] == "| Recovery after | All back (s) | p99 ≤ 2.00 s (s) | Backlog (s) |"
    assert text[head + 2].startswith("| `cut` | 0.")
    assert text[head + 2].split(" | ")[2] == "–"
    assert text[head + 3].split(" | ")[1:3] == ["–", "–"]
    assert "- p99 after cut: idle began first" in text
    assert "- p99 after idle: the load ended first" in text
    inside = [line for line in text if line.startswith(("| `cut` | 4 | 8 | 0 |", "| `idle` | 0 | 0 | 0 |"))]
    assert [row.strip("| ").split(" | ")[-3:] for row in inside] == [
        ["0", str(len(copies)), "0"],
        ["0", "0", "0"],
    ]
    found = [fault["recovery"] for fault in summary(told)["faults"]]
    assert [(f["lost"], f["duplicated"], f["reordered"]) for f in found] == [(0, len(copies), 0), (0, 0, 0)]
    assert [(f["slo_s"], f["slo_why"]) for f in found] == [
        (None, "idle began first"),
        (None, "the load ended first"),
    ]
    schema = json.loads((Path(reports.__file__).parent / "schemas" / "summary.schema.json").read_text())
    assert violations(summary(told), schema) == []


def test_without_an_objective_there_is_no_column_for_it(stormy: Analysis) -> None:
    text = lines(stormy, "faults")
    assert "| Recovery after | All back (s) | Backlog (s) |" in text
    assert "- p99 within an objective: no gate sets an upper limit on p(99) of all deliveries" in text


def test_what_was_found_is_shown_by_phase_and_under_faults() -> None:
    made = small(faults=fault_lines("slow", "latency", 4, 5))
    # In the warm-up, twice under the fault, after it, and when all phases are over.
    for serial, t in enumerate((0.5, 4.5, 4.6, 9.0, 10.5), start=1):
        made.add(
            Kind.RECV,
            t,
            client=2,
            channel=1,
            epoch=1,
            serial=serial,
            flags=int(Flag.REPLAYED | Flag.BAD_DIGEST),
        )
    told = analysed(made)
    assert told.integrity.classes["L7"].count == 5
    text = lines(told, "integrity")
    head = next(i for i, line in enumerate(text) if line.startswith("| Class | ") and "After" in line)
    assert text[head] == (
        "| Class | warm-up | steady | After (the last phase) | All | Under a fault (of all) |"
    )
    assert "| `L7` | 1 | 3 | 1 | 5 | 2 |" in text[head + 2 :]
    assert summary(told)["classes"]["L7"]["by_phase"] == [
        {"where": "phase", "phase": "warm-up", "count": 1, "in_fault": 0},
        {"where": "phase", "phase": "steady", "count": 3, "in_fault": 2},
        {"where": "after", "phase": None, "count": 1, "in_fault": 0},
    ]
    schema = json.loads((Path(reports.__file__).parent / "schemas" / "summary.schema.json").read_text())
    assert violations(summary(told), schema) == []


def test_of_many_phases_those_in_which_nothing_fell_are_left_out() -> None:
    many = [
        {"name": f"p{i}", "start_ns": T0 + i * S // 2, "end_ns": T0 + (i + 1) * S // 2} for i in range(20)
    ]
    made = small(run={"phases": many})
    damaged = int(Flag.REPLAYED | Flag.BAD_DIGEST)
    made.add(Kind.RECV, 4.2, client=2, channel=1, epoch=1, serial=1, flags=damaged)
    text = lines(analysed(made), "integrity")
    head = next(line for line in text if line.startswith("| Class | ") and "After" in line)
    assert head == "| Class | p8 | After (the last phase) | All |"
    assert any("Phases in which nothing fell are left out." in line for line in text)


def test_a_run_of_one_phase_and_no_fault_has_no_table_of_phases() -> None:
    made = small(run={"phases": [{"name": "all", "start_ns": T0, "end_ns": T0 + 10 * S}]})
    damaged = int(Flag.REPLAYED | Flag.BAD_DIGEST)
    made.add(Kind.RECV, 4.2, client=2, channel=1, epoch=1, serial=1, flags=damaged)
    assert not any("the last phase" in line for line in lines(analysed(made), "integrity"))


def test_a_clean_run_says_so_in_one_line() -> None:
    assert "Nothing was found in any phase." in lines(analysed(small()), "integrity")


def test_every_figure_of_an_effect_has_its_unit() -> None:
    effect = FaultEffect(
        id="f",
        kind="latency",
        target="a",
        planned_s=1,
        applied_s=1,
        reverted_s=2,
        effects={
            "closes": 1200,
            "stall_s": 2.5,
            "delivery_before_p50_ms": 3.0,
            "delivery_shift_p50_ms": 30.25,
            "delivery_control_shift_p50_ms": 0.1,
            "nothing": None,
        },
        had_effect=True,
    )
    assert (
        faults.measured(effect).replace("\u00a0", " ")
        == "closes 1,200, stall 2.50 s, delivery shift p50 30.2 ms"
    )


def sampled(analysis: Analysis, name: str, frame: pl.DataFrame) -> list[str]:
    made = replace(analysis, samples={name: frame})
    return "".join(markdown.block(b) for b in host.build(made)).replace("\u00a0", " ").splitlines()


def test_samples_of_processes_are_shown_with_their_units(stormy: Analysis) -> None:
    frame = pl.DataFrame(
        {
            "t": [T0, T0 + S, T0 + 2 * S] * 2,
            "process": ["chatd-1"] * 3 + ["proxy"] * 3,
            "pid": [7, 7, 8, 9, 9, 9],
            "cpu": [0.5, float("nan"), 0.75, 0.1, 0.1, 0.2],
            "rss_bytes": [1 << 20] * 6,
        }
    )
    told = sampled(stormy, "processes", frame)
    assert "| `chatd-1` | `cpu` | 50.0 % | 75.0 % |" in told
    assert "| `proxy` | `rss_bytes` | 1.00 MiB | 1.00 MiB |" in told
    assert not [line for line in told if "pid" in line]
    chart = figures.processes(replace(stormy, samples={"processes": frame}))
    assert [s.name for s in chart.panels[0].series] == ["chatd-1", "proxy"]
    assert chart.panels[0].series[0].points[0] == (0.0, 50.0)


def test_no_line_is_drawn_over_the_time_in_which_a_process_did_not_run(stormy: Analysis) -> None:
    rows = [(s, "worker-1", 9) for s in range(8)]
    rows += [(s, "killed", 7) for s in (0, 1, 2)] + [(s, "killed", 8) for s in (6, 7)]
    rows += [(s, "quick", 4 if s < 3 else 5) for s in range(8)]  # back before it was missed
    frame = pl.DataFrame(
        {
            "t": [T0 + s * S for s, _, _ in rows],
            "process": [name for _, name, _ in rows],
            "pid": [pid for _, _, pid in rows],
            "cpu": [0.5] * len(rows),
            "rss_bytes": [1 << 20] * len(rows),
        }
    )
    chart = figures.processes(replace(stormy, samples={"processes": frame}))
    for panel in chart.panels:
        holes = {s.name: [t for t, y in s.points if y is None] for s in panel.series}
        assert holes == {"killed": [4.0], "quick": [2.5], "worker-1": []}
    paths = re.findall(r'<path class="line s\d" d="([^"]*)"', svg.chart(chart))
    assert [path.count("M") for path in paths] == [2, 2, 1] * 2


def test_a_hole_between_two_lives_stays_however_long_the_run_is(stormy: Analysis) -> None:
    long = 3000
    intervals = pl.concat([stormy.intervals] * (long // stormy.intervals.height + 1))
    times = [s for s in range(long) if s not in (1500, 1501)]
    frame = pl.DataFrame(
        {
            "t": [T0 + s * S for s in times] + [T0 + s * S for s in range(long)],
            "process": ["killed"] * len(times) + ["proxy"] * long,
            "pid": [7 if s < 1500 else 8 for s in times] + [9] * long,
            "cpu": [0.5] * (len(times) + long),
            "rss_bytes": [1 << 20] * (len(times) + long),
        }
    )
    made = replace(stormy, samples={"processes": frame}, intervals=intervals)
    killed, proxy = figures.processes(made).panels[0].series
    assert [t for t, y in killed.points if y is None] == [1500.5]
    assert all(y is not None for _, y in proxy.points)
    assert len(killed.points) <= MAX_POINTS + 1


def test_counters_show_their_growth_over_restarts(stormy: Analysis) -> None:
    frame = pl.DataFrame(
        {
            "t": [1, 2, 3, 4],
            "chatd_publishes_total": [10.0, 25.0, 0.0, 5.0],
            "chatd_commit_seconds_sum": [0.5, 1.0, 1.5, 2.0],
            "chatd_commit_seconds_count": [100.0, 200.0, 300.0, 488.0],
            "chatd_sent_bytes_total": [0.0, 1024.0, 2048.0, 4096.0],
            "chatd_connections": [1.0, 3.0, 2.0, 2.0],
        }
    )
    told = sampled(stormy, "chatd", frame)
    assert "| `chatd_publishes_total` | 20 |" in told
    assert "| `chatd_commit_seconds_sum` | 1.50 s |" in told
    assert "| `chatd_commit_seconds_count` | 388 |" in told
    assert "| `chatd_sent_bytes_total` | 4.00 KiB |" in told
    assert "| `chatd_connections` | 2 | 3 |" in told


def test_when_a_node_was_started_is_no_figure(stormy: Analysis) -> None:
    frame = pl.DataFrame(
        {"t": [1], "process": ["chatd-1"], "started_ms": [1_795_531_438_000], "lag_s": [0.004]}
    )
    told = sampled(stormy, "nodes", frame)
    assert not [line for line in told if "started_ms" in line]
    assert "| `chatd-1` | `lag_s` | 0.0040 s | 0.0040 s |" in told


def test_samples_of_another_shape_are_left_alone(stormy: Analysis) -> None:
    frame = pl.DataFrame({"t": ["noon"], "process": [None], "cpu": ["much"]})
    assert sampled(stormy, "processes", frame)


def test_charts_of_time_share_their_axis_and_bands(stormy: Analysis) -> None:
    pictures = [
        block.chart
        for _, build in SECTIONS.values()
        for block in build(stormy)
        if isinstance(block, Picture) and block.chart.x.unit == "s"
    ]
    assert len(pictures) >= 4
    assert len({(chart.x_range, chart.bands) for chart in pictures}) == 1


def test_a_page_stays_small_and_whole_however_much_happened() -> None:
    lines = [
        line
        for n in range(300)
        for line in fault_lines(f"fault-{n}-with-a-rather-long-name", "down", 1 + n * 0.025, 1.02 + n * 0.025)
    ]
    made = analysed(
        small(
            channels=400,
            clients=200,
            rate=5.0,
            cuts=[Cut(2, 3)],
            faults=lines,
            run={"problems": ["odd"] * 5000},
        )
    )
    page = report_html(made)
    assert len(page.encode()) < 1_000_000
    assert "200 faults more in summary.json." in page
    assert "… and 4,980 more" in page
    assert len(report_markdown(made).encode()) <= 60 * 1024


def test_trials_of_a_search_are_drawn_by_what_they_delivered_and_whether_they_held() -> None:
    trials = [
        {"deliveries_per_s": rate, "p99_ms": p99, "cpu_cores": 0.5, "held": held}
        for rate, p99, held in (
            (2000.0, 900.0, "does not hold"),
            (1000.0, 9.0, "holds"),
            (None, None, "the generator was the limit"),
            (500.0, 4.0, "holds"),
        )
    ]
    p99, cpu = capacity.loads({"trials": trials}).panels
    assert [(s.name, s.points) for s in p99.series] == [
        ("held", ((500.0, 4.0), (1000.0, 9.0))),
        ("did not hold", ((2000.0, 900.0),)),
    ]
    assert p99.y.kind == "log"
    assert [rate for rate, _ in cpu.series[0].points] == [500.0, 1000.0, 2000.0]
    assert capacity.loads({"trials": []}).empty


def test_latency_of_several_transports_is_told_beside_each_other_and_of_one_is_not() -> None:
    assert "By what the client was connected" not in "".join(lines(analysed(small()), "latency"))
    made = Synthetic(bare=True, clients=2, channels=1)
    for client, over, late_s in ((1, Transport.WEBSOCKET, 0.25), (2, Transport.SSE, 0.75)):
        made.add(Kind.CONN, 1.0, t2=T0 + S // 2, client=client, serial=101, pub_seq=1, flags=over)
        for serial in (1, 2):
            message = {"channel": 1, "publisher": 1, "pub_seq": serial, "serial": serial, "epoch": 1}
            made.add(Kind.RECV, 3.0 + late_s * serial, t2=T0 + 3 * S, client=client, **message)
    told = lines(analysed(made), "latency")
    begin = told.index(
        "| Class | Transport | Samples | p50 (ms) | p90 (ms) | p99 (ms) | p99.9 (ms) | Max (ms) |"
    )
    assert told[begin + 2 : begin + 6] == [
        "| delivery | WebSocket | 2 | 250 | 500 | 500 | 500 | 500 |",
        "| delivery | SSE | 2 | 750 | 1,500 | 1,500 | 1,500 | 1,500 |",
        "| connect | WebSocket | 1 | 500 | 500 | 500 | 500 | 500 |",
        "| connect | SSE | 1 | 500 | 500 | 500 | 500 | 500 |",
    ]


def test_latency_with_and_without_faults_is_one_curve_each(stormy: Analysis) -> None:
    drawn = figures.latency_by_fault(stormy)
    assert [s.name for s in drawn.panels[0].series] == ["no fault in force", "cut", "idle"]
    assert figures.latency_by_fault(analysed(small())).empty
    (row,) = [line for line in lines(stormy, "faults") if line.startswith("| `cut`") and line.count("|") == 8]
    before, during, _ = (float(cell.replace(",", "")) for cell in row.split("|")[5:8])
    assert during > 10 * before

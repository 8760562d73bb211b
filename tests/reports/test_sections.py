"""Every section, for runs under faults, quiet, aborted and empty; golden text where it is sensible."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from reports import html, markdown
from reports.analysis import Analysis
from reports.blocks import Picture
from reports.checks import run_checks
from reports.effects import FaultEffect
from reports.gates import parse_gates
from reports.pipeline import analyse
from reports.sections import SECTIONS, faults, host
from tests.reports.synthetic import Cut, Synthetic, fault_lines, in_memory, small

GATES = parse_gates(
    {"gate": [{"id": "p99", "kind": "threshold", "metric": "delivery", "expr": "p(50) < 65ms"}]}, source="t"
)


def analysed(made: Synthetic) -> Analysis:
    history = in_memory(made)
    return analyse(history, run_checks(history), GATES, workers=[{"worker": 1, "lag_p99_ms": 1.0}])


RUNS = {
    "under faults": lambda: small(
        cuts=[Cut(4, 5, 1)],
        faults=[*fault_lines("cut", "down", 4, 5, target="b"), *fault_lines("idle", "latency", 7, 8)],
    ),
    "quiet": small,
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
    assert blocks
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


def test_faults_are_shown_with_their_effects_and_recovery(stormy: Analysis) -> None:
    text = lines(stormy, "faults")
    cut = next(line for line in text if "`cut`" in line)
    assert cut.startswith("| 1 | `cut` | down | b | 4.00 | 4.00 | 5.00 | ✓ seen | closes 4, clients 4 |")
    idle = next(line for line in text if "`idle`" in line)
    assert "? none | the latency of its clients did not shift" in idle
    assert any(line.startswith("| `cut` | 4 | 8 | 0.") for line in text)


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


def test_samples_of_the_run_are_shown_with_their_units() -> None:
    made = analysed(small())
    frame = pl.DataFrame(
        {"t": [1, 2, 3], "index": [1, 1, 1], "rss_bytes": [1 << 20] * 3, "cpu": [0.5, float("nan"), 0.7]}
    )
    told = "".join(markdown.block(b) for b in host.build(_with(made, frame))).replace("\u00a0", " ")
    assert "| `1 rss_bytes` | 1.00 MiB | 1.00 MiB | 1.00 MiB |" in told
    assert "| `1 cpu` | 0.600 | 0.700 | 0.700 |" in told


def _with(analysis: Analysis, frame: pl.DataFrame) -> Analysis:
    from dataclasses import replace

    return replace(analysis, samples={"workers": frame})


def test_charts_of_time_share_their_axis_and_bands(stormy: Analysis) -> None:
    pictures = [
        block.chart
        for _, build in SECTIONS.values()
        for block in build(stormy)
        if isinstance(block, Picture) and block.chart.x.unit == "s"
    ]
    assert len(pictures) >= 4
    assert len({(chart.x_range, chart.bands) for chart in pictures}) == 1

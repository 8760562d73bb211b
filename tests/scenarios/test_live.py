"""What a person sees while a run goes on."""

from __future__ import annotations

import io
import re

from rich.console import Console

from scenarios.live import Progress, bar, status_line, waiting

STATS = {
    "t_ns": 0,
    "clients": 200,
    "live": 187,
    "sent": 1_234,
    "received": 24_680,
    "unacked": 3,
    "p99_ms": 12.34,
}


def test_a_line_has_every_figure_with_its_unit() -> None:
    line = status_line(STATS, phase="chaos", elapsed_s=12.34, faults=["cut-half"], rates=(60.4, 1200.2))
    assert "12.3 s" in line
    assert "187/200 live" in line
    assert "sent   1,234    (60/s)" in line
    assert "received    24,680   (1,200/s)" in line
    assert "p99 12.3 ms" in line
    assert "unacked 3" in line
    assert "fault: cut-half" in line


def test_a_line_without_figures_yet_can_be_shown() -> None:
    assert status_line({}, phase="warm-up", elapsed_s=0, faults=(), rates=(0, 0)).endswith("p99       –")


def test_the_figures_of_lines_stand_below_each_other_and_a_second_is_a_second() -> None:
    early = {**STATS, "live": 0, "sent": 7, "received": 76, "p99_ms": None, "unacked": 0}
    late = {**STATS, "sent": 123_456, "received": 2_345_678, "p99_ms": 31_686.7, "unacked": 0}
    lines = [
        status_line(stats, phase=phase, elapsed_s=9.9, faults=(), rates=rates, phase_cells=12)
        for stats, phase, rates in ((early, "warm-up", (7, 75)), (late, "rolling-test", (1_234, 23_456)))
    ]
    for column in ("live", "received", "p99"):
        assert len({line.index(column) for line in lines}) == 1, lines
    assert lines[1].endswith("p99  31.7 s")


def test_a_narrow_terminal_has_no_bar_and_every_figure() -> None:
    for columns, has_bar in ((80, False), (140, True)):
        out = io.StringIO()
        with Progress(Console(file=out, width=columns, force_terminal=True), total_s=10) as progress:
            progress.figures({**STATS, "unacked": 0}, phase="steady", elapsed_s=5, faults=())
        last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue()).strip().splitlines()[-1]
        assert "p99 12.3 ms" in last, last
        assert ("━" in last) == has_bar, last
        assert len(last) <= columns


def test_what_takes_long_and_says_nothing_is_seen_on_a_terminal_only() -> None:
    clock = iter([0.0, *[3.0] * 100])
    for terminal in (True, False):
        out = io.StringIO()
        with waiting(
            Console(file=out, width=100, force_terminal=terminal), "trial  1  load 2", 22.0,
            now_s=lambda: next(clock),
        ):  # fmt: skip
            pass
        assert ("trial  1  load 2  3 s of about 22 s" in out.getvalue()) == terminal


def test_the_bar_keeps_its_width() -> None:
    assert {len(bar(share)) for share in (-1, 0, 0.3, 1, 7)} == {24}


def test_plain_lines_come_at_most_every_two_seconds_when_there_is_no_terminal() -> None:
    out = io.StringIO()
    with Progress(Console(file=out, width=200), total_s=10) as progress:
        for tenth in range(50):
            progress.figures(STATS, phase="steady", elapsed_s=tenth / 10, faults=())
    assert len(out.getvalue().splitlines()) == 3


def test_rates_come_from_the_difference_of_counts() -> None:
    out = io.StringIO()
    with Progress(Console(file=out, width=200), total_s=10) as progress:
        progress.figures({**STATS, "t_ns": 10**9}, phase="p", elapsed_s=0, faults=())
        later = {**STATS, "t_ns": 3 * 10**9, "sent": 1_334, "received": 26_680}
        progress.figures(later, phase="p", elapsed_s=2, faults=())
    assert "sent   1,334    (50/s)" in out.getvalue()
    assert "received    26,680   (1,000/s)" in out.getvalue()


def test_quiet_prints_nothing() -> None:
    out = io.StringIO()
    with Progress(Console(file=out), total_s=10, quiet=True) as progress:
        progress.step("target")
        progress.figures(STATS, phase="p", elapsed_s=5, faults=())
    assert out.getvalue() == ""

"""What a person sees while a run goes on."""

from __future__ import annotations

import io

from rich.console import Console

from scenarios.live import Progress, bar, status_line

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
    assert "sent 1,234 (60/s)" in line
    assert "received 24,680 (1,200/s)" in line
    assert "p99 12.3 ms" in line
    assert "unacked 3" in line
    assert "fault: cut-half" in line


def test_a_line_without_figures_yet_can_be_shown() -> None:
    assert "p99 –" in status_line({}, phase="warm-up", elapsed_s=0, faults=(), rates=(0, 0))


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
    assert "sent 1,334 (50/s)" in out.getvalue()
    assert "received 26,680 (1,000/s)" in out.getvalue()


def test_quiet_prints_nothing() -> None:
    out = io.StringIO()
    with Progress(Console(file=out), total_s=10, quiet=True) as progress:
        progress.step("target")
        progress.figures(STATS, phase="p", elapsed_s=5, faults=())
    assert out.getvalue() == ""

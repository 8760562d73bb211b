"""The line that tells how far a judgement is."""

from __future__ import annotations

import io

import pytest

from reports.progress import Reporter, Step, bar, line


@pytest.mark.parametrize(
    ("step", "elapsed_s", "said"),
    [
        pytest.param(Step(what="reading"), 3.0, "reading", id="nothing is known"),
        pytest.param(
            Step(what="sorting", rows=2_000, of_rows=8_000),
            2.0,
            "sorting    2,000 of 8,000 records  1,000/s  6 s left",
            id="on the way",
        ),
        pytest.param(
            Step(what="checking", rows=0, of_rows=8_000, parts=0, of_parts=4),
            0.0,
            "checking   0 of 4 parts  0 of 8,000 records",
            id="just begun",
        ),
        pytest.param(
            Step(what="checking", rows=8_000, of_rows=8_000, parts=4, of_parts=4),
            4.0,
            "checking   4 of 4 parts  8,000 of 8,000 records  2,000/s",
            id="done",
        ),
        pytest.param(
            Step(what="checking", rows=8_000, of_rows=8_000, parts=1, of_parts=1),
            4.0,
            "checking   8,000 of 8,000 records  2,000/s",
            id="one part is no news",
        ),
    ],
)
def test_a_step_is_told_in_one_line(step: Step, elapsed_s: float, said: str) -> None:
    assert line(step, elapsed_s) == said


@pytest.mark.parametrize(("share", "full"), [(-1.0, 0), (0.0, 0), (0.5, 12), (1.0, 24), (7.0, 24)])
def test_the_bar_has_one_width(share: float, full: int) -> None:
    assert bar(share) == "━" * full + "─" * (24 - full)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def told(out: io.StringIO, times: list[float], steps: list[Step]) -> str:
    """What a reporter writes; one time for each step, and for each step that is over."""
    clock = iter(times)
    with Reporter(out, lambda: next(clock)) as reporter:
        for step in steps:
            reporter(step)
    return out.getvalue()


HALF = Step(what="checking", rows=50, of_rows=100)


def test_a_terminal_has_one_line_that_is_redrawn_and_gone_at_the_end() -> None:
    drawn = told(Terminal(), [0.0, 1.0], [Step(what="checking", of_rows=100), HALF])
    assert "\n" not in drawn
    assert "50 of 100 records  50/s  1 s left" in drawn
    assert drawn.startswith(f"\r{bar(0)} checking")
    assert drawn.endswith("\r\x1b[K")


def test_a_terminal_is_not_redrawn_all_the_time() -> None:
    steps = [Step(what="checking", rows=n, of_rows=100) for n in range(1, 50)]
    assert told(Terminal(), [0.001 * n for n in range(len(steps))], steps).count("checking") == 1


def test_elsewhere_a_step_that_took_its_time_is_a_plain_line_when_it_is_over() -> None:
    steps = [Step(what="reading"), HALF, Step(what="writing")]
    written = told(io.StringIO(), [0.0, 9.0, 9.0, 15.0, 15.0, 30.0], steps)
    assert written == "checking   50 of 100 records  8/s  6 s left  6.0 s\n"


def test_short_runs_leave_no_lines() -> None:
    assert told(io.StringIO(), [0.0, 1.0], [HALF]) == ""

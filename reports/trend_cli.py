"""``chatproof trend``: when a figure changed, over many runs of one scenario."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import click

from reports import trend_page
from reports.baseline import MOST_TEXT
from reports.change_points import LEAST_RUNS, PERMUTATIONS, SIGNIFICANCE
from reports.escape import for_terminal
from reports.history import HistoryError
from reports.trend import METRICS, RECENT, Left, Limits, NoTrend, Trend, TrendRun, trend
from reports.trend_file import NotUsable, TrendFileError, append, directories, read_file, read_run
from reports.verdict import Exit


class Share(click.ParamType[float]):
    """``5%`` as 0.05."""

    name = "share"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d{1,4}(?:\.\d+)?)\s*%", str(value))
        if match is None:
            self.fail(f"{value!r}: must be a share of what there was, written as 5%", param, ctx)
        return float(match[1]) / 100


@click.command("trend")
@click.argument("run_dirs", metavar="[RUN…]", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--file",
    "file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file with a line a run, which CI keeps between jobs: RUN… is added to it, and all are shown.",
)
@click.option(
    "--label", metavar="TEXT", default="", help="What the RUN was made of, such as its commit; for one RUN."
)
@click.option("--scenario", metavar="NAME", help="Runs of this scenario; else those of the newest run's.")
@click.option(
    "--series",
    metavar="ID",
    help="Runs of this series, as a trend prints it; else the newest run's.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    type=click.Choice(list(METRICS)),
    help="A figure to look at. Repeatable; else all.",
)
@click.option(
    "--min-change",
    type=Share(),
    default="5%",
    show_default=True,
    metavar="SHARE",
    help="A smaller change is not told.",
)
@click.option(
    "--significance",
    default=SIGNIFICANCE,
    show_default=True,
    metavar="P",
    type=click.FloatRange(2 / (PERMUTATIONS + 1), 0.5),
    help="A change with a larger p is chance.",
)
@click.option(
    "--least-runs",
    type=click.IntRange(2, 100),
    default=LEAST_RUNS,
    show_default=True,
    metavar="N",
    help="Runs on each side of a change, at least.",
)
@click.option(
    "--recent",
    type=click.IntRange(min=1),
    default=RECENT,
    show_default=True,
    metavar="N",
    help="A change within the newest N runs is new.",
)
@click.option(
    "--out",
    metavar="DIRECTORY",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where trend.html, trend.md and trend.json go; else none is written.",
)
def trend_command(
    run_dirs: tuple[Path, ...], file: Path | None, label: str, scenario: str | None, series: str | None,
    metrics: tuple[str, ...], min_change: float, significance: float, least_runs: int, recent: int,
    out: Path | None,
) -> None:  # fmt: skip
    """Say when a figure changed, over many runs of one scenario, and whether one got worse lately.

    RUN is a run directory, or a directory that holds some. Each night differs from the last by chance, and a
    slow creep passes every comparison of two: this looks at all of them. Runs that were aborted, are void or
    were planned otherwise are left out, and told with the reason.

    \b
    Exit status: 0 nothing got worse within the newest N runs
                 1 a figure did, by more than --min-change
                 2 there is no run to look at, or FILE cannot be used
    """  # fmt: skip
    if not run_dirs and file is None:
        raise click.UsageError("nothing is given: name run directories, a directory of some, or --file FILE")
    limits = Limits(min_change=min_change, significance=significance, least_runs=least_runs, recent=recent)
    try:
        runs, left = _gathered(run_dirs, label)
        if file is not None:
            runs = _kept(file, runs)
        found = trend(
            runs, limits, scenario=scenario, series=series, metrics=metrics or tuple(METRICS), left=left
        )
    except (HistoryError, TrendFileError, NoTrend, OSError) as bad:
        _refuse(bad)
    click.echo(trend_page.text(found, colour=sys.stdout.isatty()), nl=False)
    if out is not None:
        _write(found, out)
    sys.exit(found.exit)


def _gathered(given: Sequence[Path], label: str) -> tuple[list[TrendRun], list[Left]]:
    """Runs that can be used, and those that cannot, by their directories."""
    dirs = directories(given)
    if label and len(dirs) != 1:
        raise click.UsageError(f"--label is of one run: {len(dirs)} are given")
    if len(label) > MOST_TEXT:
        raise click.UsageError(f"--label has {len(label)} characters: at most {MOST_TEXT} are kept")
    runs, left = [], []
    for run_dir in dirs:
        try:
            runs.append(read_run(run_dir, label=label))
        except NotUsable as why:
            left.append(Left(run_dir.name, str(why)))
    return runs, left


def _kept(file: Path, runs: Sequence[TrendRun]) -> list[TrendRun]:
    """The runs of the file, to which ``runs`` were added; what was read of a directory replaces its line."""
    kept = append(file, runs)[0] if runs else read_file(file)
    labels = {run.run_id: run.label for run in kept.runs}
    return [*kept.runs, *(replace(run, label=run.label or labels.get(run.run_id, "")) for run in runs)]


def _refuse(bad: Exception) -> NoReturn:
    lines = str(bad).splitlines()
    if isinstance(bad, NoTrend):
        lines += [f"{each.name} {each.why}" for each in bad.left[:40]]
    for told in lines:
        click.echo(for_terminal(f"error: {told}"), err=True)
    sys.exit(Exit.USAGE)


def _write(found: Trend, out: Path) -> None:
    made = {
        "trend.html": trend_page.page(found),
        "trend.md": trend_page.document(found),
        "trend.json": json.dumps(trend_page.as_json(found), indent=1, ensure_ascii=False) + "\n",
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, text in made.items():
        (out / name).write_text(text, encoding="utf-8")
    click.echo(f"\n  page  {for_terminal(str(out / 'trend.html'))}")

"""Commands that read run directories, for ``chatproof`` to mount."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click

from reports import compare_page
from reports.baseline import read_baseline
from reports.checks.replay import findings_of
from reports.compare import LEAST, MOST, as_json, read_side
from reports.compare import compare as side_by_side
from reports.escape import for_terminal
from reports.evaluate import GateVerdict
from reports.excerpts import about
from reports.gates import GatesError
from reports.history import HistoryError, open_history
from reports.pipeline import Outcome, report_run
from reports.progress import Reporter
from reports.render import text
from reports.stories import stories
from reports.verdict import Exit, failure

_RUN = click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
_GATES = click.option(
    "--gates",
    "gates_file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="TOML file whose gates are added; one with the id of a scenario's gate takes its place.",
)


@click.command()
@_RUN
@_GATES
@click.option(
    "--baseline",
    "baseline_dir",
    metavar="RUN0",
    type=click.Path(path_type=Path),
    help="Another run that was judged: shown beside this one. Only read; no verdict hangs on it.",
)
def report(run_dir: Path, gates_file: Path | None, baseline_dir: Path | None) -> None:
    """Judge the run in RUN again and write its report.

    Reads only RUN, and RUN0 if there is one, so an old run can be judged by new checks and other gates.

    \b
    Exit status: 0 valid and all gates hold    1 a threshold gate failed
                 2 RUN or FILE cannot be used  3 integrity: a message was lost, repeated …
                 4 unknown                     5 void: the harness was the limit
    """
    outcome = _judged(run_dir, gates_file, baseline_dir)
    click.echo(text(outcome, colour=sys.stdout.isatty()), nl=False)
    sys.exit(outcome.exit)


@click.command()
@_RUN
@_GATES
def gate(run_dir: Path, gates_file: Path | None) -> None:
    """Judge the gates of the run in RUN and print one line a gate.

    Exit status as of ``report``.
    """
    outcome = _judged(run_dir, gates_file)
    for result in outcome.gates:
        note = (
            failure(result)
            if result.verdict is not GateVerdict.PASS
            else f"{result.metric} {result.condition}"
        )
        click.echo(f"{result.verdict!s:<8}{result.id}  {note}".replace("\u00a0", " "))
    click.echo(outcome.sentence.replace("\u00a0", " "))
    sys.exit(outcome.exit)


@click.command()
@click.argument("run_dirs", metavar="RUN RUN…", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--out",
    metavar="DIRECTORY",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Where compare.html, compare.md and compare.json go.",
)
def compare(run_dirs: tuple[Path, ...], out: Path) -> None:
    """Show 2 to 8 runs side by side: what differs in their scenarios, and what came of it.

    Reads only; nothing is judged. To know whether one side is worse than another, use ``chatproof ab``.

    Exit status: 0 shown; 2 a RUN cannot be used.
    """
    if not LEAST <= len(run_dirs) <= MOST:
        raise click.UsageError(f"{len(run_dirs)} runs are given: name {LEAST} to {MOST} run directories")
    sides, faults = [], []
    for run_dir in run_dirs:
        try:
            sides.append(read_side(run_dir))
        except HistoryError as bad:
            faults.append(str(bad))
    if faults:
        for line in faults:
            click.echo(f"error: {line}", err=True)
        sys.exit(Exit.USAGE)
    found = side_by_side(sides)
    out.mkdir(parents=True, exist_ok=True)
    made = {
        "compare.html": compare_page.page(found),
        "compare.md": compare_page.document(found),
        "compare.json": json.dumps(as_json(found), indent=1, ensure_ascii=False) + "\n",
    }
    for name, text_ in made.items():
        (out / name).write_text(text_, encoding="utf-8")
    click.echo(compare_page.text(found) + f"\n  page  {out / 'compare.html'}")


@click.command()
@click.argument("excerpt", metavar="EXCERPT", type=click.Path(path_type=Path))
def replay(excerpt: Path) -> None:
    """Judge the excerpt of one finding, in RUN/analysis/excerpts, and show the finding again.

    An excerpt has only the records that its finding needs, so it is judged by that class alone.

    \b
    Exit status: 3 the finding is there again    4 it is not
                 2 EXCERPT cannot be used, or is not an excerpt
    """
    try:
        history = open_history(excerpt)
        said = about(history.run)
        if said is None:
            raise HistoryError(f"{excerpt}: not an excerpt: judge a whole run with `chatproof report`")
        found = [f for f in findings_of(history, said[0]) if f.sentence == said[1]]
        told = stories(history, found)
    except HistoryError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(Exit.USAGE)
    for finding in found:
        click.echo(for_terminal(f"{finding.cls}: {finding.sentence}"))
        for line in (line for story in told.values() for line in story.lines):
            click.echo(for_terminal(f"  {line.at_s:>10,.3f} s  {line.who:<10} {line.what}  {line.place}"))
    if not found:
        click.echo(for_terminal(f"{said[0]} does not find again: {said[1]}"))
    sys.exit(Exit.INTEGRITY if found else Exit.UNKNOWN)


def _judged(run_dir: Path, gates_file: Path | None, baseline_dir: Path | None = None) -> Outcome:
    try:
        beside = None if baseline_dir is None else read_baseline(baseline_dir)
        with Reporter(sys.stderr, time.monotonic) as told:
            return report_run(run_dir, gates_file=gates_file, progress=told, baseline=beside)
    except (HistoryError, GatesError) as error:
        for line in str(error).splitlines():
            click.echo(f"error: {line}", err=True)
        sys.exit(Exit.USAGE)

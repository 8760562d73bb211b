"""`make mutants`: every mutant in a real run, one line each; not 0 when one is missed, or accused of more."""

from __future__ import annotations

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from tests.mutants.frames import FRAME_RUNS
from tests.mutants.judge import ROOT, Outcome, carry_out
from tests.mutants.nodes import NODE_RUNS
from tests.mutants.runs import RUNS

HEAD = f"{'':<5}{'mutant':<24}{'must':<9}{'fired':>6}  {'of':>9}  {'found':<28}{'seconds':>7}  verdict"


@click.command()
@click.argument("names", nargs=-1)
@click.option("--frames", is_flag=True, help="Only those in which the proxy changes messages.")
@click.option("--nodes", is_flag=True, help="Only those with two nodes, one of them broken.")
@click.option("--jobs", default=1, show_default=True, help="Runs at a time; more than one may void some.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=ROOT / "runs/mutants",
    help="What went wrong is kept there.",
)
def main(names: tuple[str, ...], frames: bool, nodes: bool, jobs: int, out: Path) -> None:
    """Run the mutants NAMES (all of them but those of several nodes) and say of each what was found."""
    runs = {**RUNS, **FRAME_RUNS, **NODE_RUNS}
    if unknown := [name for name in names if name not in runs]:
        raise click.UsageError(f"{', '.join(unknown)}: known are {', '.join(runs)}")
    chosen = names or (NODE_RUNS if nodes else FRAME_RUNS if frames else [*RUNS, *FRAME_RUNS])
    click.echo(HEAD)
    with ThreadPoolExecutor(jobs) as pool:
        outcomes = list(map(_told, pool.map(lambda name: carry_out(name, runs[name], out / name), chosen)))
    wrong = [outcome for outcome in outcomes if outcome.wrong]
    spent_s = sum(outcome.seconds for outcome in outcomes)
    click.echo(f"\n{len(outcomes) - len(wrong)} of {len(outcomes)} as they should, {spent_s:.0f} s")
    if wrong:
        click.echo(f"What the others left is in {out}")
    elif not names:
        shutil.rmtree(out, ignore_errors=True)
    sys.exit(bool(wrong))


def _told(outcome: Outcome) -> Outcome:
    found = ", ".join(f"{cls} {count}" for cls, count in sorted(outcome.counts.items())) or "nothing"
    run, must = outcome.run, " ".join(sorted(outcome.run.must)) or "nothing"
    click.echo(
        f"{run.named:<5}{outcome.name:<24}{must:<9}{outcome.fired:>6}  {outcome.deliveries:>9,}  "
        f"{found:<28}{outcome.seconds:>7.1f}  {outcome.verdict}"
    )
    return outcome


main()

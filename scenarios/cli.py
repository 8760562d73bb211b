"""The `chatproof` command: thin, each command parses, calls and exits with a named status."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from textwrap import fill
from typing import Literal

import click
from rich.console import Console

from chaos.proxy.cli import proxy
from loadgen.cli import COLUMNS, prediction_text
from loadgen.cli import load as load_command
from loadgen.drivers import DriverError
from loadgen.drivers.foreign import VARIABLE, declare
from reports.baseline import Baseline, read_baseline
from reports.cli import compare, gate, replay, report
from reports.history import HistoryError
from reports.scaling_cli import scaling
from reports.trend_cli import trend_command
from reports.verdict import Exit

from . import away
from . import doctor as doctor_checks
from .commands import Commands
from .load import Page
from .model import Scenario, bundled_files, find, load

EXIT_HELP = """\b
Exit status: 0 pass; 1 a threshold gate failed; 2 usage or scenario error;
3 integrity: a promise was broken; 4 unknown: not enough evidence;
5 void: the harness was at fault; 70 internal error; 130 interrupted."""
CAPACITY_HELP = """\b
Exit status: 0 found and confirmed; 2 usage or scenario error; 3 a promise was broken at some load;
4 nothing held, or it was not confirmed; 130 interrupted."""
AB_HELP = """\b
Exit status: 0 not worse; 1 a regression gate failed; 2 usage or scenario error; 3 a side breaks a
promise; 4 undecided after --max-pairs; 5 void again and again; 130 interrupted."""


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="chatproof", prog_name="chatproof")
@click.option(
    "--driver",
    "drivers",
    multiple=True,
    metavar="FILE.py:CLASS",
    help="A load driver of your own, or MODULE:CLASS. Its code is run; a scenario only names it. Repeatable.",
)
def main(drivers: tuple[str, ...]) -> None:
    """Load a chat system, break its network and its processes, prove what arrived."""
    try:
        declare(drivers or os.environ.get(VARIABLE, "").split(","))
    except DriverError as wrong:
        raise click.UsageError(str(wrong)) from None
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a log file or a pipe sees progress as it is made


def scenario_options(command: click.decorators.FC) -> click.decorators.FC:
    """Options of every command that reads a scenario."""
    for option in (
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE",
                     help="Override one key, as in --set workload.clients=50. Repeatable."),
        click.option("--seed", type=click.IntRange(min=0), help="Another seed: other arrivals and times."),
        click.option("--scale", type=click.FloatRange(min=0, min_open=True), metavar="N",
                     help="Multiply clients, rates and rooms by N."),
        click.option("--allow-target", "allow_targets", multiple=True, metavar="HOST",
                     help="Allow load and faults to a host of yours besides loopback. Repeatable."),
    ):  # fmt: skip
        command = option(command)
    return command


out_option = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Where run directories go.",
)
workers_option = click.option(
    "--workers",
    type=click.IntRange(min=1, max=64),
    default=os.cpu_count() or 1,
    show_default=True,
    help="Load worker processes.",
)
gates_option = click.option(
    "--gates",
    "gates_file",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help="A TOML file of [[gate]] tables, added to the scenario's.",
)


swarm_option = click.option(
    "--swarm", "swarm_seed", type=click.IntRange(min=0), metavar="SEED",
    help="Draw the faults by this seed, in the place of those that are written.",
)  # fmt: skip


def away_options(command: click.decorators.FC) -> click.decorators.FC:
    """Options of a run whose load comes from other hosts."""
    for option in (
        click.option("--expect-workers", type=click.IntRange(1, 1024), metavar="N",
                     help="Load from other hosts: wait for N workers, started by `chatproof load --worker`."),
        click.option("--bind-host", default="127.0.0.1", show_default=True,
                     help="Address that they dial. Nobody logs in there: a private network or a tunnel."),
        click.option("--bind-port", type=click.IntRange(0, 65535), default=away.PORT, show_default=True,
                     help="Its port; 0: any free one."),
        click.option("--wait-s", type=click.FloatRange(min=1), default=300.0, show_default=True,
                     help="How long they are waited for, seconds."),
    ):  # fmt: skip
        command = option(command)
    return command


def read_scenario(
    name: str,
    overrides: tuple[str, ...],
    seed: int | None,
    scale: float | None,
    allow_targets: tuple[str, ...],
    swarm_seed: int | None = None,
) -> Scenario:
    """The scenario that the options of a command ask for."""
    return load(
        find(name),
        overrides=with_options(overrides, seed, scale),
        allow_targets=allow_targets,
        swarm_seed=swarm_seed,
    )


def read_page(host: str, port: int, login_file: Path | None) -> Page:
    """Where Locust's page goes, or end with status 2 where it cannot, or would be open to strangers."""
    from loadgen.page import PageError, read_login, try_address

    try:
        read_login(login_file, host)
        try_address(host, port)
    except PageError as wrong:
        click.echo(str(wrong), err=True)
        sys.exit(Exit.USAGE)
    return Page(host, port, login_file)


def read_other(run_dir: Path) -> Baseline:
    """The run to be shown beside one that is about to be made, or end with status 2."""
    try:
        return read_baseline(run_dir)
    except HistoryError as wrong:
        click.echo(f"error: {wrong}", err=True)
        sys.exit(Exit.USAGE)


def with_options(overrides: tuple[str, ...], seed: int | None, scale: float | None) -> tuple[str, ...]:
    """The overrides, and what the options of their own come to."""
    options = {"seed": seed, "scale": scale}
    return (*overrides, *(f"{key}={value}" for key, value in options.items() if value is not None))


@main.command(epilog=EXIT_HELP)
@click.argument("scenario")
@scenario_options
@swarm_option
@out_option
@workers_option
@away_options
@gates_option
@click.option(
    "--baseline",
    "baseline_dir",
    metavar="RUN",
    type=click.Path(path_type=Path),
    help="A run that was judged: shown beside this one in its report. Only read; no verdict hangs on it.",
)
@click.option(
    "--ui",
    is_flag=True,
    help="Serve Locust's web page; no gate is then judged, and only a broken promise (3) is no pass.",
)
@click.option("--ui-host", default=Page().host, show_default=True, help="What the page listens on.")
@click.option(
    "--ui-port", type=click.IntRange(0, 65535), default=0, help="Its port; 0, the default: any free one."
)
@click.option(
    "--ui-login-file",
    type=click.Path(path_type=Path),
    help="One line, user:password. The page needs it off loopback.",
)
@click.option("--json", "as_json", is_flag=True, help="Print summary.json instead of text.")
@click.option("--quiet", is_flag=True, help="Print the verdict only.")
def run(
    scenario: str,
    overrides: tuple[str, ...],
    seed: int | None,
    scale: float | None,
    allow_targets: tuple[str, ...],
    swarm_seed: int | None,
    out: Path,
    workers: int,
    expect_workers: int | None,
    bind_host: str,
    bind_port: int,
    wait_s: float,
    gates_file: Path | None,
    baseline_dir: Path | None,
    ui: bool,
    ui_host: str,
    ui_port: int,
    ui_login_file: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:  # fmt: skip
    """Run SCENARIO: a name from `chatproof list`, or a path to a TOML file.

    Starts the server, the fault proxy and the load, each a process; injects the faults;
    heals; reads everything back; checks; reports. The run directory is runs/latest.
    """
    from .run import Options, run_scenario

    chosen = read_scenario(scenario, overrides, seed, scale, allow_targets, swarm_seed)
    if not ui and (ui_port or ui_login_file or ui_host != Page().host):
        raise click.UsageError("--ui-host, --ui-port and --ui-login-file are of the page: say --ui as well")
    page = read_page(ui_host, ui_port, ui_login_file) if ui else None
    beside = read_other(baseline_dir) if baseline_dir else None  # `latest` will be another in a moment
    elsewhere = away.Away(expect_workers, bind_host, bind_port, wait_s) if expect_workers else None
    options = Options(
        out=out, workers=workers, away=elsewhere, gates_file=gates_file, baseline=beside, page=page,
        as_json=as_json, quiet=quiet or as_json, allow_targets=allow_targets,
    )  # fmt: skip
    sys.exit(run_scenario(chosen, options, Console(stderr=as_json, highlight=False)))


@main.command(epilog=AB_HELP)
@click.argument("a")
@click.argument("b")
@scenario_options
@out_option
@workers_option
@gates_option
@click.option(
    "--pairs", type=click.IntRange(min=2, max=50), help="Runs a side at first; the gates' own by default."
)
@click.option(
    "--max-pairs",
    type=click.IntRange(min=2, max=50),
    default=10,
    show_default=True,
    help="Runs a side at most, while a gate is undecided.",
)
def ab(
    a: str, b: str, overrides: tuple[str, ...], seed: int | None, scale: float | None,
    allow_targets: tuple[str, ...], out: Path, workers: int, gates_file: Path | None, pairs: int | None,
    max_pairs: int,
) -> None:  # fmt: skip
    """Is B worse than A? Runs both in turn and compares them run by run.

    A and B are scenarios (a name or a TOML file), or overlays: TOML files with `scenario = "NAME"` that
    hold only what differs, such as server.command or server.url. What is compared are the gates of kind
    "regression" of B and of --gates; without any, CPU a delivery and the p50 and p99 of delivery.
    """
    from .ab import read_side, regressions_for, run_ab
    from .run import Options

    chosen = with_options(overrides, seed, scale)
    left, right = (read_side(side, overrides=chosen, allow_targets=allow_targets) for side in (a, b))
    gates = regressions_for(left, right, gates_file)
    options = Options(out=out, workers=workers, quiet=True, allow_targets=allow_targets)
    console = Console(highlight=False)
    first = pairs or max(gate.pairs for gate in gates)
    most = max(first, max_pairs)
    sys.exit(run_ab(left, right, gates, options, console, pairs=first, max_pairs=most))


@main.command(epilog=CAPACITY_HELP)
@click.argument("scenario", default="capacity")
@scenario_options
@out_option
@workers_option
@click.option(
    "--vary",
    type=click.Choice(["rate", "clients"]),
    default="rate",
    show_default=True,
    help="What grows: messages a second, or clients (each as busy as before).",
)
@click.option(
    "--start",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="The first load, as a multiple of the scenario's own.",
)
@click.option(
    "--cap",
    type=click.FloatRange(min=0, min_open=True),
    default=100.0,
    show_default=True,
    help="The highest load that is tried.",
)
@click.option(
    "--budget", type=click.IntRange(min=2, max=500), default=60, show_default=True, help="Runs at most."
)
@click.option(
    "--soak-s",
    type=click.FloatRange(min=5),
    default=60.0,
    show_default=True,
    help="Length of the run that confirms, seconds.",
)
@click.option(
    "--peak",
    type=float,
    metavar="DELIVERIES/S",
    help="Plan nodes for this peak.",
)
@click.option(
    "--growth",
    type=float,
    default=0.3,
    show_default=True,
    help="On top of the peak, as a ratio.",
)
@click.option(
    "--spare",
    type=int,
    default=1,
    show_default=True,
    help="Nodes that may fail at the peak.",
)
@click.option(
    "--prices",
    "prices_file",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help='A TOML file with the price of a node: [node] per_hour = 0.34, currency = "EUR".',
)
def capacity(
    scenario: str, overrides: tuple[str, ...], seed: int | None, scale: float | None,
    allow_targets: tuple[str, ...], out: Path, workers: int, vary: Literal["rate", "clients"],
    start: float, cap: float, budget: int, soak_s: float, peak: float | None, growth: float, spare: int,
    prices_file: Path | None,
) -> None:  # fmt: skip
    """How much can the system take, and what does it need? Searches for the highest load of SCENARIO
    at which its gates hold, confirms it with a longer run, and plans nodes for --peak.

    Writes capacity.md and capacity.json into --out, and a section into the page of the longer run.
    """
    from .run import Options
    from .search import Question, run_search, to_plan

    need, price = to_plan(peak, growth, spare, prices_file)
    chosen = read_scenario(scenario, overrides, seed, scale, allow_targets)
    question = Question(vary=vary, start=start, cap=cap, budget=budget, soak_s=soak_s, need=need, price=price)
    options = Options(out=out, workers=workers, quiet=True, allow_targets=allow_targets)
    sys.exit(run_search(chosen, question, options, Console(highlight=False)))


@main.command()
@click.argument("scenario")
@scenario_options
@swarm_option
def plan(
    scenario: str,
    overrides: tuple[str, ...],
    seed: int | None,
    scale: float | None,
    allow_targets: tuple[str, ...],
    swarm_seed: int | None,
) -> None:
    """Print what SCENARIO would do: predicted load and the faults, and send nothing."""
    from .run import fault_table, make_fault_plan

    chosen = read_scenario(scenario, overrides, seed, scale, allow_targets, swarm_seed)
    click.echo(fill(f"{chosen.name}: {chosen.why}", COLUMNS, break_long_words=False) + "\n")
    click.echo(prediction_text(chosen.workload, chosen.seed, retain_n=chosen.server.retain_n))
    click.echo()
    click.echo(fault_table(make_fault_plan(chosen)))


@main.command(epilog=EXIT_HELP)
@click.argument("scenario", default="swarm")
@click.option("--seeds", type=click.IntRange(min=1), default=50, show_default=True, help="How many.")
@click.option("--first", type=click.IntRange(min=0), default=1, show_default=True, help="The first one.")
@out_option
@workers_option
def soak(scenario: str, seeds: int, first: int, out: Path, workers: int) -> None:
    """Run SCENARIO under one swarm plan of faults after another, and say what came of each seed."""
    from .run import Options, run_once
    from .soak import closing, status, write
    from .soak import soak as soak_seeds

    console = Console(stderr=True, highlight=False)
    options = Options(out=out, workers=workers, quiet=True)
    rows, interrupted = soak_seeds(
        scenario, range(first, first + seeds), lambda one: run_once(one, options, console), click.echo
    )
    click.echo(closing(rows))
    if rows:
        click.echo(f"rows: {write(out, rows)}")
    sys.exit(Exit.INTERRUPTED if interrupted else status(rows))


@main.command(epilog=EXIT_HELP)
@click.argument("run_dir", metavar="RUN", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--budget", type=click.IntRange(min=2), default=30, show_default=True, help="Most runs.")
@click.option(
    "--repeat", type=click.IntRange(min=1), default=1, show_default=True,
    help="Runs without the anomaly, until a part of the plan counts as harmless.",
)  # fmt: skip
@click.option(
    "--class", "classes", multiple=True, metavar="CLASS", help="Look for this one only. Repeatable."
)
@click.option(
    "--to", type=click.Path(dir_okay=False, path_type=Path), default=Path("minimal.toml"), show_default=True,
    help="Where the smallest scenario goes.",
)  # fmt: skip
@out_option
@workers_option
def minimise(
    run_dir: Path, budget: int, repeat: int, classes: tuple[str, ...], to: Path, out: Path, workers: int
) -> None:
    """Find the smallest plan of faults that shows the same anomalies as the failed run in RUN.

    Reruns parts of its plan: fewer faults, then shorter leases. Ends with 0 when a plan was found, and
    with 4 when the whole plan did not fail again.
    """
    from .minimise import NothingToMinimise, Trial, closing, read_failed, write
    from .minimise import minimise as search
    from .run import Options, run_once

    console = Console(stderr=True, highlight=False)
    options = Options(out=out, workers=workers, quiet=True)
    try:
        failed = read_failed(run_dir, classes=classes)
        trial = Trial(failed, lambda one: run_once(one, options, console), click.echo, budget, repeat)
        click.echo(f"looking for {', '.join(failed.classes)} with {len(failed.faults)} faults")
        found = search(failed, trial)
    except NothingToMinimise as wrong:
        click.echo(str(wrong), err=True)
        sys.exit(Exit.USAGE)
    if found is not None:
        write(failed, found, to)
    click.echo(closing(failed, found, trial))
    sys.exit(Exit.INTERRUPTED if trial.interrupted else Exit.UNKNOWN if found is None else Exit.PASS)


@main.command("list")
def list_scenarios() -> None:
    """List the scenarios that come with chatproof, each with the question it answers."""
    for path in bundled_files():
        click.echo(f"{path.stem:<18} {load(path).why}")


@main.command()
def doctor() -> None:
    """Say whether this machine can run loads that can be believed, and what to mend."""
    results = doctor_checks.examine()
    for result in results:
        click.echo(f"{'ok  ' if result.ok else 'LOOK'}  {result.what:<22} {result.found}")
        if not result.ok:
            aside = " " * 31
            click.echo(
                fill(
                    result.remedy, COLUMNS, initial_indent=f"{aside[:-2]}→ ", subsequent_indent=aside,
                    break_long_words=False, break_on_hyphens=False,
                )
            )  # fmt: skip
    sys.exit(Exit.PASS if all(result.ok or result.optional for result in results) else Exit.USAGE)


main.add_command(load_command)
main.add_command(proxy)
main.add_command(report)
main.add_command(gate)
main.add_command(compare)
main.add_command(trend_command)
main.add_command(replay)
main.add_command(scaling)

"""One run, from a scenario to a verdict.

The order is the whole idea: start the target, the proxy and the load; walk the plan;
heal; settle; sentinels; drain; final reads; seal; check; report. Whatever happens
(Ctrl-C, an exception, a child that dies), faults are reverted, records are closed and
children end; what was recorded by then is still judged.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import fill
from types import FrameType

import click
from rich.console import Console

from chaos.plan import PROCESSES, Plan, make_plan
from loadgen.cli import COLUMNS, prediction_text
from reports.baseline import Baseline
from reports.gates import Gate, load_gates
from reports.pipeline import Outcome, report_run
from reports.progress import Reporter
from reports.render import text as summary_text
from reports.verdict import Exit

from .away import Away, number_of
from .balancer import lacking
from .live import Progress
from .load import Page
from .model import Scenario, ScenarioError, gate_misfits
from .ready import StageFailed
from .rundir import RunDirectory
from .stage import Stage


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM: leave by the ordinary way out, where no ``except Exception`` may hold it up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to run, as opposed to what."""

    out: Path = Path("runs")
    workers: int = 2
    away: Away | None = None
    """Workers that come from other hosts, in the place of ``workers`` of our own."""
    gates_file: Path | None = None
    baseline: Baseline | None = None
    """Another run, shown beside this one."""
    page: Page | None = None
    """Locust's web page, if it is served."""
    as_json: bool = False
    quiet: bool = False
    allow_targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ran:
    """A run that has ended, judged. ``interrupted``: by a signal; it is judged all the same."""

    path: Path
    outcome: Outcome
    interrupted: bool


def run_scenario(scenario: Scenario, options: Options, console: Console) -> int:
    """Run a scenario, print its verdict and return the exit status (ARCHITECTURE.md § Words for outcomes).

    Raises:
        GatesError, ScenarioError: the gates file cannot be used with this scenario; nothing was started.
    """
    ran = run_once(scenario, options, console)
    if options.as_json:
        click.echo(json.dumps(ran.outcome.summary, indent=1, ensure_ascii=False))
    else:
        click.echo(summary_text(ran.outcome, colour=sys.stdout.isatty()))
    if ran.interrupted:
        return Exit.INTERRUPTED
    by_hand = options.page is not None and ran.outcome.summary["status"] == "complete"
    return steered(ran.outcome.exit) if by_hand else ran.outcome.exit


def steered(found: int) -> int:
    """Exit status of a run that somebody steered by hand and that came to its end.

    Nothing is asked of such a load: no gate, no prediction, no lag, no effect of a fault. A promise that was
    broken is broken under any load.
    """
    return Exit.INTEGRITY if found == Exit.INTEGRITY else Exit.PASS


def run_once(scenario: Scenario, options: Options, console: Console, *, probes: Sequence[Gate] = ()) -> Ran:
    """Run a scenario and judge it; prints progress only.

    Args:
        probes: figures to measure besides, into ``Outcome.probes``.
    Raises:
        GatesError, ScenarioError: the gates file cannot be used with this scenario; nothing was started.
    """
    if options.gates_file:  # its faults are told now, not after a minute of load
        gates = load_gates(options.gates_file)
        if lines := gate_misfits(gates, scenario.workload, scenario.faults):
            raise ScenarioError([f"{options.gates_file}: {line}" for line in lines])
    plan = make_fault_plan(scenario)
    if options.away is None:
        lines = worker_misfits(plan, options.workers)
    else:
        lines = options.away.misfits(scenario.server, scenario.workload, plan, options.allow_targets)
    lines += lacking(scenario.server)
    if lines:
        raise ScenarioError(lines)
    allow_many_sockets()
    say: Callable[[str], None] = (lambda _: None) if options.quiet else partial(console.print, soft_wrap=True)
    say(f"{scenario.name} (seed {scenario.seed})\n{fill(scenario.why, COLUMNS)}\n")
    say(prediction_text(scenario.workload, scenario.seed, retain_n=scenario.server.retain_n) + "\n")
    options.out.mkdir(parents=True, exist_ok=True)
    rundir = RunDirectory(options.out, scenario.name)
    interrupted = False
    with catch_signals() as signals:
        try:
            perform(scenario, plan, options, rundir, console)
        except StageFailed as failed:
            rundir.problem(str(failed), void=True)
        except Interrupted:
            interrupted = True
            rundir.problem("interrupted before its end", void=True)
            say("Interrupted: faults are reverted and every process has ended; judging what was recorded.")
        finally:
            rundir.finish("aborted" if rundir.manifest.get("phase_reached") != "end" else "complete")
        signals.restore()  # a second Ctrl-C may end the report
        with Reporter(console.file, time.monotonic) as told:
            outcome = report_run(
                rundir.path,
                gates_file=options.gates_file,
                probes=probes,
                progress=None if options.quiet else told,
                baseline=options.baseline,
            )
    return Ran(rundir.path, outcome, interrupted)


def progress_of(scenario: Scenario, options: Options, console: Console) -> Progress:
    names = [phase.name for phase in scenario.workload.phase]
    return Progress(console, total_s=scenario.duration_s, phases=names, quiet=options.quiet)


def perform(scenario: Scenario, plan: Plan, options: Options, rundir: RunDirectory, console: Console) -> None:
    """Everything of a run that has processes in it; returns when all of them have ended."""
    with ExitStack() as stack:
        progress = stack.enter_context(progress_of(scenario, options, console))
        stage = Stage(
            scenario, plan, rundir, progress, stack, allow_targets=options.allow_targets, away=options.away
        )
        stage.start_target()
        workers = options.away.workers if options.away else options.workers
        stage.start_load(workers=workers, page=options.page)
        stage.walk_plan()
        stage.heal_and_settle()
        stage.drain()
        stage.read_back()
        stage.reached("end")


class catch_signals:
    """SIGINT and SIGTERM raise ``Interrupted`` once; until ``restore``, further ones are ignored."""

    def __enter__(self) -> catch_signals:
        self._before = {
            number: signal.signal(number, self._raise) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def _raise(self, number: int, frame: FrameType | None) -> None:
        for each in self._before:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted

    def restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __exit__(self, *exc: object) -> None:
        self.restore()


def make_fault_plan(scenario: Scenario) -> Plan:
    """The faults of a scenario, with times and targets fixed by its seed."""
    return make_plan(
        scenario.faults,
        seed=scenario.seed,
        clients=scenario.workload.clients,
        phases=scenario.workload.phase,
        proxies=scenario.layout.proxies,
        processes=scenario.layout.processes or PROCESSES,
        balanced=scenario.workload.balance != "fixed",
    )


def worker_misfits(plan: Plan, workers: int) -> list[str]:
    """Faults that aim at a load worker which the run does not have, a line each."""
    return [
        f"fault {fault!r}: target is {name!r}: must be at most worker-{workers}, the last one that the run "
        f"starts; aim at another, or say --workers {number_of(name)}"
        for fault, name in plan.workers().items()
        if number_of(name) > workers
    ]


def fault_table(plan: Plan) -> str:
    """The plan as text, one line a fault."""
    left_out = [f"{fault_id}: left out by its probability" for fault_id in plan.left_out]
    if not plan.faults:
        return "\n".join(["No faults.", *left_out])
    rows = [f"{'fault':<18}{'kind':<12}{'target':<10}{'from':>8}{'until':>9}  clients"]
    for fault in plan.faults:
        start_s, end_s = fault.at_ns / 1e9, (fault.at_ns + fault.duration_ns) / 1e9
        clients = f"{len(fault.ordinals):,}" if fault.ordinals else "all"
        if fault.id in plan.workers():
            clients = "its own"
        rows.append(
            f"{fault.id:<18}{fault.kind:<12}{fault.target:<10}{start_s:>6.1f} s{end_s:>7.1f} s  {clients}"
        )
    return "\n".join([*rows, *left_out])


def allow_many_sockets() -> None:
    """Raise the soft limit of open files to the hard one; children inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

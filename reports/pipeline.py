"""`chatproof report RUN`: from a run directory to its analysis and its report. Idempotent.

seal → checks → latency → effects and recovery → gates → verdict → ``analysis/*`` → ``report/*``.
Everything that is written can be deleted and made again; the same run directory and gates give
the same bytes. Only the run directory is read; nothing outside of it is written, whatever its
files say.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import polars as pl

from reports import figures, hdrlog, plots, render
from reports.analysis import Analysis, promised, summary
from reports.baseline import Baseline, refuse_itself
from reports.catch_up import catch_ups, groups, returns
from reports.checks import run_checks
from reports.checks.result import Integrity
from reports.creep import creep
from reports.effects import FaultEffect, effects
from reports.evaluate import ClassCount, GateResult, Measures, evaluate
from reports.excerpts import excerpts, write_excerpts
from reports.gates import Gate, load_gates, objective_ms, override, parse_gates
from reports.histogram import Histogram
from reports.history import History, HistoryError, open_history
from reports.latency import CLASSES, EVERYTHING, by_channel, by_phase, by_second, histograms_by_second
from reports.metrics import COMBINED
from reports.node_figures import forked_away
from reports.noticing import noticings
from reports.per_node import per_node
from reports.periods import NS, fault_windows, phases, start_ns
from reports.prediction import Held, Offered, held
from reports.progress import Progress, Step
from reports.recovery import recoveries, spans, staged
from reports.rundir import log_files, read_json
from reports.sections import comparison
from reports.sessions import closes, connects, presence, stays
from reports.steady import Probes, read_probes, steady_gate
from reports.stories import stories
from reports.timeline import timeline
from reports.usage import targets, usage
from reports.verdict import ClassVerdict, Judgement, idle_faults, judge, void_reasons

MAX_SAMPLES_BYTES: Final = 256 * 1024 * 1024  # of one metrics file
GATES_VERSION: Final = 1
EXCERPTS: Final = "analysis/excerpts"  # in a run directory


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run came to.

    ``verdict``: of the history. ``void``: why the run cannot be believed. ``exit``: status for
    the shell (``reports.verdict.Exit``). ``summary``: content of analysis/summary.json.
    ``report``: path of report.html. ``examples``: one finding of each class that has any, in words.
    """

    verdict: str
    void: list[str]
    exit: int
    summary: dict[str, Any]
    sentence: str
    report: Path
    gates: tuple[GateResult, ...] = field(default_factory=tuple)
    examples: tuple[str, ...] = ()
    probes: tuple[GateResult, ...] = ()
    baseline: str | None = None  # id of the run that is shown beside it


def report_run(
    run_dir: Path | str,
    *,
    gates_file: Path | None = None,
    probes: Sequence[Gate] = (),
    progress: Progress | None = None,
    baseline: Baseline | None = None,
) -> Outcome:
    """Judge a run directory and write its analysis and report.

    Args:
        gates_file: TOML with ``[[gate]]`` tables that are added to the scenario's, or override them.
        probes: measured into ``Outcome.probes``; no verdict hangs on them.
        progress: called at the start of each step, and while the records are checked.
        baseline: another run, shown beside this one; no verdict hangs on it.
    Raises:
        HistoryError: the directory cannot be read or written, or the baseline is the same run.
        GatesError: gates that cannot be used; every fault of the file at once.
    """
    run_dir = Path(run_dir)
    told = progress or (lambda _: None)
    gates = gates_of(run_dir, gates_file)
    told(Step(what="reading"))
    history = open_history(run_dir)
    if baseline is not None:
        refuse_itself(baseline, run_dir, history.run)
    if history.run.get("interactive"):
        gates = ()  # a load that was steered by hand is no basis for an objective
    integrity = run_checks(history, progress=told, spans=spans(history))
    told(Step(what="measuring"))
    analysis = analyse(
        history,
        integrity,
        gates,
        probes=probes,
        workers=worker_counters(history),
        samples=read_samples(run_dir),
        steady=read_probes(run_dir),
    )
    told(Step(what="writing"))
    made = list(excerpts(history, integrity))
    told_of = {e.finding.sentence: f"{EXCERPTS}/{e.name}" for e in made}
    analysis = replace(analysis, excerpts=told_of, baseline=baseline)
    try:
        write(run_dir, analysis)
        write_excerpts(run_dir / EXCERPTS, made)
    except OSError as error:
        raise HistoryError(f"{error.filename or run_dir}: cannot be written: {error.strerror}") from error
    return _outcome(run_dir, analysis)


def _outcome(run_dir: Path, analysis: Analysis) -> Outcome:
    judged, beside = analysis.judgement, analysis.baseline
    return Outcome(
        verdict=judged.verdict,
        void=list(judged.void),
        exit=int(judged.exit),
        summary=summary(analysis),
        sentence=judged.sentence,
        report=run_dir / "report" / "report.html",
        gates=tuple(analysis.results),
        examples=tuple(
            f"{name}: {c.findings[0].sentence}"
            for name, c in analysis.integrity.classes.items()
            if c.findings
        ),
        probes=tuple(analysis.probed),
        baseline=None if beside is None else beside.made.run_id,
    )


def gates_of(run_dir: Path, gates_file: Path | None = None) -> tuple[Gate, ...]:
    """Gates of config/scenario.toml with those of ``gates_file`` added or in their place.

    Raises:
        GatesError: with every fault of the first file that has one.
    """
    path = run_dir / "config" / "scenario.toml"
    own: tuple[Gate, ...] = ()
    if path.is_file() and not path.is_symlink():
        try:
            scenario = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise HistoryError(f"{path}: cannot be read as TOML: {error}") from None
        own = parse_gates({"gate": scenario.get("gate", [])}, source=str(path))
    return override(own, load_gates(gates_file)) if gates_file else own


def analyse(
    history: History,
    integrity: Integrity,
    gates: Sequence[Gate],
    *,
    probes: Sequence[Gate] = (),
    workers: Sequence[Mapping[str, Any]] = (),
    samples: Mapping[str, pl.DataFrame] | None = None,
    steady: Probes = (),
) -> Analysis:
    """Measure and judge a history. Reads the history, writes nothing."""
    closed, stayed, counted = closes(history), stays(history), by_second(history)
    present = presence(history, stayed)
    intervals = timeline(history, counted, present)
    found = effects(history, closed, (samples or {}).get("chatd"))
    mended = staged(history, recoveries(history, closed, stayed), intervals, objective_ms(gates))
    caught_up = catch_ups(history, closed)
    processes, tested = (samples or {}).get("processes"), targets(history.faults)
    spent = usage(processes, intervals, phases(history.run), zero_ns=start_ns(history.run), targets=tested)
    measures = Measures(
        history=history,
        classes={n: ClassCount(c.count, c.unknown, c.promised) for n, c in integrity.classes.items()},
        recoveries=mended,
        intervals=intervals,
        coverage=integrity.coverage.figures(),
        workers=workers,
        returns=returns(caught_up),
        others=groups(history, caught_up) if caught_up.height else None,
        usage=spent,
        creep=creep(intervals, processes, tested, zero_ns=start_ns(history.run)),
        noticed=noticings(history, closed),
    )
    results = [*evaluate(gates, measures), *steady_gate(steady)]
    predicted = held(history.run, workers, _offered(history, integrity))
    judgement = _judgement(history, integrity, found, gates, results, workers, predicted)
    return Analysis(
        history=history,
        integrity=integrity,
        latency={name: measures.histogram(name, EVERYTHING) for name in CLASSES},
        seconds=counted,
        channels=by_channel(history),
        phase_latency=by_phase(history),
        intervals=intervals,
        presence=present,
        effects=found,
        recoveries=mended,
        gates=gates,
        results=results,
        probed=evaluate(probes, measures),
        usage=spent,
        nodes=per_node(history, samples or {}, spent, length_s=intervals.height),
        workers=workers,
        judgement=judgement,
        predicted=predicted,
        samples=samples or {},
        steadiness=steady,
        stories=stories(history, (f for c in integrity.classes.values() for f in c.findings)),
    )


def _judgement(
    history: History,
    integrity: Integrity,
    found: Sequence[FaultEffect],
    gates: Sequence[Gate],
    results: Sequence[GateResult],
    workers: Sequence[Mapping[str, Any]],
    predicted: Sequence[Held],
) -> Judgement:
    covered = integrity.coverage
    return judge(
        checked=str(integrity.verdict),
        check_reasons=integrity.reasons,
        classes=[
            ClassVerdict(name=c.cls, title=c.title, count=c.count, gated=c.gated, unknown=c.unknown)
            for c in integrity.classes.values()
            if c.promised
        ],
        idle=idle_faults(found, aborted=history.run.get("status") != "complete"),
        results=results,
        void=void_reasons(
            history.run,
            log_faults=history.ingest.reasons(),
            lost_records=covered.lost_log,
            workers=workers,
            faults=history.faults,
            gates=gates,
            missed=[figure.sentence for figure in predicted if not figure.holds],
        ),
        deliveries=covered.delivered,
        acked=covered.acked,
        unjudged=[name for name in COMBINED if not promised(integrity, name)],
        forked_away=forked_away(history),
        by_hand=bool(history.run.get("interactive")),
    )


def _offered(history: History, integrity: Integrity) -> Offered:
    dials, covered = connects(history), integrity.coverage
    return Offered(
        delivered=covered.delivered,
        acked=covered.acked,
        gaps=covered.gaps,
        sentinels=covered.sentinels,
        dials=dials.height,
        dialled=dials["client"].n_unique(),
        refused=int((~dials["ok"]).sum()),
        faulty=any(window.applied_ns is not None for window in fault_windows(history.faults)),
        accused=str(integrity.verdict) == "invalid",
    )


def worker_counters(history: History) -> list[dict[str, Any]]:
    """What each load worker counted, by worker; the run's own client is none."""
    control = history.run.get("control", 0)
    files = log_files(history.path)
    return [
        {"worker": worker} | read_json(log.counters)
        for worker, log in sorted(files.items())
        if log.counters is not None and worker != control
    ]


def read_samples(run_dir: Path) -> dict[str, pl.DataFrame]:
    """metrics/*.parquet by name; a file that does not parse is left out, since no verdict hangs on it."""
    found: dict[str, pl.DataFrame] = {}
    for path in sorted((run_dir / "metrics").glob("*.parquet")):
        if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_SAMPLES_BYTES:
            continue
        try:
            found[path.stem] = pl.read_parquet(path, glob=False)
        except (OSError, pl.exceptions.PolarsError):
            continue
    return found


def write(run_dir: Path, analysis: Analysis) -> None:
    """Write ``analysis/`` and ``report/`` of a run directory.

    Raises:
        HistoryError: one of them is a link, which would lead out of the directory.
        OSError: the disk is full, or may not be written.
    """
    derived, report = _folder(run_dir / "analysis"), _folder(run_dir / "report")
    plotted = _folder(report / "plots")
    _put(derived / "summary.json", _json(summary(analysis)))
    _put(derived / "findings.jsonl", _findings(analysis))
    beside = derived / "baseline.json"
    if (told := comparison.as_json(analysis)) is not None:
        _put(beside, _json(told))
    else:
        beside.unlink(missing_ok=True)  # of an earlier judgement
    partial = derived / "intervals.parquet.partial"
    partial.unlink(missing_ok=True)
    analysis.intervals.write_parquet(partial, compression="zstd")
    partial.replace(derived / "intervals.parquet")
    gates = _json({"schema_version": GATES_VERSION, "gates": [r.as_json() for r in analysis.results]})
    for folder in (derived, report):
        _put(folder / "gates.json", gates)
    _put(report / "report.html", render.report_html(analysis))
    _put(report / "report.md", render.report_markdown(analysis))
    _put(report / "junit.xml", render.report_junit(analysis))
    _put(report / "ctrf.json", _json(render.report_ctrf(analysis)))
    _put(report / "metrics.txt", render.report_metrics(analysis))
    _put(report / "latency.hlog", _hlog(analysis))
    _put(report / "latency.hgrm", hdrlog.percentile_distribution(analysis.latency["delivery"]))
    for chart in figures.charts(analysis).values():
        if chart.filed:
            for kind, content in plots.files(chart).items():
                _put(plotted / f"{chart.name}.{kind}", content)


def _folder(path: Path) -> Path:
    if path.is_symlink():
        raise HistoryError(f"{path}: is a link: remove it, a report is written inside its run directory only")
    path.mkdir(exist_ok=True)
    return path


def _put(path: Path, content: str | bytes) -> None:
    """Replace a file in one step; a link in its place is replaced, not followed."""
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    with partial.open("xb") as file:
        file.write(content.encode("utf-8", "replace") if isinstance(content, str) else content)
    partial.replace(path)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _findings(analysis: Analysis) -> str:
    made = analysis.excerpts
    lines = [
        json.dumps(asdict(finding) | {"excerpt": made.get(finding.sentence)}, ensure_ascii=False)
        for result in analysis.integrity.classes.values()
        for finding in result.findings
    ]
    return "".join(line + "\n" for line in lines)


def _hlog(analysis: Analysis) -> str:
    run = analysis.run
    clock = run.get("clock") or {}
    zero = start_ns(run)
    unix_ns = int(clock.get("unix_ns", 0)) + zero - int(clock.get("monotonic_ns", zero))
    each = max(1, -(-analysis.intervals.height // hdrlog.MAX_LINES))
    intervals: list[tuple[float, float, Histogram]] = [
        (float(start), float(each), histogram)
        for start, histogram in histograms_by_second(analysis.seconds, each)
    ]
    return hdrlog.log(max(0, unix_ns) / NS, float(analysis.intervals.height), intervals, analysis.latency)

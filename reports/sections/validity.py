"""Validity of the run itself: was the harness the limit?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from reports import wording
from reports.analysis import Analysis
from reports.blocks import Badge, Block, Column, Para, Table, Text, Tone, bullets
from reports.verdict import clock_uncertainty_ms, lag_limit_ms


def build(analysis: Analysis) -> tuple[Block, ...]:
    void = analysis.judgement.void
    blocks: list[Block] = [
        Para(
            "The run is void: what is missing may be the harness's doing, so absence accuses nobody."
            if void
            else "The run can be believed: load, logs and processes of the harness were as they should be."
        ),
        _criteria(analysis),
    ]
    problems = [str(problem) for problem in analysis.run.get("problems") or []]
    if problems:
        blocks += [Para("Seen while the run went on:"), bullets(problems)]
    if analysis.workers:
        blocks.append(_workers(analysis))
    return tuple(blocks)


def _criteria(analysis: Analysis) -> Table:
    run, ingest = analysis.run, analysis.history.ingest
    lag = analysis.worst("lag_p99_ms")
    limit = lag_limit_ms(analysis.gates)
    status = str(run.get("status"))
    bad_logs = len(ingest.broken)
    lost = analysis.integrity.coverage.lost_log
    died = sum(
        line.get("kind") == "exit" and line.get("role") == "harness" and not line.get("planned")
        for line in analysis.history.faults
    )
    rows = (
        _row("Status of the run", "complete", status, status == "complete"),
        _row("Worker logs torn, missing or short", "0", wording.count(bad_logs), not bad_logs),
        _row("Records that could not be written", "0", wording.count(lost), not lost),
        _row(
            "Lag of the load, p99, worst worker",
            f"≤ {wording.ms(limit)}",
            wording.ms(lag),
            None if lag is None else lag <= limit,
        ),
        *_clocks(analysis, limit),
        _row("Harness processes that ended by themselves", "0", wording.count(died), not died),
        *_promised(analysis),
    )
    columns = (
        Column("Criterion", wrap=True),
        Column("Result"),
        Column("Required", align="right"),
        Column("Actual", align="right"),
    )
    return Table(columns, rows)


def _clocks(analysis: Analysis, limit_ms: float) -> tuple[tuple[Text, ...], ...]:
    apart_ms = clock_uncertainty_ms(analysis.run)
    if apart_ms is None:
        return ()
    required, actual = f"≤ {wording.ms(limit_ms)}", f"± {wording.ms(apart_ms)}"
    return (_row("Clocks of the load's hosts", required, actual, apart_ms <= limit_ms),)


def _promised(analysis: Analysis) -> tuple[tuple[Text, ...], ...]:
    """What was planned beside what was offered. A run without figures to be held to shows one of them."""
    if analysis.predicted:
        return tuple(
            _row(
                figure.name[:1].upper() + figure.name[1:],
                figure.required,
                wording.count(figure.measured),
                figure.holds,
            )
            for figure in analysis.predicted
        )
    predicted = (analysis.run.get("load") or {}).get("predicted") or {}
    publishes = predicted.get("publishes")
    if not isinstance(publishes, int | float):
        return ()
    sent = analysis.total("sent")
    return (("Messages sent, of those planned", "not judged", wording.count(publishes), wording.count(sent)),)


def _row(name: str, required: str, actual: str, ok: bool | None) -> tuple[Text, ...]:
    if ok is None:
        return (name, Badge(Tone.UNKNOWN, "not recorded"), required, actual)
    return (name, Badge(Tone.PASS, "ok") if ok else Badge(Tone.VOID, "void"), required, actual)


_COLUMNS: Final = (
    ("records", "Records", "", wording.count),
    ("sent", "Sent", "", wording.count),
    ("received", "Received", "", wording.count),
    ("lag_p50_ms", "Lag p50", "ms", wording.decimal),
    ("lag_p99_ms", "Lag p99", "ms", wording.decimal),
    ("lag_max_ms", "Lag max", "ms", wording.decimal),
    ("hiccup_p99_ms", "Hiccup p99", "ms", wording.decimal),
    ("hiccup_max_ms", "Hiccup max", "ms", wording.decimal),
    ("max_rss_bytes", "Memory", "", wording.size_bytes),
)


def _workers(analysis: Analysis) -> Table:
    columns = (
        Column("Worker"),
        *(Column(head, unit, "right") for _, head, unit, _ in _COLUMNS),
        Column("CPU", "of one core", "right"),
    )
    rows = tuple(
        (
            str(worker.get("worker", "?")),
            *(_figure(worker, key, shown) for key, _, _, shown in _COLUMNS),
            _cpu(worker),
        )
        for worker in analysis.workers
    )
    note = (
        "Lag: how late messages left after they were due. "
        "Hiccup: how late a timer of the worker's loop fired while idle work was due."
    )
    return Table(columns, rows, caption="Load workers", note=note)


def _figure(worker: Mapping[str, Any], key: str, shown: Any) -> str:
    value = worker.get(key)
    return str(shown(value)) if isinstance(value, int | float) else wording.NONE


def _cpu(worker: Mapping[str, Any]) -> str:
    cpu, wall = worker.get("cpu_s"), worker.get("wall_s")
    if not isinstance(cpu, int | float) or not isinstance(wall, int | float) or wall <= 0:
        return wording.NONE
    return wording.share(cpu / wall)

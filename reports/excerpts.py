"""Excerpts: of a finding, the few records that show it again, as a run directory of its own.

A slice of the history is taken that has everything about the finding's clients, messages and serials in
its channel; then records are left out, in ever smaller pieces, as long as the class still gives the same
finding, word for word. Of a finding about deliveries, what opened and ended its client's subscriptions
stays. What is left is copied unchanged to ``analysis/excerpts/<class>-<n>/``, with run.json, names.json and
faults.jsonl cut down to what it needs.

Records that are left out would look like other anomalies, so an excerpt is judged by its own class
only: ``chatproof replay EXCERPT``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from reports.checks.replay import findings_of
from reports.checks.result import Finding, Integrity
from reports.history import RECORD, History, HistoryError, Ingest, Kind, WorkerLog
from reports.rundir import Names, write_json
from reports.seal import Records, frame_of, write_log

PER_CLASS: Final = 2
TRIES: Final = 60  # judgements spent on making one excerpt smaller
TRIES_IN_ALL: Final = 600
MOST_PINNED: Final = 40  # records that are kept for the reader's sake
MAX_ROWS: Final = 50_000  # of a slice; a finding that needs more gets no excerpt
_PROCESS_LINES: Final = ("exit", "start")
_SHOWING: Final = tuple(int(kind) for kind in (Kind.ACK, Kind.RECV, Kind.READ))


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """``name``: of its folder, "D1-1"."""

    name: str
    finding: Finding
    history: History  # in memory


def excerpts(history: History, integrity: Integrity) -> Iterator[Excerpt]:
    """Excerpts of the first findings of each class, where one can be made."""
    told = [
        (f"{cls}-{number}", finding)
        for cls, result in integrity.classes.items()
        for number, finding in enumerate(result.findings[:PER_CLASS], start=1)
    ]
    for name, finding in told:
        tries = min(TRIES, TRIES_IN_ALL // len(told))
        if (excerpt := make_excerpt(history, finding, name=name, tries=tries)) is not None:
            yield excerpt


def make_excerpt(history: History, finding: Finding, *, name: str, tries: int = TRIES) -> Excerpt | None:
    """The excerpt of a finding; None where no slice of a bearable size shows it."""
    for predicate in _slices(history, finding):
        frame = history.scan().filter(predicate).head(MAX_ROWS + 1).collect()
        if frame.height > MAX_ROWS:
            continue
        logs = {
            int(worker): _records(frame.filter(pl.col("file") == worker))
            for worker in frame["file"].unique().sort()
        }
        if _shows(_cut_down(history, finding, logs), finding):
            smallest = _shrunk(history, finding, logs, tries)
            return Excerpt(name=name, finding=finding, history=_cut_down(history, finding, smallest))
    return None


# ── which records ─────────────────────────────────────────────────────────────────────────────


def _slices(history: History, finding: Finding) -> Iterator[pl.Expr]:
    """Predicates of slices: what the clients concerned saw; the message and its place alone, where what else
    they saw gives so many findings of the class that this one is not told; all of the channel."""
    names = history.names
    channel = _index(names.channels).get(finding.channel, 0)
    mine = _referenced(history, finding)
    known = _index(names.clients)
    clients = {known.get(name, -1) for name in finding.clients} | set(mine["client"].to_list())
    messages = [row for row in mine.select("publisher", "pub_seq").iter_rows() if row[1]]
    name, _, count = finding.message.rpartition(":")
    if name in known and count.isdecimal():
        messages.append((known[name], int(count)))
    of_messages = pl.any_horizontal(
        pl.lit(False),
        *((pl.col("publisher") == p) & (pl.col("pub_seq") == n) for p, n in set(messages)),
    ) & pl.col("kind").is_in([int(Kind.SEND), int(Kind.ACK), int(Kind.NACK), int(Kind.RECV), int(Kind.READ)])
    serials = pl.any_horizontal(
        pl.lit(False), *(pl.col("serial").is_between(first, last) for first, last in finding.serials)
    ) & pl.col("kind").is_in(_SHOWING)
    here = (pl.col("channel") == channel) if channel else pl.lit(True)
    wide = pl.col("kind").is_in([int(Kind.MARK), int(Kind.EPOCH)])
    ours = pl.col("client").is_in([0, *sorted(clients)]) & (here | (pl.col("channel") == 0))
    yield of_messages | (serials & here) | wide | ours
    yield of_messages | (serials & here) | wide
    yield here | wide | (pl.col("channel") == 0) | of_messages


def _index(names: Sequence[str | None]) -> dict[str, int]:
    return {name: ident for ident, name in enumerate(names) if name is not None}


def _referenced(history: History, finding: Finding) -> pl.DataFrame:
    """The records that the finding points at."""
    at = pl.any_horizontal(
        pl.lit(False), *((pl.col("file") == file) & (pl.col("row") == row) for file, row in finding.records)
    )
    identity = pl.col("kind").is_in([int(Kind.SEND), *_SHOWING])
    return (
        history.scan()
        .filter(at)
        .select(
            "client",
            publisher=pl.when(identity).then("publisher").otherwise(0),
            pub_seq=pl.when(identity).then("pub_seq").otherwise(0),
        )
        .collect()
    )


def _records(frame: pl.DataFrame) -> Records:
    records = np.zeros(frame.height, RECORD)
    for name in RECORD.names or ():
        records[name] = frame[name].to_numpy()
    return records


def _shows(history: History, finding: Finding) -> bool:
    return any(found.sentence == finding.sentence for found in findings_of(history, finding.cls))


def _shrunk(
    history: History, finding: Finding, logs: Mapping[int, Records], tries: int
) -> dict[int, Records]:
    """Fewer records that show the same: pieces are left out, in halves, quarters, … single records."""
    rows = [(worker, row) for worker, log in sorted(logs.items()) for row in range(len(log))]
    pinned = [at for at in rows if _is_frame(logs[at[0]][at[1]])] if finding.cls.startswith("D") else []
    pinned = pinned if len(pinned) <= MOST_PINNED else []
    keep = sorted(set(rows) - set(pinned))
    size = len(keep) // 2
    while size and tries:
        at = 0
        while at < len(keep) and tries:
            fewer = keep[:at] + keep[at + size :]
            tries -= 1
            if _shows(_cut_down(history, finding, _chosen(logs, [*pinned, *fewer])), finding):
                keep = fewer
            else:
                at += size
        size //= 2
    return _chosen(logs, [*pinned, *keep])


def _is_frame(record: np.void) -> bool:
    """What opened or ended a load client's subscriptions: a delivery is judged by it."""
    return bool(record["client"]) and record["kind"] in (Kind.SUB, Kind.UNSUB, Kind.CLOSE)


def _chosen(logs: Mapping[int, Records], keep: Sequence[tuple[int, int]]) -> dict[int, Records]:
    rows: dict[int, list[int]] = {}
    for worker, row in sorted(keep):
        rows.setdefault(worker, []).append(row)
    return {worker: logs[worker][np.array(some)] for worker, some in rows.items()}


# ── the rest of the run directory ─────────────────────────────────────────────────────────────


def _cut_down(history: History, finding: Finding, logs: Mapping[int, Records]) -> History:
    """The history with other records, and with what is said about them alone."""
    ingest, control = history.ingest, history.run.get("control", 0)
    workers = [w for w in history.run.get("workers", []) if w in logs or ingest.broken]
    logs = {worker: logs.get(worker, np.empty(0, RECORD)) for worker in sorted({control, *workers, *logs})}
    return replace(
        history,
        run=history.run
        | {
            "workers": workers,
            "phases": [],
            "excerpt": {"class": finding.cls, "sentence": finding.sentence, "run": history.run.get("run_id")},
        },
        names=_needed(history.names, logs),
        faults=[
            line
            for line in history.faults
            if line.get("kind") in _PROCESS_LINES or str(line.get("id")) in finding.faults
        ],
        ingest=Ingest(logs={worker: _log(ingest, worker, len(log)) for worker, log in logs.items()}),
        frame=frame_of(logs),
    )


def _log(ingest: Ingest, worker: int, records: int) -> WorkerLog:
    """An excerpt of a broken log is as broken."""
    if worker not in ingest.broken:
        return WorkerLog(worker=worker, records=records, counted=records)
    facts = ingest.logs[worker].facts if worker in ingest.logs else (f"worker {worker} left no log",)
    return WorkerLog(worker=worker, records=records, counted=None, facts=facts)


def _needed(names: Names, logs: Mapping[int, Records]) -> Names:
    """Names of the ids that some records have."""

    def some(table: Sequence[str | None], *fields: str) -> tuple[str | None, ...]:
        used = {
            0,
            *(int(ident) for log in logs.values() for field in fields for ident in np.unique(log[field])),
        }
        last = max((ident for ident in used if ident < len(table)), default=0)
        return tuple(name if ident in used else None for ident, name in enumerate(table[: last + 1]))

    return Names(
        channels=some(names.channels, "channel"),
        clients=some(names.clients, "client", "publisher"),
        nodes=names.nodes,
        epochs=some(names.epochs, "epoch", "publisher"),
    )


def write_excerpts(folder: Path, made: Sequence[Excerpt]) -> None:
    """Replace the excerpts in ``folder``.

    Raises:
        HistoryError: it is a link.
    """
    if folder.is_symlink():
        raise HistoryError(f"{folder}: is a link: remove it, excerpts are written inside their run only")
    if folder.is_dir():
        shutil.rmtree(folder)
    for excerpt in made:
        _write(folder / excerpt.name, excerpt.history)


def _write(directory: Path, history: History) -> None:
    events = directory / "events"
    events.mkdir(parents=True)
    names = history.names
    write_json(directory / "run.json", history.run)
    write_json(
        directory / "names.json",
        {
            "channels": names.channels,
            "clients": names.clients,
            "nodes": names.nodes,
            "epochs": names.epochs,
            "subscriptions": {},
        },
    )
    lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in history.faults)
    (directory / "faults.jsonl").write_text(lines, encoding="utf-8")
    frame = history.scan().collect()
    for worker, log in history.ingest.logs.items():
        records = _records(frame.filter(pl.col("file") == worker))
        write_log(events / f"w{worker}.parquet", records, log, nonce=history.run["nonce"])


def about(run: Mapping[str, Any]) -> tuple[str, str] | None:
    """Class and sentence of the finding that a run directory is an excerpt of; None: it is none."""
    said = run.get("excerpt")
    if not isinstance(said, Mapping):
        return None
    return str(said.get("class")), str(said.get("sentence"))

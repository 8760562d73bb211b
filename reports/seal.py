"""Sealing: live ``.rec`` segments to one Parquet file a worker, and reading them again.

In: ``events/w<K>-<n>.rec``, ``w<K>.names.jsonl``, ``w<K>.counters.json``. Out:
``events/w<K>.parquet``, rows in the order of observation, integers delta-encoded, and
``names.json`` with the epochs that the workers met, numbered globally.

Sealing may be repeated and may be interrupted: each file is replaced in one step, global
epoch ids only ever grow, and segments are removed only when the sealed rows are as many as
the worker itself counted. What a killed worker left is salvaged up to its last whole
record; the log is then *torn*, which is a fact, not an error. Sealed times are all of the
run's own clock, also those that were recorded on another host (``clock``).
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from .clock import HostClock, host_clocks, in_run_time
from .history import (
    HEADER_BYTES,
    RECORD,
    SCHEMA_VERSION,
    Header,
    History,
    HistoryError,
    Ingest,
    Kind,
    WorkerLog,
)
from .rundir import LogFiles, log_files, read_epochs, read_faults, read_json, read_names, read_run, write_json

ROW_GROUP: Final = 262_144  # rows; small enough that a filtered scan works on many at once
MAX_ROWS: Final = (1 << 32) - 1  # of one worker: `row` is a u32
EPOCH_IN_PUBLISHER: Final = (Kind.SUB, Kind.GAP, Kind.EPOCH)  # kinds whose `publisher` is an epoch id
_COLUMNS: Final = tuple(RECORD.names or ())
_SCHEMA: Final = pa.schema([(name, pa.from_numpy_dtype(RECORD[name])) for name in _COLUMNS])
_META: Final = b"chatproof"  # key of our facts in a sealed file's own metadata

Records = npt.NDArray[np.void]
EpochTable = npt.NDArray[np.uint16]  # local epoch id -> global epoch id


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveLog:
    """A worker's live segments, mapped, without their unused tails."""

    files: LogFiles
    segments: tuple[Records, ...]
    facts: tuple[str, ...]

    @property
    def records(self) -> int:
        return sum(len(segment) for segment in self.segments)


def seal(run_dir: Path) -> Ingest:
    """Seal every log of a run directory and say what was found.

    Raises:
        HistoryError: not a run directory, records of another run or schema version, or more
            epochs than a record can name (65535).
    """
    run = read_run(run_dir)
    _, facts = read_names(run_dir)
    files = log_files(run_dir)
    control = run.get("control")
    expected = {*run.get("workers", []), *([control] if type(control) is int else [])}
    if expected:
        facts += [
            f"worker {w} is not in run.json: its log is read all the same" for w in files.keys() - expected
        ]
    live = {worker: read_live(log, run) for worker, log in files.items() if log.segments}
    tables, live = _global_epochs(run_dir, live)
    clocks = host_clocks(run)
    logs = {worker: _seal_log(log, tables[worker], run, clocks) for worker, log in live.items()}
    for worker, log in files.items():
        if log.parquet is not None and worker not in live:
            logs[worker] = _sealed_log(log, log.parquet, run["nonce"])
    return Ingest(logs=logs, missing=tuple(sorted(expected - logs.keys())), facts=tuple(facts))


def load(run_dir: Path) -> History:
    """``reports.history.open_history``."""
    if not run_dir.is_dir():
        raise HistoryError(f"{run_dir}: not a directory: give the directory of a run, such as runs/latest")
    try:
        ingest = seal(run_dir)
        names, _ = read_names(run_dir)
        faults, fault_facts = read_faults(run_dir)
        run = read_run(run_dir)
        frame = scan_files({w: run_dir / "events" / f"w{w}.parquet" for w in sorted(ingest.logs)})
    except (OSError, pa.ArrowException, pl.exceptions.PolarsError) as error:
        raise HistoryError(f"{run_dir}: {error}") from error
    ingest = replace(ingest, facts=(*ingest.facts, *fault_facts))
    return History(path=run_dir, run=run, names=names, faults=faults, ingest=ingest, frame=frame)


def scan_files(files: Mapping[int, Path]) -> pl.LazyFrame:
    """Sealed files as one lazy frame with ``file`` and ``row``; see ``History.scan``."""
    frames = [
        _placed(pl.scan_parquet(path, row_index_name="row", glob=False), worker)
        for worker, path in files.items()
    ]
    return pl.concat(frames) if frames else frame_of({})


def frame_of(logs: Mapping[int, Records]) -> pl.LazyFrame:
    """Records in memory as ``History.scan`` gives them; epochs must be global ids already."""
    frames = [
        _placed(pl.LazyFrame({name: records[name].copy() for name in _COLUMNS}).with_row_index("row"), worker)
        for worker, records in (logs or {0: np.empty(0, RECORD)}).items()
    ]
    return pl.concat(frames)


def _placed(frame: pl.LazyFrame, worker: int) -> pl.LazyFrame:
    return frame.with_columns(pl.col("row").cast(pl.UInt32), pl.lit(worker, pl.UInt16).alias("file"))


def read_live(files: LogFiles, run: Mapping[str, Any]) -> LiveLog:
    """Map a worker's segments and cut off their unused tails.

    Raises:
        HistoryError: not a record file, of another schema version, or of another run.
    """
    segments: list[Records] = []
    clock = host_clocks(run).get(files.worker)
    facts: list[str] = []
    if clock is not None and not len(clock):
        facts.append(f"the clock of worker {files.worker} was never compared: its times mean nothing here")
    boot = _boot_id(run, clock)
    for path in files.segments:
        with path.open("rb") as file:
            raw = file.read(HEADER_BYTES)
        if not raw.strip(b"\0"):  # created, and killed before the first write
            facts.append(f"{path.name} has no header: nothing was written to it")
            continue
        try:
            header = Header.unpack(raw)
        except ValueError as error:
            raise HistoryError(f"{path}: {error}") from error
        if header.nonce != run["nonce"]:
            raise HistoryError(
                f"{path}: holds records of another run (nonce {header.nonce}; run.json has {run['nonce']}): "
                "move it back to the run that it belongs to"
            )
        if boot is not None and boot != header.boot_id:
            facts.append(f"{path.name} was written under another boot: its times do not compare")
        records = _mapped(path)
        used = _used(records)
        stray = int(records[used:].view("<u8").reshape(-1, RECORD.itemsize // 8).any(axis=1).sum())
        if stray:  # a half-written record, or damage
            facts.append(f"{path.name} has {stray} damaged records after its last whole one: left out")
        segments.append(records[:used])
    return LiveLog(files=files, segments=tuple(segments), facts=tuple(facts))


def _mapped(path: Path) -> Records:
    count = (path.stat().st_size - HEADER_BYTES) // RECORD.itemsize
    if count <= 0:
        return np.empty(0, RECORD)
    return np.memmap(path, RECORD, mode="r", offset=HEADER_BYTES, shape=(count,))


def _used(records: Records) -> int:
    unused = np.flatnonzero(records["kind"] == Kind.NONE)
    return int(unused[0]) if unused.size else len(records)


def _boot_id(run: Mapping[str, Any], clock: HostClock | None) -> bytes | None:
    try:
        return uuid.UUID(run["clock"]["boot_id"] if clock is None else clock.boot_id).bytes
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _global_epochs(
    run_dir: Path, live: Mapping[int, LiveLog]
) -> tuple[dict[int, EpochTable], dict[int, LiveLog]]:
    """Per live log its map of epoch ids; global ids are on disk before a sealed file uses them.

    Ids are given in the order of workers and their local ids, after those of earlier sealings.
    An id in the records that the names file lacks gets a name of its own: a fact.
    """
    if not live:
        return {}, {}
    path = run_dir / "names.json"
    document = read_json(path) if path.exists() else {"channels": [None], "clients": ["c0"], "nodes": [None]}
    epochs = list(read_names(run_dir)[0].epochs)
    known = {name: ident for ident, name in enumerate(epochs) if name is not None}
    tables: dict[int, EpochTable] = {}
    noted: dict[int, LiveLog] = {}
    for worker, log in live.items():
        local, facts = read_epochs(log.files.names)
        names = dict(enumerate(local))
        for ident in _epochs_used(log.segments):
            if names.get(ident) is None:
                names[ident] = f"?w{worker}:{ident}"
                facts.append(f"epoch {ident} of worker {worker} has no name in w{worker}.names.jsonl")
        tables[worker] = np.zeros(1 << 16, np.uint16)
        for ident, name in names.items():
            if name is None:
                continue
            if name not in known:
                known[name] = len(epochs)
                epochs.append(name)
            if known[name] >= 1 << 16:
                raise HistoryError(f"{path}: more than 65535 epochs: the record cannot name them")
            tables[worker][ident] = known[name]
        noted[worker] = replace(log, facts=(*log.facts, *facts))
    if epochs != document.get("epochs"):
        write_json(path, {**document, "epochs": epochs})
    return tables, noted


def _epochs_used(segments: Iterable[Records]) -> list[int]:
    used = np.zeros(1 << 16, bool)
    for segment in segments:
        used[segment["epoch"]] = True
        of_kind = segment["publisher"][np.isin(segment["kind"], EPOCH_IN_PUBLISHER)]
        used[of_kind[of_kind < 1 << 16]] = True
    return [int(ident) for ident in np.flatnonzero(used) if ident]


def _seal_log(
    log: LiveLog, epochs: EpochTable, run: Mapping[str, Any], clocks: Mapping[int, HostClock]
) -> WorkerLog:
    """Write one worker's Parquet file, unless it is already there and says the same; then tidy up."""
    worker = log.files.worker
    if log.records > MAX_ROWS:
        raise HistoryError(f"worker {worker} has {log.records} records: at most {MAX_ROWS} are read")
    target = log.files.segments[0].with_name(f"w{worker}.parquet")
    facts = list(log.facts)
    counted, lost = _counters(log.files.counters, facts)
    if counted is None:
        facts.append(f"worker {worker} left no counters: it was killed, and its log ends where it died")
    elif counted != log.records:
        facts.append(f"worker {worker} counted {counted} records and its log holds {log.records}")
    if lost:
        facts.append(f"worker {worker} could not write {lost} records")
    sealed = WorkerLog(worker=worker, records=log.records, counted=counted, lost=lost, facts=tuple(facts))
    if log.files.parquet is None or _meta(log.files.parquet).get("sealed") != _summary(sealed):
        workers = max(1, len(run.get("workers") or []))
        segments = (in_run_time(segment, worker, clocks, workers) for segment in log.segments)
        _write(target, segments, epochs, {"nonce": run["nonce"], "sealed": _summary(sealed)})
    if counted == log.records:
        for path in log.files.segments:
            path.unlink()
    return sealed


def _counters(path: Path | None, facts: list[str]) -> tuple[int | None, int]:
    """(records, lost) by the worker's own count; what is wrong with the file is a fact."""
    if path is None:
        return None, 0
    try:
        counters = read_json(path)
    except HistoryError as error:
        facts.append(f"{path.name} cannot be read: {error}")
        return None, 0
    records, lost = counters.get("records"), counters.get("lost", 0)
    if type(records) is not int or type(lost) is not int:
        facts.append(f"{path.name}: records is {records!r} and lost is {lost!r}: must be integers")
        return None, 0
    return records, lost


def _summary(log: WorkerLog) -> dict[str, Any]:
    return {"records": log.records, "counted": log.counted, "lost": log.lost, "facts": list(log.facts)}


def write_log(target: Path, records: Records, log: WorkerLog, *, nonce: int) -> None:
    """Write a sealed file of records whose epochs are global ids, and what is known of their log."""
    same = np.arange(1 << 16, dtype=np.uint16)
    _write(target, [records], same, {"nonce": nonce, "sealed": _summary(log)})


def _write(target: Path, segments: Iterable[Records], epochs: EpochTable, meta: dict[str, Any]) -> None:
    partial = target.with_name(target.name + ".partial")
    schema = _SCHEMA.with_metadata({_META: json.dumps({"schema_version": SCHEMA_VERSION, **meta}).encode()})
    encoding = {name: "DELTA_BINARY_PACKED" for name in _COLUMNS}
    with pq.ParquetWriter(
        partial, schema, compression="zstd", use_dictionary=False, column_encoding=encoding
    ) as writer:
        for segment in segments:
            for start in range(0, len(segment), ROW_GROUP):
                writer.write_table(_table(segment[start : start + ROW_GROUP], epochs, schema))
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(target)


def _table(records: Records, epochs: EpochTable, schema: pa.Schema) -> pa.Table:
    columns = {name: np.ascontiguousarray(records[name]) for name in _COLUMNS}
    columns["epoch"] = epochs[columns["epoch"]]
    holds_epoch = np.isin(columns["kind"], EPOCH_IN_PUBLISHER) & (columns["publisher"] < 1 << 16)
    columns["publisher"] = columns["publisher"].copy()
    columns["publisher"][holds_epoch] = epochs[columns["publisher"][holds_epoch]]
    return pa.table([pa.array(columns[name]) for name in _COLUMNS], schema=schema)


def _meta(path: Path) -> dict[str, Any]:
    """Our facts in a sealed file; {} when it is damaged (it is then written again)."""
    try:
        raw = (pq.read_schema(path).metadata or {}).get(_META, b"{}")
        value = json.loads(raw)
    except (OSError, ValueError, pa.ArrowException):
        return {}
    return value if isinstance(value, dict) else {}


def _sealed_log(files: LogFiles, path: Path, nonce: int) -> WorkerLog:
    """A log whose segments are gone: the sealed file speaks for itself.

    Raises:
        HistoryError: damaged, of another schema version, or of another run.
    """
    try:
        rows, names = pq.read_metadata(path).num_rows, set(pq.read_schema(path).names)
    except (OSError, pa.ArrowException) as error:
        raise HistoryError(f"{path}: {error}") from error
    meta = _meta(path)
    if meta.get("schema_version") != SCHEMA_VERSION or not names.issuperset(_COLUMNS):
        raise HistoryError(
            f"{path}: schema version {meta.get('schema_version')!r}, columns {sorted(names)}: "
            f"this build reads version {SCHEMA_VERSION}"
        )
    if meta.get("nonce") != nonce:
        raise HistoryError(f"{path}: holds records of another run (nonce {meta.get('nonce')!r})")
    said = meta.get("sealed", {})
    facts = [str(fact) for fact in said.get("facts", ())]
    if said.get("records") != rows:
        facts.append(f"{path.name} holds {rows} records and says that it holds {said.get('records')}")
    counted = said.get("counted")
    return WorkerLog(
        worker=files.worker,
        records=rows,
        counted=counted if type(counted) is int else None,
        lost=said["lost"] if type(said.get("lost")) is int else 0,
        facts=tuple(facts),
    )

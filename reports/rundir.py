"""The small files of a run directory: run.json, names.json, faults.jsonl, counters.

A directory may come from anywhere: every file is capped in size, symbolic links are not
followed, no path is ever taken from a name inside a file, and what does not parse is a
``HistoryError`` with the file, the fault and the remedy, never a traceback.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from .history import SCHEMA_VERSION, HistoryError

MAX_JSON_BYTES: Final = 256 * 1024 * 1024
MAX_FAULT_LINES: Final = 1_000_000
_LOG_NAME: Final = re.compile(r"w(\d{1,5})(?:-(\d{1,6}))?\.(rec|parquet|names\.jsonl|counters\.json)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """names.json: ids to names. Ids without a name get a descriptive one, never an error."""

    channels: tuple[str | None, ...] = (None,)  # by channel id, from 1
    clients: tuple[str | None, ...] = ("c0",)  # by ordinal; 0 is `chatproof run` itself
    nodes: tuple[str | None, ...] = (None,)
    epochs: tuple[str | None, ...] = (None,)  # by global epoch id, from 1; filled by sealing
    subscriptions: dict[int, tuple[int, ...]] = field(default_factory=dict)  # client -> planned channels
    personas: dict[str, tuple[int, ...]] = field(default_factory=dict)  # by name, its clients

    def channel(self, ident: int) -> str:
        return _named(self.channels, ident, "channel")

    def client(self, ident: int) -> str:
        return _named(self.clients, ident, "client")

    def epoch(self, ident: int) -> str:
        return _named(self.epochs, ident, "epoch")


def _named(names: tuple[str | None, ...], ident: int, what: str) -> str:
    name = names[ident] if 0 <= ident < len(names) else None
    return f"{what} {ident}" if name is None else name


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFiles:
    """What is on disk of one worker's log."""

    worker: int
    segments: tuple[Path, ...] = ()  # .rec, in order
    parquet: Path | None = None
    names: Path | None = None
    counters: Path | None = None


def log_files(run_dir: Path) -> dict[int, LogFiles]:
    """The event files of a run directory, by worker. Other files, and links, are not looked at."""
    events = run_dir / "events"
    found: dict[int, dict[str, Any]] = {}
    if not events.is_dir():
        return {}
    for entry in sorted(os.scandir(events), key=lambda e: e.name):
        match = _LOG_NAME.fullmatch(entry.name)
        if match is None or not entry.is_file(follow_symlinks=False):
            continue
        worker, segment, suffix = int(match[1]), match[2], match[3]
        if (suffix == "rec") != (segment is not None):
            continue
        files = found.setdefault(worker, {"segments": []})
        path = events / entry.name
        if suffix == "rec":
            files["segments"].append((int(segment), path))
        else:
            files[{"parquet": "parquet", "names.jsonl": "names", "counters.json": "counters"}[suffix]] = path
    return {
        worker: LogFiles(
            worker=worker,
            segments=tuple(path for _, path in sorted(files.pop("segments"))),
            **files,
        )
        for worker, files in sorted(found.items())
    }


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        HistoryError: missing, a link, too large, not JSON, or not an object.
    """
    try:
        if path.is_symlink() or not path.is_file():
            raise HistoryError(f"{path}: not found: a run directory has this file; is this a run directory?")
        if (size := path.stat().st_size) > MAX_JSON_BYTES:
            raise HistoryError(f"{path}: {size} bytes: at most {MAX_JSON_BYTES} are read")
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise HistoryError(f"{path}: {error}") from error
    if not isinstance(value, dict):
        raise HistoryError(f"{path}: holds {type(value).__name__}: must be a JSON object")
    return value


def read_text(path: Path, *, most_bytes: int) -> str:
    """A small text file.

    Raises:
        HistoryError: missing, a link, too large, or not UTF-8.
    """
    try:
        if path.is_symlink() or not path.is_file():
            raise HistoryError(f"{path}: not found: a run that was judged has this file")
        if (size := path.stat().st_size) > most_bytes:
            raise HistoryError(f"{path}: {size} bytes: at most {most_bytes} are read")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise HistoryError(f"{path}: {error}") from error


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replace a JSON file in one step, so that a crash leaves the old one or the new one."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=1, sort_keys=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_run(run_dir: Path) -> dict[str, Any]:
    """run.json, checked as far as reading the history depends on it.

    Raises:
        HistoryError: missing, broken, or of a schema version that this build does not read.
    """
    path = run_dir / "run.json"
    run = read_json(path)
    version = run.get("schema_version")
    if version != SCHEMA_VERSION:
        raise HistoryError(
            f"{path}: schema_version is {version!r}: this build reads {SCHEMA_VERSION}; "
            "use the chatproof that made the run, or a newer one"
        )
    nonce = run.get("nonce")
    if nonce is None:
        raise HistoryError(
            f"{path}: nonce is missing: the run ended before it could record anything, so there is nothing "
            "to judge; run the scenario again"
        )
    if isinstance(nonce, bool) or not isinstance(nonce, int) or not 0 <= nonce < 1 << 64:
        raise HistoryError(f"{path}: nonce is {nonce!r}: must be an integer of 64 bits")
    for key in ("contract", "expect", "load", "clock"):
        if not isinstance(run.get(key, {}), dict):
            raise HistoryError(f"{path}: {key} is {type(run[key]).__name__}: must be an object")
    workers = run.get("workers", [])
    if not isinstance(workers, list) or not all(type(w) is int and 0 <= w < 1 << 16 for w in workers):
        raise HistoryError(f"{path}: workers is {workers!r}: must be a list of worker indexes, 0 to 65535")
    return run


def read_names(run_dir: Path) -> tuple[Names, list[str]]:
    """names.json, and facts about what was wrong with it (a missing file is a fact: ids name themselves)."""
    path = run_dir / "names.json"
    if not path.exists():
        return Names(), ["names.json is missing: clients and channels are named by their ids"]
    raw = read_json(path)
    tables: dict[str, tuple[str | None, ...]] = {}
    for key in ("channels", "clients", "nodes", "epochs"):
        table = raw.get(key, [None])
        if not isinstance(table, list) or not all(n is None or isinstance(n, str) for n in table):
            raise HistoryError(f"{path}: {key} must be a list of names, null where an id is not used")
        tables[key] = tuple(table) or (None,)
    try:
        planned = {int(c): tuple(map(int, ids)) for c, ids in raw.get("subscriptions", {}).items()}
        personas = {str(name): tuple(map(int, ids)) for name, ids in raw.get("personas", {}).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise HistoryError(
            f"{path}: subscriptions must map client ids to lists of channel ids, and personas names to lists "
            f"of client ids: {error}"
        ) from error
    return Names(**tables, subscriptions=planned, personas=personas), []


def read_faults(run_dir: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """faults.jsonl, and facts about lines that do not parse (the last may be torn)."""
    path = run_dir / "faults.jsonl"
    if path.is_symlink() or not path.is_file():
        return [], ["faults.jsonl is missing: which faults were active is not known"]
    if (size := path.stat().st_size) > MAX_JSON_BYTES:
        raise HistoryError(f"{path}: {size} bytes: at most {MAX_JSON_BYTES} are read")
    faults: list[dict[str, Any]] = []
    facts: list[str] = []
    lines = path.read_bytes().splitlines()
    if len(lines) > MAX_FAULT_LINES:
        raise HistoryError(f"{path}: {len(lines)} lines: at most {MAX_FAULT_LINES} are read")
    for number, line in enumerate(lines, start=1):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            faults.append(value)
        elif line.strip():
            facts.append(f"faults.jsonl line {number} is not a JSON object: left out")
    return faults, facts


def read_epochs(path: Path | None) -> tuple[list[str | None], list[str]]:
    """Epoch names of one worker by its local ids, from ``w<K>.names.jsonl``; a torn last line is a fact."""
    if path is None:
        return [None], []
    if (size := path.stat().st_size) > MAX_JSON_BYTES:
        raise HistoryError(f"{path}: {size} bytes: at most {MAX_JSON_BYTES} are read")
    names: list[str | None] = [None]
    facts: list[str] = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            value = json.loads(line)
            ident, name = value["epoch"], value["name"]
        except (ValueError, KeyError, TypeError, RecursionError):
            facts.append(f"{path.name} line {number} is not an epoch name: left out")
            continue
        if type(ident) is not int or not 0 < ident < 1 << 16 or not isinstance(name, str):
            facts.append(f"{path.name} line {number}: epoch {ident!r} named {name!r}: left out")
            continue
        names.extend([None] * (ident + 1 - len(names)))
        if names[ident] is not None and names[ident] != name:
            facts.append(f"{path.name} line {number}: epoch {ident} has two names: the first is kept")
            continue
        names[ident] = name
    return names, facts

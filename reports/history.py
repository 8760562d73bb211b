"""The record: 40 bytes that say what one client saw, and the files that hold it.

Everything before the history records; everything after it judges. This module is the
waist between them: loadgen writes these records, the checks read them, and neither
needs the other.

A live file ``events/<worker>-<n>.rec`` is a 64-byte header followed by records, in the
order of observation. It is a preallocated, shared-mapped segment: its unused tail is
zeros, and kind 0 (``Kind.NONE``) marks the end. Names met at run time (epochs) are lines of
``events/<worker>.names.jsonl``, written before first use, numbered per worker from 1.

All times are int64 nanoseconds of CLOCK_MONOTONIC.

``open_history`` reads a run directory, sealed or not, into a ``History``. HISTORY.md
documents both the directory and the record.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:  # load workers import this module: polars is loaded only where a history is read
    import polars as pl

    from .rundir import Names

SCHEMA_VERSION: Final = 1
MAGIC: Final = b"CHATPRF1"
SEGMENT_BYTES: Final = 64 * 1024 * 1024  # of a live file, header included
NO_CHANNEL: Final = 0  # channel ids start at 1; client 0 is `chatproof run` itself; epoch 0 is "none"

RECORD: Final = np.dtype(
    [
        ("t", "<i8"),
        ("t2", "<i8"),
        ("client", "<u4"),
        ("channel", "<u4"),
        ("publisher", "<u4"),
        ("pub_seq", "<u4"),
        ("serial", "<u4"),
        ("epoch", "<u2"),
        ("kind", "u1"),
        ("flags", "u1"),
    ]
)
PACKER: Final = struct.Struct("<qqIIIIIHBB")  # one record, the fields of RECORD in order
assert RECORD.itemsize == PACKER.size == 40


class Kind(IntEnum):
    """What a record says. Fields by kind: HISTORY.md."""

    NONE = 0  # not a record: the unused tail of a segment
    CONN = 1
    CLOSE = 2
    SUB = 3
    LIVE = 4
    UNSUB = 5
    SEND = 6
    ACK = 7
    NACK = 8
    RECV = 9
    GAP = 10
    EPOCH = 11
    READ = 12
    BAD = 13
    MARK = 14
    LOST_LOG = 15


class Flag(IntEnum):
    """Bits of ``flags``, as masks."""

    NOT_OPEN = 1 << 0  # ACK, NACK: answers no open request
    REPLAYED = 1 << 0  # RECV, READ: before the LIVE of its subscription
    BAD_DIGEST = 1 << 1  # RECV, READ: the body does not match its digest
    ON_PURPOSE = 1 << 2  # CLOSE: we closed
    OWN_ECHO = 1 << 2  # RECV: the client's own message
    RESUMED = 1 << 3  # SUB
    RETRY = 1 << 4  # SEND
    DUPLICATE = 1 << 5  # ACK: the server said that it had the message already
    DEFINITE = 1 << 6  # NACK: certainly not placed
    FOREIGN = 1 << 7  # RECV, READ: another run's nonce, or no identity readable


class Mark(IntEnum):
    """``serial`` of a MARK record."""

    PHASE = 1  # pub_seq = index in run.json's phases
    HEAL = 2  # every fault is reverted
    DRAIN = 3  # publishers have stopped and clients are back; sentinels follow. V classes apply from here
    SENTINEL = 4  # channel, publisher, pub_seq: that message is the channel's sentinel
    FORCED_RECONNECT = 5  # clients still behind were told to reconnect
    FINAL_READS = 6
    END = 7  # of all load
    SILENT = 8  # client, channel: meant to publish nothing, so silence is no fault
    DEAF = 9  # client: from here on it keeps its socket and neither reads nor writes
    HEARS = 10  # client: it reads on


class Transport(IntEnum):
    """``flags`` of a CONN record: by what the connection was tried."""

    WEBSOCKET = 0
    SSE = 1  # a stream of server-sent events; publishes go in requests of their own
    POLL = 2  # long polling: one answer after the other


class GapReason(IntEnum):
    """``t2`` of a GAP record."""

    TRIMMED = 0
    EPOCH = 1
    FORK = 2
    AHEAD = 3
    LAG = 4


class BadReason(IntEnum):
    """``serial`` of a BAD record."""

    UNDECODABLE = 1
    SERIAL_RANGE = 2  # a serial >= 2^32, which the record cannot hold
    UNEXPECTED = 3  # decodable, but not legal here


CONN_OK: Final = 101  # CONN.serial: the HTTP status of the upgrade; over HTTP too, of what was accepted
CONN_ERRNO: Final = 65536  # CONN.serial = 65536 + errno: the dial failed before any answer

_HEADER: Final = struct.Struct("<8sHHII16sQ")  # 44 bytes, zero-padded to 64
HEADER_BYTES: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """First 64 bytes of a live file: whose it is and how to read it."""

    worker: int
    segment: int
    boot_id: bytes  # 16 bytes of /proc/sys/kernel/random/boot_id
    nonce: int  # of the run, 64 bits: records of another run are refused
    schema_version: int = SCHEMA_VERSION

    def pack(self) -> bytes:
        packed = _HEADER.pack(
            MAGIC, self.schema_version, RECORD.itemsize, self.worker, self.segment, self.boot_id, self.nonce
        )
        return packed.ljust(HEADER_BYTES, b"\0")

    @classmethod
    def unpack(cls, raw: bytes) -> Header:
        """Read a header.

        Raises:
            ValueError: too short, not a record file, or of another schema version or record size.
        """
        if len(raw) < HEADER_BYTES:
            raise ValueError(f"the file has {len(raw)} bytes: a record file begins with {HEADER_BYTES}")
        magic, version, size, worker, segment, boot_id, nonce = _HEADER.unpack_from(raw)
        if magic != MAGIC:
            raise ValueError(f"the file begins with {magic!r}: a record file begins with {MAGIC!r}")
        if version != SCHEMA_VERSION or size != RECORD.itemsize:
            raise ValueError(
                f"the file has schema version {version} and {size}-byte records: "
                f"this build reads version {SCHEMA_VERSION} and {RECORD.itemsize} bytes"
            )
        return cls(worker=worker, segment=segment, boot_id=boot_id, nonce=nonce, schema_version=version)


class HistoryError(Exception):
    """A run directory that cannot be read. The text names the file, the fault and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLog:
    """What became of one worker's log."""

    worker: int
    records: int  # in the history
    counted: int | None  # by the worker itself; None: it left no counters
    lost: int = 0  # records that the worker could not write, by its own count
    facts: tuple[str, ...] = ()  # what is wrong with it, one sentence each; () = whole

    @property
    def whole(self) -> bool:
        """Nothing that this worker saw can be missing, as far as its log tells."""
        return self.counted == self.records and not self.lost and not self.facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingest:
    """Facts about the reading of a history: what was torn, missing or did not add up."""

    logs: dict[int, WorkerLog] = field(default_factory=dict)  # by worker; 0 is `chatproof run` itself
    missing: tuple[int, ...] = ()  # workers that run.json names and that left no log
    facts: tuple[str, ...] = ()  # about names, faults and strangers

    @property
    def broken(self) -> frozenset[int]:
        """Workers whose log may lack something: their clients' silence proves nothing."""
        return frozenset(self.missing) | {worker for worker, log in self.logs.items() if not log.whole}

    @property
    def records(self) -> int:
        return sum(log.records for log in self.logs.values())

    def reasons(self) -> list[str]:
        """Why the run is void, one sentence each; [] when every log is whole."""
        missing = [f"worker {worker} left no log" for worker in self.missing]
        return missing + [fact for _, log in sorted(self.logs.items()) for fact in log.facts]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A loaded run. Nothing in it is tidied: checks judge what the clients recorded."""

    path: Path
    run: dict[str, Any]  # run.json
    names: Names
    faults: list[dict[str, Any]]  # faults.jsonl, in order
    ingest: Ingest
    frame: pl.LazyFrame

    def scan(self) -> pl.LazyFrame:
        """All records, lazily: the columns of ``RECORD`` with epochs as global ids (also in
        ``publisher`` of SUB, GAP and EPOCH), and two columns more: ``file`` (u16, the worker)
        and ``row`` (u32, order of observation in that worker's log). Rows come in (file, row) order.
        """
        return self.frame


def open_history(run_dir: Path | str) -> History:
    """Read a run directory; live records are sealed first (``reports.seal``).

    Raises:
        HistoryError: not a run directory, of another schema version, of another run, or
            damaged beyond what ``Ingest`` can tell.
    """
    from .seal import load  # seal reads with polars and pyarrow, which load workers do without

    return load(Path(run_dir))

"""What the oracle judges: a history as plain tuples, and the few questions that every group asks of it.

The oracle is a second checker, written from the page that defines the anomaly classes
and from nothing else: nested loops over lists, no sharing with ``reports.checks`` (a test sees to that).
It is slow, and meant for histories of some hundred records.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from reports.history import Flag, History, Kind, Mark

NS = 1_000_000_000
DEFAULT_UNCERTAINTY_NS = 1_000  # how far clocks of two workers may be apart, where run.json says nothing
Message = tuple[int, int]  # (publisher, pub_seq)


class Record(NamedTuple):
    """One record, and where it stands: ``file`` is the worker, ``row`` the order of observation in its log."""

    file: int
    row: int
    t: int
    t2: int
    client: int
    channel: int
    publisher: int
    pub_seq: int
    serial: int
    epoch: int
    kind: int
    flags: int

    @property
    def message(self) -> Message:
        return self.publisher, self.pub_seq

    @property
    def asked(self) -> tuple[int, int]:
        """SUB: the position that was asked for, (epoch, serial); (0, 0): none."""
        return self.publisher, self.pub_seq

    def has(self, flag: Flag) -> bool:
        return bool(self.flags & flag)

    @property
    def shows(self) -> bool:
        """RECV, READ: a body that is intact and of this run, so that its identity can be believed."""
        return (
            self.kind in (Kind.RECV, Kind.READ)
            and not self.has(Flag.BAD_DIGEST)
            and not self.has(Flag.FOREIGN)
        )


@dataclass(frozen=True)
class Case:
    """A history, read whole."""

    records: tuple[Record, ...]  # in (file, row) order
    run: dict[str, Any]
    subscriptions: dict[int, tuple[int, ...]]
    channel_names: tuple[str | None, ...]
    faults: tuple[dict[str, Any], ...]
    broken: frozenset[int]  # workers whose silence proves nothing

    @classmethod
    def of(cls, history: History) -> Case:
        rows = history.scan().select(Record._fields).collect().rows()
        return cls(
            records=tuple(sorted(Record(*row) for row in rows)),
            run=history.run,
            subscriptions=dict(history.names.subscriptions),
            channel_names=history.names.channels,
            faults=tuple(history.faults),
            broken=history.ingest.broken,
        )

    # ── the contract ──────────────────────────────────────────────────────────────────────

    @property
    def contract(self) -> dict[str, Any]:
        contract: dict[str, Any] = self.run.get("contract") or {}
        return contract

    @property
    def echo(self) -> bool:
        return bool(self.contract.get("echo", True))

    def deadline_ns(self, name: str) -> int | None:
        value = (self.contract.get("deadlines") or {}).get(name)
        return None if value is None else int(value * NS)

    @property
    def uncertainty_ns(self) -> int:
        value = (self.run.get("clock") or {}).get("uncertainty_ns")
        return DEFAULT_UNCERTAINTY_NS if value is None else int(value)

    def retention(self, channel: int) -> dict[str, Any]:
        """``retain_*`` of a channel: its namespace's, else the server's."""
        names = self.channel_names
        name = (names[channel] if channel < len(names) else None) or ""
        before, colon, _ = name.partition(":")
        own = (self.contract.get("namespaces") or {}).get(before if colon else "") or {}
        keys = ("retain_n", "retain_s", "retain_bytes")
        return {key: own.get(key, self.contract.get(key)) for key in keys}

    # ── records ───────────────────────────────────────────────────────────────────────────

    def of_kind(self, *kinds: Kind) -> Iterator[Record]:
        return (r for r in self.records if r.kind in kinds)

    @cached_property
    def channels(self) -> tuple[int, ...]:
        return tuple(sorted({r.channel for r in self.records if r.channel}))

    @cached_property
    def clients(self) -> tuple[int, ...]:
        return tuple(sorted({r.client for r in self.records}))

    def marks(self, mark: Mark) -> list[Record]:
        return sorted((r for r in self.of_kind(Kind.MARK) if r.serial == mark), key=lambda r: r.t)

    def marked_ns(self, *marks: Mark) -> int | None:
        """When the first of these marks was set that was set at all."""
        for mark in marks:
            if found := self.marks(mark):
                return found[0].t
        return None

    @cached_property
    def end_ns(self) -> int:
        return max((r.t for r in self.records), default=0)

    def worker_of(self, client: int) -> int:
        """Worker K of W has the clients c with c mod W = K mod W; client 0 is worker 0's."""
        workers = len(self.run.get("workers") or [])
        if client == 0 or workers == 0:
            return 0
        return (client - 1) % workers + 1

    def is_torn(self, client: int) -> bool:
        return self.worker_of(client) in self.broken

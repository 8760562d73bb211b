"""What the oracle judges: a history as plain tuples, and the few questions that every group asks of it.

The oracle is a second checker, written from the definitions of the anomaly classes: nested loops over lists,
no code shared with ``reports.checks`` (a test sees to that). Where the definitions can be read in two ways,
both follow DECISIONS.md 26. It is slow, and meant for histories of some hundred records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from reports.history import Flag, History, Kind, Mark

NS = 1_000_000_000
DEFAULT_UNCERTAINTY_NS = 1_000  # how far clocks of two workers may be apart, where run.json says nothing
Message = tuple[int, int]  # (publisher, pub_seq)


class Record(NamedTuple):
    """One record, and where it stands: ``file`` is the worker, ``row`` its place in that worker's log."""

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
            records=tuple(_with_channels(sorted(Record(*row) for row in rows))),
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

    def seconds_ns(self, name: str, default_s: float) -> int:
        """``dedupe_s`` or one of the deadlines."""
        within = self.contract if name in self.contract else self.contract.get("deadlines") or {}
        return int(within.get(name, default_s) * NS)

    @property
    def dedupe_ns(self) -> int:
        return self.seconds_ns("dedupe_s", 300)

    @property
    def settle_ns(self) -> int:
        return self.seconds_ns("settle_s", 10)

    @property
    def ack_ns(self) -> int:
        return self.seconds_ns("ack_s", 5)

    @property
    def uncertainty_ns(self) -> int:
        value = (self.run.get("clock") or {}).get("uncertainty_ns")
        return DEFAULT_UNCERTAINTY_NS if value is None else int(value)

    def retention(self, channel: int) -> dict[str, Any]:
        """``retain_*`` of a channel: its namespace's, else the server's."""
        names = self.channel_names
        name = (names[channel] if channel < len(names) else None) or ""
        before, colon, _ = name.partition(":")
        named = self.contract.get("namespaces") or {}
        said = named[before] if colon and before in named else self.contract
        return {key: said.get(key) for key in ("retain_n", "retain_s", "retain_bytes")}

    # ── records ───────────────────────────────────────────────────────────────────────────

    def of_kind(self, *kinds: Kind) -> list[Record]:
        return [r for kind in kinds for r in self._by_kind.get(int(kind), [])]

    @cached_property
    def _by_kind(self) -> dict[int, list[Record]]:
        return _grouped(self.records, lambda r: r.kind)

    def of_client(self, client: int) -> list[Record]:
        """In the order of observation."""
        return self._by_client.get(client, [])

    @cached_property
    def _by_client(self) -> dict[int, list[Record]]:
        return _grouped(self.records, lambda r: r.client)

    def of_channel(self, channel: int) -> list[Record]:
        return self._by_channel.get(channel, [])

    @cached_property
    def _by_channel(self) -> dict[int, list[Record]]:
        return _grouped(self.records, lambda r: r.channel)

    @cached_property
    def homes(self) -> dict[Message, int]:
        """The channel that each message was sent to. Of several, which is the load's own fault, the first."""
        homes: dict[Message, int] = {}
        for r in self.of_kind(Kind.SEND):
            homes[r.message] = min(r.channel, homes.get(r.message, r.channel))
        return homes

    @cached_property
    def channels(self) -> tuple[int, ...]:
        return tuple(sorted({r.channel for r in self.records if r.channel}))

    @cached_property
    def clients(self) -> tuple[int, ...]:
        return tuple(sorted({r.client for r in self.records}))

    def marked_ns(self, *marks: Mark) -> int | None:
        """When the first of these marks was set that was set at all; client 0's count before others'."""
        for mark in marks:
            found = [r for r in self.of_kind(Kind.MARK) if r.serial == mark]
            own = [r for r in found if r.client == 0]
            if own or found:
                return min(r.t for r in own or found)
        return None

    @property
    def waited_until_ns(self) -> int | None:
        """When waiting was over: nothing that comes later counts as late."""
        return self.marked_ns(Mark.FINAL_READS, Mark.END)

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


def _grouped(records: Iterable[Record], key: Callable[[Record], int]) -> dict[int, list[Record]]:
    groups: dict[int, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return groups


def _with_channels(records: list[Record]) -> Iterator[Record]:
    """An answer to no open request has no channel: it is about the channel that its message was sent to."""
    homes = {r.message: r.channel for r in reversed(records) if r.kind == Kind.SEND}
    for r in records:
        lacks = r.channel == 0 and r.kind in (Kind.ACK, Kind.NACK)
        yield r._replace(channel=homes.get(r.message, 0)) if lacks else r

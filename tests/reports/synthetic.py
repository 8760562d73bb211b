"""A run directory as a correct server under faults would leave it, made from arithmetic alone.

Everybody subscribes to some channels; messages are placed in order of sending; a client that a
fault cut off resumes after it and gets what it missed as a replay. What a test needs different
it changes in the records before they are written.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reports.history import RECORD, SCHEMA_VERSION, Flag, Header, History, Ingest, Kind, Mark
from reports.rundir import Names
from reports.seal import frame_of

S = 1_000_000_000
MS = 1_000_000
T0 = 5_000 * S
NONCE = 77
BOOT = b"b" * 16
EPOCH = 1
Records = npt.NDArray[Any]


@dataclass(frozen=True)
class Cut:
    """A stretch in which some clients have no connection: seconds since T0; ``parity`` None: everybody.

    ``clients``: only these. ``on_purpose``: they go by themselves, and publish nothing meanwhile.
    ``replay_s``: how much longer than a moment the replay takes.
    """

    begin: float
    end: float
    parity: int | None = None
    clients: frozenset[int] | None = None
    on_purpose: bool = False
    replay_s: float = 0.0

    def hits(self, client: int) -> bool:
        return _hits(client, self.parity, self.clients)


@dataclass(frozen=True)
class Slow:
    """A stretch in which deliveries and acks of some clients take longer."""

    begin: float
    end: float
    extra_ms: float
    parity: int | None = None
    clients: frozenset[int] | None = None

    def hits(self, client: int) -> bool:
        return _hits(client, self.parity, self.clients)


def _hits(client: int, parity: int | None, clients: frozenset[int] | None) -> bool:
    return (parity is None or client % 2 == parity) and (clients is None or client in clients)


@dataclass
class Synthetic:
    """Builds the records and files of a run; see ``write``."""

    clients: int = 20
    channels: int = 5
    per_client: int = 2
    rate: float = 40.0  # messages a second, all clients together
    warmup_s: float = 2.0
    steady_s: float = 8.0
    seed: int = 1
    cuts: Sequence[Cut] = ()
    slows: Sequence[Slow] = ()
    faults: list[dict[str, Any]] = field(default_factory=list)
    run: dict[str, Any] = field(default_factory=dict)
    scenario: str = "synthetic"
    channel_names: list[str] | None = None
    bare: bool = False  # no records but those of ``add``
    spread: float = 0.45  # sigma of the latencies' lognormal distribution
    personas: dict[str, Sequence[int]] = field(default_factory=dict)  # clients by persona
    keeps: int | None = None  # newest messages of a channel that are retained; None: all
    late: dict[tuple[int, int], float] = field(default_factory=dict)  # (client, cut) -> seconds after its end
    nodes: int = 1  # a client's is (client // 2) mod nodes + 1, as load without balancing has it

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        self._rows: dict[int, list[tuple[int, ...]]] = {0: [], 1: []}
        self._back: dict[tuple[int, int], float] = {}
        self._made = self.bare

    @property
    def end_s(self) -> float:
        return self.warmup_s + self.steady_s

    def subscriptions(self, client: int) -> list[int]:
        return sorted({1 + (client * self.per_client + i) % self.channels for i in range(self.per_client)})

    def add(self, kind: Kind, t: float, *, worker: int = 1, **fields: int) -> None:
        """One record at ``t`` seconds since T0."""
        row = {"t2": 0, "client": 0, "channel": 0, "publisher": 0, "pub_seq": 0, "serial": 0, "epoch": 0}
        row |= {"flags": 0} | fields
        self._rows[worker].append(
            (
                T0 + round(t * S),
                row["t2"],
                row["client"],
                row["channel"],
                row["publisher"],
                row["pub_seq"],
                row["serial"],
                row["epoch"],
                int(kind),
                row["flags"],
            )
        )

    def records(self) -> dict[int, Records]:
        """Records by worker, in order of time; 0 is the run's own client."""
        if not self._made:
            self._made = True
            self._play()
        return {w: np.array(sorted(rows, key=lambda r: r[0]), dtype=RECORD) for w, rows in self._rows.items()}

    # ── the play ──────────────────────────────────────────────────────────────────────────

    def _play(self) -> None:
        placed = self._publish()
        heads = {channel: len(messages) for channel, messages in placed.items()}
        for client in range(1, self.clients + 1):
            self._connect(client, 0.05 + 0.5 * client / self.clients)
            for number, cut in enumerate(self.cuts):
                if cut.hits(client):
                    self._resume(client, number, placed)
            for channel in self.subscriptions(client):
                self._deliver(client, channel, placed[channel])
            self.add(Kind.CLOSE, self.end_s + 4, client=client, serial=1000, flags=Flag.ON_PURPOSE)
        self._finish(heads, placed)

    def _node(self, client: int) -> int:
        return client // 2 % self.nodes + 1

    def _connect(self, client: int, at: float) -> None:
        node, dialled = self._node(client), T0 + round((at - 0.004) * S)
        self.add(Kind.CONN, at, client=client, serial=101, publisher=node, t2=dialled)
        for channel in self.subscriptions(client):
            asked = T0 + round((at + 0.001) * S)
            where = {"client": client, "channel": channel, "epoch": EPOCH}
            self.add(Kind.SUB, at + 0.003, t2=asked, **where)
            self.add(Kind.LIVE, at + 0.003, t2=asked, serial=0, **where)

    def _publish(self) -> dict[int, list[tuple[float, float, int, int]]]:
        """By channel, in order of serials: (scheduled, placed, publisher, pub_seq)."""
        gaps = self._rng.exponential(1 / self.rate, int(self.rate * self.end_s * 1.5) + 20)
        due = 0.8 + np.cumsum(gaps)
        due = due[due < self.end_s]
        sent: list[tuple[float, float, int, int]] = []
        numbers = dict.fromkeys(range(1, self.clients + 1), 0)
        for scheduled in due:
            publisher = int(self._rng.integers(1, self.clients + 1))
            channel = int(self._rng.choice(self.subscriptions(publisher)))
            if self._away(publisher, scheduled):
                continue
            numbers[publisher] += 1
            left = max(scheduled + 0.0003, self._online(publisher, scheduled))
            sent.append((left, scheduled, publisher, channel * 1_000_000 + numbers[publisher]))
        placed: dict[int, list[tuple[float, float, int, int]]] = {c: [] for c in range(1, self.channels + 1)}
        for left, scheduled, publisher, packed in sorted(sent):
            channel, number = divmod(packed, 1_000_000)
            placed[channel].append((scheduled, left + 0.001, publisher, number))
            serial = len(placed[channel])
            what = {"publisher": publisher, "pub_seq": number, "channel": channel, "client": publisher}
            t2 = T0 + round(scheduled * S)
            self.add(Kind.SEND, left, t2=t2, serial=200, **what)
            took = self._took(publisher, left)
            self.add(Kind.ACK, left + took, t2=t2, serial=serial, epoch=EPOCH, **what)
        return placed

    def _online(self, client: int, at: float) -> float:
        """First moment from ``at`` on at which a client is connected."""
        for number, cut in enumerate(self.cuts):
            if cut.hits(client) and cut.begin <= at + 0.05 and at < self._return(client, number):
                return self._return(client, number) + 0.05
        return at

    def _away(self, client: int, at: float) -> bool:
        """Whether a client is gone on purpose, or about to go or only just back."""
        return any(
            cut.on_purpose and cut.hits(client) and cut.begin - 0.1 <= at < self._return(client, number) + 0.1
            for number, cut in enumerate(self.cuts)
        )

    def _return(self, client: int, number: int) -> float:
        key = (client, number)
        if key not in self._back:
            drawn = 0.05 + float(self._rng.random()) * 0.9
            self._back[key] = self.cuts[number].end + self.late.get(key, drawn)
        return self._back[key]

    def _took(self, client: int, at: float) -> float:
        extra = sum(s.extra_ms for s in self.slows if s.hits(client) and s.begin <= at < s.end)
        return (float(self._rng.lognormal(1.2, self.spread)) + extra) / 1000

    def _resume(
        self, client: int, number: int, placed: dict[int, list[tuple[float, float, int, int]]]
    ) -> None:
        cut, back = self.cuts[number], self._return(client, number)
        end = {"serial": 1000, "flags": int(Flag.ON_PURPOSE)} if cut.on_purpose else {"serial": 1006}
        self.add(Kind.CLOSE, cut.begin + 0.002, client=client, **end)
        node, dialled = self._node(client), T0 + round((back - 0.005) * S)
        self.add(Kind.CONN, back, client=client, serial=101, publisher=node, t2=dialled)
        for channel in self.subscriptions(client):
            asked = T0 + round((back + 0.001) * S)
            missed = [
                (serial, m)
                for serial, m in enumerate(placed[channel], start=1)
                if cut.begin <= m[1] + 0.05 and m[1] < back
            ]
            top = max((s for s, m in enumerate(placed[channel], start=1) if m[1] < back), default=0)
            where = {"client": client, "channel": channel, "epoch": EPOCH}
            position = missed[0][0] - 1 if missed else top
            floor = 1 if self.keeps is None else max(1, top - self.keeps + 1)
            start = max(position, floor - 1)
            self.add(
                Kind.SUB,
                back + 0.003,
                t2=asked,
                publisher=EPOCH,
                pub_seq=position,
                serial=start,
                flags=Flag.RESUMED if start == position else 0,
                **where,
            )
            if start > position:
                self.add(
                    Kind.GAP, back + 0.0031, publisher=EPOCH, pub_seq=position + 1, serial=start, **where
                )
            for serial, (scheduled, _, publisher, pub_seq) in missed:
                if serial <= start:
                    continue
                self.add(
                    Kind.RECV,
                    back + 0.004 + serial * 1e-7,
                    t2=T0 + round(scheduled * S),
                    publisher=publisher,
                    pub_seq=pub_seq,
                    serial=serial,
                    flags=Flag.REPLAYED | (Flag.OWN_ECHO if publisher == client else 0),
                    **where,
                )
            self.add(Kind.LIVE, back + 0.006 + cut.replay_s, t2=asked, serial=top, pub_seq=floor, **where)

    def _deliver(self, client: int, channel: int, messages: list[tuple[float, float, int, int]]) -> None:
        last = 0.0
        for serial, (scheduled, at, publisher, pub_seq) in enumerate(messages, start=1):
            if any(
                cut.hits(client) and cut.begin <= at + 0.05 and at < self._return(client, n)
                for n, cut in enumerate(self.cuts)
            ):
                continue
            # Nothing live comes before the replay of a resumption has ended.
            back = [(self._return(client, n), c.replay_s) for n, c in enumerate(self.cuts) if c.hits(client)]
            open_from = max((b + 0.007 + more for b, more in back if b <= at), default=0.0)
            last = max(last + 1e-7, at + self._took(client, at), open_from)
            self.add(
                Kind.RECV,
                last,
                t2=T0 + round(scheduled * S),
                client=client,
                channel=channel,
                publisher=publisher,
                pub_seq=pub_seq,
                serial=serial,
                epoch=EPOCH,
                flags=Flag.OWN_ECHO if publisher == client else 0,
            )

    def _finish(self, heads: dict[int, int], placed: dict[int, list[tuple[float, float, int, int]]]) -> None:
        """Client 0: drain mark, one sentinel a channel, two final reads."""
        end = self.end_s + 1
        self.add(Kind.MARK, end, worker=0, serial=Mark.DRAIN)
        for channel, head in heads.items():
            at, what = end + 0.1 + channel * 0.001, {"channel": channel, "pub_seq": channel}
            self.add(Kind.SEND, at, worker=0, t2=T0 + round(at * S), serial=200, **what)
            self.add(
                Kind.ACK, at + 0.002, worker=0, t2=T0 + round(at * S), serial=head + 1, epoch=EPOCH, **what
            )
            self.add(Kind.MARK, at + 0.003, worker=0, serial=Mark.SENTINEL, **what)
            for client in range(1, self.clients + 1):
                if channel in self.subscriptions(client):
                    fields = {"serial": head + 1, "epoch": EPOCH, **what}
                    self.add(Kind.RECV, at + 0.003, client=client, t2=T0 + round(at * S), **fields)
            for read in range(2):
                self._read(channel, end + 2 + read * 0.5 + channel * 0.01, placed[channel], at)
        self.add(Kind.MARK, end + 4, worker=0, serial=Mark.END)

    def _read(
        self, channel: int, at: float, messages: list[tuple[float, float, int, int]], sentinel: float
    ) -> None:
        asked = T0 + round(at * S)
        where = {"worker": 0, "channel": channel, "epoch": EPOCH}
        entries = [*messages, (sentinel, 0.0, 0, channel)]
        floor = 1 if self.keeps is None else max(1, len(entries) - self.keeps + 1)
        self.add(Kind.SUB, at + 0.001, t2=asked, serial=floor - 1, **where)
        for serial, (scheduled, _, publisher, pub_seq) in enumerate(entries, start=1):
            if serial < floor:
                continue
            self.add(
                Kind.READ,
                at + 0.002,
                t2=T0 + round(scheduled * S),
                publisher=publisher,
                pub_seq=pub_seq,
                serial=serial,
                flags=Flag.REPLAYED,
                **where,
            )
        self.add(Kind.LIVE, at + 0.003, t2=asked, serial=len(entries), pub_seq=floor, **where)

    # ── files ─────────────────────────────────────────────────────────────────────────────

    def names(self) -> dict[str, Any]:
        rooms = self.channel_names or [f"room:{i}" for i in range(1, self.channels + 1)]
        return {
            "channels": [None, *rooms],
            "clients": [f"c{i}" for i in range(self.clients + 1)],
            "nodes": [None, *(f"n{node}" for node in range(1, self.nodes + 1))],
            "epochs": [None],
            "personas": {name: list(clients) for name, clients in self.personas.items()},
            "subscriptions": {str(c): self.subscriptions(c) for c in range(1, self.clients + 1)},
        }

    def manifest(self) -> dict[str, Any]:
        warm, end = T0 + round(self.warmup_s * S), T0 + round(self.end_s * S)
        return {
            "schema_version": SCHEMA_VERSION,
            "run_id": "20240501T120000Z-synthetic-7f3a",
            "scenario": self.scenario,
            "why": "does the report tell the truth about a run that is known to the last record?",
            "seed": self.seed,
            "nonce": NONCE,
            "status": "complete",
            "command": "chatproof run synthetic --seed 1",
            "started_utc": "2024-05-01T12:00:00Z",
            "ended_utc": "2024-05-01T12:01:10Z",
            "duration_s": self.end_s + 8,
            "clock": {
                "monotonic_ns": T0,
                "unix_ns": 1_714_564_800 * S,
                "boot_id": str(uuid.UUID(bytes=BOOT)),
            },
            "t0_ns": T0,
            "phases": [
                {"name": "warm-up", "start_ns": T0, "end_ns": warm, "warmup": True},
                {"name": "steady", "start_ns": warm, "end_ns": end, "warmup": False},
            ],
            "via": "proxy (embedded 0.1.0)",
            "interactive": False,
            "contract": {
                "profile": "effectively-once",
                "echo": True,
                "durability": "sqlite",
                "retain_n": 100_000,
                "retain_s": 86_400,
                "retain_bytes": 64 << 20,
                "dedupe_s": 300,
                "ping_s": 25,
                "pong_s": 8,
                "test_hooks": [],
                "deadlines": {"settle_s": 30, "drain_cap_s": 30, "ack_s": 5},
            },
            "expect": {"resumes": bool(self.cuts), "unexercised": 0.0, "info_share": 0.2},
            "host": {
                "cpus": 2,
                "platform": "Linux x86_64",
                "python": "3.11.9",
                "kernel": "6.1.0",
                "load1": 0.4,
            },
            "versions": {"chatproof": "0.1.0", "python": "3.11.9", "uvloop": "0.22.1"},
            "load": {
                "clients": self.clients,
                "channels": self.channels,
                "workers": 1,
                "driver": "chatd",
                "predicted": {"publishes": int(self.rate * (self.end_s - 0.8))},
            },
            "workers": [1],
            "control": 0,
            "problems": [],
            "void": [],
        } | self.run

    def write(self, path: Path, *, counters: dict[str, Any] | None = None) -> Path:
        """Write the run directory, its logs live (not yet sealed)."""
        events = path / "events"
        events.mkdir(parents=True)
        for worker, records in self.records().items():
            head = Header(worker=worker, segment=0, boot_id=BOOT, nonce=NONCE).pack()
            (events / f"w{worker}-0.rec").write_bytes(head + records.tobytes() + bytes(400))
            (events / f"w{worker}.names.jsonl").write_text('{"epoch": 1, "name": "E1"}\n')
            told = {"worker": worker, "records": len(records), "lost": 0} | self._counters(records)
            (events / f"w{worker}.counters.json").write_text(json.dumps(told | (counters or {})))
        (path / "run.json").write_text(json.dumps(self.manifest()))
        (path / "names.json").write_text(json.dumps(self.names()))
        (path / "faults.jsonl").write_text("".join(json.dumps(line) + "\n" for line in self.faults))
        return path

    @staticmethod
    def _counters(records: Records) -> dict[str, Any]:
        return {
            "scheduled": int((records["kind"] == Kind.SEND).sum()),
            "sent": int((records["kind"] == Kind.SEND).sum()),
            "received": int((records["kind"] == Kind.RECV).sum()),
            "lag_p50_ms": 0.2,
            "lag_p99_ms": 1.4,
            "lag_max_ms": 3.9,
            "hiccup_p99_ms": 1.1,
            "hiccup_max_ms": 4.2,
            "cpu_s": 6.0,
            "wall_s": 12.0,
            "max_rss_bytes": 88 << 20,
        }


def in_memory(made: Synthetic) -> History:
    """The run as a loaded history, without a file."""
    names = made.names()
    return History(
        path=Path("nowhere"),
        run=made.manifest(),
        names=Names(
            channels=tuple(names["channels"]),
            clients=tuple(names["clients"]),
            nodes=tuple(names["nodes"]),
            epochs=(None, "E1"),
            subscriptions={int(c): tuple(ids) for c, ids in names["subscriptions"].items()},
            personas={name: tuple(clients) for name, clients in names["personas"].items()},
        ),
        faults=made.faults,
        ingest=Ingest(),
        frame=frame_of(made.records()),
    )


def small(**more: Any) -> Synthetic:
    """Ten seconds of eight clients on two channels."""
    return Synthetic(**{"clients": 8, "channels": 2, "rate": 60.0, "warmup_s": 1.0, "steady_s": 9.0} | more)


def fault_lines(
    fault: str, kind: str, begin: float, end: float, *, target: str = "all", **more: Any
) -> list[dict[str, Any]]:
    """planned, start, stop and revert of one fault; seconds since T0."""
    common = {"id": fault, "kind": kind, "target": target, "error": None, **more}
    planned = T0 + round(begin * S)
    return [
        common | {"phase": "planned", "t": None, "planned_t": planned},
        common | {"phase": "start", "t": planned + MS, "planned_t": planned},
        common | {"phase": "stop", "t": T0 + round(end * S) - MS, "planned_t": planned},
        common | {"phase": "revert", "t": T0 + round(end * S), "planned_t": planned},
    ]


def exit_line(fault: str, at: float, **more: Any) -> dict[str, Any]:
    """A process exit at ``at`` seconds since T0; SIGKILL of the target unless told otherwise."""
    line = {"id": fault, "kind": "exit", "phase": "engine_effect", "t": T0 + round(at * S)}
    return (
        line
        | {
            "process": "chatd-1",
            "role": "target",
            "pid": 4711,
            "code": None,
            "signal": "SIGKILL",
            "planned": True,
            "error": None,
        }
        | more
    )


def start_line(fault: str, at: float) -> dict[str, Any]:
    """A process start at ``at`` seconds since T0."""
    return {
        "id": fault,
        "kind": "start",
        "phase": "engine_effect",
        "t": T0 + round(at * S),
        "process": "chatd-1",
        "role": "target",
        "pid": 4712,
    }


def stormy(**more: Any) -> Synthetic:
    """A minute with a slow wire, a cut of half of the clients and a killed server."""
    made = Synthetic(
        clients=60,
        channels=12,
        rate=120,
        warmup_s=5,
        steady_s=50,
        cuts=[Cut(26, 31, 1), Cut(40, 42.5)],
        slows=[Slow(13, 20, 35.0, 0)],
        **more,
    )
    made.faults = [
        *fault_lines("slow-a", "latency", 13, 20, target="a"),
        *fault_lines("cut-b", "down", 26, 31, target="b"),
        *fault_lines("kill-1", "kill", 40, 42.5, target="chatd-1"),
        exit_line("kill-1", 40.001),
        start_line("kill-1", 42.4),
    ]
    return made

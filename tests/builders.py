"""A small language to write histories by hand.

``Story`` puts single records down, in the order of observation; nothing in it knows what is right
(tests/scenes.py has a correct server for it). ``history`` gives them to the checks, ``write`` leaves
them in a run directory as load workers would.
Times advance by a millisecond a record. Epochs are named E1, E2, …; messages are (publisher, pub_seq).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reports.history import (
    CONN_OK,
    HEADER_BYTES,
    RECORD,
    BadReason,
    Flag,
    GapReason,
    Header,
    History,
    Ingest,
    Kind,
    Mark,
    WorkerLog,
)
from reports.rundir import Names
from reports.seal import frame_of

Message = tuple[int, int]  # (publisher, pub_seq)
T0 = 1_000_000_000_000
MS = 1_000_000
NONCE = 77
BOOT_ID = "00112233-4455-6677-8899-aabbccddeeff"


@dataclass
class Story:
    """Records by worker, as its clients saw them. Client 0 is worker 0's, the others take turns."""

    clients: int = 3
    channels: int = 1
    workers: int = 1
    echo: bool = True
    contract: dict[str, Any] = field(default_factory=dict)
    expect: dict[str, Any] = field(default_factory=dict)
    faults: list[dict[str, Any]] = field(default_factory=list)
    now: int = T0
    logs: dict[int, list[tuple[int, ...]]] = field(default_factory=dict)
    subscriptions: dict[int, tuple[int, ...]] = field(default_factory=dict)
    torn: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.logs = {worker: [] for worker in range(self.workers + 1)}

    # ── records ───────────────────────────────────────────────────────────────────────────

    def put(
        self,
        kind: Kind | int,
        client: int,
        *,
        t2: int = 0,
        channel: int = 0,
        publisher: int = 0,
        pub_seq: int = 0,
        serial: int = 0,
        epoch: int = 0,
        flags: int = 0,
    ) -> tuple[int, int]:
        """Any record. Gives its (worker, row)."""
        self.now += MS
        worker = self.worker(client)
        self.logs[worker].append(
            (self.now, t2, client, channel, publisher, pub_seq, serial, epoch, int(kind), int(flags))
        )
        return worker, len(self.logs[worker]) - 1

    def worker(self, client: int) -> int:
        return 0 if client == 0 else 1 + (client - 1) % self.workers

    def conn(self, client: int, result: int = CONN_OK) -> None:
        self.put(Kind.CONN, client, t2=self.now, serial=result, pub_seq=1)

    def close(self, client: int, code: int = 1006, *, on_purpose: bool = False) -> None:
        self.put(Kind.CLOSE, client, serial=code, flags=Flag.ON_PURPOSE if on_purpose else 0)

    def sub(
        self,
        client: int,
        channel: int = 1,
        start: int = 0,
        *,
        epoch: int = 1,
        asked: tuple[int, int] | None = None,
        resumed: bool = False,
    ) -> None:
        """``asked``: (epoch, serial) that was asked for; delivery starts after (``epoch``, ``start``)."""
        asked_epoch, asked_serial = asked or (0, 0)
        self.put(
            Kind.SUB,
            client,
            t2=self.now,
            channel=channel,
            publisher=asked_epoch,
            pub_seq=asked_serial,
            serial=start,
            epoch=epoch,
            flags=Flag.RESUMED if resumed else 0,
        )

    def live(self, client: int, channel: int = 1, serial: int = 0, *, epoch: int = 1, floor: int = 1) -> None:
        self.put(Kind.LIVE, client, channel=channel, serial=serial, epoch=epoch, pub_seq=floor)

    def unsub(self, client: int, channel: int = 1) -> None:
        self.put(Kind.UNSUB, client, t2=self.now, channel=channel)

    def send(self, client: int, pub_seq: int, channel: int = 1, *, retry: bool = False) -> None:
        flags = Flag.RETRY if retry else 0
        self.put(
            Kind.SEND,
            client,
            t2=self.now,
            channel=channel,
            publisher=client,
            pub_seq=pub_seq,
            serial=100,
            flags=flags,
        )

    def ack(
        self, client: int, pub_seq: int, serial: int, channel: int = 1, *, epoch: int = 1, flags: int = 0
    ) -> None:
        self.put(
            Kind.ACK,
            client,
            channel=channel,
            publisher=client,
            pub_seq=pub_seq,
            serial=serial,
            epoch=epoch,
            flags=flags,
        )

    def nack(
        self, client: int, pub_seq: int, channel: int = 1, *, code: int = 503, flags: int = Flag.DEFINITE
    ) -> None:
        self.put(Kind.NACK, client, t2=code, channel=channel, publisher=client, pub_seq=pub_seq, flags=flags)

    def recv(
        self, client: int, serial: int, of: Message, channel: int = 1, *, epoch: int = 1, flags: int = 0
    ) -> tuple[int, int]:
        if of[0] == client and not flags & Flag.FOREIGN:
            flags |= Flag.OWN_ECHO
        return self._shown(Kind.RECV, client, serial, of, channel, epoch, flags)

    def read(self, serial: int, of: Message, channel: int = 1, *, epoch: int = 1, flags: int = 0) -> None:
        self._shown(Kind.READ, 0, serial, of, channel, epoch, flags | Flag.REPLAYED)

    def _shown(
        self, kind: Kind, client: int, serial: int, of: Message, channel: int, epoch: int, flags: int
    ) -> tuple[int, int]:
        return self.put(
            kind,
            client,
            t2=self.now,
            channel=channel,
            publisher=of[0],
            pub_seq=of[1],
            serial=serial,
            epoch=epoch,
            flags=flags,
        )

    def gap(
        self,
        client: int,
        first: int,
        last: int,
        channel: int = 1,
        *,
        epoch: int = 1,
        from_epoch: int = 1,
        why: GapReason = GapReason.TRIMMED,
    ) -> None:
        self.put(
            Kind.GAP,
            client,
            t2=int(why),
            channel=channel,
            publisher=from_epoch,
            pub_seq=first,
            serial=last,
            epoch=epoch,
        )

    def epoch(self, client: int, epoch: int, channel: int = 1, *, parent: int = 0, fork: int = 0) -> None:
        self.put(Kind.EPOCH, client, channel=channel, epoch=epoch, publisher=parent, serial=fork)

    def mark(self, mark: Mark, *, channel: int = 0, of: Message = (0, 0), client: int = 0) -> None:
        self.put(Kind.MARK, client, channel=channel, publisher=of[0], pub_seq=of[1], serial=int(mark))

    def bad(self, client: int, reason: BadReason = BadReason.UNDECODABLE) -> None:
        self.put(Kind.BAD, client, serial=int(reason))

    def wait(self, seconds: float) -> None:
        self.now += int(seconds * 1e9)

    # ── the history ───────────────────────────────────────────────────────────────────────

    def records(self, worker: int) -> np.ndarray[Any, Any]:
        return np.array(self.logs[worker], RECORD)

    def run(self) -> dict[str, Any]:
        """run.json."""
        return {
            "schema_version": 1,
            "run_id": "story",
            "scenario": "story",
            "seed": 1,
            "nonce": NONCE,
            "status": "complete",
            "t0_ns": T0,
            "clock": {"monotonic_ns": T0, "unix_ns": 0, "boot_id": BOOT_ID},
            "phases": [{"name": "steady", "start_ns": T0, "end_ns": self.now, "warmup": False}],
            "contract": {
                "profile": "effectively-once",
                "echo": self.echo,
                "dedupe_s": 300,
                "deadlines": {"settle_s": 10, "drain_cap_s": 10, "ack_s": 5},
                **self.contract,
            },
            "expect": {"resumes": False, "unexercised": 0.0, "info_share": 1.0, **self.expect},
            "load": {"clients": self.clients, "channels": self.channels, "workers": self.workers},
            "workers": list(range(1, self.workers + 1)),
            "control": 0,
        }

    def names(self) -> Names:
        epochs = int(max((row[7] for log in self.logs.values() for row in log), default=0))
        return Names(
            channels=(None, *(f"room:{i}" for i in range(1, self.channels + 1))),
            clients=tuple(f"c{i}" for i in range(self.clients + 1)),
            nodes=(None, "n1"),
            epochs=(None, *(f"E{i}" for i in range(1, max(epochs, 1) + 1))),
            subscriptions=self.subscriptions,
        )

    def history(self) -> History:
        """The story as a loaded history, without touching a disk."""
        logs = {
            worker: WorkerLog(
                worker=worker,
                records=len(log),
                counted=None if worker in self.torn else len(log),
                facts=(f"worker {worker} left no counters",) if worker in self.torn else (),
            )
            for worker, log in self.logs.items()
        }
        return History(
            path=Path("story"),
            run=self.run(),
            names=self.names(),
            faults=self.faults,
            ingest=Ingest(logs=logs),
            frame=frame_of({worker: self.records(worker) for worker in self.logs}),
        )

    def write(self, directory: Path, *, segment_records: int = 1000) -> Path:
        """The story as a run directory with live segments, as its workers would leave it."""
        events = directory / "events"
        events.mkdir(parents=True)
        (directory / "run.json").write_text(json.dumps(self.run()))
        names = self.names()
        (directory / "names.json").write_text(
            json.dumps(
                {
                    "channels": names.channels,
                    "clients": names.clients,
                    "nodes": names.nodes,
                    "epochs": [None],
                    "subscriptions": {str(c): ids for c, ids in names.subscriptions.items()},
                }
            )
        )
        (directory / "faults.jsonl").write_text("".join(json.dumps(line) + "\n" for line in self.faults))
        for worker in self.logs:
            write_segments(events, worker, self.records(worker), segment_records=segment_records)
            lines = [{"epoch": i, "name": n} for i, n in enumerate(names.epochs) if n]
            (events / f"w{worker}.names.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
            if worker not in self.torn:
                counters = {"worker": worker, "records": len(self.logs[worker]), "lost": 0}
                (events / f"w{worker}.counters.json").write_text(json.dumps(counters))
        return directory


def write_segments(
    events: Path,
    worker: int,
    records: np.ndarray[Any, Any],
    *,
    segment_records: int = 1000,
    nonce: int = NONCE,
    boot_id: str = BOOT_ID,
) -> list[Path]:
    """Live files of one worker, the last with an unused tail."""
    paths = []
    for number, start in enumerate(range(0, max(len(records), 1), segment_records), start=1):
        body = np.zeros(segment_records + 1, RECORD)
        chunk = records[start : start + segment_records]
        body[: len(chunk)] = chunk
        header = Header(
            worker=worker, segment=number, boot_id=bytes.fromhex(boot_id.replace("-", "")), nonce=nonce
        )
        path = events / f"w{worker}-{number}.rec"
        path.write_bytes(header.pack() + body.tobytes())
        assert path.stat().st_size == HEADER_BYTES + body.nbytes
        paths.append(path)
    return paths


def exit_line(
    process: str = "chatd-1", *, planned: bool, t: int = T0, role: str = "target", ready: bool = True
) -> dict[str, Any]:
    """A line of faults.jsonl: a process ended."""
    return {
        "id": "kill-1" if planned else "",
        "kind": "exit",
        "phase": "engine_effect",
        "t": t,
        "process": process,
        "role": role,
        "pid": 4242,
        "code": None,
        "signal": "SIGKILL",
        "planned": planned,
        "ready": ready,
        "error": None,
    }


def start_line(process: str = "chatd-1", *, t: int = T0, role: str = "target") -> dict[str, Any]:
    """A line of faults.jsonl: a process began."""
    return {
        "id": "",
        "kind": "start",
        "phase": "engine_effect",
        "t": t,
        "process": process,
        "role": role,
        "pid": 4242,
    }


def fault_lines(ident: str, kind: str, start: int, stop: int, target: str = "all") -> list[dict[str, Any]]:
    """The lines of one fault that was applied and reverted."""
    base = {"id": ident, "kind": kind, "target": target, "planned_t": start, "error": None}
    phases = {"planned": start, "start": start, "stop": stop, "revert": stop}
    return [{**base, "phase": phase, "t": t} for phase, t in phases.items()]

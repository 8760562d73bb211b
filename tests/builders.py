"""A small language to write histories by hand.

``Story`` puts single records down, in the order of observation; nothing in it knows what is right.
``Scene`` is a story with a correct server in it: clients join, publish, are cut and come back, and
everybody gets what the server owes them; ``finish`` drains and reads. What a test wants wrong it
says: ``skip`` a subscriber, ``forget`` an acked message, or put a record down itself.

    scene = Scene(clients=2)
    scene.join(1), scene.join(2)
    scene.publish(1, skip=[2])  # client 2 never gets it
    scene.publish(1)
    scene.finish()
    run_checks(scene.history()).classes["D1"].count  # 1

Times advance by a millisecond a record. Epochs are named E1, E2, …; messages are (publisher, pub_seq).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
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
    """Records by worker, as its clients saw them. Client c belongs to worker 1 + c % workers, client 0 to 0."""

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
) -> list[Path]:
    """Live files of one worker, the last with an unused tail."""
    paths = []
    for number, start in enumerate(range(0, max(len(records), 1), segment_records), start=1):
        body = np.zeros(segment_records + 1, RECORD)
        chunk = records[start : start + segment_records]
        body[: len(chunk)] = chunk
        header = Header(
            worker=worker, segment=number, boot_id=bytes.fromhex(BOOT_ID.replace("-", "")), nonce=nonce
        )
        path = events / f"w{worker}-{number}.rec"
        path.write_bytes(header.pack() + body.tobytes())
        assert path.stat().st_size == HEADER_BYTES + body.nbytes
        paths.append(path)
    return paths


@dataclass
class Scene(Story):
    """A story with a correct server in it."""

    log: dict[int, list[Message | None]] = field(
        default_factory=dict
    )  # entries by channel; index = serial - 1
    floor: dict[int, int] = field(default_factory=dict)  # oldest serial retained
    life: dict[int, int] = field(default_factory=dict)  # epoch of each channel
    stands: dict[tuple[int, int], tuple[int, int]] = field(
        default_factory=dict
    )  # (epoch, serial) of a subscriber
    open: set[tuple[int, int]] = field(default_factory=set)
    counts: dict[int, int] = field(default_factory=dict)  # pub_seq of each publisher

    def __post_init__(self) -> None:
        super().__post_init__()
        for channel in range(1, self.channels + 1):
            self.log[channel], self.floor[channel], self.life[channel] = [], 1, 1

    def top(self, channel: int = 1) -> int:
        return len(self.log[channel])

    def join(self, client: int, *channels: int) -> None:
        """Connect and subscribe from now on."""
        channels = channels or (1,)
        self.conn(client)
        self.subscriptions[client] = tuple(sorted({*self.subscriptions.get(client, ()), *channels}))
        for channel in channels:
            self.subscribe(client, channel)

    def subscribe(self, client: int, channel: int = 1) -> None:
        epoch, top = self.life[channel], self.top(channel)
        self.sub(client, channel, top, epoch=epoch)
        self.live(client, channel, top, epoch=epoch, floor=self.floor[channel])
        self.stands[client, channel] = epoch, top
        self.open.add((client, channel))

    def leave(self, client: int, channel: int = 1) -> None:
        self.unsub(client, channel)
        self.open.discard((client, channel))

    def next_message(self, client: int) -> Message:
        self.counts[client] = self.counts.get(client, 0) + 1
        return client, self.counts[client]

    def publish(
        self,
        client: int,
        channel: int = 1,
        *,
        acked: bool = True,
        skip: Collection[int] = (),
        commit: bool = True,
    ) -> Message:
        """Send, commit, ack, deliver to everybody subscribed but ``skip``."""
        message = self.next_message(client)
        self.send(client, message[1], channel)
        if commit:
            self.commit(message, channel, acked=acked, skip=skip)
        return message

    def commit(
        self, message: Message, channel: int = 1, *, acked: bool = True, skip: Collection[int] = ()
    ) -> int:
        """The server places a message, answers and delivers."""
        self.log[channel].append(message)
        serial = self.top(channel)
        if acked:
            self.ack(message[0], message[1], serial, channel, epoch=self.life[channel])
        self.deliver(channel, serial, skip=skip)
        return serial

    def deliver(self, channel: int, serial: int, *, skip: Collection[int] = ()) -> None:
        message = self.log[channel][serial - 1]
        for client, subscribed in sorted(self.open):
            if subscribed == channel and client not in skip and message is not None:
                if message[0] == client and not self.echo:
                    self.stands[client, channel] = self.life[channel], serial
                    continue
                self.give(client, channel, serial)

    def give(self, client: int, channel: int, serial: int, *, flags: int = 0) -> None:
        """One delivery, as the log has it."""
        message = self.log[channel][serial - 1]
        assert message is not None
        self.recv(client, serial, message, channel, epoch=self.life[channel], flags=flags)
        self.stands[client, channel] = self.life[channel], max(serial, self.stands[client, channel][1])

    def cut(self, client: int, code: int = 1006, *, on_purpose: bool = False) -> None:
        self.close(client, code, on_purpose=on_purpose)
        self.open = {(c, channel) for c, channel in self.open if c != client}

    def back(self, client: int, *, skip: Collection[int] = (), live: bool = True) -> None:
        """Connect again and resume every channel; ``skip``: serials that the replay leaves out."""
        self.conn(client)
        for channel in self.subscriptions[client]:
            self.resume(client, channel, skip=skip, live=live)

    def resume(
        self,
        client: int,
        channel: int = 1,
        *,
        skip: Collection[int] = (),
        live: bool = True,
        upto: int | None = None,
    ) -> None:
        epoch, stood = self.stands[client, channel]
        if epoch != self.life[channel]:
            self._start_again(client, channel)
            return
        top, lost = self.top(channel), self.floor[channel] - 1
        start = max(stood, lost)
        self.sub(client, channel, start, epoch=epoch, asked=(epoch, stood), resumed=start == stood)
        if start > stood:
            self.gap(client, stood + 1, start, channel, epoch=epoch, from_epoch=epoch)
        self.stands[client, channel] = epoch, start
        self.open.add((client, channel))
        for serial in range(start + 1, (top if upto is None else upto) + 1):
            message = self.log[channel][serial - 1]
            if serial not in skip and message is not None and (self.echo or message[0] != client):
                self.give(client, channel, serial, flags=Flag.REPLAYED)
        if live:
            self.live(client, channel, top, epoch=epoch, floor=self.floor[channel])
            self.stands[client, channel] = epoch, max(self.stands[client, channel][1], start)

    def _start_again(self, client: int, channel: int) -> None:
        """A resume after the stream began a new life: a declared gap, then everything there is."""
        epoch, stood = self.stands[client, channel]
        life, top = self.life[channel], self.top(channel)
        self.epoch(client, life, channel)
        self.sub(client, channel, top, epoch=life, asked=(epoch, stood))
        self.gap(client, stood + 1, top, channel, epoch=life, from_epoch=epoch, why=GapReason.EPOCH)
        self.live(client, channel, top, epoch=life)
        self.stands[client, channel] = life, top
        self.open.add((client, channel))

    def new_life(self, channel: int = 1) -> None:
        """The server lost the stream: a fresh epoch, serials from 1."""
        self.life[channel] += 1
        self.log[channel], self.floor[channel] = [], 1

    def trim(self, channel: int, floor: int) -> None:
        self.floor[channel] = floor

    def retry(self, message: Message, channel: int = 1) -> None:
        """Send again what is in the log: a duplicate ack with the original position."""
        self.send(message[0], message[1], channel, retry=True)
        serial = self.log[channel].index(message) + 1
        self.ack(message[0], message[1], serial, channel, epoch=self.life[channel], flags=Flag.DUPLICATE)

    # ── the end of a run ──────────────────────────────────────────────────────────────────

    def finish(
        self,
        *,
        behind: Collection[int] = (),
        lost: Collection[int] = (),
        forget: Iterable[tuple[int, int]] = (),
        reads: int = 2,
    ) -> None:
        """Drain, sentinels, final reads, end.

        Args:
            behind: clients that get nothing more until they are forced to reconnect.
            lost: of them, those that resume then and still get nothing.
            forget: (channel, serial) that the final reads do not show.
        """
        self.drain(behind=behind)
        if behind:
            self.mark(Mark.FORCED_RECONNECT)
            for client in sorted(behind):
                self.cut(client, 1000, on_purpose=True)
            for client in sorted(behind):
                self.conn(client)
                for channel in self.subscriptions[client]:
                    stood = self.stands[client, channel][1]
                    self.resume(
                        client, channel, live=client not in lost, upto=stood if client in lost else None
                    )
        self.final_reads(forget=forget, reads=reads)
        self.mark(Mark.END)
        for client in sorted({client for client, _ in self.open}):
            self.cut(client, 1000, on_purpose=True)

    def drain(self, *, behind: Collection[int] = ()) -> None:
        self.mark(Mark.HEAL)
        self.mark(Mark.DRAIN)
        for channel in self.log:
            message = self.publish(0, channel, skip=behind)
            self.mark(Mark.SENTINEL, channel=channel, of=message)

    def final_reads(self, *, forget: Iterable[tuple[int, int]] = (), reads: int = 2) -> None:
        self.mark(Mark.FINAL_READS)
        forgotten = set(forget)
        for _ in range(reads):
            for channel in self.log:
                self.read_channel(channel, forget=[s for c, s in forgotten if c == channel])

    def read_channel(self, channel: int, *, forget: Collection[int] = ()) -> None:
        """One complete final read."""
        epoch, floor = self.life[channel], self.floor[channel]
        self.sub(0, channel, floor - 1, epoch=epoch)
        for serial in range(floor, self.top(channel) + 1):
            message = self.log[channel][serial - 1]
            if serial not in forget and message is not None:
                self.read(serial, message, channel, epoch=epoch)
        self.live(0, channel, self.top(channel), epoch=epoch, floor=floor)


def exit_line(
    process: str = "chatd-1", *, planned: bool, t: int = T0, role: str = "target"
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
        "error": None,
    }


def fault_lines(ident: str, kind: str, start: int, stop: int, target: str = "all") -> list[dict[str, Any]]:
    """The lines of one fault that was applied and reverted."""
    base: Mapping[str, Any] = {"id": ident, "kind": kind, "target": target, "planned_t": start, "error": None}
    phases: Sequence[tuple[str, int]] = (
        ("planned", start),
        ("start", start),
        ("stop", stop),
        ("revert", stop),
    )
    return [{**base, "phase": phase, "t": t} for phase, t in phases]

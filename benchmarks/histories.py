"""Run directories of millions of deliveries, made from arithmetic: what a correct server would leave.

Some clients publish; the others subscribe, and of those a share is cut off once and comes back: most
resume and get what they missed as a replay, some are told of the gap. One message in five hundred is sent
twice. Client 0 ends the run with a sentinel and two final reads a channel. benchmarks.planted damages it.

Everything is computed in columns, in blocks of time, and written as live segments, so that sealing it is
what sealing a real run is.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from reports.history import (
    CONN_OK,
    HEADER_BYTES,
    RECORD,
    SCHEMA_VERSION,
    SEGMENT_BYTES,
    Flag,
    GapReason,
    Header,
    Kind,
    Mark,
)

from .planted import Damage

NS: Final = 1_000_000_000
MS: Final = 1_000_000
T0: Final = 1_000 * NS
NONCE: Final = 20
BOOT: Final = uuid.UUID(int=7)
EPOCH: Final = 1
FAR: Final = 1 << 62  # a time that does not come
FAN_OUT: Final = 20  # subscribers of an ordinary channel
DELIVERIES_PER_S: Final = 100_000
BLOCK: Final = 250_000  # deliveries made at once
WORKERS: Final = 2
PUBLISHERS: Final = 10  # one client in so many publishes, and is never cut
CUT_SHARE: Final = 0.3  # of the subscribers
GAP_SHARE: Final = 0.1  # of those who are cut: not resumed
RETRIES: Final = 500  # one message in so many is sent twice

Ints = npt.NDArray[np.int64]
Records = npt.NDArray[np.void]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Who subscribes to what, and how much is delivered."""

    deliveries: int
    channels: int = 1000
    clients: int = 2000
    mega: bool = False  # channel 1 has every client, and half of all deliveries
    seed: int = 1

    @property
    def duration_ns(self) -> int:
        return max(20, self.deliveries // DELIVERIES_PER_S) * NS


def wide(deliveries: int) -> Shape:
    """A thousand channels alike."""
    return Shape(deliveries=deliveries)


def mega(deliveries: int) -> Shape:
    """Twenty thousand clients, all of them in one channel."""
    return Shape(deliveries=deliveries, clients=20_000, mega=True)


@dataclass(kw_only=True)
class World:
    """A run before its records: messages by (channel, serial), clients by ordinal, channels by id."""

    shape: Shape
    first: Ints  # of each channel's subscribers, in `members`; one more than channels + 1
    members: Ints
    start: Ints  # of each channel's messages
    channel: Ints  # from here on by message
    serial: Ints
    commit_t: Ints
    sent_t: Ints
    publisher: Ints
    pub_seq: Ints
    twice: npt.NDArray[np.bool_]
    lag: Ints  # from here on by client: ns from commit to delivery
    cut_t: Ints  # FAR: never
    back_t: Ints  # deliveries go on; the last 4 ms before are the replay
    resumes: npt.NDArray[np.bool_]
    damage: Damage | None = None
    extra: list[Records] = field(default_factory=list)  # records that a plant adds

    def position(self, channel: Ints, t: Ints) -> Ints:
        """How many messages of each channel were committed before each time."""
        key = (self.channel << 44) + (self.commit_t - T0)
        wanted = (channel << 44) + np.clip(t - T0, 0, (1 << 44) - 1)
        return np.searchsorted(key, wanted) - self.start[channel]

    def pairs(self) -> tuple[Ints, Ints]:
        """(channel, client) of every subscription."""
        return np.repeat(np.arange(len(self.first) - 1), np.diff(self.first)), self.members


def world(shape: Shape) -> World:
    """Everything that is drawn, from the shape's seed."""
    rng = np.random.default_rng(shape.seed)
    channels, clients = shape.channels, shape.clients
    fans = np.full(channels + 1, FAN_OUT)
    fans[0] = 0
    share = shape.deliveries // 2 if shape.mega else shape.deliveries
    count = np.full(channels + 1, share // (FAN_OUT * (channels - shape.mega)))
    count[0] = 0
    if shape.mega:
        fans[1], count[1] = clients, share // clients
    first = np.concatenate([[0], np.cumsum(fans)])
    rank = np.arange(first[-1]) - np.repeat(first[:-1], fans)
    owner = np.repeat(np.arange(channels + 1), fans)
    members = (owner * FAN_OUT + rank * (1 if shape.mega else 37)) % clients + 1
    channel = np.repeat(np.arange(channels + 1), count)
    start = np.concatenate([[0], np.cumsum(count)])
    at = rng.integers(NS, shape.duration_ns, len(channel))
    order = np.lexsort((at, channel))
    serial = np.arange(len(channel)) - start[channel] + 1
    commit_t = T0 + at[order] + serial * 10  # no two of a channel at once
    publisher = rng.integers(0, clients // PUBLISHERS, len(channel)) * PUBLISHERS + 1
    cut = (np.arange(clients + 1) % PUBLISHERS != 1) & (rng.random(clients + 1) < CUT_SHARE)
    cut[0] = False
    cut_t = T0 + rng.integers(2 * NS, shape.duration_ns - 4 * NS, clients + 1)
    away = rng.integers(NS // 2, 2 * NS, clients + 1)
    sent_t = commit_t - MS
    return World(
        shape=shape,
        first=first,
        members=members,
        start=start,
        channel=channel,
        serial=serial,
        commit_t=commit_t,
        sent_t=sent_t,
        publisher=publisher,
        pub_seq=numbered(publisher, sent_t),
        twice=rng.integers(0, RETRIES, len(channel)) == 0,
        lag=rng.integers(MS, 5 * MS, clients + 1),
        cut_t=np.where(cut, cut_t, FAR),
        back_t=np.where(cut, cut_t + away, FAR),
        resumes=rng.random(clients + 1) >= GAP_SHARE,
    )


def numbered(publisher: Ints, sent_t: Ints) -> Ints:
    """Each publisher's own count, from 1, in the order of sending."""
    order = np.lexsort((sent_t, publisher))
    begins = np.ones(len(order), np.bool_)
    begins[1:] = publisher[order][1:] != publisher[order][:-1]
    at = np.arange(len(order))
    numbers = np.empty(len(order), np.int64)
    numbers[order] = at - np.maximum.accumulate(np.where(begins, at, 0)) + 1
    return numbers


def records(kind: Kind, count: int, **columns: Any) -> Records:
    """Records of one kind; columns that are not given are 0."""
    made = np.zeros(count, RECORD)
    made["kind"] = int(kind)
    for name, column in columns.items():
        made[name] = column
    return made


# ── what happens once: connections, subscriptions, publishes ──────────────────────────────────


def _connections(w: World) -> Iterator[Records]:
    clients = np.arange(1, w.shape.clients + 1)
    t = T0 + clients * 1000
    yield records(Kind.CONN, len(clients), t=t, t2=t - MS, client=clients, serial=CONN_OK, pub_seq=1)
    cut = clients[w.cut_t[clients] != FAR]
    yield records(Kind.CLOSE, len(cut), t=w.cut_t[cut], client=cut, serial=1006)
    back = cut[w.back_t[cut] != FAR]
    t = w.back_t[back] - 8 * MS
    yield records(Kind.CONN, len(back), t=t, t2=t - MS, client=back, serial=CONN_OK, pub_seq=2)
    stay = clients[(w.cut_t[clients] == FAR) | (w.back_t[clients] != FAR)]
    t = np.full(len(stay), _end(w) + 9 * NS)
    yield records(Kind.CLOSE, len(stay), t=t, client=stay, serial=1000, flags=Flag.ON_PURPOSE)


def _subscriptions(w: World) -> Iterator[Records]:
    channel, client = w.pairs()
    t = T0 + 100 * MS + client * 1000
    plain = {"client": client, "channel": channel, "epoch": EPOCH}
    yield records(Kind.SUB, len(client), t=t, t2=t - MS, **plain)
    yield records(Kind.LIVE, len(client), t=t + 100, t2=t - MS, pub_seq=1, **plain)
    again = w.back_t[client] != FAR
    channel, client = channel[again], client[again]
    plain = {"client": client, "channel": channel, "epoch": EPOCH}
    asked, head, resumed = come_back(w, channel, client)
    begin = np.where(resumed, asked, head)
    t = w.back_t[client] - 6 * MS
    flags = np.where(resumed, int(Flag.RESUMED), 0)
    position = {"publisher": EPOCH, "pub_seq": asked, "serial": begin}
    yield records(Kind.SUB, len(client), t=t, t2=t - MS, flags=flags, **position, **plain)
    yield records(Kind.LIVE, len(client), t=w.back_t[client] - 1, t2=t - MS, serial=head, pub_seq=1, **plain)
    gap = ~resumed
    plain = {"client": client[gap], "channel": channel[gap], "epoch": EPOCH, "publisher": EPOCH}
    said = {"pub_seq": asked[gap] + 1, "serial": head[gap], "t2": int(GapReason.LAG)}
    gaps = records(Kind.GAP, int(gap.sum()), t=t[gap] + 100, **said, **plain)
    yield w.damage.gaps(gaps) if w.damage else gaps


def come_back(w: World, channel: Ints, client: Ints) -> tuple[Ints, Ints, npt.NDArray[np.bool_]]:
    """What those who come back ask for, the head that they are told, and whether they are resumed."""
    asked = w.position(channel, w.cut_t[client] - w.lag[client])
    head = w.position(channel, w.back_t[client] - w.lag[client])
    return asked, head, w.resumes[client] | (head == asked)


def _publishes(w: World) -> Iterator[Records]:
    of = {"channel": w.channel, "publisher": w.publisher, "client": w.publisher, "pub_seq": w.pub_seq}
    count = len(w.channel)
    due = w.sent_t - MS // 2
    sends = records(Kind.SEND, count, t=w.sent_t, t2=due, serial=200, **of)
    acks = records(Kind.ACK, count, t=w.sent_t + 2 * MS, t2=due, serial=w.serial, epoch=EPOCH, **of)
    again, acked = sends[w.twice], acks[w.twice]
    again["t"] += 40 * MS
    again["flags"] = int(Flag.RETRY)
    acked["t"] += 40 * MS
    acked["flags"] = int(Flag.DUPLICATE)
    if w.damage:
        sends, acks = w.damage.publishes(sends, acks)
    yield from (sends, acks, again, acked)


def _end(w: World) -> int:
    return T0 + w.shape.duration_ns + NS


def _control(w: World) -> Iterator[Records]:
    """Client 0: marks, a sentinel a channel, two final reads of each."""
    channels = np.arange(1, w.shape.channels + 1)
    end, heads = _end(w), np.diff(w.start)[1:]
    for mark, t in ((Mark.HEAL, end), (Mark.DRAIN, end + 1), (Mark.FINAL_READS, end + 4 * NS)):
        yield records(Kind.MARK, 1, t=t, serial=mark)
    yield records(Kind.MARK, 1, t=end + 8 * NS, serial=Mark.END)
    t, of = end + NS + channels * 1000, {"channel": channels, "pub_seq": channels}
    yield records(Kind.SEND, len(t), t=t, t2=t, serial=200, **of)
    yield records(Kind.ACK, len(t), t=t + 2 * MS, t2=t, serial=heads + 1, epoch=EPOCH, **of)
    yield records(Kind.MARK, len(t), t=t + 3 * MS, serial=Mark.SENTINEL, **of)
    yield records(Kind.CONN, 1, t=T0, t2=T0 - MS, serial=CONN_OK, pub_seq=1)
    channel = np.concatenate([w.channel, channels])
    entry = {
        "channel": channel,
        "serial": np.concatenate([w.serial, heads + 1]),
        "publisher": np.concatenate([w.publisher, np.zeros(len(channels), np.int64)]),
        "pub_seq": np.concatenate([w.pub_seq, channels]),
        "t2": np.concatenate([w.sent_t - MS // 2, t]),
    }
    for number in range(2):
        begin = end + (5 + number) * NS + channels * 100_000
        plain = {"channel": channels, "epoch": EPOCH, "t2": begin}
        yield records(Kind.SUB, len(channels), t=begin + 1000, **plain)
        yield records(Kind.LIVE, len(channels), t=begin + 3000, serial=heads + 1, pub_seq=1, **plain)
        of = {"epoch": EPOCH, "flags": int(Flag.REPLAYED)}
        reads = records(Kind.READ, len(channel), t=begin[channel - 1] + 2000, **of, **entry)
        yield w.damage.reads(reads) if w.damage else reads


def _sentinel_deliveries(w: World) -> Records:
    channel, client = w.pairs()
    here = w.back_t[client] != FAR
    here |= w.cut_t[client] == FAR
    channel, client = channel[here], client[here]
    t2 = _end(w) + NS + channel * 1000
    serial = np.diff(w.start)[channel] + 1
    of = {"client": client, "channel": channel, "pub_seq": channel, "epoch": EPOCH}
    made = records(Kind.RECV, len(client), t=t2 + w.lag[client], t2=t2, serial=serial, **of)
    return w.damage.sentinels(made) if w.damage else made


# ── deliveries ────────────────────────────────────────────────────────────────────────────────


def _deliveries(w: World, message: Ints) -> Records:
    """Every subscriber's delivery of some messages."""
    fans = np.diff(w.first)[w.channel[message]]
    at = np.repeat(message, fans)
    rank = np.arange(len(at)) - np.repeat(np.cumsum(fans) - fans, fans)
    client = w.members[w.first[w.channel[at]] + rank]
    t = w.commit_t[at] + w.lag[client]
    cut_t, back_t = w.cut_t[client], w.back_t[client]
    away = (t >= cut_t) & (t < back_t)
    gone = np.flatnonzero(away)
    share = (t[gone] - cut_t[gone]) / (back_t[gone] - cut_t[gone])
    t[gone] = back_t[gone] - 4 * MS + (share * 3 * MS).astype(np.int64)
    made = records(
        Kind.RECV,
        len(at),
        t=t,
        t2=w.sent_t[at] - MS // 2,
        client=client,
        channel=w.channel[at],
        publisher=w.publisher[at],
        pub_seq=w.pub_seq[at],
        serial=w.serial[at],
        epoch=EPOCH,
        flags=np.where(away, int(Flag.REPLAYED), 0)
        | np.where(w.publisher[at] == client, int(Flag.OWN_ECHO), 0),
    )
    made = made[~away | (w.resumes[client] & (back_t != FAR))]
    return w.damage.deliveries(made) if w.damage else made


def blocks(w: World) -> Iterator[Records]:
    """All records of the load, in order of time."""
    once = np.concatenate([*_connections(w), *_subscriptions(w), *_publishes(w), *w.extra])
    once = once[np.argsort(once["t"], kind="stable")]
    order = np.argsort(w.commit_t, kind="stable")
    ends = np.searchsorted(
        np.cumsum(np.diff(w.first)[w.channel[order]]), np.arange(BLOCK, 1 << 40, BLOCK)[:200_000]
    )
    bounds = np.unique(np.concatenate([[0], ends, [len(order)]]))
    bounds = bounds[bounds <= len(order)]
    kept, done = np.empty(0, RECORD), 0
    for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        last = end == len(order)
        until = FAR if last else int(w.commit_t[order[end]])
        upto = len(once) if last else int(np.searchsorted(once["t"], until))
        parts = [once[done:upto], kept, _deliveries(w, order[begin:end])]
        if last:
            parts.append(_sentinel_deliveries(w))
        pool = np.concatenate(parts)
        pool = pool[np.argsort(pool["t"], kind="stable")]
        cut = int(np.searchsorted(pool["t"], until))
        yield pool[:cut]
        kept, done = pool[cut:], upto


# ── files ─────────────────────────────────────────────────────────────────────────────────────


class _Log:
    """One worker's live segments."""

    def __init__(self, events: Path, worker: int) -> None:
        self._events, self._worker, self._segment, self._room = events, worker, 0, 0
        self.records = 0

    def add(self, some: Records) -> None:
        while len(some):
            if not self._room:
                self._path = self._events / f"w{self._worker}-{self._segment}.rec"
                head = Header(worker=self._worker, segment=self._segment, boot_id=BOOT.bytes, nonce=NONCE)
                self._path.write_bytes(head.pack())
                self._segment, self._room = (
                    self._segment + 1,
                    (SEGMENT_BYTES - HEADER_BYTES) // RECORD.itemsize,
                )
            with self._path.open("ab") as file:
                file.write(some[: self._room].tobytes())
            self.records += len(some[: self._room])
            some, self._room = some[self._room :], self._room - len(some[: self._room])

    def close(self, sent: int) -> None:
        (self._events / f"w{self._worker}.names.jsonl").write_text('{"epoch": 1, "name": "E1"}\n')
        told = {"worker": self._worker, "records": self.records, "lost": 0, "sent": sent, "lag_p99_ms": 1.0}
        (self._events / f"w{self._worker}.counters.json").write_text(json.dumps(told))


def write(w: World, path: Path) -> int:
    """Write a run directory, not yet sealed, in place of what is there. Gives its number of deliveries."""
    shutil.rmtree(path, ignore_errors=True)
    events = path / "events"
    events.mkdir(parents=True)
    logs = [_Log(events, worker) for worker in range(WORKERS + 1)]
    control = np.concatenate(list(_control(w)))
    logs[0].add(control[np.argsort(control["t"], kind="stable")])
    delivered, sent = 0, [0] * (WORKERS + 1)
    for block in blocks(w):
        delivered += int((block["kind"] == Kind.RECV).sum())
        for worker in range(1, WORKERS + 1):
            mine = block[block["client"] % WORKERS == worker % WORKERS]
            sent[worker] += int((mine["kind"] == Kind.SEND).sum())
            logs[worker].add(mine)
    for log, count in zip(logs, sent, strict=True):
        log.close(count)
    (path / "run.json").write_text(json.dumps(_manifest(w)))
    (path / "names.json").write_text(json.dumps(_names(w)))
    (path / "faults.jsonl").write_text("")
    return delivered


def _names(w: World) -> dict[str, Any]:
    channel, client = w.pairs()
    order = np.argsort(client, kind="stable")
    planned: dict[str, list[int]] = {}
    for one, other in zip(client[order].tolist(), channel[order].tolist(), strict=True):
        planned.setdefault(str(one), []).append(other)
    return {
        "channels": [None, *(f"room:{i}" for i in range(1, w.shape.channels + 1))],
        "clients": [f"c{i}" for i in range(w.shape.clients + 1)],
        "nodes": [None],
        "epochs": [None],
        "subscriptions": planned,
    }


def _manifest(w: World) -> dict[str, Any]:
    end = T0 + w.shape.duration_ns
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": "20240501T120000Z-bench-0001",
        "scenario": "bench",
        "seed": w.shape.seed,
        "nonce": NONCE,
        "status": "complete",
        "started_utc": "2024-05-01T12:00:00Z",
        "duration_s": w.shape.duration_ns / NS,
        "clock": {"monotonic_ns": T0, "unix_ns": 1_714_564_800 * NS, "boot_id": str(BOOT)},
        "t0_ns": T0,
        "phases": [{"name": "steady", "start_ns": T0, "end_ns": end, "warmup": False}],
        "contract": {
            "profile": "effectively-once",
            "echo": True,
            "retain_n": 1 << 40,
            "retain_s": 86_400,
            "retain_bytes": 1 << 50,
            "dedupe_s": 300,
            "ping_s": 25,
            "pong_s": 8,
            "deadlines": {"settle_s": 10, "ack_s": 1},
        },
        "expect": {"resumes": True},
        "workers": list(range(1, WORKERS + 1)),
        "control": 0,
    }

"""A server of chatd.v1 as PROTOCOL.md describes it, in memory and without I/O.

Frames go in with ``receive``, frames for the client collect in ``sent``. Publishes wait in
``ModelServer.queue`` until ``commit``, as they would for a disk. It is the second reading of
the protocol's text: the client is tested against it, and the conformance suite is run on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from chatd.protocol import messages as m
from chatd.protocol.errors import ERRORS


@dataclass
class Entry:
    serial: int
    user: str
    message: str
    frame: bytes
    data: bytes


@dataclass
class Stream:
    """One life of a channel."""

    epoch: str
    floor: int = 1
    entries: list[Entry] = field(default_factory=list)  # all of them: entries[n] has serial n + 1

    @property
    def top(self) -> int:
        return len(self.entries)


class ModelServer:
    """Channels, and the connections that are subscribed to them."""

    def __init__(
        self, *, ping_s: float = 25.0, pong_s: float = 8.0, retry_ms: tuple[int, int] = (500, 30_000)
    ) -> None:
        self.life = 1
        self.streams: dict[str, Stream] = {}
        self.archive: dict[tuple[str, str], Stream] = {}  # (channel, epoch): every life there was
        self.connections: list[ModelConnection] = []
        self.queue: list[tuple[ModelConnection, m.Publish]] = []
        self.refusals: list[tuple[int, int | None, bool]] = []  # (code, after_ms, stored all the same)
        self.final: dict[tuple[str, str], int] = {}  # (user, message): what it was refused with, for good
        self.ping_s, self.pong_s, self.retry_ms = ping_s, pong_s, retry_ms
        self.auto_commit = False
        self.retain_n: int | None = None

    def connect(self) -> ModelConnection:
        connection = ModelConnection(self)
        self.connections.append(connection)
        return connection

    def stream(self, channel: str) -> Stream:
        if channel not in self.streams:
            stream = self.streams[channel] = Stream(f"E{self.life}")
            self.archive[channel, stream.epoch] = stream
        return self.streams[channel]

    def forget(self) -> None:
        """Restart with nothing kept: every channel begins a new life."""
        self.life += 1
        self.streams.clear()
        self.queue.clear()
        for connection in list(self.connections):
            connection.close()

    def trim(self, channel: str, floor: int) -> None:
        stream = self.stream(channel)
        stream.floor = max(stream.floor, min(floor, stream.top + 1))

    def find(self, channel: str, user: str, message: str) -> Entry | None:
        same = [e for e in self.stream(channel).entries if (e.user, e.message) == (user, message)]
        return same[0] if same else None

    def append(self, channel: str, user: str, message: str, data: bytes) -> Entry:
        stream = self.stream(channel)
        serial = stream.top + 1
        frame = m.encode(
            m.Message(
                channel=channel, serial=serial, message=message, user=user, time=0, data=msgspec.Raw(data)
            )
        )
        entry = Entry(serial, user, message, frame, data)
        stream.entries.append(entry)
        if self.retain_n is not None:
            self.trim(channel, serial - self.retain_n + 1)
        for connection in self.connections:
            if channel in connection.subscriptions:
                connection.push(channel, entry)
        return entry

    def commit(self) -> None:
        queue, self.queue = self.queue, []
        for connection, publish in queue:
            connection.place(publish)


class ModelConnection:
    """One client's connection."""

    def __init__(self, server: ModelServer) -> None:
        self.server = server
        self.sent: list[bytes] = []
        self.subscriptions: dict[str, bool] = {}  # channel: whether own messages are sent
        self.blocked: dict[str, str] = {}  # channel: the message to be sent first
        self.user = ""
        self.close_code: int | None = None
        self.pongs = 0

    def close(self, code: int = 1006) -> None:
        self.close_code = code
        self.subscriptions.clear()
        if self in self.server.connections:
            self.server.connections.remove(self)

    def receive(self, payload: bytes) -> None:
        if self.close_code is not None:
            return
        if payload == m.PING:
            self.pongs += 1
            return
        try:
            request = m.decode_request(payload)
        except m.Undecodable as bad:
            self.refuse(bad.request_id, 404 if bad.unknown_type else 400)
            return
        if not self.user and not isinstance(request, m.Connect):
            self.close(4502)
            return
        match request:
            case m.Connect():
                self.connect(request)
            case m.Subscribe():
                self.subscribe(request.id, request.channel, request.from_, echo=request.echo)
            case m.Unsubscribe():
                self.unsubscribe(request)
            case m.Publish():
                self.server.queue.append((self, request))
                if self.server.auto_commit:
                    self.server.commit()
            case m.HistoryRequest():
                self.history(request)

    def send(self, frame: m.Reply) -> None:
        self.sent.append(m.encode(frame))

    def refuse(self, request: int | None, code: int, after_ms: int | None = None) -> None:
        cls = ERRORS[code]
        self.send(
            m.Error(
                id=request,
                code=code,
                reason=cls.__name__,
                temporary=cls.temporary,
                definite=cls.definite,
                after_ms=after_ms,
            )
        )

    def connect(self, request: m.Connect) -> None:
        self.user = request.client or f"anon-{id(self):x}"
        contract = m.Contract(
            profile="effectively-once",
            echo=True,
            durability="memory",
            retain_n=self.server.retain_n or 1_000_000,
            retain_s=86_400,
            retain_bytes=2**26,
            dedupe_s=300,
        )
        self.send(
            m.Connected(
                id=request.id,
                node="model",
                user=self.user,
                contract=contract,
                limits=m.Limits(frame_bytes=65_536, channels=100),
                ping_s=self.server.ping_s,
                pong_s=self.server.pong_s,
                retry_ms=self.server.retry_ms,
            )
        )
        for entry in request.subscribe:
            self.subscribe(None, entry.channel, entry.from_, echo=entry.echo)

    def push(self, channel: str, entry: Entry) -> None:
        if self.subscriptions[channel] or entry.user != self.user:
            self.sent.append(entry.frame)

    def subscribe(self, request: int | None, channel: str, from_: m.From | None, *, echo: bool) -> None:
        if from_ is None and channel in self.subscriptions:
            self.refuse(request, 405)
            return
        stream = self.server.stream(channel)
        start, gap = self.start(stream, from_)
        resumed = isinstance(from_, tuple) and gap is None
        self.send(
            m.Subscribed(
                id=request,
                channel=channel,
                position=(stream.epoch, stream.top),
                resumed=resumed,
                count=stream.top - start,
                floor=stream.floor,
                start=start,
                gap=gap,
                epochs=[(stream.epoch, 1)] if gap is not None and gap.why == "epoch" else None,
            )
        )
        self.subscriptions[channel] = echo
        for entry in stream.entries[start:]:
            self.push(channel, entry)
        self.send(m.Live(channel=channel, position=(stream.epoch, stream.top)))

    def start(self, stream: Stream, from_: m.From | None) -> tuple[int, m.GapInfo | None]:
        match from_:
            case None | "new":
                return stream.top, None
            case "first":
                return stream.floor - 1, None
            case m.Last(n):
                return max(stream.top - n, stream.floor - 1), None
            case (epoch, serial):
                why: m.GapWhy
                if epoch != stream.epoch:
                    why, start = "epoch", stream.floor - 1
                elif serial > stream.top:
                    why, start = "ahead", stream.top
                elif serial + 1 < stream.floor:
                    why, start = "trimmed", stream.floor - 1
                else:
                    return serial, None
                return start, m.GapInfo(why=why, from_=from_, to=(stream.epoch, start))
        raise AssertionError(from_)

    def unsubscribe(self, request: m.Unsubscribe) -> None:
        if request.channel not in self.subscriptions:
            self.refuse(request.id, 404)
            return
        del self.subscriptions[request.channel]
        self.send(m.Unsubscribed(id=request.id, channel=request.channel))

    def place(self, request: m.Publish) -> None:
        """Answer a publish. What is placed already is acked again, whatever else is the matter."""
        channel, message, key = request.channel, request.message, (self.user, request.message)
        placed = self.server.find(channel, *key)
        if placed is None:
            # This holds for what came before a break too: it must not overtake what failed.
            if self.blocked.get(channel, message) != message:
                self.refuse(request.id, 412)
                return
            if key in self.server.final:
                self.blocked.pop(channel, None)
                self.refuse(request.id, self.server.final[key])
                return
            if self.server.refusals:
                self.fail(request, *self.server.refusals.pop(0))
                return
        self.blocked.pop(channel, None)
        entry = placed or self.server.append(channel, *key, bytes(request.data))
        if entry.data != bytes(request.data):
            self.refuse(request.id, 409)
            return
        position = (self.server.stream(channel).epoch, entry.serial)
        duplicate = placed is not None
        self.send(
            m.Ack(id=request.id, message=message, position=position, duplicate=duplicate, durability="memory")
        )

    def fail(self, request: m.Publish, code: int, after_ms: int | None, stored: bool) -> None:
        if stored:
            self.server.append(request.channel, self.user, request.message, bytes(request.data))
        if ERRORS[code].temporary:
            self.blocked[request.channel] = request.message
        else:
            self.server.final[self.user, request.message] = code
            self.blocked.pop(request.channel, None)
        self.refuse(request.id, code, after_ms)

    def history(self, request: m.HistoryRequest) -> None:
        stream = self.server.stream(request.channel)
        kept: Iterable[Entry] = stream.entries[stream.floor - 1 :]
        if request.after is not None:
            found = [entry for entry in kept if entry.serial > request.after[1]]
            page = found[: request.limit]
        else:
            before = request.before or stream.top + 1
            found = [entry for entry in kept if entry.serial < before]
            page = found[-request.limit :]
        self.send(
            m.HistoryPage(
                id=request.id,
                channel=request.channel,
                position=(stream.epoch, stream.top),
                floor=stream.floor,
                epochs=[(stream.epoch, 1)],
                messages=[msgspec.Raw(entry.frame) for entry in page],
                more=len(page) < len(found),
            )
        )

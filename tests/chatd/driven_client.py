"""A client core with its network played by hand, and the frames that the tests feed to it."""

from __future__ import annotations

import random
from typing import Any

import msgspec

from chatd.client_actions import (
    Action,
    Send,
    State,
)
from chatd.client_core import ClientCore
from chatd.protocol import messages as m
from chatd.protocol.errors import (
    ERRORS,
    ChatdError,
)
from chatd.protocol.messages import From

HOME = "ws://home:1/ws"
ROOM = "room:1"
CONTRACT = m.Contract(
    profile="effectively-once",
    echo=True,
    durability="fsync",
    retain_n=9,
    retain_s=9,
    retain_bytes=9,
    dedupe_s=300,
)


class Driven:
    """A core, with what it did written down."""

    def __init__(self, *, echo: bool = True, **settings: Any) -> None:
        self.core: ClientCore[str] = ClientCore(HOME, random.Random(1), **{"client": "alice", **settings})
        self.now_s = 0.0
        self.echo = echo
        self.sent: list[m.Request] = []
        self.actions: list[Action[str]] = []

    def note(self, actions: list[Action[str]]) -> list[Action[str]]:
        self.actions += actions
        self.sent += [
            m.decode_request(a.payload) for a in actions if isinstance(a, Send) and a.payload != m.PING
        ]
        return actions

    def take(self) -> list[m.Request]:
        """The requests since the last look."""
        sent, self.sent = self.sent, []
        return sent

    def feed(self, *frames: m.Reply | bytes) -> list[Action[str]]:
        done: list[Action[str]] = []
        for frame in frames:
            payload = frame if isinstance(frame, bytes) else m.encode(frame)
            done += self.note(self.core.received(payload, self.now_s))
        return done

    def tick(self, at_s: float) -> list[Action[str]]:
        self.now_s = at_s
        return self.note(self.core.tick(at_s))

    def close(self, code: int = 1006, **more: Any) -> list[Action[str]]:
        return self.note(self.core.closed(self.now_s, code=code, **more))

    def connect(self, *, ping_s: float = 25.0, retry_ms: tuple[int, int] = (500, 30_000)) -> None:
        wake_s = self.core.wake_s
        assert wake_s is not None
        self.tick(max(self.now_s, wake_s))
        assert self.core.state is State.DIALING
        self.note(self.core.opened(self.now_s))
        (request,) = self.take()
        assert isinstance(request, m.Connect)
        self.feed(
            m.Connected(
                id=request.id,
                node="n1",
                user=request.client or "",
                contract=msgspec.structs.replace(CONTRACT, echo=self.echo),
                limits=m.Limits(frame_bytes=1000, channels=9),
                ping_s=ping_s,
                pong_s=8,
                retry_ms=retry_ms,
            )
        )

    def subscribe(self, channel: str = ROOM, from_: From = "new") -> list[Action[str]]:
        return self.note(self.core.subscribe(channel, from_, f"sub {channel}", self.now_s))

    def publish(self, n: int, channel: str = ROOM, data: bytes | None = None) -> list[Action[str]]:
        raw = msgspec.Raw(data or b"%d" % n)
        return self.note(self.core.publish(channel, raw, f"pub {n}", self.now_s, message=f"m{n}"))

    def live(self, serial: int = 0, channel: str = ROOM) -> None:
        """Subscribed, after ``serial`` of E1."""
        self.subscribe(channel)
        (request,) = self.take()
        self.feed(
            subscribed(request.id, serial, channel=channel), m.Live(channel=channel, position=("E1", serial))
        )


def subscribed(request: int | None, start: int, **more: Any) -> m.Subscribed:
    fields = {"channel": ROOM, "position": ("E1", start), "resumed": False, "count": 0, "floor": 1, **more}
    return m.Subscribed(id=request, start=start, **fields)


def history(**more: Any) -> m.HistoryRequest:
    return m.HistoryRequest(id=0, channel=ROOM, **more)


def message(serial: int, channel: str = ROOM) -> m.Message:
    return m.Message(
        channel=channel,
        serial=serial,
        message=f"b:{serial}",
        user="bob",
        time=0,
        data=msgspec.Raw(b"%d" % serial),
    )


def ack(request: m.Request, serial: int, *, duplicate: bool = False) -> m.Ack:
    assert isinstance(request, m.Publish)
    return m.Ack(
        id=request.id,
        message=request.message,
        position=("E1", serial),
        duplicate=duplicate,
        durability="fsync",
    )


def error(request: m.Request | None, code: int, after_ms: int | None = None) -> m.Error:
    cls = ERRORS.get(code, ChatdError)
    return m.Error(
        id=request.id if request else None,
        code=code,
        reason="why",
        temporary=cls.temporary,
        definite=cls.definite,
        after_ms=after_ms,
    )


def published(client: Driven) -> list[str]:
    return [request.message for request in client.take() if isinstance(request, m.Publish)]

"""A client that tidies nothing: what the server sends is what a test sees."""

from __future__ import annotations

import itertools
import time
from contextlib import ExitStack
from typing import Any, TypeVar

import msgspec
from websockets import Subprotocol
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from chatd.protocol import messages as m

ROOM = "room:1"
PATIENCE_S = 20.0  # for a frame that must come
R = TypeVar("R", bound=m.Reply)


class Closed(Exception):
    """The server ended the connection."""

    def __init__(self, code: int) -> None:
        super().__init__(f"closed with {code}")
        self.code = code


class Wire:
    """One connection that has said ``connect``: frames out, frames in, nothing tidied."""

    def __init__(
        self, url: str, *, client: str = "alice", subscribe: list[m.ChannelFrom] | None = None
    ) -> None:
        self._stack = ExitStack()
        self.socket: ClientConnection = self._stack.enter_context(
            connect(
                url,
                subprotocols=[Subprotocol(m.SUBPROTOCOL)],
                ping_interval=None,
                compression=None,
                max_queue=None,  # what is not read must not hold up the close
            )
        )
        self.client = client
        self.ids = itertools.count(2)
        self.raw: list[bytes] = []  # every frame that came, as it came
        self.kept: list[m.Reply] = []  # frames that came while another one was awaited
        self.pongs = True  # whether pings are answered
        self.send(m.Connect(id=1, client=client, subscribe=subscribe or []))
        self.connected = self.receive(m.Connected)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def send(self, request: m.Request | bytes) -> None:
        payload = request if isinstance(request, bytes) else m.encode(request)
        self.socket.send(payload, text=True)

    def next(self, timeout_s: float = PATIENCE_S) -> m.Reply:
        """The next frame that is no ping. Raises ``TimeoutError`` or ``Closed``."""
        if self.kept:
            return self.kept.pop(0)
        return self._read(time.monotonic() + timeout_s)

    def _read(self, deadline_s: float) -> m.Reply:
        while True:
            try:
                payload = self.socket.recv(timeout=max(0.0, deadline_s - time.monotonic()), decode=False)
            except ConnectionClosed as end:
                raise Closed(end.rcvd.code if end.rcvd else 1006) from None
            if payload != m.PING:
                self.raw.append(payload)
                return m.decode_reply(payload)
            if self.pongs:
                self.send(m.PING)

    def receive(self, kind: type[R]) -> R:
        """The next frame, which must be of this kind."""
        frame = self.next()
        assert isinstance(frame, kind), frame
        return frame

    def answer(self, request: int, kind: type[R]) -> R:
        """The reply to a request; what comes before it is kept for ``next``."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            frame = self._read(deadline_s)
            if getattr(frame, "id", None) == request:
                assert isinstance(frame, kind), frame
                return frame
            self.kept.append(frame)

    def subscribe(self, from_: m.From | None = "new", channel: str = ROOM, **more: Any) -> m.Subscribed:
        request = next(self.ids)
        self.send(m.Subscribe(id=request, channel=channel, from_=from_, **more))
        return self.answer(request, m.Subscribed)

    def live(self, from_: m.From = "new", channel: str = ROOM) -> m.Subscribed:
        """Subscribe, and take the whole replay."""
        answer = self.subscribe(from_, channel)
        assert self.replay(answer) == list(range(answer.start + 1, answer.position[1] + 1))
        return answer

    def replay(self, answer: m.Subscribed) -> list[int]:
        """The serials up to ``live``, whose position must be that of the last one."""
        serials = []
        while isinstance(frame := self.next(), m.Message):
            assert frame.channel == answer.channel
            serials.append(frame.serial)
        assert isinstance(frame, m.Live), frame
        assert frame.position == (answer.position[0], serials[-1] if serials else answer.start)
        return serials

    def unsubscribe(self, channel: str = ROOM) -> None:
        request = next(self.ids)
        self.send(m.Unsubscribe(id=request, channel=channel))
        self.answer(request, m.Unsubscribed)

    def publish(self, message: str, data: bytes = b'"hi"', channel: str = ROOM) -> m.Ack:
        request = next(self.ids)
        self.send(m.Publish(id=request, channel=channel, message=message, data=msgspec.Raw(data)))
        return self.answer(request, m.Ack)

    def history(self, **more: Any) -> m.HistoryPage:
        request = next(self.ids)
        self.send(m.HistoryRequest(id=request, channel=ROOM, **more))
        return self.answer(request, m.HistoryPage)

    def error(self, request: m.Request | bytes, request_id: int | None) -> m.Error:
        """Send what must be refused."""
        self.send(request)
        while True:
            frame = self._read(time.monotonic() + PATIENCE_S)
            if isinstance(frame, m.Error):
                assert frame.id == request_id
                return frame
            self.kept.append(frame)

    def serials(self, n: int) -> list[int]:
        """The serials of the next n frames, all messages."""
        return [self.receive(m.Message).serial for _ in range(n)]

    def close_code(self) -> int:
        """How the server ends the connection, which it must do now; errors may come before."""
        try:
            while isinstance(frame := self.next(), m.Error):
                pass
        except Closed as end:
            return end.code
        raise AssertionError(frame)

    def quiet(self) -> bool:
        """Whether nothing of a subscription is on its way: a round trip brings no push."""
        request = next(self.ids)
        self.send(m.HistoryRequest(id=request, channel="elsewhere"))
        self.answer(request, m.HistoryPage)
        return not self.kept

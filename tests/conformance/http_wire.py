"""The suite's client over the HTTP port: streams, and a POST per request. It tidies nothing either."""

from __future__ import annotations

import http.client
import itertools
import json
import queue
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from chatd.protocol import messages as m
from tests.conformance.wire import PATIENCE_S, ROOM, Wire

Channels = list[m.ChannelFrom]


class Stream(threading.Thread):
    """One subscription (or several): calls ``put`` with every frame, until ``close``.

    Args:
        place: go on from this, the ``place`` of an earlier stream, byte for byte.
    """

    def __init__(self, address: str, client: str, channels: Channels, put: Any, place: str = "") -> None:
        super().__init__()
        self.address, self.client, self.put = address, client, put
        self.channels = [wish.channel for wish in channels]
        self.query = query(client, channels) if channels else urlencode([("client", client)])
        self.place = place  # behind the frame that was put last, in the words of the server
        self.ending = False
        self.http = http.client.HTTPConnection(address, timeout=PATIENCE_S * 2)
        self.start()

    def run(self) -> None:
        try:
            for payload in self.frames():
                self.put(payload)
        except (OSError, http.client.HTTPException, ValueError, AttributeError):
            if not self.ending:
                raise

    def frames(self) -> Iterator[bytes]:
        raise NotImplementedError

    def get(self, path: str, **headers: str) -> http.client.HTTPResponse:
        self.http.request("GET", path, headers=headers)
        response = self.http.getresponse()
        if response.status != 200:
            raise AssertionError(response.read())
        return response

    def close(self) -> None:
        self.ending = True
        if self.http.sock is not None:
            self.http.sock.shutdown(socket.SHUT_RDWR)
        self.join()
        self.http.close()


def query(client: str, channels: Channels) -> str:
    """The query that asks for these. (All with one start, as the transports have it.)"""
    wish, fields = channels[0], [("client", client)]
    fields += [("channel", each.channel) for each in channels]
    places = {each.channel: each.from_ for each in channels if isinstance(each.from_, tuple)}
    if places:
        fields.append(("position", json.dumps(places)))
    if isinstance(wish.from_, m.Last):
        fields.append(("from", f"last:{wish.from_.last}"))
    elif wish.from_ == "first":
        fields.append(("from", "first"))
    if not wish.echo:
        fields.append(("echo", "0"))
    return urlencode(fields, quote_via=quote)


class SseStream(Stream):
    """``GET /sse``."""

    def frames(self) -> Iterator[bytes]:
        fields = {"Last-Event-ID": self.place} if self.place else {}
        response, data, place = self.get(f"/sse?{self.query}", **fields), list[bytes](), self.place
        for line in iter(response.readline, b""):
            name, _, value = line.rstrip(b"\n").partition(b": ")
            if name == b"data":
                data.append(value)
            elif name == b"id":
                place = value.decode()
            elif not name and data:
                self.place = place  # an event that is not whole has no id (HTML, § Server-sent events)
                yield b"\n".join(data)
                data = []


class PollStream(Stream):
    """``GET /poll``, again and again."""

    def frames(self) -> Iterator[bytes]:
        where = self.query + "&wait_s=0"  # the answer to the subscription, without waiting for news
        if self.place:
            where += "&" + urlencode([("position", self.place)])
        for turn in itertools.count():
            answer = msgspec.json.decode(self.get(f"/poll?{where}").read(), type=Answer)
            for raw in answer.frames:
                frame = m.decode_reply(raw)
                # What every later answer begins and ends with says nothing new.
                if not (turn and (isinstance(frame, m.Live) or getattr(frame, "resumed", False))):
                    yield bytes(raw)
            self.place = bytes(answer.position).decode()
            fields = [("client", self.client), ("position", self.place), ("wait_s", "20")]
            where = urlencode(fields) + ("&echo=0" if "echo=0" in self.query else "")


class Answer(msgspec.Struct):
    position: msgspec.Raw
    frames: list[msgspec.Raw]


class HttpWire(Wire):
    """``Wire`` without a WebSocket. ``stream`` says how frames come."""

    def __init__(
        self, url: str, stream: type[Stream], *, client: str = "alice", subscribe: Channels | None = None
    ) -> None:
        self.address = urlsplit(url).netloc
        self.client, self.kind = client, stream
        self.ids = itertools.count(2)
        self.raw: list[bytes] = []
        self.kept: list[m.Reply] = []
        self.streams: list[Stream] = []
        self.arrived: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.open(subscribe or [m.ChannelFrom(channel="nothing comes here")])
        self.connected = self.receive(m.Connected)
        if not subscribe:
            while not isinstance(self.next(), m.Live):
                pass
            self.streams.pop().close()

    def open(self, channels: Channels, place: str = "") -> None:
        self.streams.append(self.kind(self.address, self.client, channels, self.arrived.put, place))

    def cut(self) -> str:
        """End the only stream at once; returns the place behind what had come."""
        stream = self.streams.pop()
        stream.close()
        return stream.place

    def __exit__(self, *error: object) -> None:
        for stream in self.streams:
            stream.close()

    def send(self, request: m.Request | bytes) -> None:
        payload = request if isinstance(request, bytes) else m.encode(request)
        fields = {**msgspec.json.decode(payload, type=dict[str, msgspec.Raw])}
        fields["client"] = msgspec.Raw(json.dumps(self.client).encode())
        http_ = http.client.HTTPConnection(self.address, timeout=PATIENCE_S)
        http_.request("POST", "/publish", msgspec.json.encode(fields), {"Content-Type": "application/json"})
        response = http_.getresponse()
        reply = response.read()
        http_.close()
        error = m.decode_reply(reply)
        assert response.status == (error.code if isinstance(error, m.Error) else 200)
        self.arrived.put(reply)

    def _read(self, deadline_s: float) -> m.Reply:
        try:
            payload = self.arrived.get(timeout=max(0.0, deadline_s - time.monotonic()))
        except queue.Empty:
            raise TimeoutError from None
        self.raw.append(payload)
        return m.decode_reply(payload)

    def subscribe(self, from_: m.From | None = "new", channel: str = ROOM, **more: Any) -> m.Subscribed:
        for stream in [one for one in self.streams if one.channels == [channel]]:
            self.streams.remove(stream)
            stream.close()
        self.open([m.ChannelFrom(channel=channel, from_=from_ or "new", **more)])
        while not isinstance(frame := self._read(time.monotonic() + PATIENCE_S), m.Subscribed):
            if not isinstance(frame, m.Connected):
                self.kept.append(frame)
        return frame

"""A chat server over HTTP, in memory: enough of chatd's fallbacks to load, and to misbehave on demand."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from chatd.protocol import messages as wire
from chatd.transports.posting import parse_post

EPOCH = "E1"


class TinyHttp:
    """Serves on 127.0.0.1; ``url`` once started.

    WebSockets are answered with 403, streams are answered unless ``holds_streams``, and of posts the first
    ``broken_posts`` are placed and not answered; while ``refused_posts`` is above 0 they get 503.
    """

    def __init__(self) -> None:
        self.holds_streams = False
        self.broken_posts = self.refused_posts = self.refused_polls = 0
        self.logs: dict[str, list[wire.Message]] = {}
        self.places: dict[str, int] = {}
        self.asked: list[tuple[str, dict[str, list[str]], str]] = []  # path, query, Last-Event-ID
        self.at_once = self.most_at_once = 0  # posts under way
        self.streams: set[asyncio.StreamWriter] = set()
        self._news = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self.url = ""

    async def __aenter__(self) -> TinyHttp:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    def break_streams(self) -> None:
        for writer in self.streams:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
                fields = dict(line.split(": ", 1) for line in lines)
                body = await reader.readexactly(int(fields.get("Content-Length", 0)))
                parts = urlsplit(first.split(" ")[1])
                query = parse_qs(parts.query)
                self.asked.append((parts.path, query, fields.get("Last-Event-ID", "")))
                await self._answer(parts.path, query, fields, body, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.streams.discard(writer)
            self._writers.discard(writer)
            writer.close()

    async def _answer(
        self,
        path: str,
        query: dict[str, list[str]],
        fields: dict[str, str],
        body: bytes,
        writer: asyncio.StreamWriter,
    ) -> None:
        if path == "/ws":
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        elif path == "/publish":
            await self._post(body, writer)
        elif path == "/sse":
            await self._stream(query["channel"], fields.get("Last-Event-ID", "{}"), writer)
        else:
            await self._poll(query, writer)

    async def _post(self, body: bytes, writer: asyncio.StreamWriter) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        frame = wire.decode_request(parse_post(body).frame)
        assert isinstance(frame, wire.Publish)
        if self.refused_posts:
            self.refused_posts -= 1
            error = wire.Error(id=frame.id, code=503, reason="no", temporary=True, definite=True, after_ms=1)
            return _whole(writer, wire.encode(error), 503)
        duplicate = frame.message in self.places
        if not duplicate:
            log = self.logs.setdefault(frame.channel, [])
            self.places[frame.message] = len(log) + 1
            log.append(
                wire.Message(
                    channel=frame.channel, serial=len(log) + 1, message=frame.message, user="u", time=0,
                    data=frame.data,
                )
            )  # fmt: skip
            self._news.set()
            self._news.clear()
        if self.broken_posts and not duplicate:
            self.broken_posts -= 1
            raise ConnectionError
        place = (EPOCH, self.places[frame.message])
        ack = wire.Ack(
            id=frame.id, message=frame.message, position=place, duplicate=duplicate, durability="memory"
        )
        return _whole(writer, wire.encode(ack))

    async def _stream(self, channels: list[str], asked: str, writer: asyncio.StreamWriter) -> None:
        if self.holds_streams:
            await asyncio.Event().wait()
        self.streams.add(writer)
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        places: dict[str, Any] = msgspec.json.decode(asked)
        frames = [_connected(), *self._begin(channels, places)]
        while not writer.is_closing():
            events = b"".join(b"event: x\ndata: %b\n\n" % wire.encode(frame) for frame in frames)
            if events:
                writer.write(b"%x\r\n%b\r\n" % (len(events), events))
            await self._news.wait()
            frames = self._since(channels, places)

    async def _poll(self, query: dict[str, list[str]], writer: asyncio.StreamWriter) -> None:
        if self.refused_polls and "position" in query:
            self.refused_polls -= 1
            raise ConnectionError
        places: dict[str, Any] = msgspec.json.decode(query.get("position", ["{}"])[0])
        channels = query["channel"]
        new = [channel for channel in channels if channel not in places]
        before = {channel: list(place) for channel, place in places.items()}
        frames = ([_connected()] if new else []) + self._begin(channels, places)
        if not new and places == before:
            try:
                async with asyncio.timeout(float(query["wait_s"][0])):
                    await self._news.wait()
            except TimeoutError:
                pass
            frames += self._since(channels, places)
        raw = [msgspec.Raw(wire.encode(frame)) for frame in frames]
        _whole(writer, msgspec.json.encode({"position": places, "frames": raw}))

    def _begin(self, channels: list[str], places: dict[str, Any]) -> list[Any]:
        """The answers to subscriptions, with their replays; moves the places."""
        frames: list[Any] = []
        for channel in channels:
            head = len(self.logs.get(channel, ()))
            resumed = channel in places
            start = places[channel][1] if resumed else head
            places[channel] = [EPOCH, start]
            frames.append(
                wire.Subscribed(
                    channel=channel, position=(EPOCH, head), resumed=resumed, count=head - start, floor=1,
                    start=start,
                )
            )  # fmt: skip
            frames += self._since([channel], places)
            frames.append(wire.Live(channel=channel, position=(EPOCH, head)))
        return frames

    def _since(self, channels: list[str], places: dict[str, Any]) -> list[Any]:
        frames: list[Any] = []
        for channel in channels:
            log = self.logs.get(channel, [])
            frames += log[places[channel][1] :]
            places[channel] = [EPOCH, len(log)]
        return frames


def _connected() -> wire.Connected:
    contract = wire.Contract(
        profile="effectively-once", echo=True, durability="memory", retain_n=1000, retain_s=60,
        retain_bytes=2**20, dedupe_s=60,
    )  # fmt: skip
    return wire.Connected(
        id=0, node="n1", user="u", contract=contract, limits=wire.Limits(frame_bytes=2**20, channels=100),
        ping_s=0.2, pong_s=8.0, retry_ms=(1, 5),
    )  # fmt: skip


def _whole(writer: asyncio.StreamWriter, body: bytes, status: int = 200) -> None:
    head = f"HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)

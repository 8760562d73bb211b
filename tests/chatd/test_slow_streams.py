"""Readers of server-sent events that do not keep up: what waits for them is bounded, over TLS too."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from chatd.flush import PIECE_BYTES, SLOW_BYTES
from chatd.server import Server
from chatd.transports import sse
from chatd.transports.mailbox import HIGH_BYTES
from tests.chatd.certificates import make_certificate
from tests.chatd.in_thread import chatd
from tests.chatd.reader import Reader, follow

ROOMS = [f"room:{n}".ljust(60, "x") for n in range(32)]  # names that make an event's id long
EVENT_BYTES = 3_000  # more than one of them has
RECEIVE_BYTES = 4_096


class Streaming:
    """A stream that is read when it is told to. ``frames``: what it has read; ``place``: the last id."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.frames: list[dict[str, Any]] = []
        self.place: dict[str, Any] = {}
        self.close_code = 0
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, server: Server, tls: ssl.SSLContext | None, *channels: str) -> Streaming:
        """Live on these channels, and stopped."""
        port = int(server.http_url.rsplit(":", 1)[1].strip("/"))
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        name = {} if tls is None else {"ssl": tls, "server_hostname": "127.0.0.1"}
        reader, writer = await asyncio.open_connection(sock=sock, limit=RECEIVE_BYTES * 2, **name)
        query = "&".join(f"channel={channel}" for channel in channels)
        writer.write(f"GET /sse?client=slow&{query} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        stream = cls(reader, writer)
        await stream.until(lambda: stream.kinds().count("live") == len(channels))
        stream.stop()
        return stream

    def stop(self) -> None:
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]

    def go_on(self) -> None:
        self._writer.transport.resume_reading()  # type: ignore[attr-defined]

    def close(self) -> None:
        self._writer.transport.abort()

    def kinds(self) -> list[str]:
        return [frame["type"] for frame in self.frames]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Read until it is so. (Every piece that is written has whole events, so no line is torn.)"""
        async with asyncio.timeout(30):
            while not condition():
                line = await self._reader.readline()
                if line.startswith(b"id: "):
                    self.place = json.loads(line[4:])
                elif line.startswith(b"data: "):
                    frame = json.loads(line[6:])
                    if "type" in frame:
                        self.frames.append(frame)
                    else:
                        self.close_code = frame["code"]


class House:
    """A server, one who publishes, and how to open a stream."""

    def __init__(self, server: Server, publisher: Reader, tls: ssl.SSLContext | None) -> None:
        self.server, self.publisher, self._tls = server, publisher, tls
        self.streams: list[Streaming] = []
        self.said = dict.fromkeys(ROOMS, 0)

    async def stream(self, *channels: str) -> Streaming:
        self.streams.append(await Streaming.open(self.server, self._tls, *channels))
        return self.streams[-1]

    async def fill(self, count: int, size: int, *channels: str) -> None:
        """Publish so many more, on each channel in turn; back when all are acked."""
        begin = self.publisher.count("ack")
        for number in range(begin, begin + count):
            channel = channels[number % len(channels)]
            self.said[channel] += 1
            self.publisher.publish(f"m{number}", channel, "x" * size)
        await self.publisher.until(lambda: self.publisher.count("ack") == begin + count)

    async def until_slow(self, size: int, *channels: str) -> None:
        while not self.server.metrics.slow:
            await self.fill(32, size, *channels)
            assert self.publisher.count("ack") < 5_000


Scenario = Callable[[House], Awaitable[None]]


@pytest.fixture(params=["uvloop", "asyncio", "uvloop-tls", "asyncio-tls"])
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., None]:
    """Runs ``scenario(house)`` on a server of its own."""
    loop, _, secure = request.param.partition("-")

    def run(scenario: Scenario, **settings: Any) -> None:
        tls = None
        if secure:
            made = make_certificate(tmp_path)
            settings |= {"tls_cert": made.cert, "tls_key": made.key}
            tls = ssl.create_default_context(cafile=str(made.cert))

        async def main() -> None:
            limits = {"publish_per_s": 1e5, "publish_burst": 100_000}
            async with chatd(**{**limits, "ping_s": 3600.0, **settings}) as server:
                port = int(server.url.rsplit(":", 1)[1].split("/")[0])
                house = House(server, await Reader.dial(port, "ann", tls=tls), tls)
                try:
                    await scenario(house)
                finally:
                    for stream in house.streams:
                        stream.close()
                    await Reader.hang_up()
            assert not server.failed

        (uvloop.run if loop == "uvloop" else asyncio.run)(main())

    return run


@pytest.mark.parametrize(
    ("size", "channels"),
    [
        pytest.param(10, ROOMS, id="short messages, long ids"),
        pytest.param(100, ROOMS[:1], id="short messages"),
        pytest.param(2_000, ROOMS[:2], id="longer ones"),
    ],
)
def test_what_waits_for_a_stream_that_stops_is_bounded_and_nothing_of_it_is_lost(
    serve, size: int, channels: list[str]
) -> None:
    async def scenario(house: House) -> None:
        server, stream = house.server, await house.stream(*channels)
        await house.until_slow(size, *channels)
        most = 0
        for _ in range(15):
            await house.fill(100, size, *channels)
            most = max(most, server.slow.waiting_bytes())
        assert SLOW_BYTES // 4 < most <= SLOW_BYTES + EVENT_BYTES
        stream.go_on()
        count = house.publisher.count("ack")
        await stream.until(lambda: stream.kinds().count("message") == count)
        for channel in channels:
            assert follow(stream.frames, channel) == (house.said[channel], [])
            assert stream.place[channel][1] == house.said[channel]
        await house.fill(1, 10, channels[0])
        await stream.until(lambda: stream.kinds().count("message") == count + 1)
        assert (server.metrics.slow, server.metrics.gaps) == (0, 0)

    serve(scenario)


def test_a_stream_whose_place_is_retained_no_longer_gets_a_gap_of_exactly_what_is_gone(serve) -> None:
    room = ROOMS[0]

    async def scenario(house: House) -> None:
        server, stream = house.server, await house.stream(room)
        await house.until_slow(2_000, room)
        await house.fill(200, 100, room)
        server.hub.trimmed(await server.store.trim(0))
        stream.go_on()
        await stream.until(lambda: stream.frames[-1].get("serial") == house.said[room])
        top, (gap,) = follow(stream.frames, room)
        assert top == house.said[room]
        assert (gap["why"], gap["to"][1]) == ("lag", top - 50)
        assert server.metrics.lag_gaps == server.metrics.gaps == 1

    serve(scenario, retain_n=50)


def test_a_stream_that_takes_nothing_for_too_long_is_given_up(serve) -> None:
    async def scenario(house: House) -> None:
        server, _ = house.server, await house.stream(ROOMS[0])
        await house.until_slow(2_000, ROOMS[0])
        while not server.metrics.stuck:
            await house.fill(1, 10, ROOMS[0])
        while len(server.connections) > 1:
            await house.fill(1, 10, ROOMS[0])
        assert server.metrics.closed == {4003: 1}
        assert server.slow.waiting_bytes() == server.metrics.slow == 0

    serve(scenario, slow_s=0.2)


def test_a_stream_may_hold_in_all_what_any_slow_reader_may() -> None:
    assert HIGH_BYTES + PIECE_BYTES + 2 * sse.HIGH_WATER_BYTES == SLOW_BYTES

"""Every transport of chatd passes the suite, and so does the model that the client is tested against."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import Any

from chatd.protocol import messages as m
from chatd.transports import TRANSPORTS
from tests.chatd.in_thread import chatd, in_a_thread
from tests.chatd.model_server import ModelServer
from tests.chatd.model_socket import serving
from tests.conformance.http_wire import HttpWire, PollStream, SseStream, Stream
from tests.conformance.transports import Start, StreamSuite, WebSocketSuite
from tests.conformance.wire import ROOM


@contextmanager
def url_of(which: str, settings: dict[str, Any]) -> Iterator[str]:
    """Run a chatd with these settings; yields one of its addresses."""
    with in_a_thread(lambda: chatd(**settings)) as server:
        yield getattr(server, which)


class TestWebSocket(WebSocketSuite):
    def serve(self, **settings: Any) -> AbstractContextManager[str]:
        return url_of("url", settings)


class TestModel(StreamSuite):
    def serve(self, **settings: Any) -> AbstractContextManager[str]:
        @asynccontextmanager
        async def model() -> AsyncIterator[str]:
            server = ModelServer()
            server.retain_n = settings.get("retain_n")
            async with serving(server) as socket:
                yield socket.url

        return in_a_thread(model)


class HttpSuite(StreamSuite):
    """Frames over ``stream``, requests by POST. There is no subscription to leave but the request itself."""

    stream: type[Stream]
    test_nothing_of_a_channel_comes_after_unsubscribed = None  # type: ignore[assignment]
    test_subscribe_on_an_open_subscription_needs_from_and_replaces_it = None  # type: ignore[assignment]

    def serve(self, **settings: Any) -> AbstractContextManager[str]:
        return url_of("http_url", settings)

    def dial(self, url: str, **connect: Any) -> HttpWire:
        return HttpWire(url, self.stream, **connect)

    def test_a_stream_that_is_cut_again_and_again_goes_on_after_its_last_id(self, server: Start) -> None:
        """Whatever is published meanwhile, on two channels: the id alone says where to go on."""
        dial = server()
        writer, stop, rooms = dial(client="bob"), threading.Event(), ("one", "two")
        said = dict.fromkeys(rooms, 0)

        def write() -> None:
            while not stop.is_set():
                for room in rooms:
                    said[room] += 1
                    writer.publish(f"{room}-{said[room]}", channel=room)

        wire = dial(subscribe=[m.ChannelFrom(channel=room, from_="first") for room in rooms])
        seen = {room: list[int]() for room in rooms}
        thread = threading.Thread(target=write)
        thread.start()
        try:
            for _ in range(12):
                take(wire, seen, 4)
                place = wire.cut()
                take_the_rest(wire, seen)
                assert json.loads(place).keys() == seen.keys()
                assert {room: serials[-1] for room, serials in seen.items() if serials}.items() <= {
                    room: position[1] for room, position in json.loads(place).items()
                }.items()
                wire.open([], place)
        finally:
            stop.set()
            thread.join()
        while {room: len(serials) for room, serials in seen.items()} != said:
            take(wire, seen, 1)
        assert seen == {room: list(range(1, count + 1)) for room, count in said.items()}

    def test_a_stream_that_was_cut_for_too_long_gets_a_gap_of_exactly_what_is_gone(
        self, server: Start
    ) -> None:
        dial = server(retain_n=5)
        wire, writer = dial(subscribe=[m.ChannelFrom(channel=ROOM)]), dial(client="bob")
        assert wire.replay(begun(wire)) == []
        for n in range(3):
            writer.publish(f"m{n}")
        assert wire.serials(3) == [1, 2, 3]
        place = wire.cut()
        (epoch, last) = json.loads(place)[ROOM]
        assert last == 3
        for n in range(3, 20):
            writer.publish(f"m{n}")
        self.until(lambda: dial().subscribe("first").floor == 16)
        wire.open([], place)
        answer = begun(wire)
        assert answer.gap == m.GapInfo(why="trimmed", from_=(epoch, 3), to=(epoch, 15))
        assert not answer.resumed
        assert wire.replay(answer) == [16, 17, 18, 19, 20]
        again = wire.cut()
        wire.open([], again)
        assert begun(wire).resumed, "the id behind a gap is a place like any other"


def begun(wire: HttpWire) -> m.Subscribed:
    """How the only subscription of a stream is answered; a stream says first who is connected."""
    while isinstance(frame := wire.next(), m.Connected):
        pass
    assert isinstance(frame, m.Subscribed), frame
    return frame


def take(wire: HttpWire, seen: dict[str, list[int]], messages: int) -> None:
    """So many messages more, whatever else comes between them."""
    while messages:
        frame = wire.next()
        if isinstance(frame, m.Message):
            seen[frame.channel].append(frame.serial)
            messages -= 1
        elif isinstance(frame, m.Subscribed):
            assert frame.gap is None


def take_the_rest(wire: HttpWire, seen: dict[str, list[int]]) -> None:
    """What had come before the stream was cut."""
    while True:
        try:
            frame = wire.next(timeout_s=0.0)
        except TimeoutError:
            return
        if isinstance(frame, m.Message):
            seen[frame.channel].append(frame.serial)


class TestServerSentEvents(HttpSuite):
    stream = SseStream


class TestLongPolling(HttpSuite):
    stream = PollStream


def test_every_transport_is_tested() -> None:
    assert set(TRANSPORTS) == {"websocket", "http"}

"""Every transport of chatd passes the suite, and so does the model that the client is tested against."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import Any

from chatd.transports import TRANSPORTS
from tests.chatd.in_thread import chatd, in_a_thread
from tests.chatd.model_server import ModelServer
from tests.chatd.model_socket import serving
from tests.conformance.http_wire import HttpWire, PollStream, SseStream, Stream
from tests.conformance.transports import StreamSuite, WebSocketSuite


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


class TestServerSentEvents(HttpSuite):
    stream = SseStream


class TestLongPolling(HttpSuite):
    stream = PollStream


def test_every_transport_is_tested() -> None:
    assert set(TRANSPORTS) == {"websocket", "http"}

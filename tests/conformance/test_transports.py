"""Every transport of chatd passes the suite, and so does the model that the client is tested against."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from typing import Any

from chatd.config import Config
from chatd.server import Server
from chatd.transports import TRANSPORTS
from tests.chatd.model_server import ModelServer
from tests.chatd.model_socket import serving
from tests.conformance.transports import StreamSuite, WebSocketSuite


@contextmanager
def in_a_thread(serve: Callable[[], AbstractAsyncContextManager[str]]) -> Iterator[str]:
    """Run an asynchronous server on a loop of its own; yields its url."""
    started, urls, failures = threading.Event(), list[str](), list[BaseException]()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def main() -> None:
        async with serve() as url:
            urls.append(url)
            started.set()
            await stop.wait()

    def run() -> None:
        try:
            loop.run_until_complete(main())
        except BaseException as failure:
            failures.append(failure)
        finally:
            loop.close()
            started.set()

    thread = threading.Thread(target=run)
    thread.start()
    started.wait()
    try:
        if urls:
            yield urls[0]
    finally:
        if not failures:
            loop.call_soon_threadsafe(stop.set)
        thread.join()
    if failures:
        raise failures[0]


class TestWebSocket(WebSocketSuite):
    def serve(self, **settings: Any) -> AbstractContextManager[str]:
        @asynccontextmanager
        async def chatd() -> AsyncIterator[str]:
            server = Server(Config(port=0, store="memory", drain_s=1, **settings))
            await server.start()
            try:
                yield server.url
            finally:
                await server.stop()

        return in_a_thread(chatd)


class TestModel(StreamSuite):
    def serve(self, **settings: Any) -> AbstractContextManager[str]:
        @asynccontextmanager
        async def model() -> AsyncIterator[str]:
            server = ModelServer()
            server.retain_n = settings.get("retain_n")
            async with serving(server) as socket:
                yield socket.url

        return in_a_thread(model)


def test_every_transport_is_tested() -> None:
    assert set(TRANSPORTS) == {"websocket"}

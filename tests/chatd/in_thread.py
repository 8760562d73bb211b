"""A daemon on a loop and a thread of its own, for tests that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, TypeVar

from chatd.config import Config
from chatd.server import Server

T = TypeVar("T")


@contextmanager
def in_a_thread(serve: Callable[[], AbstractAsyncContextManager[T]]) -> Iterator[T]:
    """Run an asynchronous server on a loop of its own; yields what it yields."""
    started, yielded, failures = threading.Event(), list[T](), list[BaseException]()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def main() -> None:
        async with serve() as value:
            yielded.append(value)
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
        if yielded:
            yield yielded[0]
    finally:
        if not failures:
            loop.call_soon_threadsafe(stop.set)
        thread.join()
    if failures:
        raise failures[0]


@asynccontextmanager
async def chatd(**settings: Any) -> AsyncIterator[Server]:
    """A running chatd with these settings; in memory, on free ports, unless they say otherwise."""
    server = Server(Config(**{"port": 0, "store": "memory", "drain_s": 1, **settings}))
    await server.start()
    try:
        yield server
    finally:
        await server.stop()

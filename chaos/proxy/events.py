"""What happens in the proxy, for whoever listens: connections that open and close, changes of toxics."""

import asyncio
from time import monotonic_ns
from typing import Any

QUEUE_LIMIT = 10_000  # a listener that is further behind is told so and cut off


class Events:
    """Fans events out to listeners; without one an event costs a look at an empty set."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Queue[dict[str, Any] | None]] = set()

    def emit(self, **event: Any) -> None:
        """Tell every listener. Never waits."""
        if not self._listeners:
            return
        event["t_ns"] = monotonic_ns()
        for queue in list(self._listeners):
            if queue.qsize() < QUEUE_LIMIT:
                queue.put_nowait(event)
            else:
                queue.put_nowait({"event": "lagged", "t_ns": event["t_ns"]})
                self._end(queue)

    def close(self) -> None:
        """End every listener's stream."""
        for queue in list(self._listeners):
            self._end(queue)

    def listen(self) -> "asyncio.Queue[dict[str, Any] | None]":
        """A queue of events to come; None ends it."""
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._listeners.add(queue)
        return queue

    def unlisten(self, queue: "asyncio.Queue[dict[str, Any] | None]") -> None:
        """Stop."""
        self._listeners.discard(queue)

    def _end(self, queue: "asyncio.Queue[dict[str, Any] | None]") -> None:
        self.unlisten(queue)
        queue.put_nowait(None)

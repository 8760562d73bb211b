"""One proxy: an address to listen on, an upstream to dial, toxics, and live connections."""

import asyncio
import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import count
from time import monotonic
from typing import Any

from chaos.proxy.address import BACKLOG, Address, AddressError, Policy, bind, listen_address, upstream_address
from chaos.proxy.chain import ActiveToxic
from chaos.proxy.connection import Connection, Side
from chaos.proxy.events import Events
from chaos.proxy.frame_view import FrameView
from chaos.proxy.full_queue import FullQueue
from chaos.proxy.toxics.base import Door, FillsQueue

CONNECTION_IDS = count(1)


class Proxy:
    """A proxy as the API knows it, and its sockets.

    Args:
        listen: as in the API; becomes the bound address when it is started.
        upstream: ``HOST:PORT``.
        seed: what draws of toxics depend on, with their names and the connection's number.
        view: how the server's frames are read, for the toxics that ask.

    Raises:
        BadUpstream: ``upstream`` is not ``HOST:PORT``.
        NotAllowed: ``policy`` forbids ``listen`` or ``upstream``.
    """

    def __init__(
        self,
        name: str,
        listen: str,
        upstream: str,
        *,
        policy: Policy,
        seed: int,
        events: Events,
        view: FrameView | None = None,
    ) -> None:
        self.name = name
        self.listen = listen
        self.upstream = upstream
        self.target = check(policy, listen, upstream)
        self.enabled = False
        self.toxics: list[ActiveToxic] = []  # in chain order
        self.doors: list[ActiveToxic] = []  # of them, those that decide who is let in
        self.aims = False  # whom some toxic hits depends on whose a connection is
        self.seed = seed
        self.view = view
        self.came: Counter[int] = Counter()  # connections so far, by the client's ordinal
        self.connections: set[Connection] = set()
        self.accepted = 0
        self.dial_failures = 0
        self._past = {"upstream": [0, 0], "downstream": [0, 0]}  # [received, sent] of closed connections
        self._policy = policy
        self._events = events
        self._server: asyncio.Server | None = None
        self._queue: FullQueue | None = None  # instead of the server, while a toxic fills it

    async def start(self) -> None:
        """Listen.

        Raises:
            AddressError: the address cannot be bound, with Go's text.
        """
        if self.enabled:
            return
        try:
            address = listen_address(self.listen)
        except AddressError as error:
            raise AddressError(f"listen tcp: {error}") from None
        listener = bind(address)
        host, port = listener.getsockname()[:2]
        await self._accept_on(listener)
        self.listen = str(Address(host, port))
        self.enabled = True
        await self.settle()
        self._events.emit(event="proxy_up", proxy=self.name, listen=self.listen)

    def stop(self) -> None:
        """Listen no more, and close every connection now."""
        if not self.enabled:
            return
        self.enabled = False
        if self._server:
            self._server.close()
            self._server = None
        if self._queue:
            self._queue.close()
            self._queue = None
        for connection in list(self.connections):
            connection.abort()
        self._events.emit(event="proxy_down", proxy=self.name)

    def differs(self, listen: str, upstream: str) -> bool:
        """Whether these are not the addresses it has.

        Raises:
            AddressError: ``listen`` cannot be parsed.
        """
        return self.listen != str(listen_address(listen)) or self.upstream != upstream

    async def update(self, listen: str, upstream: str, *, enabled: bool) -> None:
        """Take over new addresses, which drops the connections, and start or stop.

        Raises:
            AddressError: as the constructor and ``start``. When the new address
                cannot be bound, the proxy keeps it and is disabled, as in Toxiproxy.
        """
        differs = self.differs(listen, upstream)
        target = check(self._policy, listen, upstream)
        if differs:
            self.stop()
            self.listen, self.upstream, self.target = listen, upstream, target
        if enabled:
            await self.start()
        else:
            self.stop()

    def toxic(self, name: str) -> ActiveToxic | None:
        """The toxic of that name."""
        return next((toxic for toxic in self.toxics if toxic.name == name), None)

    def shown_toxics(self) -> list[ActiveToxic]:
        """Upstream first, then downstream, each in chain order."""
        return sorted(self.toxics, key=lambda toxic: toxic.direction, reverse=True)

    def add_toxic(self, toxic: ActiveToxic) -> None:
        """Put a toxic at the end of the chain, on live connections too."""
        toxic.since = monotonic()
        if toxic.live:
            toxic.there = frozenset(connection.id for connection in self.connections)
        self.toxics.append(toxic)
        self._change("toxic_added", toxic)

    def remove_toxics(self, toxics: Iterable[ActiveToxic]) -> None:
        """Take toxics out; what they hold flows on, in order."""
        for toxic in list(toxics):
            self.toxics.remove(toxic)
            self._change("toxic_removed", toxic)

    def sort_toxics(self) -> None:
        """Work out what is asked of the toxics for each connection."""
        self.doors = [toxic for toxic in self.toxics if isinstance(toxic.toxic, Door)]
        self.aims = any(toxic.by_client for toxic in self.toxics)

    async def settle(self) -> None:
        """Accept, or fill the queue, as the toxics want it."""
        full = any(isinstance(toxic.toxic, FillsQueue) for toxic in self.toxics)
        if full and self._server:
            self._queue = FullQueue(self._server)
            self._server = None
        elif self._queue and not full:
            queue, self._queue = self._queue, None
            await self._accept_on(queue.reopen())

    def update_toxic(self, toxic: ActiveToxic) -> None:
        """Let live connections take over a toxic's changed attributes and toxicity."""
        for connection in list(self.connections):
            connection.update(toxic)
        self._change("toxic_updated", toxic)

    def traffic(self) -> Iterator[tuple[str, int, int]]:
        """(direction, bytes received, bytes sent) of both directions, live."""
        for direction, (received, sent) in self._past.items():
            for connection in self.connections:
                side = _side(connection, direction)
                received += side.received
                sent += side.received - side.withheld
            yield direction, received, sent

    # What connections call

    def on_open(self, connection: Connection) -> None:
        """The upstream has answered."""
        self._events.emit(event="open", **self._about(connection))

    def tell(self, connection: Connection, **event: Any) -> None:
        """Something happened on a connection: an event for whoever listens."""
        self._events.emit(ordinal=connection.ordinal, **event, **self._about(connection))

    def on_dial_failure(self, connection: Connection, error: OSError) -> None:
        """The upstream has not answered; the client is closed."""
        self.dial_failures += 1
        why = str(error) or type(error).__name__
        self._events.emit(event="dial_failure", why=why, **self._about(connection))

    def on_close(self, connection: Connection) -> None:
        """Both sockets have gone."""
        self.connections.discard(connection)
        for direction, past in self._past.items():
            side = _side(connection, direction)
            past[0] += side.received
            past[1] += side.received - side.withheld
        self._events.emit(event="close", ordinal=connection.ordinal, **self._about(connection))

    def _about(self, connection: Connection) -> dict[str, Any]:
        return {"proxy": self.name, "id": connection.id, "number": connection.number}

    async def _accept_on(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        # It calls listen() again; with its default a burst of clients would wait for SYN retries.
        self._server = await loop.create_server(self._accept, sock=listener, backlog=BACKLOG)

    def _accept(self) -> Side:
        self.accepted += 1
        connection = Connection(self, id=next(CONNECTION_IDS), number=self.accepted)
        self.connections.add(connection)
        return connection.client

    def _change(self, event: str, toxic: ActiveToxic) -> None:
        self.sort_toxics()
        now = monotonic()
        for connection in list(self.connections):
            connection.change(now)
        self._events.emit(
            event=event, proxy=self.name, toxic=toxic.name, type=toxic.type, attributes=toxic.attributes()
        )


def check(policy: Policy, listen: str, upstream: str) -> Address:
    """The upstream's address, when both are allowed.

    Raises:
        BadUpstream, NotAllowed: they are not. A ``listen`` that is no address fails when it is bound.
    """
    target = upstream_address(upstream)
    policy.check_upstream(target)
    try:
        address = listen_address(listen)
    except AddressError:
        return target
    policy.check_listen(address)
    return target


def _side(connection: Connection, direction: str) -> Side:
    return connection.client if direction == "upstream" else connection.upstream

"""The daemon: wires config, store, hub and transports. The only module that starts tasks."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import resource
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final

import uvloop

from .access import Access
from .config import Config
from .connection import GRACE_S, Connection
from .drain import drain, spread_ms
from .effects import Subscription, Terms
from .ephemeral import Ephemeral
from .flush import Flusher, Outlet
from .framing import text_frame
from .limits import ChannelRates, Quota, Rate
from .logs import Throttle, log
from .metrics import Metrics
from .mutants import parse
from .mutants.parts import parts_of
from .namespaces import Namespaces
from .nodes import Nodes
from .overload import SAMPLE_S, Ladder
from .protocol.errors import ChatdError, CloseCode
from .protocol.messages import Contract, HistoryRequest, Limits, Notice, PresenceRequest, Write, encode
from .registry import NameTaken
from .relay import Relay
from .slow import SlowConsumers
from .smaller import Smaller
from .store.base import Append, Retention, StoreUnavailable, StoreUnusable
from .store.bus import Node, NodeState
from .transports import TRANSPORTS, cannot_listen
from .transports.admin import listen_admin
from .transports.base import Link, Listening, Page
from .trust import authority
from .wheel import Turn, Wheel, turn

# Connections make many objects that stay and no cycles: collect a tenth as often as by default.
GC_THRESHOLD: Final = (10_000, 20, 20)
HOUSEKEEPING_S: Final = 1.0


SPARE_FILES: Final = 128  # descriptors for everything but clients
RETRY_AFTER_S: Final = 2  # for a client that finds no room


class StartError(Exception):
    """The daemon cannot start. The text is one line: what is wrong and what to do."""


class Server:
    """One chatd, on the running event loop.

    >>> server = Server(Config(port=0, store="memory"))  # doctest: +SKIP
    >>> await server.start(); server.url  # doctest: +SKIP
    >>> await server.stop()  # doctest: +SKIP
    """

    def __init__(self, config: Config, *, rng: random.Random | None = None) -> None:
        self.config = config
        self.metrics = Metrics()
        self._parts = parts = parts_of(parse(config.mutant) if config.mutant else None, self.metrics)
        self.clock = time.monotonic
        retention = Retention(config.retain_n, config.retain_s, config.retain_bytes)
        self.namespaces = Namespaces(config.namespaces, retention)
        retain, dedupe = parts.retain(self.namespaces), parts.dedupe(config.dedupe_s)
        self.store = parts.stores[config.store_kind](config.store_where, retain, dedupe)
        self.flusher = Flusher(self._schedule, self.clock, self._overflow, self.metrics)
        if config.slowed_to_per_s:
            self.flusher.flushed = Smaller(config.slowed_to_per_s, self.metrics, self.clock).stand_still
        self.hub = parts.hub(self.flusher)
        self.connections: dict[Outlet, Connection] = {}
        self.draining = False
        self.wheel = Wheel[Connection](
            step_s=min(0.25, config.ping_s / 4, config.pong_s / 4), now=self.clock()
        )
        self._rng = rng or random.Random()
        self._authority = authority(config, os.environ)
        self._publish_rate = Rate(config.publish_per_s, config.publish_burst)
        self._channel_rates = ChannelRates(Rate(config.channel_publish_per_s, config.channel_publish_burst))
        self._addresses: Counter[str] = Counter()
        self._room = min(
            config.connections, max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_FILES)
        )
        self._throttle = Throttle()
        self._terms = _terms(config, self.store.durability, self.namespaces)  # once more when it is open
        self._ingest = parts.ingest(self.store, self.hub, self.clock, _wall_ms, self.metrics)
        self.ephemeral = Ephemeral(self.hub, self._schedule, self.clock)
        self.slow = SlowConsumers(self.hub, config.slow_s)
        self._joins = parts.joins(self.store, self.hub, self._spawn, self.slow.caught_up)
        self.relay = self._joins.relay = self._relayed()
        self.nodes = Nodes(
            self.store.bus,
            self.relay,
            self.ephemeral,
            self._node,
            clock=self.clock,
            wall_ms=_wall_ms,
            send_away=self._send_away,
            rebalance=config.rebalance,
        )
        self.ladder = Ladder(config.overload_lag_s)
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening: dict[str, Listening] = {}
        self._empty = asyncio.Event()
        self.over = asyncio.Event()  # time to stop: somebody asked, or a part that all depend on has died
        self.failed = False
        self.refused = ""  # why it may not go on
        self._loop: asyncio.AbstractEventLoop
        self._started_ms = _wall_ms()

    def _relayed(self) -> Relay | None:
        """Where several nodes share the log: what follows it."""
        store, every_s = self.store, self.config.tail_check_s
        if store.bus is None:
            return None
        relay = self._parts.relay
        return relay(store, store.bus, self.hub, self._spawn, tail_check_s=every_s, wall_ms=_wall_ms)

    @property
    def url(self) -> str:
        return self._listening["websocket"].url

    @property
    def http_url(self) -> str:
        """Where the page is; empty when the HTTP port is off."""
        http = self._listening.get("http")
        return http.url if http is not None else ""

    @property
    def admin_url(self) -> str | None:
        """Where operators look, if an admin port is open."""
        admin = self._listening.get("admin")
        return admin.url if admin is not None else None

    @property
    def ready(self) -> bool:
        return bool(self._listening) and not self.draining and self.store.healthy and self.metrics.hearing

    # Starting and stopping --------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the store, then the door. Raises ``StartError``."""
        self._loop = asyncio.get_running_loop()
        try:
            await self.store.open()
        except StoreUnusable as bad:
            await self.store.close()
            raise StartError(str(bad)) from None
        self._terms = _terms(self.config, self.store.durability, self.namespaces)
        try:
            for name, listen in {**TRANSPORTS, "admin": listen_admin}.items():
                if (listening := await listen(self.config, self)) is not None:
                    self._listening[name] = listening
        except OSError as bad:
            for listening in self._listening.values():
                listening.close()
            await self.store.close()
            raise StartError(cannot_listen(self.config, name, bad)) from None
        self._spawn(self._ingest.run())
        self._spawn(self._turn_wheel())
        self._spawn(self._keep_house())
        if self.relay is not None:
            for work in (self.relay.listen(), self.relay.mend(), self.relay.look(), *self.nodes.tasks()):
                self._spawn(work)
        if self.config.overload_lag_s or self.relay is not None:
            self._spawn(self._watch_lag())

    async def stop(self) -> None:
        """Let every client go, finish what is in flight, release everything.

        Readiness turns false and new clients are refused at once; open ones are told goodbye one
        after the other and closed with 4101 when their publishes in flight have their answers
        (chatd/drain.py). A second call does nothing.
        """
        if self.draining:
            return
        self.draining = True
        await drain(
            lambda: list(self.connections.values()),
            lambda: self._ingest.is_idle,
            self.clock,
            share_per_s=self.config.drain_per_s,
            drain_s=self.config.drain_s,
            to=self.nodes.destinations,
        )
        if self.connections:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), GRACE_S)
        for connection in list(self.connections.values()):
            connection.link.abort()
        for listening in self._listening.values():
            listening.close()
            await listening.closed()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.nodes.registry.part()
        await self.store.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, NameTaken):
            self.refused = str(error)
            self.over.set()
        elif not isinstance(error, StoreUnavailable):  # that one is told to whoever waits for the task
            trace = "".join(traceback.format_exception(error))
            log("internal_error", level="error", reason=repr(error), trace=trace)
            self.failed = True
            self.over.set()

    def _schedule(self, delay_s: float, call: Any) -> None:
        if delay_s > 0:
            self._loop.call_later(delay_s, call)
        else:
            self._loop.call_soon(call)

    # Time -------------------------------------------------------------------------------------------

    async def _turn_wheel(self) -> None:
        step_s, went = self.wheel.step_s, Turn(stood_still=False, expires=True)
        while True:
            due = self._loop.time() + step_s
            await asyncio.sleep(step_s)
            lag_s = max(0.0, self._loop.time() - due)
            self.metrics.loop_lag_s.observe(lag_s)
            went = turn(lag_s, step_s, went)
            if went.stood_still and self.relay is not None:
                self.relay.paused()
            if not went.expires:
                continue
            now = self.clock()
            for connection in self.wheel.expire(now):
                connection.on_time(now)

    async def _keep_house(self) -> None:
        """Trim, cut what is stuck, find out whether a failed store is well again."""
        failing = False
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            now = self.clock()
            for connection in self.slow.stuck(now):
                connection.close(CloseCode.SLOW_CONSUMER, f"nothing was read for {self.slow.stuck_s:g} s")
            try:
                self.hub.trimmed(await self.store.trim(_wall_ms()))
            except StoreUnavailable as bad:
                if not failing:
                    log("trim_failed", level="error", reason=str(bad))
                failing = True
            else:
                failing = False

    async def _watch_lag(self) -> None:
        """Go up and down the overload ladder."""
        while True:
            due = self._loop.time() + SAMPLE_S
            await asyncio.sleep(SAMPLE_S)
            was, ladder = self.ladder.rung, self.ladder
            shed = ladder.observe(self.clock(), max(0.0, self._loop.time() - due), len(self.connections))
            if ladder.rung != was:
                rung, p99_s = ladder.rung.name.lower(), f"{ladder.p99_s:.3f}"
                log("overload", level="warning", rung=rung, lag_p99_s=p99_s)
            self.metrics.overload = ladder.rung
            self.flusher.drop_ephemeral, self.flusher.cork_s = ladder.drop_ephemeral, ladder.cork_s
            self._send_away(shed, "overload", self.nodes.destinations)

    def _send_away(self, count: int, why: str, to: Callable[[], Sequence[str]]) -> None:
        """Send some connections away; ``to`` draws for each where else to go."""
        for connection in self._rng.sample(list(self.connections.values()), count):
            spread = spread_ms(len(self.connections))
            connection.send_away(CloseCode.SHED, why, spread, to())

    # Gateway (chatd/transports/base.py) -------------------------------------------------------------

    def refuse(self, address: str = "") -> Page | None:
        most = self.config.connections_per_address
        if self.draining:
            why, after_s = "this node is going away", 1
        elif self.ladder.refuse:
            why, after_s = "this node has too much to do", RETRY_AFTER_S
        elif self.metrics.connections >= self._room:
            why, after_s = f"{self._room} connections are open: no more are taken", RETRY_AFTER_S
        elif most and self._addresses[address] >= most:
            why, after_s = f"{most} connections of this address are open: no more are taken", RETRY_AFTER_S
        else:
            return None
        self.metrics.refused += 1
        self._log("refused", address=address, why=why)
        return Page(503, f"{why}\n", retry_after_s=after_s)

    def accept(self, link: Link, *, address: str = "", token: str | None = None) -> Connection:
        first_ping_s = self._rng.random() * self.config.ping_s
        user = f"anon-{self._rng.getrandbits(48):012x}"
        access = Access(self._authority, header=token, grace_s=self.config.auth_grace_s)
        quota = Quota(self._publish_rate, self._channel_rates)
        session = self._parts.session(
            self._terms, self.clock(), user=user, first_ping_s=first_ping_s, access=access, quota=quota
        )
        connection = Connection(self, link, session, address=address)
        self._addresses[address] += 1
        self.connections[connection.outlet] = connection
        self.metrics.accepted += 1
        self.metrics.connections += 1
        return connection

    def page(self, path: str, *, admin: bool = False) -> Page | None:
        if path == "/healthz":
            return Page(200, "ok\n")
        if path == "/readyz":
            if self.ready:
                return Page(200, "ready\n")
            why = "draining" if self.draining else "the store cannot be reached or cannot write"
            return Page(503, f"not ready: {why}\n", retry_after_s=1)
        if not admin and not self.config.loopback:
            return None  # what follows is for operators only
        if path == "/nodes":
            return Page(200, self.nodes.registry.page(), "application/json")
        if path == "/metrics":
            self.metrics.ready = self.ready
            self.metrics.queue_bytes = self.slow.waiting_bytes()
            self.metrics.bus_bytes = self.store.bus.waiting_bytes if self.store.bus else 0
            self.metrics.subscriptions = sum(
                len(one.session.subscriptions) for one in self.connections.values()
            )
            return Page(200, self.metrics.render(), "text/plain; version=0.0.4; charset=utf-8")
        return None

    def _node(self) -> Node:
        """This node, as it is now."""
        state: NodeState = "draining" if self.draining else "up" if self.ready else "unhealthy"
        return Node(
            name=self.config.node,
            url=self.config.advertise or self.url,
            state=state,
            connections=self.metrics.connections,
            capacity=self.config.capacity or self._room,
            lag_s=self.ladder.p99_s,
            started_ms=self._started_ms,
        )

    def _log(self, event: str, **fields: object) -> None:
        """Log what clients cause, not more often than a disk can bear."""
        skipped = self._throttle.pass_on(self.clock())
        if skipped is not None:
            if skipped:
                fields["skipped"] = skipped
            log(event, level="info", **fields)

    # Daemon (chatd/connection.py) -------------------------------------------------------------------

    def append(self, connection: Connection, request: Write, append: Append) -> None:
        self._ingest.submit(connection, request, append)

    def join(self, connection: Connection, subscription: Subscription) -> None:
        self._joins.join(connection, subscription)

    def leave(self, connection: Connection, channel: str) -> None:
        self.hub.leave(channel, connection.outlet)
        self.ephemeral.left(channel, connection.session.user, connection.outlet)

    def read(self, connection: Connection, request: HistoryRequest) -> None:
        self._joins.read(connection, request)

    def share(self, connection: Connection, request: PresenceRequest | Notice) -> None:
        answer = self.ephemeral.share(request, connection.session.user, connection.outlet)
        if isinstance(answer, ChatdError):
            connection.apply(connection.session.refuse(request.id, answer))
        elif answer is not None:
            connection.outlet.send(text_frame(encode(answer)))

    def depart(self, connection: Connection, channel: str) -> None:
        self.ephemeral.depart(channel, connection.session.user, connection.outlet)

    def hanging_up(self, connection: Connection, code: int, reason: str) -> None:
        if code != CloseCode.DRAIN:
            self._log(
                "closed", code=code, reason=reason, address=connection.address, user=connection.session.user
            )

    def blocked(self, connection: Connection) -> None:
        self.slow.blocked(connection, self._joins, self.clock())

    def unblocked(self, connection: Connection) -> None:
        self.slow.unblocked(connection)

    def ended(self, connection: Connection) -> None:
        self.slow.unblocked(connection)
        if self.connections.pop(connection.outlet, None) is not None:
            self.metrics.connections -= 1
            self._addresses[connection.address] -= 1
            if not self._addresses[connection.address]:
                del self._addresses[connection.address]
            if self.draining and not self.connections:
                self._empty.set()

    def _overflow(self, outlet: Outlet) -> None:
        self.connections[outlet].overflow()


def _terms(config: Config, durability: str, namespaces: Namespaces) -> Terms:
    contract = Contract(
        profile=config.profile,
        echo=config.echo,
        durability=durability,
        retain_n=config.retain_n,
        retain_s=config.retain_s,
        retain_bytes=config.retain_bytes,
        dedupe_s=config.dedupe_s,
        test_hooks=[config.mutant] if config.mutant else [],
        namespaces=namespaces.kept(),
    )
    limits = Limits(
        frame_bytes=config.frame_bytes,
        channels=config.channels,
        in_flight=config.in_flight,
        publish_per_s=config.publish_per_s,
        publish_burst=config.publish_burst,
    )
    return Terms(config.node, contract, limits, config.ping_s, config.pong_s, config.retry_ms, namespaces)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


def _unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What no code of ours caught, as one line."""
    error = context.get("exception")
    trace = "".join(traceback.format_exception(error)) if error is not None else ""
    log("internal_error", level="error", reason=context.get("message", repr(error)), trace=trace)


async def _serve(config: Config) -> bool:
    server = Server(config)
    await server.start()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_unhandled)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.over.set)
    log(
        "listening",
        url=server.url,
        node=config.node,
        store=config.store,
        epoch=server.store.epoch,
        auth=config.authenticated,
        page=server.http_url or "none",
        admin=server.admin_url or "none",
    )
    if not config.loopback and config.tls_cert is None:
        log("no_tls", level="warning", why="tokens cross the network in the clear: give tls_cert")
    if config.mutant:
        log("test_hooks", level="warning", mutant=config.mutant)
    gc.collect()
    gc.freeze()  # what is loaded by now stays: no collection need look at it again
    gc.set_threshold(*GC_THRESHOLD)
    await server.over.wait()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)  # a second one ends the process at once
    log("draining", connections=server.metrics.connections)
    await server.stop()
    log("stopped", publishes=server.metrics.publishes, deliveries=server.metrics.deliveries)
    if server.refused:
        raise StartError(server.refused)
    return not server.failed


def run(config: Config) -> bool:
    """Serve until SIGTERM or SIGINT. False: it stopped because of a bug. Raises ``StartError``."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return uvloop.run(_serve(config))

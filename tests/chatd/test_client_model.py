"""Whatever the network does, the application sees each message once and in order, or a declared gap.

Hypothesis drives client cores against the model server over a network that cuts, repeats and
drops; time is a number. At the end everything heals, and the books must balance.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from typing import Any

import msgspec
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from chatd.client_actions import (
    Action,
    Deliver,
    Dial,
    Done,
    Failed,
    Hangup,
    Over,
    Send,
    State,
    StreamOver,
    Up,
)
from chatd.client_core import ClientCore
from chatd.client_inbox import GapNotice, Item
from chatd.protocol import messages as m
from chatd.protocol.errors import ChatdError
from tests.chatd.model_server import ModelConnection, ModelServer

pytestmark = pytest.mark.timeout(120)  # thousands of steps of a model: seconds, but more on a busy machine
CHANNELS = ("room:1", "room:2")


class Link:
    """One client, its network, and everything that its application was told."""

    def __init__(self, server: ModelServer, name: str) -> None:
        self.server, self.name = server, name
        self.core: ClientCore[str] = ClientCore("ws://model/ws", random.Random(name), client=name)
        self.connection: ModelConnection | None = None
        self.up: deque[bytes] = deque()
        self.down: deque[bytes] = deque()
        self.items: dict[str, list[Item]] = {channel: [] for channel in CHANNELS}
        self.starts: dict[str, m.Position] = {}
        self.answers: Counter[str] = Counter()
        self.acks: dict[str, m.Ack] = {}
        self.failures: dict[str, Exception] = {}
        self.published = 0
        self.paused: set[str] = set()

    def perform(self, actions: list[Action[str]], now_s: float) -> None:
        for action in actions:
            match action:
                case Send(payload):
                    self.up.append(payload)
                case Deliver(channel, item):
                    assert channel not in self.paused
                    self.items[channel].append(item)
                case Done(ticket, value):
                    self.answers[ticket] += 1
                    if isinstance(value, m.Ack):
                        self.acks[ticket] = value
                    elif ticket.startswith("sub"):
                        self.starts[ticket.removeprefix("sub ")] = value  # type: ignore[assignment]
                case Failed(ticket, error):
                    self.answers[ticket] += 1
                    self.failures[ticket] = error
                case Dial():
                    self.connection = self.server.connect()
                    self.perform(self.core.opened(now_s), now_s)
                case Hangup():
                    event("the client hung up")
                    self.cut(now_s)
                case Up():
                    pass
                case StreamOver() | Over():
                    raise AssertionError(action)

    def cut(self, now_s: float) -> None:
        if self.connection is None:
            return
        self.connection.close()
        self.connection = None
        self.up.clear()
        self.down.clear()
        self.perform(self.core.closed(now_s), now_s)

    def flow_up(self, n: int) -> None:
        for _ in range(min(n, len(self.up))):
            assert self.connection is not None
            self.connection.receive(self.up.popleft())

    def flow_down(self, n: int, now_s: float) -> None:
        self.gather(now_s)
        for _ in range(min(n, len(self.down))):
            if self.down:
                self.perform(self.core.received(self.down.popleft(), now_s), now_s)

    def gather(self, now_s: float) -> None:
        if self.connection is None:
            return
        self.down += self.connection.sent
        self.connection.sent.clear()
        if self.connection.close_code is not None:
            self.cut(now_s)


def is_push(payload: bytes) -> bool:
    return b'"type":"message"' in payload


class World:
    def __init__(self) -> None:
        self.now_s = 0.0
        self.server = ModelServer(ping_s=1e9)
        self.links = [Link(self.server, "alice"), Link(self.server, "bob")]
        for link in self.links:
            for channel in CHANNELS:
                link.perform(link.core.subscribe(channel, "first", f"sub {channel}", 0.0), 0.0)

    def step(self, op: tuple[Any, ...]) -> None:
        name, *args = op
        getattr(self, name)(*args)
        self.tick()

    def tick(self) -> None:
        for link in self.links:
            link.perform(link.core.tick(self.now_s), self.now_s)

    def publish(self, who: int, channel: str) -> None:
        link = self.links[who]
        link.published += 1
        ticket = f"pub {link.published}"
        data = msgspec.Raw(b"%d" % link.published)
        link.perform(
            link.core.publish(channel, data, ticket, self.now_s, message=f"{link.name}:{link.published}"),
            self.now_s,
        )

    def flow(self, who: int, up: int, down: int) -> None:
        self.links[who].flow_up(up)
        self.links[who].flow_down(down, self.now_s)

    def commit(self) -> None:
        self.server.commit()

    def cut(self, who: int) -> None:
        self.links[who].cut(self.now_s)

    def talk(self, who: int, channel: str, n: int) -> None:
        """Publish, and let the server take it all: pushes are under way to everybody now."""
        for _ in range(n):
            self.publish(who, channel)
        self.links[who].flow_up(1000)
        self.server.commit()

    def repeat(self, who: int, n: int) -> None:
        """The network delivers the n-th push under way twice."""
        down, at = self.links[who].down, self.push(who, n)
        if at is not None:
            event("a push was repeated")
            down.insert(at, down[at])

    def drop(self, who: int, n: int) -> None:
        """The network loses the n-th push under way."""
        at = self.push(who, n)
        if at is not None:
            event("a push was dropped")
            del self.links[who].down[at]

    def push(self, who: int, n: int) -> int | None:
        link = self.links[who]
        link.gather(self.now_s)
        pushes = [at for at, payload in enumerate(link.down) if is_push(payload)]
        return pushes[n % len(pushes)] if pushes else None

    def refuse(self, code: int, after_ms: int | None, stored: bool) -> None:
        self.server.refusals.append((code, after_ms, stored))

    def trim(self, channel: str) -> None:
        self.server.trim(channel, self.server.stream(channel).top)

    def forget(self) -> None:
        event("the server lost its streams")
        self.server.forget()

    def pause(self, who: int, channel: str) -> None:
        link = self.links[who]
        link.perform(link.core.pause(channel, self.now_s), self.now_s)
        link.paused.add(channel)

    def proceed(self, who: int, channel: str) -> None:
        link = self.links[who]
        link.paused.discard(channel)
        link.perform(link.core.proceed(channel, self.now_s), self.now_s)

    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    def settle(self) -> None:
        """No more faults: run until nothing moves any more."""
        self.server.refusals.clear()
        for who in range(len(self.links)):
            for channel in CHANNELS:
                self.proceed(who, channel)
        quiet = 0
        for _ in range(1000):
            before = [(link.core.state, len(link.up), link.answers.total()) for link in self.links]
            self.tick()
            for link in self.links:
                link.flow_up(1000)
            self.server.commit()
            for link in self.links:
                link.flow_down(1000, self.now_s)
            after = [(link.core.state, len(link.up), link.answers.total()) for link in self.links]
            wakes = [w for link in self.links if (w := link.core.wake_s) is not None]
            idle = before == after and not any(link.up or link.down for link in self.links)
            quiet = (
                quiet + 1 if idle and all(link.core.state is State.CONNECTED for link in self.links) else 0
            )
            if quiet > 2 and min(wakes) > self.now_s + 20:
                return
            if idle:
                self.now_s = max(self.now_s, min(min(wakes), self.now_s + 20))
        raise AssertionError([(link.core.state, link.core.wake_s) for link in self.links])

    def check(self) -> None:
        for link in self.links:
            for channel in CHANNELS:
                self.check_stream(link, channel)
            self.check_publishes(link)

    def check_stream(self, link: Link, channel: str) -> None:
        place = link.starts[channel]
        for item in link.items[channel]:
            if isinstance(item, GapNotice):
                assert item.from_ == place
                assert item.missing is None or item.why == "ahead" or len(item.missing) > 0
                place = item.to
                continue
            assert item.position == (place[0], place[1] + 1)
            truth = self.server.archive[channel, item.epoch].entries[item.serial - 1]
            assert (item.id, item.raw, item.user) == (truth.message, truth.data, truth.user)
            place = item.position
        stream = self.server.stream(channel)
        assert place == (stream.epoch, stream.top)

    def check_publishes(self, link: Link) -> None:
        tickets = [f"pub {n + 1}" for n in range(link.published)]
        assert all(link.answers[ticket] == 1 for ticket in tickets)
        for ticket, ack in link.acks.items():
            number = ticket.removeprefix("pub ")
            found = [
                channel
                for channel in CHANNELS
                if (stream := self.server.archive.get((channel, ack.position[0])))
                and stream.top >= ack.position[1]
                and stream.entries[ack.position[1] - 1].message == f"{link.name}:{number}"
            ]
            assert found
        for ticket, error in link.failures.items():
            if isinstance(error, ChatdError) and error.definite and self.server.life == 1:
                message = f"{link.name}:{ticket.removeprefix('pub ')}"
                assert not any(self.server.find(channel, link.name, message) for channel in CHANNELS)
        for stream in self.server.archive.values():
            mine = [int(entry.data) for entry in stream.entries if entry.user == link.name]
            assert mine == sorted(set(mine)), "each message once, in the order of publishing"


who = st.integers(0, 1)
channel = st.sampled_from(CHANNELS)
refusal = st.sampled_from([(503, 50, False), (503, None, False), (504, None, True), (504, 10, False),
                           (429, 2000, False), (413, None, False), (500, None, True)])  # fmt: skip
flows = st.tuples(st.just("flow"), who, st.integers(0, 4), st.integers(0, 20))
talks = st.tuples(st.just("talk"), who, channel, st.integers(1, 4))
ops = st.one_of(
    flows,
    flows,
    talks,
    talks,
    st.tuples(st.just("publish"), who, channel),
    st.just(("commit",)),
    st.tuples(st.just("cut"), who),
    st.tuples(st.just("repeat"), who, st.integers(0, 9)),
    st.tuples(st.just("drop"), who, st.integers(0, 9)),
    refusal.map(lambda r: ("refuse", *r)),
    st.tuples(st.just("trim"), channel),
    st.tuples(st.just("pause"), who, channel),
    st.tuples(st.just("proceed"), who, channel),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 2.0, 31.0])),
)


def run(script: list[tuple[Any, ...]]) -> World:
    world = World()
    world.settle()
    for op in script:
        world.step(op)
    world.settle()
    for channel in CHANNELS:  # a lost last message shows only when another one follows
        world.publish(0, channel)
    world.settle()
    world.check()
    return world


@settings(max_examples=300, deadline=None)
@given(st.lists(ops, min_size=20, max_size=60))
def test_application_sees_each_message_once_in_order_or_a_declared_gap(script: list[tuple[Any, ...]]) -> None:
    world = run(script)
    if any(link.acks[t].duplicate for link in world.links for t in link.acks):
        event("an ack was of a duplicate")
    if any(isinstance(i, GapNotice) for link in world.links for items in link.items.values() for i in items):
        event("a gap was declared")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(ops, st.just(("forget",))), min_size=20, max_size=60))
def test_a_server_that_loses_its_streams_is_declared_too(script: list[tuple[Any, ...]]) -> None:
    run(script)


def test_the_model_can_show_a_violation() -> None:
    """The check is not vacuous: an item taken out of what the application saw is found."""
    world = run([("publish", 0, "room:1"), ("publish", 0, "room:1")])
    del world.links[1].items["room:1"][0]
    try:
        world.check()
    except AssertionError:
        return
    raise AssertionError("a missing message went unnoticed")

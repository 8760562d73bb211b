"""Fan-out and joining, with a log and sockets that are lists."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatd.effects import Subscription
from chatd.flush import Flusher, Outlet
from chatd.hub import Hub, message_payload
from chatd.metrics import Metrics
from chatd.mutants import parse
from chatd.mutants.parts import parts_of
from chatd.store.base import Entry, Head, Page


def split(data: bytes) -> list[dict[str, object]]:
    """The JSON of each server frame in a run of bytes."""
    frames = []
    while data:
        size, head = data[1], 2
        if size == 126:
            size, head = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, head = int.from_bytes(data[2:10], "big"), 10
        frames.append(json.loads(data[head : head + size]))
        data = data[head + size :]
    return frames


class Bench:
    """A hub, a log that it reads by pages, and commits whose results arrive when told."""

    def __init__(self, make: Callable[[Flusher], Hub] = Hub) -> None:
        self.calls: list[Callable[[], None]] = []
        self.flusher = Flusher(
            lambda _, call: self.calls.append(call), lambda: 0.0, lambda outlet: None, Metrics()
        )
        self.hub = make(self.flusher)
        self.log: list[Entry] = []
        self.floor = 1
        self.on_the_way: list[list[Entry]] = []  # durable, but the hub has not heard of it

    def commit(self, count: int = 1, user: str = "ann") -> None:
        first = len(self.log) + 1
        batch = [Entry(first + n, 0, user, f"{user}:{first + n}", b"1") for n in range(count)]
        self.log += batch
        self.on_the_way.append(batch)

    def announce(self) -> None:
        if self.on_the_way:
            self.hub.committed("room", self.on_the_way.pop(0))

    def publish(self, count: int = 1, user: str = "ann") -> None:
        self.commit(count, user)
        self.announce()

    def page(self, after: int, limit: int = 1000) -> Page:
        begin = max(after, self.floor - 1)
        return Page("E1", len(self.log), self.floor, self.log[begin : begin + limit])

    def flush(self) -> None:
        while self.calls:
            self.calls.pop(0)()


class Client:
    """A subscriber of "room": the hub's side of it, and what arrived."""

    def __init__(self, bench: Bench, *, user: str = "bob", echo: bool = True) -> None:
        self.bench = bench
        self.frames: list[dict[str, object]] = []
        self.outlet = Outlet(bench.flusher, lambda data: self.frames.extend(split(data)))
        self.user, self.echo = user, echo
        self.subscription: Subscription
        self.answered = False

    def ask(self, cursor: int | None) -> Client:
        """Subscribe from after ``cursor``; None: from the top, whatever it is when answered."""
        self.subscription = Subscription("room", "new", echo=self.echo, user=self.user, request_id=None)
        self.wanted = cursor
        self.answered = False
        self.channel = self.bench.hub.enlist(self.subscription, self.outlet)
        return self

    def step(self, limit: int = 1000, stale: Page | None = None) -> bool:
        """One round of what chatd.joins does; True: live."""
        bench, channel = self.bench, self.channel
        if not channel.open:
            channel.begin(stale or bench.page(max(0, len(bench.log) - 64)))
            return False
        if not self.answered:
            self.answered = True
            top = channel.head.top
            self.subscription.cursor = top if self.wanted is None else min(self.wanted, top)
            self.start = self.subscription.cursor
        if bench.hub.advance(channel, self.subscription, self.outlet):
            return True
        bench.hub.replay(channel, self.subscription, self.outlet, bench.page(self.subscription.cursor, limit))
        return False

    def join(self, cursor: int | None = None) -> Client:
        self.ask(cursor)
        while not self.step():
            pass
        return self

    @property
    def serials(self) -> list[object]:
        self.bench.flush()
        return [frame["serial"] for frame in self.frames if frame["type"] == "message"]

    @property
    def types(self) -> list[object]:
        self.bench.flush()
        return [frame["type"] for frame in self.frames]


def test_a_message_reaches_every_subscriber_and_is_encoded_once() -> None:
    bench = Bench()
    first, second = Client(bench).join(), Client(bench).join()
    bench.publish()
    assert first.outlet.pending[-1] is second.outlet.pending[-1]
    assert first.serials == second.serials == [1]
    assert bench.hub.metrics.deliveries == 2


def test_a_replay_comes_first_then_live_then_what_is_new() -> None:
    bench = Bench()
    bench.publish(3)
    client = Client(bench).join(cursor=1)
    bench.publish()
    assert client.types == ["message", "message", "live", "message"]
    assert client.serials == [2, 3, 4]
    (live,) = [frame for frame in client.frames if frame["type"] == "live"]
    assert live["position"] == ["E1", 3]


def test_a_reset_comes_behind_what_was_delivered_and_before_what_follows() -> None:
    bench = Bench()
    client = Client(bench).join()
    bench.publish(3)
    bench.hub.reset(client.channel, Head("E2", 1, 1, (("E1", 1), ("E2", 2))))
    del bench.log[1:]
    bench.publish()
    assert client.types == ["live", "message", "message", "message", "reset", "message"]
    assert client.serials == [1, 2, 3, 2]


def test_what_is_committed_while_a_channel_opens_is_delivered_once() -> None:
    bench = Bench()
    bench.publish(2)
    client = Client(bench).ask(None)
    before = bench.page(0)
    bench.publish()
    assert not client.step(stale=before)
    while not client.step():
        pass
    assert client.serials == []
    assert client.start == 3
    bench.publish()
    assert client.serials == [4]


def test_a_commit_that_the_opening_read_saw_before_its_result_came_is_not_repeated() -> None:
    bench = Bench()
    Client(bench).ask(None)
    bench.commit()
    late = Client(bench).join(cursor=0)
    bench.announce()
    bench.publish()
    assert late.serials == [1, 2]


def test_a_page_that_is_ahead_of_the_fan_out_is_used_only_as_far_as_that() -> None:
    bench = Bench()
    Client(bench).join()
    bench.publish(500)  # beyond the tail
    client = Client(bench).ask(10)
    client.step()
    bench.commit(5)  # durable, so the next page has it
    while not client.step():
        pass
    bench.announce()
    assert client.serials == list(range(11, 506))


def test_what_is_trimmed_during_a_replay_is_declared_in_its_place() -> None:
    bench = Bench()
    Client(bench).join()
    bench.publish(500)
    client = Client(bench).ask(10)
    client.step(limit=10)
    bench.floor = 100
    while not client.step():
        pass
    assert client.serials == [*range(11, 21), *range(100, 501)]
    (gap,) = [frame for frame in client.frames if frame["type"] == "gap"]
    assert (gap["why"], gap["from"], gap["to"]) == ("trimmed", ["E1", 20], ["E1", 99])
    assert client.types.index("gap") == 10


def test_without_echo_only_the_messages_of_others_arrive() -> None:
    bench = Bench()
    bench.publish(1, "bob")
    bench.publish(1, "ann")
    client = Client(bench, user="bob", echo=False).join(cursor=0)
    bench.publish(1, "ann")
    bench.publish(1, "bob")
    assert client.serials == [2, 3]
    assert bench.hub.metrics.deliveries == 2


def test_nothing_arrives_after_leaving_and_an_empty_channel_is_dropped() -> None:
    bench = Bench()
    client = Client(bench).join()
    bench.hub.leave("room", client.outlet)
    bench.publish()
    assert client.serials == []
    assert bench.hub.channel("room") is None
    assert bench.hub.metrics.channels == 0
    bench.hub.leave("room", client.outlet)


def test_a_short_cut_is_served_from_memory() -> None:
    bench = Bench()
    keeper = Client(bench).join()
    bench.publish(50)
    client = Client(bench).ask(30)
    assert client.step(), "no page was read"
    assert client.serials == list(range(31, 51))
    assert keeper.serials == list(range(1, 51))


def test_a_message_has_the_same_bytes_live_replayed_and_read_from_a_store() -> None:
    live = Entry(1, 5, "ann", "a:1", b'{"x": 1}')
    stored = Entry(1, 5, "ann", "a:1", b'{"x": 1}', "".join(["te", "xt"]))
    assert message_payload("room", live) == message_payload("room", stored)


actions = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.integers(1, 90)),
        st.tuples(st.just("announce"), st.just(0)),
        st.tuples(st.just("ask"), st.integers(0, 300)),
        st.tuples(st.just("step"), st.integers(1, 120)),
        st.tuples(st.just("flush"), st.just(0)),
        st.tuples(st.just("leave"), st.integers(0, 5)),
    ),
    max_size=80,
)


@settings(max_examples=300)
@given(actions)
def test_however_joins_commits_and_reads_interleave_nothing_is_skipped_or_repeated(script) -> None:
    bench = Bench()
    clients: list[Client] = []
    joining: list[Client] = []
    for what, number in script:
        if what == "commit":
            bench.commit(number)
        elif what == "announce":
            bench.announce()
        elif what == "flush":
            bench.flush()
        elif what == "ask":
            clients.append(Client(bench).ask(number))
            joining.append(clients[-1])
        elif what == "step" and joining:
            client = joining.pop(0)
            if not client.step(limit=number):
                joining.append(client)
        elif what == "leave" and clients:
            client = clients.pop(number % len(clients))
            bench.hub.leave("room", client.outlet)
            if client in joining:
                joining.remove(client)
    while bench.on_the_way:
        bench.announce()
    for client in joining:
        while not client.step():
            pass
    for client in clients:
        assert client.serials == list(range(client.start + 1, len(bench.log) + 1))
        assert client.types.count("live") == 1


def skipping(probability: str) -> Callable[[Flusher], Hub]:
    return parts_of(parse(f"skip-subscriber:{probability}:7"), Metrics()).hub


def test_the_mutant_leaves_out_single_deliveries_and_nothing_repairs_them() -> None:
    bench = Bench(skipping("0.1"))
    clients = [Client(bench).join() for _ in range(20)]
    quiet = Client(bench, user="ann", echo=False).join()
    for _ in range(100):
        bench.publish()
    got = [len(client.serials) for client in clients]
    assert 1700 < sum(got) < 1900, "one in ten is missing"
    assert len(set(got)) > 1, "not the same ones for everybody"
    assert all(client.serials == sorted(set(client.serials)) for client in clients)
    assert quiet.serials == []
    assert bench.hub.metrics.deliveries == sum(got)


@pytest.mark.parametrize("probability", ["0", "1"])
def test_the_mutant_fires_never_or_always_at_the_ends_of_its_range(probability) -> None:
    bench = Bench(skipping(probability))
    client = Client(bench).join()
    bench.publish(3)
    assert client.serials == ([1, 2, 3] if probability == "0" else [])

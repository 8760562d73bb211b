"""Several nodes, one log, and what may go wrong between them: each client sees one true stream."""

from __future__ import annotations

import asyncio
import random

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chatd.store.base import Append
from tests.chatd.model_nodes import Client, Node, Truth, settle
from tests.chatd.shared_store import Broker

NODES = 2
CHANNELS = ("a", "b")
FAILOVERS = 6  # fewer than the epochs that a lineage keeps

node_numbers = st.integers(0, NODES - 1)
channels = st.sampled_from(CHANNELS)
client_numbers = st.integers(0, 3)


class Nodes(RuleBasedStateMachine):
    """Everything that the relay is for."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.broker = Broker()
        self.truth = Truth(self.broker)
        self.rng = random.Random(0)
        self.placed = 0
        self.deaf: set[int] = set()
        self.broker.loses = lambda store, placing: self.broker.stores.index(store) in self.deaf
        self.runner.run(self._build())

    async def _build(self) -> None:
        self.nodes = [Node(self.broker) for _ in range(NODES)]
        self.clients = [Client(self.truth, CHANNELS[n % 2]) for n in range(4)]
        for n, client in enumerate(self.clients):
            client.come(self.nodes[n // 2], self.rng)
        await settle()

    def _do(self, call: object = None) -> None:
        async def steps() -> None:
            if callable(call):
                call()
            await settle()
            for client in self.clients:
                client.read()

        self.runner.run(steps())

    # What the world does ----------------------------------------------------------------------------

    @rule(channel=channels, count=st.integers(1, 5))
    def append(self, channel: str, count: int) -> None:
        def place() -> None:
            for _ in range(count):
                self.placed += 1
                self.broker.place(Append(channel, "ann", f"m{self.placed}", b"1"))

        self._do(place)

    @rule(channel=channels, count=st.integers(70, 90))
    def append_beyond_the_tail(self, channel: str, count: int) -> None:
        self.append(channel, count)

    @rule(n=node_numbers)
    def events_begin_to_get_lost(self, n: int) -> None:
        self.deaf.add(n)

    @rule(n=node_numbers)
    def events_arrive_again(self, n: int) -> None:
        self.deaf.discard(n)

    @rule(n=node_numbers)
    def events_are_late(self, n: int) -> None:
        bus = self.nodes[n].store.bus
        if bus.let_through is None:
            self._do(lambda: bus.allow(0))

    @rule(n=node_numbers, count=st.integers(1, 3) | st.none())
    def some_events_come(self, n: int, count: int | None) -> None:
        bus = self.nodes[n].store.bus
        if bus.let_through is not None:
            self._do(lambda: bus.allow(count))

    @rule(n=node_numbers)
    def bus_breaks(self, n: int) -> None:
        self._do(self.nodes[n].store.bus.break_off)

    @rule(n=node_numbers)
    def bus_is_mended(self, n: int) -> None:
        self._do(self.nodes[n].store.bus.mend)

    @rule(n=node_numbers)
    def node_is_cut_off(self, n: int) -> None:
        self._do(self.nodes[n].cut_off)

    @rule(n=node_numbers)
    def node_is_back(self, n: int) -> None:
        self._do(self.nodes[n].heal)

    @rule(n=node_numbers)
    def node_stood_still(self, n: int) -> None:
        self._do(self.nodes[n].relay.paused)

    @rule(n=node_numbers)
    def reads_take_long(self, n: int) -> None:
        self.nodes[n].store.holding = True

    @rule(n=node_numbers, still=st.booleans(), newest=st.booleans())
    def reads_come_back(self, n: int, still: bool, newest: bool) -> None:
        store = self.nodes[n].store
        store.holding = still
        self._do(lambda: store.let_go(newest=newest))

    @rule(n=node_numbers)
    def time_passes(self, n: int) -> None:
        self._do(self.nodes[n].time_passes)

    @precondition(lambda self: self.broker.life <= FAILOVERS)
    @rule(lost=st.tuples(st.integers(0, 4), st.integers(0, 4)))
    def fail_over(self, lost: tuple[int, int]) -> None:
        tops = {
            channel: max(0, len(self.broker.logs[channel].entries) - count)
            for channel, count in zip(CHANNELS, lost, strict=True)
            if channel in self.broker.logs
        }
        self._do(lambda: self.broker.fail_over(tops))

    @precondition(lambda self: self.broker.life <= FAILOVERS)
    @rule()
    def lose_everything(self) -> None:
        self._do(self.broker.lose_everything)

    @rule(channel=channels, kept=st.integers(0, 5))
    def trim(self, channel: str, kept: int) -> None:
        log = self.broker.log(channel)
        self.broker.trim(channel, len(log.entries) + 1 - kept)

    # What clients do --------------------------------------------------------------------------------

    @rule(c=client_numbers, n=node_numbers)
    def come_back(self, c: int, n: int) -> None:
        self._do(lambda: self.clients[c].come(self.nodes[n], self.rng))

    @rule(c=client_numbers)
    def subscribe_again(self, c: int) -> None:
        self._do(lambda: self.clients[c].subscribe("new"))

    @rule(c=client_numbers)
    def go(self, c: int) -> None:
        self._do(self.clients[c].go)

    @rule(c=client_numbers)
    def stop_reading(self, c: int) -> None:
        self._do(self.clients[c].block)

    @rule(c=client_numbers)
    def read_on(self, c: int) -> None:
        self._do(self.clients[c].unblock)

    # What holds -------------------------------------------------------------------------------------

    @invariant()
    def nothing_broke(self) -> None:
        for node in self.nodes:
            assert not [error for error in node.errors if not _is_told(error)], node.errors

    def teardown(self) -> None:
        try:
            self.runner.run(self._end_well())
        finally:
            self.runner.run(self._close())
            self.runner.close()

    async def _end_well(self) -> None:
        """When everything works again, every client gets to the end of the log."""
        self.deaf.clear()
        for node in self.nodes:
            node.store.holding = False
            node.store.let_go()
            node.store.bus.allow(None)
            node.heal()
        for client in self.clients:
            client.unblock()
        for _ in range(8):
            await settle()
            for node in self.nodes:
                node.time_passes()
                node.store.let_go()
            for number, client in enumerate(self.clients):
                client.read()
                if client.connection is None:
                    client.come(self.nodes[number % NODES], self.rng)
                client.subscribe("new")
        await settle()
        for client in self.clients:
            client.read()
            log = self.broker.log(client.channel)
            assert client.live, client.position
            assert client.position == (self.broker.epoch, len(log.entries))
        self.nothing_broke()

    async def _close(self) -> None:
        for node in self.nodes:
            node.close()
        await settle()


def _is_told(error: BaseException) -> bool:
    """A task's failure that whoever waits for it hears of."""
    return type(error).__name__ == "StoreUnavailable"


class TestNodes(Nodes.TestCase):  # type: ignore[name-defined,misc]
    settings = settings(
        max_examples=60,
        stateful_step_count=40,
        deadline=None,
        phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck.too_slow],
    )

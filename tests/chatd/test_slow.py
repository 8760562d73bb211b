"""Slow consumers: a model with random sockets, and real ones that stop reading."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chatd.config import Config
from chatd.flush import PIECE_BYTES, SLOW_BYTES
from chatd.server import Server
from chatd.slow import Stall
from chatd.transports.websocket import HIGH_WATER_BYTES
from tests.chatd.pipes import Model, run_model
from tests.chatd.reader import Reader, follow

FRAME_BYTES = 5_000  # the longest message of the model
SIZES = (1, 200, FRAME_BYTES)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from("ab"), st.integers(1, 30), st.sampled_from(SIZES)),
        st.tuples(st.just("drain"), st.integers(0, 2), st.sampled_from([100, 20_000, 10**9])),
        st.tuples(st.just("settle")),
        st.tuples(st.just("flush")),
        st.tuples(st.just("turn")),
        st.tuples(st.just("trim")),
    ),
    max_size=60,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(steps, st.sampled_from([10, 100, 10_000]), st.booleans())
@example([("publish", "b", 10, 5000), ("publish", "a", 4, 5000)], 10, False)
def test_whenever_a_reader_pauses_it_sees_each_serial_once_in_order_or_an_exact_gap(
    script, retain_n, echo
) -> None:
    async def scenario(model: Model) -> None:
        pipes = [model.pipe() for _ in range(3)]
        for who, pipe in enumerate(pipes):
            channels = [{"channel": name, "from": "new", "echo": echo} for name in "ab"]
            pipe.ask(0, "connect", client=f"r{who}", subscribe=channels)
        await model.settle()
        for step in script:
            match step:
                case ["publish", channel, count, size]:
                    for _ in range(count):
                        model.publish(channel, size)
                case ["drain", who, size]:
                    pipes[who].drain(size)
                case ["settle"]:
                    await model.settle()
                case ["flush"]:
                    model.server.flusher.flush()
                case ["turn"]:
                    await asyncio.sleep(0)
                case ["trim"]:
                    await model.trim()
        for _ in range(400):
            for pipe in pipes:
                pipe.drain(10**9)
            await model.settle()
            if not any(pipe.peer.outlet.slow for pipe in pipes):
                break
        metrics = model.server.metrics
        tops = {head: top.top for head, top in zip("ab", await model.server.store.tops("ab"), strict=True)}
        for pipe in pipes:
            assert pipe.most <= SLOW_BYTES + FRAME_BYTES + 500, "64 KiB, and the frame that goes beyond"
            assert not pipe.peer.outlet.slow, "caught up"
            for channel, top in tops.items():
                at, gaps = follow(pipe.frames, channel)
                assert at == top
                assert all(gap["why"] in ("lag", "trimmed") for gap in gaps)
                assert not gaps or retain_n < top, "nothing inside retention is dropped"
        received = sum(frame["type"] == "message" for pipe in pipes for frame in pipe.frames)
        assert metrics.deliveries == received
        assert (metrics.slow, metrics.slow_entered, metrics.held_bytes) == (0, metrics.slow_left, 0)

    run_model(scenario, retain_n=retain_n)


def test_a_reader_that_stops_is_taken_off_the_live_list_and_costs_no_more_however_much_comes() -> None:
    async def scenario(model: Model) -> None:
        slow, quick = model.pipe(), model.pipe(endless=True)
        for pipe in (slow, quick):
            pipe.ask(0, "connect", subscribe=[{"channel": "room"}])
        await model.settle()
        for _ in range(1000):
            model.publish("room", 1000)
            await model.settle()
        assert slow.peer.outlet.slow
        assert slow.most <= SLOW_BYTES
        assert model.server.slow.waiting_bytes() <= SLOW_BYTES
        channel = model.server.hub.channel("room")
        assert channel is not None
        assert list(channel.live) == [quick.peer.outlet]
        assert channel.tail is not None
        assert len(channel.tail.after(0, 10_000, 10**9)) <= 64, "who waits keeps no tail in memory"
        while slow.peer.outlet.slow:
            slow.drain(20_000)
            await model.settle()
        assert follow(slow.frames, "room") == (1000, [])
        assert slow.peer.outlet in channel.live
        assert [f["type"] for f in slow.frames].count("live") == 1

    run_model(scenario)


def test_ephemeral_pushes_to_a_slow_reader_are_dropped_and_counted() -> None:
    async def scenario(model: Model) -> None:
        pipe = model.pipe()
        pipe.ask(0, "connect", subscribe=[{"channel": "room"}])
        await model.settle()
        assert pipe.peer.outlet.offer(b"\x81\x02[]")
        for _ in range(100):
            model.publish("room", 2000)
        await model.settle()
        assert not pipe.peer.outlet.offer(b"\x81\x02[]")
        assert model.server.metrics.dropped == 1
        model.server.flusher.drop_ephemeral = True
        assert not model.publisher.peer.outlet.offer(b"\x81\x02[]")
        assert model.server.metrics.dropped == 2

    run_model(scenario)


def test_a_client_that_asks_but_does_not_read_is_not_asked_further() -> None:
    async def scenario(model: Model) -> None:
        pipe = model.pipe()
        pipe.ask(0, "connect")
        await model.settle()
        number = 0
        while pipe.reading:
            number += 1
            pipe.ask(number, "publish", channel="room", message=f"p{number}", data=1)
            await model.settle()
            assert number < 5000
        assert pipe.buffered + pipe.peer.outlet.held_bytes < 2 * SLOW_BYTES
        while not pipe.reading:
            pipe.drain(20_000)
            await model.settle()
        pipe.drain(10**9)
        await model.settle()
        assert [f["position"][1] for f in pipe.frames if f["type"] == "ack"] == list(range(1, number + 1))

    run_model(scenario)


def test_a_slow_reader_is_not_closed_for_a_pong_that_it_cannot_have_sent() -> None:
    async def scenario(model: Model) -> None:
        pipe, now = model.pipe(), model.server.clock()
        pipe.ask(0, "connect", subscribe=[{"channel": "room"}])
        await model.settle()
        for _ in range(100):
            model.publish("room", 2000)
        await model.settle()
        for later in range(3600, 3700):
            pipe.peer.on_time(now + later)
        assert not pipe.peer.gone
        while pipe.peer.outlet.slow:
            pipe.drain(10**9)
            await model.settle()
        pipe.drain(10**9)
        for later in range(3700, 3720):
            pipe.peer.on_time(now + later)
        assert pipe.peer.gone, "now it has no excuse"

    run_model(scenario)


def test_a_stall_lasts_for_as_long_as_nothing_goes() -> None:
    stall = Stall(10.0, 500)
    assert stall.lasts_s(15.0, 500) == 5.0
    assert stall.lasts_s(16.0, 400) == 0.0
    assert stall.lasts_s(46.0, 400) == 30.0


# Real sockets -----------------------------------------------------------------------------------------


@pytest.fixture(params=["uvloop", "asyncio"])
def serve(request: pytest.FixtureRequest, tmp_path: Any) -> Callable[..., None]:
    """Runs ``scenario(server, port)`` against a server of its own."""

    def run(scenario: Callable[[Server, int], Awaitable[None]], **options: Any) -> None:
        async def main() -> None:
            server = Server(Config(**{"port": 0, "data": tmp_path / "data", "drain_s": 1, **options}))
            await server.start()
            try:
                await scenario(server, int(server.url.rsplit(":", 1)[1].split("/")[0]))
            finally:
                await Reader.hang_up()
                await server.stop()
            assert not server.failed

        if request.param == "uvloop":
            uvloop.run(main())
        else:
            asyncio.run(main())

    return run


async def fill(publisher: Reader, count: int, size: int, channel: str = "room") -> None:
    """Publish ``count`` more messages; back when all are acked."""
    begin = publisher.count("ack")
    for number in range(begin, begin + count):
        publisher.publish(f"m{number}", channel, "x" * size)
    await publisher.until(lambda: publisher.count("ack") == begin + count)


async def block(server: Server, publisher: Reader, slow: Reader) -> int:
    """Publish until the paused reader is in cursor mode; returns how many messages that took."""
    slow.pause()
    count = 0
    while server.metrics.slow == 0:
        await fill(publisher, 20, 5000)
        count += 20
        assert count < 5000
    return count


def test_a_reader_that_pauses_at_random_gets_everything_in_order(serve) -> None:
    async def scenario(server: Server, port: int) -> None:
        rng = random.Random(7)
        publisher = await Reader.dial(port, "ann")
        readers = [
            await Reader.dial(port, f"r{n}", receive_bytes=4096, room="new", den="new") for n in range(4)
        ]
        for _ in range(30):
            for reader in readers[1:]:
                (reader.pause if rng.random() < 0.7 else reader.resume)()
            await fill(
                publisher, rng.randrange(1, 40), rng.choice([10, 1000, 8000]), rng.choice(["room", "den"])
            )
            await readers[0].until(
                lambda: len(readers[0].serials()) + len(readers[0].serials("den")) == publisher.count("ack")
            )
        for reader in readers:
            reader.resume()
        room, den = [head.top for head in await server.store.tops(["room", "den"])]
        for reader in readers:
            await reader.until(lambda r=reader: (len(r.serials()), len(r.serials("den"))) == (room, den))  # type: ignore[misc]
            for channel, top in (("room", room), ("den", den)):
                assert follow(reader.frames, channel) == (top, [])
        assert server.metrics.slow_entered > 0
        assert (server.metrics.slow, server.metrics.gaps) == (0, 0)
        assert server.slow.waiting_bytes() == 0

    serve(scenario)


def test_what_waits_for_a_reader_that_stops_is_bounded_and_nothing_of_it_is_lost(serve) -> None:
    async def scenario(server: Server, port: int) -> None:
        publisher, slow = (
            await Reader.dial(port, "ann"),
            await Reader.dial(port, receive_bytes=4096, room="new"),
        )
        count = await block(server, publisher, slow)
        for _ in range(20):
            await fill(publisher, 20, 5000)
            assert server.slow.waiting_bytes() <= SLOW_BYTES + 6000
        slow.resume()
        await slow.until(lambda: len(slow.serials()) == count + 400)
        assert follow(slow.frames, "room") == (count + 400, [])
        await fill(publisher, 1, 10)
        await slow.until(lambda: slow.serials()[-1] == count + 401)
        assert (server.metrics.slow_entered, server.metrics.slow) == (server.metrics.slow_left, 0)

    serve(scenario)


def test_a_cursor_below_the_floor_gets_a_gap_of_exactly_what_is_gone(serve) -> None:
    async def scenario(server: Server, port: int) -> None:
        publisher, slow = (
            await Reader.dial(port, "ann"),
            await Reader.dial(port, receive_bytes=4096, room="new"),
        )
        await block(server, publisher, slow)
        await fill(publisher, 200, 100)
        server.hub.trimmed(await server.store.trim(0))
        slow.resume()
        await slow.until(lambda: server.metrics.slow == 0 and slow.serials()[-1] == publisher.count("ack"))
        top, (gap,) = follow(slow.frames, "room")
        assert top == publisher.count("ack")
        assert (gap["why"], gap["to"][1]) == ("lag", top - 50)
        assert server.metrics.lag_gaps == server.metrics.gaps == 1

    serve(scenario, store="memory", retain_n=50)


def test_a_reader_that_takes_nothing_for_too_long_is_closed_with_4003(serve) -> None:
    async def scenario(server: Server, port: int) -> None:
        publisher, slow = (
            await Reader.dial(port, "ann"),
            await Reader.dial(port, receive_bytes=4096, room="new"),
        )
        await block(server, publisher, slow)
        while not server.metrics.stuck:
            await fill(publisher, 1, 10)
        assert server.metrics.closed == {4003: 1}
        while len(server.connections) > 1:
            await fill(publisher, 1, 10)
        assert server.slow.waiting_bytes() == server.metrics.slow == 0

    serve(scenario, store="memory", slow_s=0.2)


def test_the_socket_options_are_set(serve) -> None:
    async def scenario(server: Server, port: int) -> None:
        publisher, slow = (
            await Reader.dial(port, "ann"),
            await Reader.dial(port, receive_bytes=4096, room="new"),
        )
        (mine,) = [one for one in server.connections.values() if "room" in one.session.subscriptions]
        sock: socket.socket = mine.link._transport.get_extra_info("socket")  # type: ignore[attr-defined]
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 16 * 1024  # type: ignore[attr-defined]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * 128 * 1024, "Linux doubles it"
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
        await block(server, publisher, slow)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 65_000, "ours comes first"
        slow.resume()
        await slow.until(lambda: server.metrics.slow == 0)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000

    serve(scenario, store="memory", slow_s=60)


def test_what_is_written_beyond_the_mark_stays_within_the_limit() -> None:
    assert HIGH_WATER_BYTES + PIECE_BYTES == SLOW_BYTES

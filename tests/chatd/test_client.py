"""The client on a real socket, against the model server."""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import pytest

import chatd.client
from chatd.client import Client, ClientEnded, GapNotice, Last, Message
from chatd.client_core import ClientCore
from chatd.protocol import messages as m
from chatd.protocol.errors import AlreadySubscribed, BadRequest, ChatdError, IdReused
from chatd.protocol.messages import From
from tests.chatd.model_server import ModelServer
from tests.chatd.model_socket import serving

ROOM = "room:1"


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on a loop of its own, and fail it if it leaves a task behind."""

    @wraps(test)
    def run(**arguments: Any) -> None:
        async def main() -> None:
            await test(**arguments)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not {task for task in left if "chatd client" in task.get_name()}

        asyncio.run(asyncio.wait_for(main(), 60))

    return run


async def take(subscription: chatd.client.Subscription, n: int) -> list[Any]:
    """The bodies of the next n items; a gap notice stands for itself."""
    items = [await anext(subscription) for _ in range(n)]
    return [item.data if isinstance(item, Message) else item for item in items]


@on_a_loop
async def test_message_goes_from_publisher_to_subscriber() -> None:
    async with serving() as server, Client(server.url, client="alice") as alice, Client(server.url) as bob:
        room = await alice.subscribe(ROOM)
        ack = await bob.publish(ROOM, {"text": "hi"})
        item = await anext(room)
        assert isinstance(item, Message)
        assert (item.data, item.id, item.position) == ({"text": "hi"}, ack.message, ack.position)
        assert item.user == bob.server.user
        assert room.position == ack.position


@on_a_loop
async def test_stream_begins_where_asked() -> None:
    async with serving() as server, Client(server.url) as client:
        acks = [await client.publish(ROOM, n) for n in range(5)]
        starts: list[tuple[From, int]] = [("first", 0), (Last(2), 3), (acks[2].position, 3)]
        for from_, first in starts:
            room = await client.subscribe(ROOM, from_=from_)
            assert await take(room, 5 - first) == list(range(first, 5))
            await room.unsubscribe()


@on_a_loop
async def test_history_is_read() -> None:
    async with serving() as server, Client(server.url) as client:
        acks = [await client.publish(ROOM, n) for n in range(5)]
        page = await client.history(ROOM, after=acks[1].position, limit=2)
        assert [message.data for message in page.messages] == [2, 3]
        assert page.more
        assert page.position == acks[-1].position


@on_a_loop
async def test_cuts_lose_repeat_and_reorder_nothing() -> None:
    async with serving() as server, Client(server.url) as reader, Client(server.url) as writer:
        room = await reader.subscribe(ROOM)
        acks: list[chatd.client.Ack] = []

        async def write() -> None:
            for burst in range(0, 30, 5):
                sending = [asyncio.create_task(writer.publish(ROOM, n)) for n in range(burst, burst + 5)]
                await asyncio.sleep(0)
                server.cut()
                acks.extend(await asyncio.gather(*sending))

        writing = asyncio.create_task(write())
        assert await take(room, 30) == list(range(30))
        await writing
        assert [ack.position[1] for ack in acks] == list(range(1, 31))
        assert server.accepted > 6


@on_a_loop
async def test_server_that_lost_its_streams_shows_as_a_gap() -> None:
    async with serving() as server, Client(server.url) as client:
        room = await client.subscribe(ROOM)
        await client.publish(ROOM, "before")
        await take(room, 1)
        await server.stop()
        server.model.forget()
        await server.start()
        await client.publish(ROOM, "after")
        gap, after = await take(room, 2)
        assert gap == GapNotice(channel=ROOM, why="epoch", from_=("E1", 1), to=("E2", 0))
        assert gap.missing is None
        assert after == "after"


@on_a_loop
async def test_retention_that_did_not_reach_shows_as_a_gap() -> None:
    async with serving() as server, Client(server.url) as client:
        first = await client.publish(ROOM, 0)
        for n in range(1, 9):
            await client.publish(ROOM, n)
        server.model.trim(ROOM, 6)
        room = await client.subscribe(ROOM, from_=first.position)
        gap, *rest = await take(room, 5)
        assert gap.why == "trimmed"
        assert list(gap.missing) == [2, 3, 4, 5]
        assert rest == [5, 6, 7, 8]


@on_a_loop
async def test_slow_application_holds_a_bounded_buffer_and_misses_nothing() -> None:
    async with serving() as server, Client(server.url, buffer=4) as slow, Client(server.url) as writer:
        room = await slow.subscribe(ROOM)
        for n in range(50):
            await writer.publish(ROOM, n)
        # Acks are not held up by the stream that nobody reads.
        await slow.publish("room:2", "still here")
        assert len(room._items) == 4
        assert await take(room, 50) == list(range(50))


@on_a_loop
async def test_close_ends_streams_fails_what_is_open_and_leaves_no_task() -> None:
    async with serving() as server:
        client = Client(server.url)
        async with client:
            room = await client.subscribe(ROOM)
            await client.publish(ROOM, 1)
            server.mute = True
            publish = asyncio.create_task(client.publish(ROOM, 2))
            await asyncio.sleep(0)
        with pytest.raises(ClientEnded, match="closed by the application"):
            await publish
        assert [item.serial async for item in room if isinstance(item, Message)] == [1]
        with pytest.raises(ClientEnded):
            await client.publish(ROOM, 3)
        await client.close()
        assert not client.connected


@on_a_loop
async def test_close_for_good_raises_where_the_application_waits() -> None:
    async with serving() as server, Client(server.url) as client:
        room = await client.subscribe(ROOM)
        await server.close(4503, "kicked by a moderator")
        with pytest.raises(ClientEnded, match="kicked by a moderator") as caught:
            await anext(room)
        assert caught.value.close_code == 4503
        with pytest.raises(ClientEnded, match="4503"):
            await client.publish(ROOM, 1)


@on_a_loop
async def test_drained_client_comes_back() -> None:
    async with serving() as server, Client(server.url) as client:
        room = await client.subscribe(ROOM)
        await server.close(4101, "drain")
        await client.publish(ROOM, "back")
        assert await take(room, 1) == ["back"]


@pytest.mark.parametrize(
    ("tail", "accepted"),
    [
        pytest.param("", (1, 1), id="there"),
        pytest.param("#nowhere", (2, 0), id="home, where the address is none"),
    ],
)
@on_a_loop
async def test_drained_client_goes(tail: str, accepted: tuple[int, int]) -> None:
    model = ModelServer(retry_ms=(1, 5))
    async with serving(model) as old, serving(model) as new, Client(old.url) as client:
        room = await client.subscribe(ROOM)
        await old.say(m.Goodbye(code=4101, why="drain", to=[new.url + tail]))
        await old.close(4101, "drain")
        await client.publish(ROOM, "back")
        assert await take(room, 1) == ["back"]
        assert (old.accepted, new.accepted) == accepted


@on_a_loop
async def test_silent_server_is_left_for_a_new_connection() -> None:
    async with (
        serving(ModelServer(ping_s=0.05, pong_s=0.05, retry_ms=(1, 5))) as server,
        Client(server.url) as client,
    ):
        await server.accepts()
        assert server.accepted >= 2
        assert await client.publish(ROOM, 1)


@on_a_loop
async def test_publish_that_nobody_waits_for_any_more_still_happens() -> None:
    async with serving() as server, Client(server.url) as client, Client(server.url) as reader:
        room = await reader.subscribe(ROOM)
        await server.stop()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.publish(ROOM, "patience"), 0.01)
        await server.start()
        assert await take(room, 1) == ["patience"]


@on_a_loop
async def test_subscribe_that_was_given_up_can_be_made_again() -> None:
    async with serving() as server, Client(server.url) as client:
        server.mute = True
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.subscribe(ROOM), 0.01)
        server.mute = False
        room = await client.subscribe(ROOM)
        await client.publish(ROOM, 1)
        assert await take(room, 1) == [1]


@on_a_loop
async def test_unsubscribe_ends_the_stream_and_leaves_others_alone() -> None:
    async with serving() as server, Client(server.url) as client:
        one, two = await client.subscribe("one"), await client.subscribe("two")
        waiting = asyncio.create_task(take(one, 1))
        await asyncio.sleep(0)
        await one.unsubscribe()
        await one.unsubscribe()
        with pytest.raises(StopAsyncIteration):
            await anext(one)
        with pytest.raises(StopAsyncIteration):
            await waiting
        await client.publish("one", 1)
        await client.publish("two", 2)
        assert await take(two, 1) == [2]
        assert not one._items


@on_a_loop
async def test_errors_of_the_server_are_raised_where_they_belong() -> None:
    async with serving() as server, Client(server.url) as client:
        await client.publish(ROOM, 1, message="mine")
        with pytest.raises(IdReused) as caught:
            await client.publish(ROOM, 2, message="mine")
        assert caught.value.definite
        await client.subscribe(ROOM)
        with pytest.raises(AlreadySubscribed, match="room:1"):
            await client.subscribe(ROOM)
        server.model.refusals.append((400, None, False))
        with pytest.raises(BadRequest):
            await client.publish(ROOM, 3)


@on_a_loop
async def test_temporary_refusal_of_the_handshake_is_waited_out() -> None:
    async with serving() as server:
        server.status = 503
        entering = asyncio.create_task(Client(server.url, retry_s=(0.001, 0.002)).__aenter__())
        await server.on_refusal.wait()
        assert not entering.done()
        server.status = None
        client = await entering
        assert client.connected
        await client.close()


@pytest.mark.parametrize(
    ("url", "text"),
    [
        pytest.param("http://127.0.0.1:1/ws", "must be ws://", id="scheme"),
        pytest.param("127.0.0.1:8765", "must be ws://", id="no scheme"),
        pytest.param("ws:///ws", "must be ws://", id="no host"),
        pytest.param("ws://127.0.0.1:port/ws", "must be ws://", id="port"),
        pytest.param("ws://127.0.0.1:1/ws#room", "must be ws://", id="fragment"),
    ],
)
def test_url_that_cannot_be_one_is_refused_at_once(url: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Client(url)


def test_buffer_that_holds_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="buffer is 0: must be 1 or more"):
        Client("ws://127.0.0.1:1/ws", buffer=0)


@on_a_loop
async def test_nobody_there_is_said_with_address_and_reason() -> None:
    with socket.socket() as placeholder:
        placeholder.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{placeholder.getsockname()[1]}/ws"
        with pytest.raises(ClientEnded, match=rf"{url}.*[Cc]onnect.*check the address"):
            async with Client(url, connect_s=0.5):
                pass


@pytest.mark.parametrize("status", [302, 403, 404])
def test_handshake_refused_for_good_is_said_at_once(status: int) -> None:
    @on_a_loop
    async def test() -> None:
        async with serving() as server:
            server.status = status
            with pytest.raises(ClientEnded, match=f"HTTP status {status}.*/ws"):
                async with Client(server.url):
                    pass

    test()


@on_a_loop
async def test_server_of_another_protocol_is_said_at_once() -> None:
    async with serving() as server:
        await server.stop()
        await server.start(subprotocols=[])
        with pytest.raises(ClientEnded, match=r"does not speak chatd\.v1"):
            async with Client(server.url):
                pass


@on_a_loop
async def test_client_is_used_inside_async_with_and_only_once() -> None:
    async with serving() as server:
        client = Client(server.url)
        with pytest.raises(RuntimeError, match="async with"):
            await client.publish(ROOM, 1)
        with pytest.raises(ClientEnded, match="no connection yet"):
            _ = client.server
        async with client:
            pass
        with pytest.raises(RuntimeError, match="once"):
            await client.__aenter__()


@on_a_loop
async def test_application_that_gives_up_connecting_leaves_no_task() -> None:
    with socket.socket() as placeholder:
        placeholder.bind(("127.0.0.1", 0))
        client = Client(f"ws://127.0.0.1:{placeholder.getsockname()[1]}/ws", connect_s=60)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.__aenter__(), 0.05)


@on_a_loop
async def test_bug_of_the_client_fails_everything_instead_of_hanging(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving() as server, Client(server.url) as client:
        room = await client.subscribe(ROOM)
        monkeypatch.setattr(ClientCore, "received", lambda self, payload, now_s: 1 / 0)
        with pytest.raises(ClientEnded, match="the client failed"):
            await client.publish(ROOM, 1)
        with pytest.raises(ClientEnded, match="the client failed"):
            await anext(room)
        assert "the client failed" in caplog.text


@pytest.mark.parametrize("name", chatd.client.__all__)
def test_every_exported_name_and_its_public_members_have_a_docstring(name: str) -> None:
    exported = getattr(chatd.client, name)
    assert exported.__doc__
    if not issubclass(exported, Exception):
        own = vars(exported).items()
        members = [(key, value) for key, value in own if not key.startswith("_")]
        functions = [
            (key, value) for key, value in members if inspect.isfunction(value) or isinstance(value, property)
        ]
        assert all(value.__doc__ for _, value in functions), functions


def test_all_names_everything_that_the_documented_example_uses() -> None:
    assert {"Client", "Message", "GapNotice"} <= set(chatd.client.__all__)
    assert issubclass(ClientEnded, ChatdError)

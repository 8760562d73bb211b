"""What a client hears of the others in a channel, and says of itself."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from chatd.client import Client, Message, Present, Receipt, Typing
from chatd.client_actions import Deliver, Done, Failed, Send, StreamOver
from chatd.client_inbox import Wants
from chatd.protocol import messages as m
from chatd.protocol.errors import Forbidden, Unknown
from tests.chatd.driven_client import ROOM, Driven, error, subscribed
from tests.chatd.house import House

ALL = Wants(presence=True, signals=True)


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def following(wants: Wants = ALL) -> Driven:
    """Live on ROOM."""
    client = Driven()
    client.connect()
    client.note(client.core.subscribe(ROOM, "new", "sub", 0.0, wants=wants))
    (request,) = client.take()
    assert isinstance(request, m.Subscribe)
    assert request.presence == wants.presence
    client.feed(subscribed(request.id, 0), m.Live(channel=ROOM, position=("E1", 0)))
    return client


def heard(client: Driven, *frames: m.Reply) -> list[object]:
    return [action.item for action in client.feed(*frames) if isinstance(action, Deliver)]


def presence(version: int, count: int, **more: Any) -> m.Presence:
    return m.Presence(channel=ROOM, version=version, count=count, **more)


def test_presence_is_a_table_that_is_kept_up_to_date() -> None:
    client = following()
    frames = [
        presence(4, 2, members=[m.Member("ann", raw(1)), m.Member("bob")]),
        presence(5, 2, changes=[m.Change("enter", "cyd", raw("x")), m.Change("leave", "bob")]),
        presence(6, 2, changes=[m.Change("update", "ann")]),
    ]
    assert heard(client, *frames) == [
        Present(ROOM, 2, {"ann": 1, "bob": None}),
        Present(ROOM, 2, {"ann": 1, "cyd": "x"}),
        Present(ROOM, 2, {"ann": None, "cyd": "x"}),
    ]


def test_changes_after_a_push_that_was_left_out_wait_for_the_whole_list() -> None:
    client = following()
    assert heard(client, presence(3, 1, changes=[m.Change("enter", "ann")])) == []
    heard(client, presence(4, 1, members=[m.Member("ann")]))
    assert heard(client, presence(6, 1, changes=[m.Change("leave", "bob")])) == []
    assert heard(client, presence(6, 0, members=[])) == [Present(ROOM, 0, {})]
    assert heard(client, presence(7, 300)) == [Present(ROOM, 300, None)]
    assert heard(client, presence(8, 200, changes=[m.Change("leave", "x")])) == []


def test_typing_and_receipts_are_told_to_who_wants_them() -> None:
    frames = [
        m.Typing(channel=ROOM, user="ann", on=True, ttl_ms=6000),
        m.Receipt(channel=ROOM, marks=[m.Mark("ann", read=3), m.Mark("bob", delivered=4)]),
        presence(1, 0, members=[]),
    ]
    assert heard(following(), *frames) == [
        Typing(ROOM, "ann", True, 6.0),
        Receipt(ROOM, "ann", 0, 3),
        Receipt(ROOM, "bob", 4, 0),
        Present(ROOM, 0, {}),
    ]
    assert heard(following(Wants()), *frames) == []
    assert len(heard(following(Wants(signals=True)), *frames)) == 3


def test_nothing_is_heard_of_a_channel_that_was_left() -> None:
    client = following()
    client.note(client.core.unsubscribe(ROOM, "bye", 0.0))
    assert heard(client, presence(1, 0, members=[])) == []
    assert client.core.tell(m.TypingNotice(channel=ROOM, on=True)) == []


def read(serial: int) -> m.ReceiptNotice:
    return m.ReceiptNotice(channel=ROOM, serial=serial, kind="read")


def test_receipts_only_rise_and_are_said_again_on_the_next_connection() -> None:
    client = following()
    assert client.core.tell(read(3)) == [Send(m.encode(read(3)))]
    assert client.core.tell(read(2)) == []
    client.close()
    assert client.core.tell(read(5)) == [], "not while there is no connection"
    client.connect()
    (request,) = client.take()
    done = client.feed(
        subscribed(request.id, 0, resumed=True),  # type: ignore[arg-type]
        m.Live(channel=ROOM, position=("E1", 0)),
    )
    assert Send(m.encode(read(5))) in done


def enter(value: object = None) -> m.PresenceRequest:
    return m.PresenceRequest(id=0, channel=ROOM, op="enter", data=raw(value))


def asked(client: Driven) -> list[tuple[str, bytes]]:
    return [(r.op, bytes(r.data)) for r in client.take() if isinstance(r, m.PresenceRequest)]


def test_who_is_present_is_entered_again_after_each_connect_until_he_leaves() -> None:
    client = Driven()
    client.connect()
    client.note(client.core.read(enter("hi"), "enter", 0.0))
    (request,) = client.take()
    assert isinstance(request, m.PresenceRequest)
    done = client.feed(presence(0, 1, id=request.id))
    assert done == [Done("enter", Present(ROOM, 1, None))]
    client.close()
    client.connect()
    assert asked(client) == [("enter", b'"hi"')]
    client.note(client.core.leave(ROOM, client.now_s))
    assert asked(client) == [("leave", b"null")]
    client.close()
    client.connect()
    assert asked(client) == []


def test_an_enter_without_an_answer_is_asked_again_and_a_leave_ends_it() -> None:
    client = Driven()
    assert client.note(client.core.read(enter(), "enter", 0.0)) == []
    client.connect()
    assert asked(client) == [("enter", b"null")]
    client.close()
    assert client.note(client.core.leave(ROOM, 0.0)) == [Done("enter")]
    client.connect()
    assert asked(client) == []


def test_an_enter_that_is_refused_fails_and_is_not_repeated() -> None:
    client = Driven()
    client.connect()
    client.note(client.core.read(enter(), "enter", 0.0))
    (request,) = client.take()
    (failed,) = client.feed(error(request, 403))
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, Forbidden)
    client.close()
    client.connect()
    assert asked(client) == []


def test_an_answer_of_another_kind_is_an_error_and_one_to_nothing_is_none() -> None:
    client = Driven()
    client.connect()
    client.note(client.core.read(m.HistoryRequest(id=0, channel=ROOM), "hist", 0.0))
    (request,) = client.take()
    (failed,) = client.feed(presence(0, 1, id=request.id))
    assert isinstance(failed, Failed)
    wasted = client.core.wasted
    assert client.feed(presence(0, 1, id=77)) == []
    assert client.core.wasted == wasted + 1


def test_a_subscription_that_the_server_ends_takes_its_signals_along() -> None:
    client = following()
    client.core.tell(read(3))
    client.close()
    client.connect()
    (request,) = client.take()
    assert client.feed(error(request, 403)) == [StreamOver(ROOM, client.actions[-1].error)]  # type: ignore[union-attr]
    assert client.feed(m.Live(channel=ROOM, position=("E1", 0))) == []


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(m.React(id=0, channel=ROOM, to=3, message="", emoji="x", op="add"), id="react"),
        pytest.param(m.Edit(id=0, channel=ROOM, to=3, message="", data=raw(1)), id="edit"),
        pytest.param(m.Delete(id=0, channel=ROOM, to=3, message=""), id="delete"),
    ],
)
def test_annotations_keep_their_id_over_a_reconnect(frame: m.Write) -> None:
    client = Driven()
    client.connect()
    client.note(client.core.write(frame, "t", 0.0))
    (first,) = client.take()
    client.close()
    client.connect()
    (again,) = client.take()
    assert type(first) is type(again) is type(frame)
    assert first.message == again.message != ""  # type: ignore[union-attr]
    assert msgspec.structs.replace(again, id=0, message="") == frame


# Against a real daemon --------------------------------------------------------------------------------


async def item(stream: Any, kind: type[Any]) -> Any:
    """The next item of this kind."""
    async with asyncio.timeout(20):
        while not isinstance(found := await anext(stream), kind):
            pass
    return found


def test_two_people_meet_in_a_channel(serve) -> None:
    async def scenario(house: House) -> None:
        async with (
            Client(house.server.url, client="ann") as ann,
            Client(house.server.url, client="bob") as bob,
        ):
            room = await ann.subscribe("room", presence=True, signals=True)
            assert (await item(room, Present)).members == {}
            theirs = await bob.subscribe("room")
            assert (await bob.enter("room", {"mood": "fine"})).count == 1
            assert (await item(room, Present)).members == {"bob": {"mood": "fine"}}
            theirs.typing()
            assert (await item(room, Typing)).user == "bob"
            serial = (await ann.publish("room", "helo")).position[1]
            await bob.react("room", serial, "👍")
            await ann.edit("room", serial, "hello")
            await ann.delete("room", serial)
            got = [await item(room, Message) for _ in range(4)]
            assert [(message.kind, message.to, message.data) for message in got] == [
                ("text", None, "helo"), ("react", 1, {"emoji": "👍", "op": "add"}),
                ("edit", 1, "hello"), ("delete", 1, None),
            ]  # fmt: skip
            with pytest.raises(Forbidden):
                await bob.edit("room", serial, "mine")
            with pytest.raises(Unknown):
                await bob.delete("room", 99)
            theirs.receipt(4)
            receipt = await item(room, Receipt)
            assert (receipt.user, receipt.read) == ("bob", 4)
            assert room.position[1] == 4, "signals have no place in the stream"
            assert (await ann.present("room")).members == {"bob": {"mood": "fine"}}
            bob.leave("room")
            assert (await item(room, Present)).members == {}

    serve(scenario)


def test_presence_and_receipts_come_back_after_a_cut(serve) -> None:
    async def scenario(house: House) -> None:
        async with Client(house.server.url, client="bob", retry_s=(0.01, 0.05)) as bob:
            ann = await house.guest("ann")
            theirs = await bob.subscribe("room")
            await bob.publish("room", 1)
            await bob.enter("room")
            theirs.receipt(1)
            accepted = house.server.metrics.accepted
            for connection in list(house.server.connections.values()):
                if connection.session.user == "bob":
                    connection.link.abort()
            while True:
                await ann.ask("presence", channel="room", op="get")
                members = (await ann.read())["members"]
                if members and house.server.metrics.accepted > accepted:
                    break
            await ann.ask("subscribe", channel="room", from_="first")
            await ann.until("receipt")

    serve(scenario)

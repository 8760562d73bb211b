"""Presence, typing, receipts and the ways to begin and end a subscription, over real sockets."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from chatd import joins
from chatd import typists as typists_module
from tests.chatd.house import Guest, House, serials


async def of_type(guest: Guest, kind: str) -> dict[str, Any]:
    return (await guest.until(kind))[-1]


async def watcher(house: House, name: str = "wat") -> Guest:
    guest = await house.guest(name, channels=[{"channel": "room", "presence": True}])
    await guest.until("live")
    return guest


async def say(guest: Guest, kind: str, /, **fields: Any) -> None:
    """A notice: a frame without an id."""
    await guest.ws.send(json.dumps({"type": kind, "channel": "room", **fields}))


def test_presence_is_synced_pushed_and_ends_with_the_connection(serve) -> None:
    async def scenario(house: House) -> None:
        ann, bob = await house.guest("ann"), await house.guest("bob")
        await ann.ask("presence", channel="room", op="enter", data={"mood": "busy"})
        assert await ann.read() == {"type": "presence", "id": 2, "channel": "room", "version": 0, "count": 1}
        wat = await watcher(house)
        sync = await of_type(wat, "presence")
        assert sync["members"] == [{"user": "ann", "data": {"mood": "busy"}}]
        await bob.ask("presence", channel="room", op="enter")
        await bob.read()
        change = await of_type(wat, "presence")
        while "bob" not in [c["user"] for c in change["changes"]]:  # ann's own push may come first
            change = await of_type(wat, "presence")
        await bob.ask("presence", channel="room", op="get")
        got = await bob.read()
        assert [member["user"] for member in got["members"]] == ["ann", "bob"]
        assert got["version"] == change["version"]
        bob.ws.transport.abort()
        gone = await of_type(wat, "presence")
        assert (gone["version"], gone["changes"]) == (got["version"] + 1, [{"op": "leave", "user": "bob"}])
        await ann.ask("presence", channel="room", op="leave")
        await ann.read()
        assert (await of_type(wat, "presence"))["count"] == 0

    serve(scenario)


def test_presence_above_two_hundred_is_a_count(serve) -> None:
    async def scenario(house: House) -> None:
        wat = await watcher(house)
        assert (await of_type(wat, "presence"))["count"] == 0
        guests = [await house.guest(f"g{n}") for n in range(201)]
        await asyncio.gather(*(guest.ask("presence", channel="room", op="enter") for guest in guests))
        for guest in guests:
            await guest.read()
        frame = await of_type(wat, "presence")
        while frame["count"] <= 200:
            frame = await of_type(wat, "presence")
        assert "members" not in frame
        assert "changes" not in frame
        await guests[0].ask("presence", channel="room", op="get")
        assert "members" not in await guests[0].read()
        await guests[0].ask("presence", channel="room", op="leave")
        frame = await of_type(wat, "presence")
        assert len(frame["members"]) == 200

    serve(scenario, store="memory")


def test_typing_is_told_to_the_others_and_expires(serve, monkeypatch) -> None:
    monkeypatch.setattr(typists_module, "TTL_S", 0.05)
    monkeypatch.setattr(typists_module, "THROTTLE_S", 0.01)

    async def scenario(house: House) -> None:
        ann, bob = await house.listener("ann"), await house.listener("bob")
        await say(ann, "typing", on=True)
        assert [(await bob.read())["on"] for _ in range(2)] == [True, False]
        await say(ann, "typing", on=True)
        assert (await bob.read())["on"]
        ann.ws.transport.abort()
        assert not (await bob.read())["on"]

    serve(scenario)


def test_a_receipt_is_told_and_kept_for_who_comes_later(serve) -> None:
    async def scenario(house: House) -> None:
        ann, bob = await house.listener("ann"), await house.listener("bob")
        for n in range(3):
            await ann.publish(f"m{n}")
        await of_type(bob, "message")
        await say(bob, "receipt", serial=2, kind="delivered")
        await say(bob, "receipt", serial=1, kind="read")
        marks: dict[str, int] = {}
        while marks != {"delivered": 2, "read": 1}:
            frame = await of_type(ann, "receipt")
            for mark in frame["marks"]:
                assert mark.pop("user") == "bob"
                marks |= mark
        late = await house.listener("cyd")
        assert (await late.read())["marks"] == [{"user": "bob", "delivered": 2, "read": 1}]
        await say(bob, "receipt", serial=9, kind="read")
        assert (await of_type(bob, "error"))["code"] == 404

    serve(scenario)


def test_nothing_of_a_channel_comes_after_unsubscribed(serve) -> None:
    async def scenario(house: House) -> None:
        wat, ann = await watcher(house), await house.listener("ann")
        await wat.ask("unsubscribe", channel="room")
        await wat.until("unsubscribed")
        await ann.ask("presence", channel="room", op="enter")
        await say(ann, "typing", on=True)
        await ann.publish("m1")
        await say(ann, "receipt", serial=1, kind="read")
        await ann.until("receipt")
        await wat.ask("history", channel="elsewhere")
        assert (await wat.read())["type"] == "history"

    serve(scenario)


def test_bad_notices_are_answered_without_an_id_and_the_connection_goes_on(serve) -> None:
    async def scenario(house: House) -> None:
        ann = await house.guest("ann")
        await say(ann, "typing", on=True)
        refused = await ann.read()
        assert (refused["code"], refused["id"]) == (404, None)
        assert (await ann.publish("m1"))["type"] == "ack"

    serve(scenario)


@pytest.mark.parametrize(
    ("start", "replayed"),
    [
        pytest.param("new", [], id="new"),
        pytest.param("first", [1, 2, 3, 4, 5], id="first"),
        pytest.param({"last": 2}, [4, 5], id="the last two"),
        pytest.param({"last": 0}, [], id="the last none"),
        pytest.param({"last": 99}, [1, 2, 3, 4, 5], id="more than there are"),
        pytest.param(["=", 3], [4, 5], id="a position"),
        pytest.param(["=", 0], [1, 2, 3, 4, 5], id="the position before all"),
    ],
)
def test_a_subscription_begins_where_it_was_asked_to(serve, start, replayed) -> None:
    async def scenario(house: House) -> None:
        ann = await house.guest("ann")
        for n in range(5):
            ack = await ann.publish(f"m{n}")
        asked = [ack["position"][0], start[1]] if isinstance(start, list) else start
        bob = await house.guest("bob")
        await bob.ask("subscribe", channel="room", from_=asked)
        frames = await bob.until("live")
        assert serials(frames) == replayed
        assert frames[0]["resumed"] is isinstance(start, list)

    serve(scenario)


def test_history_can_be_paged_both_ways_to_its_ends(serve) -> None:
    async def scenario(house: House) -> None:
        ann = await house.guest("ann")
        for n in range(25):
            ack = await ann.publish(f"m{n}")
        epoch = ack["position"][0]

        async def page(**fields: Any) -> dict[str, Any]:
            await ann.ask("history", channel="room", limit=10, **fields)
            answer = await ann.read()
            assert (answer["position"], answer["floor"], answer["epochs"]) == ([epoch, 25], 1, [[epoch, 1]])
            return answer

        pages = [await page()]
        while pages[-1]["more"]:
            pages.append(await page(before=pages[-1]["messages"][0]["serial"]))
        assert [serials(p["messages"]) for p in pages] == [
            list(range(16, 26)), list(range(6, 16)), list(range(1, 6))
        ]  # fmt: skip
        pages = [await page(after=[epoch, 0])]
        while pages[-1]["more"]:
            pages.append(await page(after=[epoch, pages[-1]["messages"][-1]["serial"]]))
        assert [serials(p["messages"]) for p in pages] == [
            list(range(1, 11)), list(range(11, 21)), list(range(21, 26))
        ]  # fmt: skip
        assert serials((await page(after=[epoch, 25]))["messages"]) == []
        assert serials((await page(before=1))["messages"]) == []
        await ann.ask("history", channel="room", after=["?", 1])
        assert (await ann.read())["code"] == 410

    serve(scenario)


def test_what_is_trimmed_during_a_replay_is_declared_in_its_place(serve, monkeypatch) -> None:
    monkeypatch.setattr(joins, "PAGE_N", 2)

    async def scenario(house: House) -> None:
        ann = await house.guest("ann")
        for n in range(300):
            await ann.ask("publish", channel="room", message=f"m{n}", data="x" * 2000)
        for _ in range(300):
            ack = await ann.until("ack")
        epoch = ack[-1]["position"][0]
        read, pages = house.server.store.read, 0

        async def slow_read(channel: str, after: int, limit: int, max_bytes: int) -> Any:
            nonlocal pages
            pages += 1
            if pages == 4:
                floors = await house.server.store.trim(10**13)  # some day far away: everything is too old
                house.server.hub.trimmed(floors)
            return await read(channel, after, limit, max_bytes)

        house.server.store.read = slow_read  # type: ignore[method-assign]
        bob = await house.guest("bob", channels=[{"channel": "room", "from": "first"}])
        frames = await bob.until("live")
        gaps = [frame for frame in frames if frame["type"] == "gap"]
        assert len(gaps) == 1
        at = frames.index(gaps[0])
        before, after = serials(frames[:at]), serials(frames[at:])
        assert before == list(range(1, gaps[0]["from"][1] + 1))
        assert after == list(range(gaps[0]["to"][1] + 1, 301))
        assert (gaps[0]["why"], gaps[0]["from"][0], frames[-1]["position"]) == (
            "trimmed",
            epoch,
            [epoch, 300],
        )
        assert (await ann.publish("more"))["position"][1] == 301
        assert (await bob.read())["serial"] == 301

    serve(scenario)


def test_without_echo_only_the_own_messages_are_left_out(serve) -> None:
    async def scenario(house: House) -> None:
        ann, bob = await house.guest("ann"), await house.guest("bob")
        await ann.ask("subscribe", channel="room", from_="new", echo=False)
        await ann.until("live")
        await ann.publish("a1")
        await bob.publish("b1")
        assert serials([await ann.read()]) == [2]
        await ann.ask("react", channel="room", to=2, message="a2", emoji="x", op="add")
        await ann.until("ack")
        await bob.ask("react", channel="room", to=1, message="b2", emoji="x", op="add")
        assert serials([await ann.read()]) == [4]
        await ann.ask("subscribe", channel="room", from_="first", echo=False)
        assert serials(await ann.until("live")) == [2, 4]

    serve(scenario)

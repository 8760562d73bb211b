"""Reactions, edits and deletions as messages of the log."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chatd.protocol.errors import BadRequest, Forbidden, IdReused, Unknown
from chatd.protocol.messages import decode_request
from chatd.store.base import Append, Conflict, Refused
from chatd.writes import EMOJI_BYTES, refusal, to_append
from tests.chatd.house import House, serials


def asked(kind: str, **fields: Any) -> Any:
    frame = {"type": kind, "id": 1, "channel": "room", "message": "m", **fields}
    return decode_request(json.dumps(frame, ensure_ascii=False).encode())


@pytest.mark.parametrize(
    ("request_", "append"),
    [
        pytest.param(asked("publish", data=[1]), Append("room", "ann", "m", b"[1]"), id="publish"),
        pytest.param(
            asked("react", to=5, emoji="👍", op="add"),
            Append("room", "ann", "m", '{"emoji":"👍","op":"add"}'.encode(), "react", 5),
            id="react",
        ),
        pytest.param(
            asked("edit", to=5, data="x"), Append("room", "ann", "m", b'"x"', "edit", 5, True), id="edit"
        ),
        pytest.param(
            asked("delete", to=5), Append("room", "ann", "m", b"null", "delete", 5, True), id="delete"
        ),
    ],
)
def test_each_request_becomes_one_message(request_, append) -> None:
    assert to_append(request_, "ann") == append


def test_a_moderator_changes_what_others_wrote() -> None:
    assert not to_append(asked("edit", to=5, data="x"), "ann", lambda _: True).own
    assert not to_append(asked("delete", to=5), "ann", lambda _: True).own


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        pytest.param(asked("delete", to=0), "to is 0", id="no serial"),
        pytest.param(asked("delete", to=-3), "to is -3", id="a negative serial"),
        pytest.param(asked("delete", to=2**53), "2^53", id="a serial that is too large"),
        pytest.param(asked("react", to=1, emoji="", op="add"), "emoji has 0 bytes", id="no emoji"),
        pytest.param(asked("react", to=1, emoji="x" * 65, op="add"), f"to {EMOJI_BYTES}", id="a long emoji"),
        pytest.param(asked("react", to=1, emoji="a b", op="add"), "no spaces", id="a space"),
        pytest.param(asked("react", to=1, emoji="\x00", op="add"), "control", id="a control character"),
        pytest.param(asked("edit", to=1, data=1, channel=""), "channel has 0", id="no channel"),
        pytest.param(asked("edit", to=1, data=1, message="a\n"), "printable", id="a garbled message id"),
    ],
)
def test_bad_fields_are_named(request_, words) -> None:
    with pytest.raises(BadRequest, match=None) as caught:
        to_append(request_, "ann")
    assert words in caught.value.reason


@pytest.mark.parametrize("emoji", ["👍", "👨‍👩‍👧", "❤️", "🏳️‍🌈", ":shipit:", "é"])
def test_joined_emoji_pass(emoji: str) -> None:
    assert emoji in to_append(asked("react", to=1, emoji=emoji, op="remove"), "ann").data.decode()


def test_each_refusal_of_the_store_has_its_error() -> None:
    request = asked("edit", to=7, data=1)
    assert isinstance(refusal(request, Conflict(3)), IdReused)
    assert isinstance(refusal(request, Refused("author")), Forbidden)
    unknown = refusal(request, Refused("target"))
    assert isinstance(unknown, Unknown)
    assert "to is 7" in unknown.reason


# Over real sockets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_annotations_are_delivered_live_replayed_and_read_back_alike(serve, store) -> None:
    async def scenario(house: House) -> None:
        listener, ann = await house.listener("bob"), await house.guest("ann")
        epoch = (await ann.publish("m1", data="helo"))["position"][0]
        await ann.ask("edit", channel="room", to=1, message="e1", data="hello")
        assert (await ann.read())["position"] == [epoch, 2]
        await listener.ask("react", channel="room", to=1, message="r1", emoji="👍", op="add")
        await listener.until("ack")
        await ann.ask("delete", channel="room", to=1, message="d1")
        await ann.read()
        live = [await listener.read() for _ in range(2)]
        shown = [(f["serial"], f["user"], f.get("kind"), f.get("to"), f["data"]) for f in live]
        assert shown == [(3, "bob", "react", 1, {"emoji": "👍", "op": "add"}), (4, "ann", "delete", 1, None)]
        late = await house.guest("cyd", channels=[{"channel": "room", "from": [epoch, 0]}])
        replayed = (await late.until("live"))[1:-1]
        assert replayed[2:] == live
        assert [f.get("kind") for f in replayed] == [None, "edit", "react", "delete"]
        await late.ask("history", channel="room", after=[epoch, 1])
        assert (await late.read())["messages"] == replayed[1:]

    serve(scenario, store=store)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        pytest.param({"kind": "edit", "to": 1, "data": "x"}, 403, id="edit of another's message"),
        pytest.param({"kind": "delete", "to": 1}, 403, id="delete of another's message"),
        pytest.param({"kind": "react", "to": 9, "emoji": "x", "op": "add"}, 404, id="above the head"),
        pytest.param({"kind": "react", "to": 2, "emoji": "x", "op": "add"}, 404, id="about a reaction"),
        pytest.param({"kind": "delete", "to": 1, "channel": "nowhere"}, 404, id="in an empty channel"),
        pytest.param({"kind": "react", "to": 1, "emoji": "x", "op": "flip"}, 400, id="no such op"),
    ],
)
def test_what_may_not_be_annotated_is_refused_and_blocks_nothing(serve, fields, code) -> None:
    async def scenario(house: House) -> None:
        ann, bob = await house.guest("ann"), await house.guest("bob")
        await ann.publish("m1")
        await ann.ask("react", channel="room", to=1, message="r1", emoji="👍", op="add")
        await ann.until("ack")
        await bob.ask(**{"channel": "room", "message": "x", **fields})
        refused = await bob.read()
        assert (refused["type"], refused["code"], refused["definite"]) == ("error", code, True)
        assert (await bob.publish("x"))["position"][1] == 3, "the id was not used up"

    serve(scenario)


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_a_retry_of_an_annotation_is_a_duplicate_and_other_content_a_conflict(serve, store) -> None:
    async def scenario(house: House) -> None:
        ann = await house.guest("ann")
        await ann.publish("m1")
        await ann.publish("m2")
        answers = []
        for kind, fields in (
            ("edit", {"to": 1, "data": "x"}),
            ("edit", {"to": 1, "data": "x"}),
            ("edit", {"to": 2, "data": "x"}),
            ("edit", {"to": 1, "data": "y"}),
            ("publish", {"data": "x"}),
        ):
            await ann.ask(kind, channel="room", message="e1", **fields)
            answer = await ann.read()
            answers.append(answer.get("code") or (answer["position"][1], answer["duplicate"]))
        assert answers == [(3, False), (3, True), 409, 409, 409]

    serve(scenario, store=store)


def test_the_order_of_a_publisher_holds_over_all_kinds(serve) -> None:
    async def scenario(house: House) -> None:
        listener, ann = await house.listener("bob"), await house.guest("ann")
        await ann.publish("m0")
        for number in range(50):  # nobody waits for an ack, so one batch of the store holds many
            await ann.ask("publish", channel="room", message=f"p{number}", data=number)
            await ann.ask("react", channel="room", to=1, message=f"r{number}", emoji="x", op="add")
        got = [await listener.read() for _ in range(101)]
        assert serials(got) == list(range(1, 102))
        assert [f["message"] for f in got[1:]] == [f"{kind}{n}" for n in range(50) for kind in "pr"]

    serve(scenario)


def test_annotations_survive_a_restart_and_so_does_their_identity(serve) -> None:
    epochs: list[str] = []

    async def before(house: House) -> None:
        ann = await house.guest("ann")
        epochs.append((await ann.publish("m1"))["position"][0])
        await ann.ask("edit", channel="room", to=1, message="e1", data="x")
        await ann.until("ack")

    async def after(house: House) -> None:
        ann = await house.guest("ann", channels=[{"channel": "room", "from": [epochs[0], 1]}])
        (message,) = (await ann.until("live"))[1:-1]
        assert (message["kind"], message["to"], message["data"]) == ("edit", 1, "x")
        await ann.ask("edit", channel="room", to=1, message="e1", data="x")
        assert (await ann.read())["duplicate"]
        await ann.ask("edit", channel="room", to=1, message="e1", data="z")
        assert (await ann.read())["code"] == 409

    serve(before)
    serve(after)

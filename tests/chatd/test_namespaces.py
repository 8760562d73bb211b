"""Namespaces: which channels there are, who may do what, and how much is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from chatd.config import Config, ConfigError, load
from chatd.namespaces import ACTIONS, Action, Namespace, Namespaces
from chatd.protocol import messages as m
from chatd.protocol.errors import BadRequest, ChatdError, Forbidden, Unknown
from chatd.store.base import Retention
from tests.chatd.house import House, serials

KEEP = Retention(n=10, s=60, bytes=1000)


def space(**settings: Any) -> Namespace:
    return Namespace(**settings)


def verdict(
    table: dict[str, Namespace],
    channel: str,
    user: str = "ann",
    action: Action = "publish",
    moderates: bool = False,
) -> type[ChatdError] | None:
    try:
        Namespaces(table, KEEP).check(action, channel, user, lambda _: moderates)
    except ChatdError as error:
        return type(error)
    return None


ROOMS = {"room": space(), "news": space(publish="moderators", history="nobody"), "dm": space()}


@pytest.mark.parametrize(
    ("table", "channel", "result"),
    [
        pytest.param({}, "anything", None, id="none configured"),
        pytest.param({}, "x:y", None, id="none configured, with a colon"),
        pytest.param(ROOMS, "room:1", None, id="configured"),
        pytest.param(ROOMS, "room:", None, id="nothing after the colon"),
        pytest.param(ROOMS, "hall:1", Unknown, id="not configured"),
        pytest.param(ROOMS, "room", Unknown, id="no colon"),
        pytest.param({"": space()}, "lobby", None, id="the empty namespace"),
        pytest.param(ROOMS, "\x00" * 1000, BadRequest, id="no name at all"),
        pytest.param({}, "dm:ann,bob", None, id="dm: one of the two"),
        pytest.param({}, "dm:aaa,ann", None, id="dm: the other of the two"),
        pytest.param({}, "dm:bob,cyd", Forbidden, id="dm: of others"),
        pytest.param(ROOMS, "dm:bob,cyd", Forbidden, id="dm of others, configured"),
        pytest.param({}, "dm:ann,ann", None, id="dm: with oneself"),
        pytest.param({}, "dm:bob,ann", BadRequest, id="dm: in the other order"),
        pytest.param({}, "dm:ann", BadRequest, id="dm: one name"),
        pytest.param({}, "dm:ann,bob,cyd", BadRequest, id="dm: three names"),
        pytest.param({}, "dm:,ann", BadRequest, id="dm: an empty name"),
        pytest.param({"dm": space(private=False)}, "dm:x", None, id="dm made public"),
        pytest.param({"duo": space(private=True)}, "duo:bob,cyd", Forbidden, id="another private one"),
    ],
)  # fmt: skip
def test_which_channels_a_user_may_use(table, channel, result) -> None:
    assert verdict(table, channel) == result


@pytest.mark.parametrize("action", get_args(Action))
def test_each_right_can_be_taken_away(action) -> None:
    for who, moderates, result in (
        ("everyone", False, None),
        ("moderators", False, Forbidden),
        ("moderators", True, None),
        ("nobody", True, Forbidden),
    ):
        table = {"room": space(**{action: who})}
        assert verdict(table, "room:1", action=action, moderates=moderates) == result
        others = [other for other in get_args(Action) if other != action]
        assert not any(verdict(table, "room:1", action=other) for other in others)


def test_every_request_of_a_channel_is_an_action_or_gives_something_up() -> None:
    named = {cls for cls in get_args(m.Request) if "channel" in cls.__struct_fields__}
    assert named - set(ACTIONS) == {m.Unsubscribe}


def test_what_a_namespace_does_not_say_is_as_for_the_daemon() -> None:
    spaces = Namespaces({"dm": space(retain_n=3), "room": space()}, KEEP)
    assert spaces.of("dm:a,b") == Retention(n=3, s=60, bytes=1000)
    assert spaces.of("room:1") is spaces.of("elsewhere") or spaces.of("room:1") == KEEP
    assert spaces.kept() == {"dm": m.Kept(retain_n=3, retain_s=60, retain_bytes=1000)}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        pytest.param({"room": {"retain_m": 1}}, "room.retain_m is no setting of a namespace", id="key"),
        pytest.param({"room": {"retain_n": 0}}, "namespaces.room.retain_n is 0", id="value"),
        pytest.param({"room": {"publish": "friends"}}, "namespaces.room.publish is 'friends'", id="who"),
        pytest.param({"a b": {}}, "a b", id="name"),
        pytest.param("{", "must be a JSON object of namespaces", id="no JSON"),
        pytest.param([], "namespaces is []", id="no object"),
    ],
)  # fmt: skip
def test_faults_of_the_table_are_named(given, words) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {"namespaces": given})
    assert words in str(caught.value)


def test_a_flag_takes_the_table_as_json(tmp_path: Path) -> None:
    flag = '{"room": {"retain_n": 5, "publish": "moderators"}}'
    from_flag = load(None, {"namespaces": flag})
    path = tmp_path / "chatd.json"
    path.write_text(json.dumps({"namespaces": json.loads(flag)}))
    assert load(path, {}) == from_flag
    assert from_flag.namespaces["room"] == space(retain_n=5, publish="moderators")
    assert Config().namespaces == {}


# Over real sockets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_each_namespace_keeps_its_own_and_says_so(serve, store) -> None:
    async def scenario(house: House) -> None:
        ann = await house.guest("ann")
        for channel in ("short:1", "long:1"):
            for n in range(10):
                await ann.publish(f"m{n}", channel)
        await house.server.store.trim(0)
        floors = {}
        for channel in ("short:1", "long:1"):
            await ann.ask("history", channel=channel)
            answer = await ann.read()
            floors[channel] = (answer["floor"], serials(answer["messages"])[0])
        assert floors == {"short:1": (8, 8), "long:1": (1, 1)}
        await ann.ask("connect")
        await ann.read()
        assert house.server._terms.contract.namespaces["short"].retain_n == 3

    serve(scenario, store=store, namespaces={"short": {"retain_n": 3}, "long": {}})


def test_a_stranger_gets_nothing_of_a_direct_channel(serve) -> None:
    async def scenario(house: House) -> None:
        channel = "dm:ann,bob"
        bob = await house.guest("bob", channels=[{"channel": channel, "presence": True}])
        await bob.until("presence")
        ann, eve = await house.guest("ann"), await house.guest("eve")
        await ann.publish("m1", channel)
        assert (await bob.read())["data"] == "x"
        for kind, fields in (
            ("publish", {"message": "e1", "data": 1}),
            ("subscribe", {}),
            ("history", {}),
            ("presence", {"op": "get"}),
            ("react", {"to": 1, "message": "e2", "emoji": "x", "op": "add"}),
        ):
            await eve.ask(kind, channel=channel, **fields)
            assert (await eve.read())["code"] == 403, kind
        await eve.ask("subscribe", channel="dm:bob,ann")
        assert (await eve.read())["code"] == 400

    serve(scenario)


def test_the_wishes_of_connect_are_held_to_the_namespaces(serve) -> None:
    async def scenario(house: House) -> None:
        ann = await house.guest("ann")
        await ann.ask("subscribe", channel="hall:1")
        assert (await ann.read())["code"] == 404
        await ann.ask("subscribe", channel="news:1", presence=True)
        assert (await ann.read())["code"] == 403
        with pytest.raises(AssertionError):
            await house.guest("bob", channels=[{"channel": "news:1", "presence": True}])
        await house.listener("cyd", channel="news:1")

    serve(scenario, namespaces={"news": {"presence": "nobody"}})

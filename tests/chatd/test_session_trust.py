"""The session where clients must show who they are, and where they publish too much."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chatd.access import Access
from chatd.auth import Verifier, issue
from chatd.effects import Close, Effects, Join, Read, Send, Share, Store, Terms
from chatd.limits import ChannelRates, Quota, Rate
from chatd.order import BLOCKS
from chatd.protocol.errors import IdReused, OutcomeUnknown, Unavailable
from chatd.protocol.messages import Ack, Authorized, Connected, Contract, Error, Limits, decode_reply
from chatd.session import Phase, Session
from chatd.store.base import Conflict, Placed

SECRET = b"correct horse battery staple, and a bit more"
WALL = 1_800_000_000.0  # the wall clock when the session's clock is 0
GRACE_S = 10.0
CONTRACT = Contract(
    profile="effectively-once", echo=True, durability="fsync",
    retain_n=100, retain_s=60.0, retain_bytes=1000, dedupe_s=300.0,
)  # fmt: skip
TERMS = Terms("n1", CONTRACT, Limits(frame_bytes=1000, channels=3), 25.0, 8.0, (500, 30_000))


class Client:
    """A session and its clock; requests get their ids by themselves."""

    def __init__(self, *, header: str | None = None, quota: Quota | None = None, auth: bool = True) -> None:
        self.now = 0.0
        self.id = 0
        authority = Verifier(SECRET, "chatd", lambda: WALL + self.now) if auth else None
        access = Access(authority, header=header, grace_s=GRACE_S)
        more: dict[str, Any] = {} if quota is None else {"quota": quota}
        self.session = Session(TERMS, 0.0, user="anon", first_ping_s=1e6, access=access, **more)

    def say(self, kind: str, **fields: object) -> Effects:
        self.id += 1
        return self.session.receive(json.dumps({"type": kind, "id": self.id, **fields}).encode(), self.now)

    def publish(self, message: str, channel: str = "room:1") -> Effects:
        return self.say("publish", channel=channel, message=message, data=1)


def token(user: str = "ann", ttl_s: float = 60, **rights: list[str]) -> str:
    named = {name.replace("_", ":"): words for name, words in rights.items()}
    return issue(SECRET, user=user, audience="chatd", now_s=WALL, ttl_s=ttl_s, rights=named or None)


def frames(effects: Effects) -> list[Any]:
    return [decode_reply(effect.payload) for effect in effects if isinstance(effect, Send)]


def frame(effects: Effects) -> Any:
    (only,) = frames(effects)
    return only


def closes(effects: Effects) -> list[int]:
    return [effect.code for effect in effects if isinstance(effect, Close)]


def refusal(effects: Effects) -> int:
    answer = frame(effects)
    assert isinstance(answer, Error)
    assert not closes(effects)
    return answer.code


def connected(**more: Any) -> Client:
    client = Client(**more)
    assert isinstance(frame(client.say("connect", token=token(), client="phone")), Connected)
    return client


# Tokens -----------------------------------------------------------------------------------------------


def test_the_user_is_who_the_token_says_whatever_the_client_calls_itself() -> None:
    client = Client()
    answer = frame(client.say("connect", token=token("ann"), client="bob"))
    assert (answer.user, answer.token_s) == ("ann", 60)
    (store,) = client.publish("m1")
    assert isinstance(store, Store)
    assert store.append.user == "ann"


def test_the_token_of_the_header_counts_when_connect_has_none() -> None:
    assert frame(Client(header=token("ann")).say("connect")).user == "ann"
    assert frame(Client(header=token("ann")).say("connect", token=token("bob"))).user == "bob"


@pytest.mark.parametrize(
    ("shown", "code", "close"),
    [
        pytest.param({}, 401, 4500, id="none"),
        pytest.param({"token": "x.y.z"}, 401, 4500, id="a bad one"),
        pytest.param({"token": token(ttl_s=-5)}, 402, 4005, id="one that has expired"),
    ],
)
def test_without_a_good_token_the_connection_ends(shown, code, close) -> None:
    client = Client()
    effects = client.say("connect", **shown)
    assert (frame(effects).code, closes(effects)) == (code, [close])
    assert client.session.phase is Phase.CLOSED


def test_where_nobody_has_to_log_in_tokens_are_nothing() -> None:
    client = Client(auth=False)
    answer = frame(client.say("connect", token="nonsense", client="ann"))
    assert (answer.user, answer.token_s) == ("ann", None)
    assert isinstance(frame(client.say("auth", token="nonsense")), Authorized)
    assert client.session.due > 1e5


def test_an_expired_token_is_told_and_after_the_grace_the_connection_ends() -> None:
    client = connected()
    client.now = 59.9
    assert client.session.tick(client.now) == []
    assert client.session.due == 60
    client.now = 60
    told = frame(client.session.tick(client.now))
    assert (told.id, told.code, told.temporary) == (None, 402, False)
    assert isinstance(client.publish("m1")[0], Store), "grace is grace"
    assert client.session.tick(client.now + GRACE_S - 0.1) == []
    assert closes(client.session.tick(client.now + GRACE_S)) == [4005]


@pytest.mark.parametrize("when", [30.0, 65.0])
def test_a_fresh_token_goes_on_before_the_end_and_in_the_grace(when: float) -> None:
    client = connected()
    for now in (30.0, 65.0):
        if now <= when:
            client.now = now
            client.session.tick(now)
    answer = frame(client.say("auth", token=token(ttl_s=100)))
    assert (answer.user, answer.token_s) == ("ann", 100 - when)
    assert client.session.tick(99.0) == []
    assert frame(client.session.tick(100.0)).code == 402


@pytest.mark.parametrize(
    ("shown", "code"),
    [
        pytest.param("nonsense", 401, id="a bad one"),
        pytest.param(token(ttl_s=1), 402, id="one that has expired"),
        pytest.param(token("bob", 100), 403, id="of somebody else"),
    ],
)
def test_a_bad_refresh_changes_nothing(shown, code) -> None:
    client = connected()
    client.now = 5.0
    assert refusal(client.say("auth", token=shown)) == code
    assert client.session.user == "ann"
    assert client.session.due == 60


def test_a_refresh_that_takes_the_right_to_publish_away_counts_from_the_next_message() -> None:
    client = Client()
    client.say("connect", token=token(**{"room_*": ["publish"]}))
    assert isinstance(client.publish("m1")[0], Store)
    client.say("auth", token=token(**{"room_*": ["history"]}))
    assert refusal(client.publish("m2")) == 403


def test_a_refresh_that_takes_a_subscription_away_ends_the_connection_so_that_the_client_learns_it() -> None:
    client = connected()
    client.say("subscribe", channel="room:1")
    effects = client.say("auth", token=token(**{"room_*": ["subscribe"]}))
    assert (closes(effects), client.session.phase) == ([], Phase.OPEN)
    effects = client.say("auth", token=token(**{"news": ["subscribe"]}))
    assert isinstance(frames(effects)[0], Authorized)
    assert closes(effects) == [4007]


# Rights -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "fields", "right"),
    [
        pytest.param("subscribe", {}, "subscribe", id="subscribe"),
        pytest.param("publish", {"message": "m", "data": 1}, "publish", id="publish"),
        pytest.param("history", {}, "history", id="history"),
        pytest.param("react", {"to": 1, "message": "m", "emoji": "x", "op": "add"}, "publish", id="react"),
        pytest.param("delete", {"to": 1, "message": "m"}, "publish", id="delete"),
        pytest.param("presence", {"op": "get"}, "presence", id="presence"),
    ],
)
def test_a_request_needs_its_right_and_no_other(kind, fields, right) -> None:
    client = Client()
    others = [word for word in ("subscribe", "publish", "history", "presence", "moderate") if word != right]
    client.say("connect", token=token(**{"room_*": others, "own": [right]}))
    assert refusal(client.say(kind, channel="room:1", **fields)) == 403
    (accepted,) = client.say(kind, channel="own", **fields)
    assert isinstance(accepted, Join | Store | Read | Share)


def test_to_change_what_others_wrote_is_for_moderators() -> None:
    client = Client()
    client.say("connect", token=token(**{"*": ["publish"], "room_1": ["moderate"]}))
    for channel, own in (("room:1", False), ("room:2", True)):
        (store,) = client.say("delete", channel=channel, to=1, message="m")
        assert isinstance(store, Store)
        assert store.append.own is own


def test_a_private_channel_is_for_the_users_that_tokens_name() -> None:
    client = Client()
    client.say("connect", token=token("ann"), client="eve")
    assert isinstance(client.say("subscribe", channel="dm:ann,bob")[0], Join)
    assert refusal(client.say("subscribe", channel="dm:bob,eve")) == 403


def test_connect_with_a_subscription_that_is_not_allowed_is_refused_whole_and_may_be_sent_again() -> None:
    client = Client()
    shown = token(**{"room_*": ["subscribe"]})
    wishes = [{"channel": "room:1"}, {"channel": "news"}]
    assert refusal(client.say("connect", token=shown, subscribe=wishes)) == 403
    effects = client.say("connect", token=shown, subscribe=wishes[:1])
    assert isinstance(frame(effects), Connected)
    assert [type(effect) for effect in effects[1:]] == [Join]


def test_a_connect_that_is_sent_again_may_leave_the_token_of_the_header_out_again() -> None:
    client = Client(header=token())
    assert refusal(client.say("connect", subscribe=[{"channel": ""}])) == 400
    assert isinstance(frame(client.say("connect")), Connected)


# Limits and the order of publishes --------------------------------------------------------------------


def limited(per_s: float = 1, burst: int = 2) -> Client:
    return connected(quota=Quota(Rate(per_s, burst), ChannelRates(Rate(0, 1))))


def test_too_many_publishes_are_told_how_long_to_wait_and_block_what_comes_behind() -> None:
    client = limited()
    assert all(isinstance(client.publish(message)[0], Store) for message in ("m1", "m2"))
    refused = frame(client.publish("m3"))
    assert (refused.code, refused.temporary, refused.definite, refused.after_ms) == (429, True, True, 1000)
    behind = frame(client.publish("m4"))
    assert (behind.code, behind.temporary) == (412, False)
    assert "'m3'" in behind.reason
    client.now = 1.0
    assert refusal(client.publish("m4")) == 412, "there is a token, but m3 comes first"
    (store,) = client.publish("m3")
    assert isinstance(store, Store)
    assert isinstance(frame(client.session.placed(store.request, Placed(3, 0), "E1")), Ack)
    client.now = 2.0
    assert isinstance(client.publish("m4")[0], Store)


def test_a_publish_that_is_refused_at_once_does_not_stop_those_before_it() -> None:
    client = limited()
    accepted = stores(client, "m1", "m2", "m3")
    assert len(accepted) == 2
    assert [client.session.overtakes(store.request) for store in accepted] == [None, None]


def stores(client: Client, *messages: str) -> list[Store]:
    return [effect for message in messages for effect in client.publish(message) if isinstance(effect, Store)]


def test_every_publish_that_failed_temporarily_blocks_in_the_order_in_which_they_were_sent() -> None:
    client = connected()
    first, second, third = stores(client, "m1", "m2", "m3")
    unknown = OutcomeUnknown("?")
    assert refusal(client.session.failed(third.request, Unavailable("full"))) == 503
    assert refusal(client.session.failed(first.request, unknown)) == 504
    assert refusal(client.session.failed(second.request, unknown)) == 504
    for message in ("m1", "m2", "m3"):
        for other in {"m1", "m2", "m3", "m4"} - {message}:
            assert refusal(client.publish(other)) == 412
        (again,) = stores(client, message)
        client.session.placed(again.request, Placed(1, 0), "E1")
    assert stores(client, "m4")
    assert client.session.in_flight == 1


def test_what_was_accepted_behind_a_publish_that_fails_is_not_stored_either() -> None:
    client = connected()
    first, second, elsewhere = (
        *stores(client, "m1", "m2"),
        *(effect for effect in client.publish("m3", "room:2") if isinstance(effect, Store)),
    )
    assert client.session.overtakes(second.request) is None
    client.session.failed(first.request, Unavailable("full"))
    behind = client.session.overtakes(second.request)
    assert behind is not None
    assert refusal(behind) == 412
    assert client.session.overtakes(elsewhere.request) is None
    assert client.session.in_flight == 1
    (again,) = stores(client, "m1")
    assert client.session.overtakes(again.request) is None


@pytest.mark.parametrize("outcome", [Placed(7, 0), Conflict(7)], ids=["an ack", "a conflict"])
def test_any_final_answer_ends_the_block(outcome) -> None:
    client = connected()
    (store,) = stores(client, "m1")
    client.session.failed(store.request, Unavailable("full"))
    (again,) = stores(client, "m1")
    client.session.placed(again.request, outcome, "E1")
    assert stores(client, "m2")


def test_an_error_that_is_not_temporary_sets_no_block() -> None:
    client = connected()
    (store,) = stores(client, "m1")
    client.session.failed(store.request, IdReused("?"))
    assert stores(client, "m2")


def test_a_publish_that_is_abandoned_blocks_no_longer() -> None:
    client = connected()
    for store in stores(client, "m1", "m2"):
        client.session.failed(store.request, Unavailable("full"))
    assert client.session.receive(b'{"type":"abandon","message":"unheard of"}', 0.0) == []
    assert client.session.receive(b'{"type":"abandon","message":"m1"}', 0.0) == []
    assert refusal(client.publish("m3")) == 412
    assert client.session.receive(b'{"type":"abandon","message":"m2"}', 0.0) == []
    assert stores(client, "m3")


def test_a_client_that_goes_on_and_on_without_sending_again_is_closed() -> None:
    client = limited(per_s=0.001, burst=1)
    client.publish("m")
    for number in range(BLOCKS):
        assert refusal(client.publish("m", f"c{number}")) == 429
    assert closes(client.publish("m", "one more")) == [4008]


@pytest.mark.parametrize(
    ("payload", "code", "close"),
    [
        pytest.param({"type": "history", "id": 9, "channel": "x" * 1000}, 413, [], id="with an id"),
        pytest.param({"type": "abandon", "message": "x" * 1000}, None, [1009], id="without"),
    ],
)
def test_a_frame_that_is_too_long_is_answered_where_that_can_be_done(payload, code, close) -> None:
    client = connected()
    effects = client.session.receive(json.dumps(payload).encode(), 0.0)
    assert closes(effects) == close
    if code is not None:
        answer = frame(effects)
        assert (answer.id, answer.code, answer.temporary, answer.definite) == (9, code, False, True)
        client.id = 8
        assert refusal(client.publish("m1")) == 400, "its id counts as used"
        assert stores(client, "m1")

"""The session: (frame, now) → effects. No sockets, no clock."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatd.checks import NAME_BYTES
from chatd.effects import Close, Depart, Effects, Join, Leave, Ping, Read, Send, Share, Store, Terms
from chatd.protocol.errors import ERRORS, CloseCode, Internal, OutcomeUnknown, Unavailable
from chatd.protocol.messages import (
    REQUEST_TYPES,
    Ack,
    Connected,
    Contract,
    Error,
    Goodbye,
    Limits,
    Subscribed,
    Unsubscribed,
    decode_reply,
)
from chatd.session import CONNECT_S, READS, Phase, Session
from chatd.store.base import Conflict, Duplicate, Head, Placed, Refused

CONTRACT = Contract(
    profile="effectively-once", echo=True, durability="fsync",
    retain_n=100, retain_s=60.0, retain_bytes=1000, dedupe_s=300.0,
)  # fmt: skip
TERMS = Terms("n1", CONTRACT, Limits(frame_bytes=65536, channels=3), 25.0, 8.0, (500, 30_000))
HEAD = Head("E1", 57, 40)


def new_session(terms: Terms = TERMS) -> Session:
    return Session(terms, 0.0, user="anon-1", first_ping_s=10.0)


def say(session: Session, frame: object, now: float = 1.0) -> Effects:
    return session.receive(json.dumps(frame).encode(), now)


def replies(effects: Effects) -> list[object]:
    return [decode_reply(effect.payload) for effect in effects if isinstance(effect, Send)]


def reply(effects: Effects) -> object:
    (only,) = replies(effects)
    return only


def connected(**more: object) -> Session:
    session = new_session()
    say(session, {"type": "connect", "id": 1, "client": "ann", **more})
    return session


def publish(number: int, message: str = "m", channel: str = "room", data: object = "x") -> dict[str, object]:
    return {"type": "publish", "id": number, "channel": channel, "message": message, "data": data}


# Connecting -------------------------------------------------------------------------------------------


def test_connect_is_answered_with_the_terms() -> None:
    session = new_session()
    answer = reply(say(session, {"type": "connect", "id": 7, "client": "ann"}))
    assert isinstance(answer, Connected)
    assert (answer.id, answer.user, answer.contract, answer.limits) == (7, "ann", CONTRACT, TERMS.limits)
    assert session.phase is Phase.OPEN


def test_a_client_without_a_name_gets_the_one_it_was_given() -> None:
    answer = reply(say(new_session(), {"type": "connect", "id": 0}))
    assert isinstance(answer, Connected)
    assert answer.user == "anon-1"


def test_connect_subscribes_in_the_order_asked_and_without_ids() -> None:
    session = new_session()
    wishes = [{"channel": "a", "from": ["E1", 4]}, {"channel": "b"}, {"channel": "c", "from": {"last": 2}}]
    effects = say(session, {"type": "connect", "id": 1, "subscribe": wishes})
    assert [type(effect) for effect in effects] == [Send, Join, Join, Join]
    joins = [effect.subscription for effect in effects if isinstance(effect, Join)]
    assert [(join.channel, join.request_id) for join in joins] == [("a", None), ("b", None), ("c", None)]
    assert [join.asked for join in joins][:2] == [("E1", 4), "new"]


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(publish(1), id="publish"),
        pytest.param({"type": "subscribe", "id": 1, "channel": "a"}, id="subscribe"),
        pytest.param({"type": "history", "id": 1, "channel": "a"}, id="history"),
    ],
)
def test_a_request_before_connect_is_refused_and_connect_still_works(frame) -> None:
    session = new_session()
    answer = reply(say(session, frame))
    assert isinstance(answer, Error)
    assert (answer.code, answer.id, answer.definite) == (400, 1, True)
    assert isinstance(reply(say(session, {"type": "connect", "id": 2})), Connected)


def test_a_client_that_never_connects_is_closed() -> None:
    session = new_session()
    assert session.tick(CONNECT_S - 0.1) == []
    (close,) = session.tick(CONNECT_S)
    assert isinstance(close, Close)
    assert close.code == CloseCode.NEVER_CONNECTED


def test_a_second_connect_is_refused() -> None:
    answer = reply(say(connected(), {"type": "connect", "id": 2}))
    assert isinstance(answer, Error)
    assert answer.code == 400


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        pytest.param([{"channel": "a"}, {"channel": "a"}], "twice", id="a channel twice"),
        pytest.param([{"channel": c} for c in "abcd"], "must be 3 or fewer", id="more than the limit"),
        pytest.param([{"channel": ""}], "channel has 0 bytes", id="an empty name"),
        pytest.param([{"channel": "a", "from": ["E1", -1]}], "serial is -1", id="a negative serial"),
    ],
)
def test_connect_with_a_bad_subscription_changes_nothing(wishes, words) -> None:
    session = new_session()
    answer = reply(say(session, {"type": "connect", "id": 1, "subscribe": wishes}))
    assert isinstance(answer, Error)
    assert words in answer.reason
    assert session.phase is Phase.NEW
    assert not session.subscriptions


# Liveness ---------------------------------------------------------------------------------------------


def test_a_client_that_answers_pings_stays() -> None:
    session = connected()
    assert session.due == 1.0 + 10.0
    assert session.tick(11.0) == [Ping()]
    assert session.receive(b"{}", 12.0) == []
    assert session.due == 11.0 + 25.0
    assert session.tick(36.0) == [Ping()]
    session.receive(b"{}", 36.5)
    assert session.tick(60.9) == []


def test_a_client_that_does_not_answer_is_closed_after_pong_s() -> None:
    session = connected()
    session.tick(11.0)
    say(session, publish(2), now=15.0)  # other frames are no pong
    assert session.tick(18.9) == []
    (close,) = session.tick(19.0)
    assert close == Close(CloseCode.NO_PONG, "no pong within 8 s")


def test_a_pong_that_nobody_asked_for_does_not_put_off_the_ping() -> None:
    session = connected()
    session.receive(b"{}", 5.0)
    session.receive(b"{}", 10.9)
    assert session.tick(11.0) == [Ping()]


# Subscriptions ----------------------------------------------------------------------------------------


def join_of(effects: Effects):
    (join,) = [effect for effect in effects if isinstance(effect, Join)]
    return join.subscription


@pytest.mark.parametrize(
    ("asked", "resumed", "start", "count", "why"),
    [
        pytest.param("new", False, 57, 0, None, id="new"),
        pytest.param("first", False, 39, 18, None, id="first"),
        pytest.param({"last": 3}, False, 54, 3, None, id="last n"),
        pytest.param(["E1", 50], True, 50, 7, None, id="resume"),
        pytest.param(["E1", 3], False, 39, 18, "trimmed", id="trimmed"),
        pytest.param(["E1", 99], False, 57, 0, "ahead", id="ahead"),
        pytest.param(["E0", 50], False, 39, 18, "epoch", id="another epoch"),
    ],
)
def test_subscribed_says_where_delivery_begins(asked, resumed, start, count, why) -> None:
    session = connected()
    subscription = join_of(say(session, {"type": "subscribe", "id": 2, "channel": "room", "from": asked}))
    effects, _ = session.subscribed(subscription, HEAD)
    answer = reply(effects)
    assert isinstance(answer, Subscribed)
    assert (answer.id, answer.position, answer.floor) == (2, ("E1", 57), 40)
    assert (answer.resumed, answer.start, answer.count) == (resumed, start, count)
    assert (answer.gap and answer.gap.why) == why
    assert answer.epochs == ([("E1", 1)] if why == "epoch" else None)
    assert subscription.cursor == start


def test_subscribe_again_needs_a_position_and_then_replaces() -> None:
    session = connected()
    first = join_of(say(session, {"type": "subscribe", "id": 2, "channel": "room"}))
    answer = reply(say(session, {"type": "subscribe", "id": 3, "channel": "room"}))
    assert isinstance(answer, Error)
    assert answer.code == 405
    assert first.active
    effects = say(session, {"type": "subscribe", "id": 4, "channel": "room", "from": ["E1", 5]})
    assert effects[0] == Leave("room")
    assert not first.active
    assert join_of(effects).active


def test_unsubscribe_ends_delivery_before_it_is_answered() -> None:
    session = connected()
    subscription = join_of(say(session, {"type": "subscribe", "id": 2, "channel": "room"}))
    effects = say(session, {"type": "unsubscribe", "id": 3, "channel": "room"})
    assert effects[0] == Leave("room")
    assert reply(effects) == Unsubscribed(id=3, channel="room")
    assert not subscription.active
    again = reply(say(session, {"type": "unsubscribe", "id": 4, "channel": "room"}))
    assert isinstance(again, Error)
    assert again.code == 404


def test_reads_that_pile_up_are_refused_until_some_are_done() -> None:
    session = connected()
    number = 1
    while session.reading < TERMS.limits.channels + READS:
        number += 1
        assert isinstance(say(session, {"type": "history", "id": number, "channel": "room"})[0], Read)
    for kind in ("history", "subscribe"):
        number += 1
        answer = reply(say(session, {"type": kind, "id": number, "channel": "room"}))
        assert isinstance(answer, Error)
        assert (answer.code, answer.temporary) == (429, True)
    session.read_done()
    assert isinstance(say(session, {"type": "subscribe", "id": number + 1, "channel": "room"})[0], Join)


def test_the_limit_of_channels_counts_open_ones_only() -> None:
    session = connected()
    for number, channel in enumerate("abc", 2):
        say(session, {"type": "subscribe", "id": number, "channel": channel})
    full = reply(say(session, {"type": "subscribe", "id": 5, "channel": "d"}))
    assert isinstance(full, Error)
    assert "must be 3 or fewer" in full.reason
    say(session, {"type": "subscribe", "id": 6, "channel": "a", "from": "first"})  # replaces
    say(session, {"type": "unsubscribe", "id": 7, "channel": "a"})
    assert join_of(say(session, {"type": "subscribe", "id": 8, "channel": "d"})).active


def test_echo_is_off_when_either_the_client_or_the_contract_says_so() -> None:
    session = connected()
    quiet = join_of(say(session, {"type": "subscribe", "id": 2, "channel": "room", "echo": False}))
    assert (quiet.echo, quiet.user) == (False, "ann")
    silent = msgspec.structs.replace(TERMS, contract=msgspec.structs.replace(CONTRACT, echo=False))
    session = new_session(silent)
    assert not join_of(say(session, {"type": "connect", "id": 1, "subscribe": [{"channel": "a"}]})).echo


# Publishing -------------------------------------------------------------------------------------------


def stored(effects: Effects) -> Store:
    (effect,) = effects
    assert isinstance(effect, Store)
    return effect


def test_a_publish_goes_to_the_store_byte_for_byte_and_its_ack_comes_after() -> None:
    session = connected()
    payload = b'{"type":"publish","id":2,"channel":"room","message":"ann:1","data": {"a" : 1.0} }'
    effect = stored(session.receive(payload, 1.0))
    assert (effect.append.user, effect.append.data) == ("ann", b'{"a" : 1.0}')
    assert session.in_flight == 1
    answer = reply(session.placed(effect.request, Placed(58, 5), "E1"))
    assert answer == Ack(id=2, message="ann:1", position=("E1", 58), duplicate=False, durability="fsync")
    assert session.in_flight == 0


def test_a_duplicate_is_acked_at_its_first_place() -> None:
    session = connected()
    effect = stored(say(session, publish(2)))
    answer = reply(session.placed(effect.request, Duplicate(12), "E1"))
    assert isinstance(answer, Ack)
    assert (answer.position, answer.duplicate) == (("E1", 12), True)


def test_an_id_used_with_other_content_is_409() -> None:
    session = connected()
    effect = stored(say(session, publish(2)))
    answer = reply(session.placed(effect.request, Conflict(12), "E1"))
    assert isinstance(answer, Error)
    assert (answer.code, answer.id, answer.temporary, answer.definite) == (409, 2, False, True)


@pytest.mark.parametrize(
    ("error", "definite"),
    [pytest.param(Unavailable("x"), True, id="503"), pytest.param(OutcomeUnknown("x"), False, id="504")],
)
def test_after_a_temporary_failure_the_failed_message_must_come_again_first(error, definite) -> None:
    session = connected()
    first = stored(say(session, publish(2, "m1")))
    answer = reply(session.failed(first.request, error))
    assert isinstance(answer, Error)
    assert (answer.temporary, answer.definite) == (True, definite)
    overtaking = reply(say(session, publish(3, "m2")))
    assert isinstance(overtaking, Error)
    assert (overtaking.code, overtaking.definite) == (412, True)
    assert stored(say(session, publish(4, "m2", channel="elsewhere")))
    again = stored(say(session, publish(5, "m1")))
    session.placed(again.request, Placed(1, 0), "E1")
    assert stored(say(session, publish(6, "m2")))


def test_a_final_failure_blocks_nothing() -> None:
    session = connected()
    first = stored(say(session, publish(2, "m1")))
    session.failed(first.request, Internal("x"))
    assert stored(say(session, publish(3, "m2")))
    assert session.in_flight == 1


# Presence, typing, receipts ---------------------------------------------------------------------------


def presence(number: int, op: str, channel: str = "room", **more: object) -> dict[str, object]:
    return {"type": "presence", "id": number, "channel": channel, "op": op, **more}


def test_who_entered_departs_with_the_connection() -> None:
    session = connected()
    for number, channel in enumerate("cab", 2):
        (share,) = say(session, presence(number, "enter", channel))
        assert isinstance(share, Share)
    assert say(session, presence(9, "leave", "a")) != []
    assert session.close(CloseCode.KICKED, "x")[:-1] == [Depart("b"), Depart("c")]
    assert session.ended() == []


@pytest.mark.parametrize(
    ("frame", "code", "words"),
    [
        pytest.param(presence(2, "update"), 404, "not entered", id="update of nothing"),
        pytest.param(presence(2, "leave"), 404, "not entered", id="leave of nothing"),
        pytest.param(presence(2, "enter", ""), 400, "channel has 0", id="no name"),
        pytest.param(presence(2, "enter", data="x" * 1023), 413, "1025 bytes", id="long data"),
        pytest.param(presence(2, "wave"), 400, "wave", id="no such op"),
        pytest.param({"type": "typing", "channel": "room", "on": True}, 404, "not subscribed", id="typing"),
        pytest.param(
            {"type": "receipt", "channel": "room", "serial": 1, "kind": "read"},
            404, "not subscribed", id="receipt",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_shared_is_refused(frame, code, words) -> None:
    session = connected()
    answer = reply(say(session, frame))
    assert isinstance(answer, Error)
    assert (answer.code, answer.id) == (code, frame.get("id"))
    assert words in answer.reason
    assert session.phase is Phase.OPEN


def test_the_limit_of_channels_holds_for_presence_too() -> None:
    session = connected()
    for number, channel in enumerate("abc", 2):
        say(session, presence(number, "enter", channel))
    full = reply(say(session, presence(5, "enter", "d")))
    assert isinstance(full, Error)
    assert "must be 3 or fewer" in full.reason
    assert isinstance(say(session, presence(6, "update", "a", data=1))[0], Share)
    say(session, presence(7, "leave", "a"))
    assert isinstance(say(session, presence(8, "enter", "d"))[0], Share)


def test_notices_need_a_subscription_that_was_answered() -> None:
    session = connected()
    subscription = join_of(say(session, {"type": "subscribe", "id": 2, "channel": "room", "presence": True}))
    assert subscription.presence
    notice = {"type": "typing", "channel": "room", "on": True}
    assert isinstance(reply(say(session, notice)), Error)
    session.subscribed(subscription, HEAD)
    (share,) = say(session, notice)
    assert isinstance(share, Share)
    bad = reply(say(session, {"type": "receipt", "channel": "room", "serial": -1, "kind": "read"}))
    assert isinstance(bad, Error)
    assert (bad.code, bad.id) == (400, None)


# Bad frames -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "code", "words"),
    [
        pytest.param({"type": "wave", "id": 2}, 404, "'wave'", id="unknown type"),
        pytest.param({"type": "publish", "id": 2}, 400, "channel", id="a field is missing"),
        pytest.param(publish(2, message=""), 400, "message has 0 bytes", id="empty message id"),
        pytest.param(publish(2, message="x" * 200), 400, f"to {NAME_BYTES}", id="long message id"),
        pytest.param(publish(2, channel="a\nb"), 400, "printable", id="control character"),
        pytest.param({"type": "history", "id": 2, "channel": "a", "limit": 0}, 400, "limit is 0", id="limit"),
        pytest.param(
            {"type": "history", "id": 2, "channel": "a", "before": 3, "after": ["E1", 1]},
            400, "give one", id="history from both sides",
        ),
        pytest.param(
            {"type": "subscribe", "id": 2, "channel": "a", "from": ["x" * 17, 1]},
            400, "16 or fewer", id="long epoch",
        ),
        pytest.param(
            {"type": "subscribe", "id": 2, "channel": "a", "from": ["E1", 2**53]},
            400, "2^53", id="large serial",
        ),
        pytest.param(
            {"type": "subscribe", "id": 2, "channel": "a", "from": {"last": -1}},
            400, "from.last is -1", id="negative last",
        ),
        pytest.param({"type": "history", "id": 1, "channel": "a"}, 400, "above 1", id="id does not rise"),
    ],
)  # fmt: skip
def test_a_bad_request_is_answered_and_the_connection_goes_on(frame, code, words) -> None:
    session = connected()
    answer = reply(say(session, frame))
    assert isinstance(answer, Error)
    assert (answer.code, answer.id) == (code, frame["id"])
    assert words in answer.reason
    assert session.phase is Phase.OPEN


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"hello", id="no JSON"),
        pytest.param(b"[1]", id="no object"),
        pytest.param(b'{"type":"publish"}', id="no id"),
        pytest.param(b'{"type":"publish","id":-1}', id="negative id"),
        pytest.param(
            b'{"type":"publish","id":4294967296,"channel":"a","message":"m","data":1}', id="id of 33 bits"
        ),
        pytest.param(b"", id="nothing"),
    ],
)
def test_a_frame_that_no_answer_could_refer_to_closes_with_4501(payload) -> None:
    session = connected()
    effects = session.receive(payload, 2.0)
    assert isinstance(effects[-1], Close)
    assert effects[-1].code == CloseCode.PROTOCOL
    assert session.receive(payload, 3.0) == []


# The end ----------------------------------------------------------------------------------------------


def test_goodbye_refuses_requests_but_answers_what_is_in_flight() -> None:
    session = connected()
    effect = stored(say(session, publish(2)))
    (goodbye,) = replies(session.goodbye(CloseCode.DRAIN, "drain", (0, 500)))
    assert isinstance(goodbye, Goodbye)
    assert (goodbye.code, goodbye.after_ms) == (4101, (0, 500))
    refused = reply(say(session, publish(3)))
    assert isinstance(refused, Error)
    assert (refused.code, refused.definite) == (503, True)
    assert isinstance(reply(session.placed(effect.request, Placed(1, 0), "E1")), Ack)


def test_the_end_leaves_every_channel() -> None:
    session = connected(subscribe=[{"channel": "a"}, {"channel": "b"}])
    subscriptions = list(session.subscriptions.values())
    effects = session.close(CloseCode.KICKED, "because")
    assert effects == [Leave("a"), Leave("b"), Close(CloseCode.KICKED, "because")]
    assert not any(subscription.active for subscription in subscriptions)
    assert session.close(CloseCode.KICKED, "twice") == []


# Anything at all --------------------------------------------------------------------------------------

names = st.one_of(st.sampled_from(["a", "b", "c", "d"]), st.text(max_size=5))
numbers = st.one_of(st.integers(-2, 40), st.integers())
json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
begins = st.one_of(
    st.sampled_from(["new", "first"]),
    st.tuples(st.sampled_from(["E1", "E0"]), numbers),
    st.fixed_dictionaries({"last": numbers}),
    json_values,
)
KINDS = [*sorted(map(str, REQUEST_TYPES)), "wave"]
OPS = ["add", "remove", "enter", "leave", "update", "get", "flip"]
frames = st.one_of(
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(KINDS),
            "id": numbers,
            "channel": names,
        },
        optional={
            "client": names,
            "subscribe": st.lists(st.fixed_dictionaries({"channel": names, "from": begins}), max_size=4),
            "from": begins,
            "echo": st.booleans(),
            "message": names,
            "data": json_values,
            "before": numbers,
            "after": st.tuples(names, numbers),
            "limit": numbers,
            "to": numbers,
            "emoji": names,
            "op": st.sampled_from(OPS),
            "on": st.booleans() | json_values,
            "serial": numbers,
            "kind": st.sampled_from(["read", "delivered", "eaten"]),
            "presence": st.booleans(),
        },
    ),
    json_values,
)
payloads = st.one_of(
    frames.map(lambda frame: json.dumps(frame).encode()), st.just(b"{}"), st.binary(max_size=40)
)
outcomes = st.sampled_from(
    [
        Placed(1, 0),
        Duplicate(1),
        Conflict(1),
        Refused("author"),
        Refused("target"),
        Unavailable("x"),
        OutcomeUnknown("x"),
        Internal("x"),
    ]
)


@settings(deadline=None)  # other work on the machine is no fault
@given(st.lists(st.tuples(payloads, st.floats(0, 20), outcomes, st.booleans()), max_size=30))
def test_whatever_a_client_sends_nothing_raises_and_every_reply_is_legal(script) -> None:
    session, now = new_session(), 0.0
    if len(script) % 2:
        say(session, {"type": "connect", "id": 0})
    open_requests = []
    for payload, pause, outcome, answer_now in script:
        now += pause
        effects = [*session.tick(now), *session.receive(payload, now)]
        for effect in effects:
            if isinstance(effect, Store):
                open_requests.append(effect.request)
            if isinstance(effect, Join):
                more, _ = session.subscribed(effect.subscription, HEAD)
                check_legal(session, more)
        check_legal(session, effects)
        if open_requests and answer_now:
            request = open_requests.pop(0)
            if isinstance(outcome, Placed | Duplicate | Conflict | Refused):
                check_legal(session, session.placed(request, outcome, "E1"))
            else:
                check_legal(session, session.failed(request, outcome))
        assert session.in_flight == len(open_requests)


def check_legal(session: Session, effects: Effects) -> None:
    closes = [effect for effect in effects if isinstance(effect, Close)]
    assert len(closes) <= 1
    if closes:
        assert effects[-1] is closes[0], "nothing is sent after a close"
        assert session.phase is Phase.CLOSED
        assert not session.subscriptions
    for effect in effects:
        assert isinstance(effect, Send | Ping | Close | Store | Join | Leave | Read | Share | Depart)
        if isinstance(effect, Share):
            assert session.phase is Phase.OPEN
            name = effect.request.channel
            assert effect.request.id is not None or session.subscriptions[name].answered
        if isinstance(effect, Store):
            assert session.phase is Phase.OPEN
            json.loads(effect.append.data)
    for answer in replies(effects):
        if isinstance(answer, Error):
            error = ERRORS[answer.code]
            assert (answer.temporary, answer.definite) == (error.temporary, error.definite)
            assert answer.reason
        if isinstance(answer, Subscribed):
            assert answer.count == answer.position[1] - answer.start >= 0
            assert answer.resumed != (answer.gap is not None) or answer.gap is None
    assert len(session.subscriptions) <= TERMS.limits.channels
    assert len(session.present) <= TERMS.limits.channels

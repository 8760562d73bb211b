"""What the application sees of a channel, whatever the server sends."""

from __future__ import annotations

from typing import Any

import pytest

from chatd.client_actions import (
    Action,
    ClientEnded,
    Deliver,
    Done,
    Failed,
    Hangup,
    Send,
    StreamOver,
)
from chatd.client_core import ANSWER_S
from chatd.client_inbox import GapNotice, Message
from chatd.protocol import messages as m
from chatd.protocol.errors import (
    AlreadySubscribed,
)
from chatd.protocol.messages import From
from tests.chatd.driven_client import ROOM, Driven, error, message, subscribed


def run_stream(client: Driven, script: str) -> str:
    """Feed a script: ``5`` a message, ``live5``, ``gap5-9`` (missing 6 … 9), ``ok5`` the answer to the
    last subscribe (start 5), ``lost5-9`` the same with a gap. Returns what came of it: ``5`` an item,
    ``(6..9)`` a notice, ``from5`` a subscribe, ``hangup``."""
    seen = []
    last = 0
    for word in script.split():
        for request in client.take():
            last = request.id
        kind, _, numbers = word.rpartition("k") if word.startswith("ok") else ("", "", word)
        frame: m.Reply
        if kind:
            frame = subscribed(last, int(numbers), resumed=True)
        elif word.startswith("lost"):
            low, high = map(int, word[4:].split("-"))
            gap = m.GapInfo(why="trimmed", from_=("E1", low), to=("E1", high))
            frame = subscribed(last, high, gap=gap)
        elif word.startswith("live"):
            frame = m.Live(channel=ROOM, position=("E1", int(word[4:])))
        elif word.startswith("gap"):
            low, high = map(int, word[3:].split("-"))
            frame = m.Gap(channel=ROOM, why="trimmed", from_=("E1", low), to=("E1", high))
        else:
            frame = message(int(word))
        seen += [show(action) for action in client.feed(frame)]
    return " ".join(seen)


def show(action: Action[str]) -> str:
    match action:
        case Deliver(_, GapNotice() as gap):
            missing = gap.missing
            assert missing is not None
            return f"({missing[0]}..{missing[-1]})" if missing else "()"
        case Deliver(_, Message() as item):
            return str(item.serial)
        case Send(payload):
            request = m.decode_request(payload)
            assert isinstance(request, m.Subscribe)
            assert isinstance(request.from_, tuple)
            return f"from{request.from_[1]}"
        case Hangup():
            return "hangup"
    raise AssertionError(action)


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        pytest.param("1 2 3", "1 2 3", id="in order"),
        pytest.param("1 2 2 1 3", "1 2 3", id="repeats are dropped"),
        pytest.param("1 3", "1 from1", id="a hole asks again and shows nothing"),
        pytest.param("1 3 4 5 2", "1 from1", id="nothing is taken until the answer"),
        pytest.param("1 3 4 ok1 2 3 4 live4 5", "1 from1 2 3 4 5", id="the repair fills the hole"),
        pytest.param("1 3 lost1-2 3 live3 4", "1 from1 (2..2) 3 4", id="the repair declares the hole"),
        pytest.param("1 3 ok1 3", "1 from1 hangup", id="a repair that does not help ends the connection"),
        pytest.param("1 3 ok1 2 4 ok2 3 4", "1 from1 2 from2 3 4", id="a second hole is another one"),
        pytest.param("live3", "from0", id="the end of the replay is missing"),
        pytest.param("1 2 3 live3 4", "1 2 3 4", id="live after the whole replay"),
        pytest.param("1 gap1-4 5", "1 (2..4) 5", id="a gap in the stream"),
        pytest.param("1 gap3-4 5", "1 from1", id="a gap behind a hole repairs the hole first"),
        pytest.param("1 2 3 gap1-3 4", "1 2 3 4", id="a gap that was filled before is no news"),
        pytest.param("1 2 gap1-4 5", "1 2 (3..4) 5", id="a gap that was filled in part says the rest"),
        pytest.param("1 gap1-4 gap1-4 5", "1 (2..4) 5", id="a gap that is repeated"),
        pytest.param("ok1 1", "1", id="an answer to nothing is dropped"),
    ],
)
def test_application_sees(script: str, outcome: str) -> None:
    client = Driven()
    client.connect()
    client.subscribe()
    (request,) = client.take()
    client.feed(subscribed(request.id, 0))
    assert run_stream(client, script) == outcome


def test_serials_with_holes_are_taken_where_the_server_leaves_out_own_messages() -> None:
    client = Driven(echo=False)
    client.connect()
    client.live(0)
    assert run_stream(client, "1 3 3 live5 6") == "1 3 6"


@pytest.mark.parametrize(
    ("asked", "answer", "notice", "position"),
    [
        pytest.param("new", subscribed(2, 9), None, ("E1", 9), id="new"),
        pytest.param("first", subscribed(2, 0), None, ("E1", 0), id="first"),
        pytest.param(m.Last(3), subscribed(2, 6), None, ("E1", 6), id="last"),
        pytest.param(("E1", 4), subscribed(2, 4, resumed=True), None, ("E1", 4), id="resumed"),
        pytest.param(("E1", 4), subscribed(2, 4, resumed=True, position=("E2", 9)), None, ("E2", 4),
                     id="resumed before a fork"),
        pytest.param(("E1", 4),
                     subscribed(2, 7, gap=m.GapInfo(why="trimmed", from_=("E1", 4), to=("E1", 7))),
                     ("trimmed", ("E1", 4), ("E1", 7)), ("E1", 7), id="trimmed"),
        pytest.param(("E1", 4),
                     subscribed(2, 0, position=("E2", 3),
                                gap=m.GapInfo(why="epoch", from_=("E1", 4), to=("E2", 0))),
                     ("epoch", ("E1", 4), ("E2", 0)), ("E2", 0), id="the stream was lost"),
        pytest.param(("E1", 4),
                     subscribed(2, 2, gap=m.GapInfo(why="ahead", from_=("E1", 4), to=("E1", 2))),
                     ("ahead", ("E1", 4), ("E1", 2)), ("E1", 2), id="the end of the stream was lost"),
        pytest.param(("E1", 4), subscribed(2, 8), ("trimmed", ("E1", 4), ("E1", 8)), ("E1", 8),
                     id="neither resumed nor a gap, same epoch: declared here"),
        pytest.param(("E1", 4), subscribed(2, 0, position=("E2", 0)),
                     ("epoch", ("E1", 4), ("E2", 0)), ("E2", 0),
                     id="neither resumed nor a gap, other epoch: declared here"),
        pytest.param(("E1", 4), subscribed(2, 4), None, ("E1", 4), id="not resumed, yet at the same place"),
    ],
)  # fmt: skip
def test_answer_to_subscribe(
    asked: From, answer: m.Subscribed, notice: tuple[Any, ...] | None, position: m.Position
) -> None:
    client = Driven()
    client.connect()
    client.subscribe(from_=asked)
    done, *delivered = client.feed(answer)
    start = asked if isinstance(asked, tuple) else position
    assert done == Done(f"sub {ROOM}", start)
    expected = []
    if notice is not None:
        why, from_, to = notice
        expected = [Deliver(ROOM, GapNotice(channel=ROOM, why=why, from_=from_, to=to))]
    assert delivered == expected
    (delivery,) = client.feed(message(position[1] + 1))
    assert isinstance(delivery, Deliver)
    assert delivery.item.position == (position[0], position[1] + 1)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("fork", "notice", "following"),
    [
        pytest.param(3, [], "4", id="fork at the position"),
        pytest.param(5, [], "from3", id="fork ahead: what lies between is asked for"),
        pytest.param(1, ["fork"], "2", id="fork behind: what was seen since is no more"),
    ],
)
def test_reset(fork: int, notice: list[str], following: str) -> None:
    client = Driven()
    client.connect()
    client.live(3)
    reset = m.Reset(
        channel=ROOM, position=("E2", 9), fork=fork, epochs=[("E1", 1), ("E2", fork + 1)], why="failover"
    )
    items = [action.item for action in client.feed(reset) if isinstance(action, Deliver)]
    assert [item.why for item in items if isinstance(item, GapNotice)] == notice
    assert client.feed(reset) == []
    assert [show(action) for action in client.feed(message(fork + 1))] == [following]
    assert client.feed(reset) == [], "a repeated reset is no news, wherever the stream has got to"


def test_resume_asks_from_the_last_message_taken() -> None:
    client = Driven()
    client.connect()
    client.live(3)
    client.feed(message(4), message(5))
    client.close()
    client.connect()
    (request,) = client.take()
    assert request == m.Subscribe(id=2, channel=ROOM, from_=("E1", 5))


def test_subscribe_that_was_not_answered_is_asked_again_as_it_was() -> None:
    client = Driven()
    client.connect()
    client.subscribe(from_=m.Last(3))
    client.close()
    client.take()
    client.connect()
    assert client.take() == [m.Subscribe(id=2, channel=ROOM, from_=m.Last(3))]


def test_second_subscribe_to_a_channel_is_refused_here() -> None:
    client = Driven()
    client.connect()
    client.live()
    (failed,) = client.note(client.core.subscribe(ROOM, "new", "again", 0.0))
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, AlreadySubscribed)


def test_nothing_is_delivered_after_unsubscribe() -> None:
    client = Driven()
    client.connect()
    client.live()
    client.note(client.core.unsubscribe(ROOM, "bye", 0.0))
    (request,) = client.take()
    assert client.feed(message(1)) == []
    assert client.feed(m.Unsubscribed(id=request.id, channel=ROOM)) == [Done("bye")]
    assert client.feed(message(2)) == []


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda c, r: c.feed(error(r, 404)), id="the server knows no such subscription"),
        pytest.param(lambda c, r: c.close(), id="the connection breaks"),
        pytest.param(lambda c, r: c.note(c.core.end(ClientEnded("over"))), id="the client ends"),
    ],
)
def test_unsubscribe_is_done_whatever_happens(end: Any) -> None:
    client = Driven()
    client.connect()
    client.live()
    client.note(client.core.unsubscribe(ROOM, "bye", 0.0))
    (request,) = client.take()
    assert Done("bye") in end(client, request)


def test_channel_left_and_subscribed_again_takes_only_the_new_stream() -> None:
    client = Driven()
    client.connect()
    client.live(3)
    client.note(client.core.unsubscribe(ROOM, "bye", 0.0))
    client.subscribe(from_="first")
    leave, enter = client.take()
    assert client.feed(message(4), m.Unsubscribed(id=leave.id, channel=ROOM)) == [Done("bye")]
    client.feed(subscribed(enter.id, 0))
    assert run_stream(client, "1 2") == "1 2"


def test_subscribe_given_up_before_its_answer_leaves_no_request_open() -> None:
    """A server need not answer it, so nobody may wait for that."""
    client = Driven()
    client.connect()
    client.subscribe()
    client.note(client.core.unsubscribe(ROOM, "bye", 0.0))
    _, leave = client.take()
    client.feed(m.Unsubscribed(id=leave.id, channel=ROOM))
    client.now_s = ANSWER_S
    client.feed(b"{}")
    assert client.tick(ANSWER_S + 1) == []


def test_paused_channel_is_left_and_resumed_from_its_position() -> None:
    client = Driven()
    client.connect()
    client.live(3)
    client.feed(message(4))
    client.note(client.core.pause(ROOM, 0.0))
    assert [type(request) for request in client.take()] == [m.Unsubscribe]
    assert client.feed(message(5)) == []
    client.close()
    client.connect()
    assert client.take() == []
    client.note(client.core.proceed(ROOM, 0.0))
    (request,) = client.take()
    assert isinstance(request, m.Subscribe)
    assert request.from_ == ("E1", 4)


def test_temporary_refusal_of_a_subscribe_is_tried_again_when_the_server_says() -> None:
    client = Driven()
    client.connect()
    client.subscribe(from_=("E1", 4))
    (request,) = client.take()
    assert client.feed(error(request, 503, after_ms=200)) == []
    assert client.core.wake_s == pytest.approx(0.2)
    client.tick(0.2)
    (again,) = client.take()
    assert isinstance(again, m.Subscribe)
    assert again.from_ == ("E1", 4)


def test_final_refusal_of_a_subscribe_fails_it() -> None:
    client = Driven()
    client.connect()
    client.subscribe()
    (request,) = client.take()
    (failed,) = client.feed(error(request, 403))
    assert isinstance(failed, Failed)
    assert failed.ticket == f"sub {ROOM}"
    client.subscribe()
    assert client.take(), "it may be subscribed again"


def test_final_refusal_of_a_resume_ends_the_stream() -> None:
    client = Driven()
    client.connect()
    client.live()
    client.close()
    client.connect()
    (request,) = client.take()
    (over,) = client.feed(error(request, 403))
    assert isinstance(over, StreamOver)
    assert over.error.code == 403

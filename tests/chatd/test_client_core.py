"""The client's connection, one event at a time: no sockets, no clock."""

from __future__ import annotations

import random

import msgspec
import pytest

from chatd.client_actions import (
    ClientEnded,
    Dial,
    Done,
    Failed,
    Hangup,
    History,
    Over,
    Send,
    State,
    StreamOver,
    Up,
)
from chatd.client_core import ANSWER_S, HANDSHAKE_S, ClientCore
from chatd.protocol import messages as m
from chatd.protocol.errors import (
    ERRORS,
)
from tests.chatd.driven_client import HOME, ROOM, Driven, error, history, message, published

# Connecting ----------------------------------------------------------------------------------------


def test_first_tick_dials_and_an_open_socket_says_connect() -> None:
    client = Driven(token="secret")
    assert client.tick(0.0) == [Dial(HOME)]
    client.note(client.core.opened(0.1))
    assert client.take() == [m.Connect(id=1, client="alice", token="secret")]


def test_what_was_asked_before_the_connection_is_sent_after_connected_in_order() -> None:
    client = Driven()
    client.publish(1)
    client.subscribe()
    client.publish(2)
    client.connect()
    assert [type(request) for request in client.take()] == [m.Subscribe, m.Publish, m.Publish]


def test_a_client_without_a_name_goes_by_the_same_one_on_every_connection() -> None:
    core: ClientCore[str] = ClientCore(HOME, random.Random(1))
    names = set()
    for now_s in (0.0, 100.0):
        core.tick(now_s)
        (send,) = core.opened(now_s)
        assert isinstance(send, Send)
        request = m.decode_request(send.payload)
        assert isinstance(request, m.Connect)
        names.add(request.client)
        core.closed(now_s)
    assert len(names) == 1
    assert names != {None}


@pytest.mark.parametrize("state", [State.DIALING, State.OPEN, State.CONNECTED, State.HANGING_UP])
def test_a_break_in_any_state_keeps_what_is_open_and_comes_back(state: State) -> None:
    client = Driven()
    client.subscribe(from_=("E1", 7))
    client.publish(1)
    client.note(client.core.read(history(), "hist", 0.0))
    if state is State.CONNECTED:
        client.connect()
    elif state is State.HANGING_UP:
        client.connect()
        client.tick(1000.0)
    else:
        client.tick(0.0)
        if state is State.OPEN:
            client.note(client.core.opened(0.0))
    assert client.core.state is state
    client.take()
    assert not [a for a in client.close() if isinstance(a, Done | Failed)]
    client.connect()
    asked, sent, read = client.take()
    assert isinstance(asked, m.Subscribe)
    assert asked.from_ == ("E1", 7)
    assert isinstance(sent, m.Publish)
    assert sent.message == "m1"
    assert isinstance(read, m.HistoryRequest)


def test_request_ids_rise_on_each_connection() -> None:
    client = Driven()
    client.connect()
    for n in (1, 2, 3):
        client.publish(n)
    ids = [request.id for request in client.take()]
    assert ids == sorted(set(ids))
    client.close()
    client.connect()
    assert [request.id for request in client.take()] == [2, 3, 4]


def test_ping_is_answered_once_in_any_open_state() -> None:
    client = Driven()
    client.tick(0.0)
    client.note(client.core.opened(0.0))
    assert client.feed(b"{}") == [Send(b"{}")]
    client = Driven()
    client.connect()
    assert client.feed(b"{}") == [Send(b"{}")]


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"nonsense", id="no JSON"),
        pytest.param(b"[" * 5000, id="nested too deep"),
        pytest.param(b'"\xff"', id="no UTF-8"),
        pytest.param(b'{"type":"presence","channel":"room:1"}', id="a type of a later version"),
        pytest.param(b'{"type":"message","channel":"room:1"}', id="fields missing"),
        pytest.param(m.encode(error(None, 400)), id="an error that answers nothing"),
        pytest.param(b'{"type":"ack","id":9,"message":"x","position":["E1",1],"duplicate":false,"durability":""}',
                     id="an ack that answers nothing"),
    ],
)  # fmt: skip
def test_a_frame_that_means_nothing_is_counted_and_ignored(payload: bytes) -> None:
    client = Driven()
    client.connect()
    client.live(5)
    assert client.feed(payload) == []
    assert client.core.wasted == 1
    assert client.feed(message(6))


# Silence -------------------------------------------------------------------------------------------


def test_silence_of_ping_and_pong_together_ends_the_connection() -> None:
    client = Driven()
    client.connect(ping_s=25)
    client.now_s = 10.0
    client.feed(b"{}")
    assert client.core.wake_s == pytest.approx(10 + 25 + 8)
    assert client.tick(42.9) == []
    (hangup,) = client.tick(43.0)
    assert isinstance(hangup, Hangup)
    assert client.feed(message(1)) == []  # what still comes in is not looked at
    client.close()
    assert client.core.state is State.WAITING


def test_socket_that_never_says_connected_is_given_up() -> None:
    client = Driven()
    client.tick(0.0)
    client.note(client.core.opened(0.0))
    assert client.core.wake_s == HANDSHAKE_S
    assert isinstance(client.tick(HANDSHAKE_S)[0], Hangup)


def test_request_without_an_answer_ends_the_connection_and_is_sent_again() -> None:
    client = Driven()
    client.connect()
    client.publish(1)
    client.take()
    client.now_s = ANSWER_S - 1
    client.feed(b"{}")
    (hangup,) = client.tick(ANSWER_S)
    assert hangup == Hangup(f"no answer to a publish for {ANSWER_S:g} s")
    client.close()
    client.connect()
    assert published(client) == ["m1"]


# Coming back ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "goodbye", "low_s", "high_s"),
    [
        pytest.param(1006, None, 0.0, 0.5, id="cut"),
        pytest.param(1000, None, 0.0, 0.5, id="closed in peace"),
        pytest.param(4003, None, 0.0, 0.5, id="slow consumer"),
        pytest.param(4101, None, 0.0, 0.0, id="drain without a goodbye: at once"),
        pytest.param(4101, (2000, 3000), 2.0, 3.0, id="drain: as the goodbye says"),
        pytest.param(1006, (2000, 3000), 2.0, 3.0, id="the close frame was lost, the goodbye was not"),
    ],
)
def test_time_to_come_back(code: int, goodbye: tuple[int, int] | None, low_s: float, high_s: float) -> None:
    client = Driven()
    client.connect()
    if goodbye:
        client.feed(m.Goodbye(code=4101, why="drain", after_ms=goodbye))
    client.close(code)
    wake_s = client.core.wake_s
    assert wake_s is not None
    assert low_s <= wake_s <= high_s
    assert (wake_s == 0.0) == (high_s == 0.0)


def test_server_that_drains_again_and_again_is_not_hammered() -> None:
    client = Driven()
    waits = []
    for _ in range(20):
        client.connect()
        client.close(4101)
        wake_s = client.core.wake_s
        assert wake_s is not None
        waits.append(wake_s - client.now_s)
    assert waits[0] == 0.0
    assert max(waits) > 1.0


def test_backoff_grows_until_a_connection_has_lasted() -> None:
    client = Driven()
    ceilings = []
    for _ in range(200):
        wake_s = client.core.wake_s
        assert wake_s is not None
        client.tick(wake_s)
        client.close()
        again_s = client.core.wake_s
        assert again_s is not None
        ceilings.append(again_s - client.now_s)
    assert 10 < max(ceilings) < 30
    client.connect(retry_ms=(100, 200))
    client.now_s += 5
    client.close()
    wake_s = client.core.wake_s
    assert wake_s is not None
    assert wake_s - client.now_s <= 0.1


def test_backoff_of_the_caller_wins_over_that_of_the_server() -> None:
    client = Driven(retry_s=(0.001, 0.002))
    client.connect(retry_ms=(100_000, 200_000))
    client.close()
    wake_s = client.core.wake_s
    assert wake_s is not None
    assert wake_s <= 0.002


def test_retry_after_of_a_refusal_is_a_lower_bound() -> None:
    client = Driven()
    client.tick(0.0)
    client.close(retry_after_s=7.0)
    assert client.core.wake_s == 7.0


@pytest.mark.parametrize(
    ("to", "dialed"),
    [
        pytest.param(["ws://home:2/ws"], "ws://home:2/ws", id="another port of the own host"),
        pytest.param(["ws://friend:1/ws"], "ws://friend:1/ws", id="a host that is allowed"),
        pytest.param(["ws://evil:1/ws"], HOME, id="a host that is not"),
        pytest.param(["wss://home:1/ws"], HOME, id="another scheme"),
        pytest.param(["http://home:1/ws"], HOME, id="no WebSocket"),
        pytest.param(["ws://home@evil:1/ws"], HOME, id="a host dressed up as a user"),
        pytest.param(["ws://[home/ws", "ws://home:x/ws", "", "ws://evil/ws", "ws://friend:1/ws"], "ws://friend:1/ws",
                     id="the first that will do"),
        pytest.param([], HOME, id="nowhere"),
    ],
)  # fmt: skip
def test_goodbye_is_followed_only_where_allowed(to: list[str], dialed: str) -> None:
    client = Driven(follow=["friend"])
    client.connect()
    client.feed(m.Goodbye(code=4101, why="drain", to=to))
    client.close(4101)
    assert client.tick(client.core.wake_s or 0.0) == [Dial(dialed)]


def test_address_of_a_goodbye_that_does_not_work_is_given_up() -> None:
    client = Driven()
    client.connect()
    client.feed(m.Goodbye(code=4101, why="drain", to=["ws://home:2/ws"]))
    client.close(4101)
    client.tick(client.core.wake_s or 0.0)
    client.note(client.core.opened(client.now_s))  # it takes the socket, and says nothing
    client.tick(client.now_s + HANDSHAKE_S)
    client.close()
    assert client.tick(client.core.wake_s or 0.0) == [Dial(HOME)]


def test_goodbye_to_elsewhere_does_not_count_for_a_close_in_the_40xx() -> None:
    client = Driven()
    client.connect()
    client.feed(m.Goodbye(code=4101, why="drain", to=["ws://home:2/ws"]))
    client.close(4006)
    assert client.tick(client.core.wake_s or 0.0) == [Dial(HOME)]


# The end -------------------------------------------------------------------------------------------


def full_client() -> Driven:
    client = Driven()
    client.connect()
    client.live(channel="open")
    client.live(channel="left")
    client.subscribe("asked")
    client.publish(1)
    client.note(client.core.read(history(), "hist", 0.0))
    client.note(client.core.unsubscribe("left", "bye", 0.0))
    client.actions.clear()
    return client


@pytest.mark.parametrize("code", [4500, 4501, 4503, 4509])
def test_close_for_good_answers_everything_and_does_not_come_back(code: int) -> None:
    client = full_client()
    client.close(code, reason="enough")
    assert {(type(a), getattr(a, "ticket", None)) for a in client.actions} == {
        (Done, "bye"),
        (Failed, "sub asked"),
        (Failed, "pub 1"),
        (Failed, "hist"),
        (StreamOver, None),
        (Over, None),
    }
    over = client.actions[-1]
    assert isinstance(over, Over)
    assert isinstance(over.error, ClientEnded)
    assert over.error.close_code == code
    assert "enough" in str(over.error)
    assert client.core.wake_s is None
    assert client.tick(1e9) == []
    assert client.close() == []


def test_ended_client_refuses_everything_with_the_reason() -> None:
    client = Driven()
    client.note(client.core.end(ClientEnded("over")))
    for actions in (
        client.subscribe(),
        client.publish(1),
        client.note(client.core.read(history(), "hist", 0.0)),
    ):
        assert [type(action) for action in actions] == [Failed]
    assert client.core.unsubscribe(ROOM, "bye", 0.0) == [Done("bye")]
    assert client.core.end(ClientEnded("again")) == []


@pytest.mark.parametrize(
    ("code", "after_ms", "wait_s"),
    [
        pytest.param(401, None, None, id="for good"),
        pytest.param(503, 9000, 9.0, id="for now"),
    ],
)
def test_refusal_of_connect(code: int, after_ms: int | None, wait_s: float | None) -> None:
    client = Driven()
    client.tick(0.0)
    client.note(client.core.opened(0.0))
    (request,) = client.take()
    (action,) = client.feed(error(request, code, after_ms))
    if wait_s is None:
        assert isinstance(action, Over)
        assert type(action.error) is ERRORS[code]
    else:
        assert isinstance(action, Hangup)
        client.close()
        assert client.core.wake_s == wait_s


# History -------------------------------------------------------------------------------------------


def page(request: m.Request, *frames: m.Reply) -> m.HistoryPage:
    return m.HistoryPage(
        id=request.id,
        channel=ROOM,
        position=("E2", 4),
        floor=2,
        epochs=[("E1", 1), ("E2", 3)],
        messages=[msgspec.Raw(m.encode(frame)) for frame in frames],
        more=False,
    )


def test_history_gives_each_message_its_epoch() -> None:
    client = Driven()
    client.connect()
    client.note(client.core.read(history(after=("E1", 1), limit=5), "hist", 0.0))
    (request,) = client.take()
    assert request == m.HistoryRequest(id=request.id, channel=ROOM, after=("E1", 1), limit=5)
    (done,) = client.feed(page(request, message(2), message(3), message(4)))
    assert isinstance(done, Done)
    assert isinstance(done.value, History)
    assert [item.position for item in done.value.messages] == [("E1", 2), ("E2", 3), ("E2", 4)]
    assert [item.data for item in done.value.messages] == [2, 3, 4]


def test_history_that_is_refused_or_holds_nonsense_fails() -> None:
    client = Driven()
    client.connect()
    for answer in (
        lambda request: error(request, 410),
        lambda request: page(request, m.Live(channel=ROOM, position=("E2", 4))),
    ):
        client.note(client.core.read(history(), "hist", 0.0))
        (request,) = client.take()
        assert [type(action) for action in client.feed(answer(request))] == [Failed]


def test_up_carries_what_the_server_said() -> None:
    client = Driven()
    client.connect()
    assert [action.frame for action in client.actions if isinstance(action, Up)] == [client.core.server]

"""One virtual client, without sockets: what it sends, and what it puts on record of what it saw."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chatd.protocol import messages as wire
from loadgen.body import encode_body
from loadgen.client import Client, node_id
from loadgen.drivers.chatd import ChatdDriver
from loadgen.publisher import Shared
from loadgen.recorder import Recorder
from reports.history import CONN_ERRNO, BadReason, Flag, Kind

NONCE = 99
SECOND_NS = 1_000_000_000


class Timer:
    def __init__(self, wait_s: float, call: Callable[[], None]) -> None:
        self.wait_s, self.call, self.cancelled = wait_s, call, False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLink:
    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.closing = self.closed = False

    def send(self, frame: bytes) -> bool:
        if self.closing:
            return False
        self.sent.append("pong" if frame == wire.PING else wire.decode_request(frame))
        return True

    def close(self) -> None:
        self.closed = self.closing = True

    def abort(self) -> None:
        self.closed = self.closing = True


class Desk:
    """A client of ordinal 5 on channels 1 and 2, its clock, its timers and its log."""

    def __init__(self, path: Path) -> None:
        self.now_ns = 10 * SECOND_NS
        self.timers: list[Timer] = []
        self.recorder = Recorder(path, 1, NONCE, segment_bytes=1 << 16)
        self.shared = Shared(
            recorder=self.recorder,
            driver=ChatdDriver,
            nonce=NONCE,
            body_bytes=4,
            ack_timeout_s=5.0,
            now_ns=lambda: self.now_ns,
            later=self.later,
            rng=random.Random(1),
        )
        self.client = Client(5, (1, 2), self.shared)

    def later(self, wait_s: float, call: Callable[[], None]) -> Timer:
        self.timers.append(Timer(wait_s, call))
        return self.timers[-1]

    def fire(self) -> None:
        timers, self.timers = self.timers, []
        for timer in timers:
            if not timer.cancelled:
                timer.call()

    def open(self) -> FakeLink:
        """Connect and have both channels live at [E1, 10]."""
        link = self.dial()
        self.say(connected(link.sent[0].id))
        for channel in ("room:1", "room:2"):
            self.say(subscribed(channel, top=10, start=10))
            self.say(wire.Live(channel=channel, position=("E1", 10)))
        return link

    def dial(self) -> FakeLink:
        link = FakeLink()
        self.client.dialling(self.now_ns - 1)
        self.client.opened(link, self.now_ns)
        return link

    def say(self, frame: Any) -> None:
        self.client.feed(frame if isinstance(frame, bytes) else wire.encode(frame), self.now_ns)

    def records(self, *kinds: Kind) -> list[dict[str, int]]:
        fresh = self.recorder.fresh()
        names = fresh.dtype.names or ()
        rows = [dict(zip(names, record, strict=True)) for record in fresh.tolist()]
        return [row for row in rows if not kinds or row["kind"] in kinds]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.recorder.close()


class JoinsLater(ChatdDriver):
    """A server that takes subscriptions in frames of their own."""

    connect_subscribes = False


def test_where_the_first_frame_takes_none_each_subscription_is_asked_for_once_connected(desk: Desk) -> None:
    desk.shared.driver = JoinsLater
    link = desk.dial()
    assert not link.sent[0].subscribe
    assert len(link.sent) == 1
    desk.say(connected(link.sent[0].id))
    assert [(ask.channel, ask.from_) for ask in link.sent[1:]] == [("room:1", "new"), ("room:2", "new")]
    for channel in ("room:1", "room:2"):
        desk.say(subscribed(channel, top=10, start=10))
        desk.say(wire.Live(channel=channel, position=("E1", 10)))
    assert desk.client.all_live
    desk.client.disconnected(1006, desk.now_ns)
    again = desk.dial()
    desk.say(connected(again.sent[0].id))
    assert [ask.from_ for ask in again.sent[1:]] == [("E1", 10), ("E1", 10)]


def connected(request_id: int) -> wire.Connected:
    contract = wire.Contract(
        profile="effectively-once",
        echo=True,
        durability="fsync",
        retain_n=9,
        retain_s=9,
        retain_bytes=9,
        dedupe_s=9,
    )
    return wire.Connected(
        id=request_id, node="n3", user="c5", contract=contract, limits=wire.Limits(frame_bytes=9, channels=9),
        ping_s=25, pong_s=8, retry_ms=(500, 30_000),
    )  # fmt: skip


def subscribed(channel: str, *, top: int, start: int, resumed: bool = False, **rest: Any) -> wire.Subscribed:
    epoch = rest.pop("epoch", "E1")
    return wire.Subscribed(
        channel=channel, position=(epoch, top), resumed=resumed, count=0, floor=3, start=start, **rest
    )


def message(channel: str, serial: int, publisher: int = 8, *, nonce: int = NONCE) -> wire.Message:
    body = encode_body(nonce=nonce, channel=1, publisher=publisher, pub_seq=4, scheduled_ns=7, body_bytes=4)
    return wire.Message(channel=channel, serial=serial, message="x", user="u", time=0, data=msgspec.Raw(body))


def ack(publish: Any, serial: int, *, duplicate: bool = False) -> wire.Ack:
    return wire.Ack(
        id=publish.id,
        message=publish.message,
        position=("E1", serial),
        duplicate=duplicate,
        durability="fsync",
    )


def refusal(publish: Any, code: int, *, temporary: bool, definite: bool = True) -> wire.Error:
    return wire.Error(
        id=publish.id, code=code, reason="no", temporary=temporary, definite=definite, after_ms=250
    )


def published(link: FakeLink) -> list[str]:
    return [frame.message for frame in link.sent if isinstance(frame, wire.Publish)]


def fields(row: dict[str, int], *names: str) -> tuple[int, ...]:
    return tuple(row[name] for name in names)


# Connecting and subscribing ------------------------------------------------------------------------------


def test_a_connection_and_its_subscriptions_are_on_record(desk: Desk) -> None:
    desk.open()
    conn, *rest = desk.records()
    assert fields(conn, "kind", "t", "t2", "client", "publisher", "pub_seq", "serial") == (
        Kind.CONN, desk.now_ns, desk.now_ns - 1, 5, 3, 1, 101,
    )  # fmt: skip
    assert [row["kind"] for row in rest] == [Kind.SUB, Kind.LIVE] * 2
    sub, live = rest[:2]
    assert fields(sub, "t2", "channel", "publisher", "pub_seq", "serial", "epoch", "flags") == (
        desk.now_ns, 1, 0, 0, 10, 1, 0,
    )  # fmt: skip
    assert fields(live, "t2", "channel", "pub_seq", "serial", "epoch") == (desk.now_ns, 1, 3, 10, 1)
    assert desk.client.all_live


def test_a_failed_dial_is_an_attempt_on_record_and_waits_before_the_next(desk: Desk) -> None:
    waits = []
    for _ in range(6):
        desk.client.dialling(desk.now_ns)
        waits.append(desk.client.dial_failed(CONN_ERRNO + 111, desk.now_ns))
    rows = desk.records(Kind.CONN)
    assert [row["pub_seq"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert {row["serial"] for row in rows} == {CONN_ERRNO + 111}
    assert all(0 <= wait <= 0.5 * 2**attempt for attempt, wait in enumerate(waits))


def test_a_connection_that_ends_before_it_is_accepted_has_both_ends_on_record(desk: Desk) -> None:
    desk.dial()
    assert desk.client.disconnected(1006, desk.now_ns) is not None
    assert [(row["kind"], row["serial"], row["publisher"]) for row in desk.records()] == [
        (Kind.CONN, 101, 0), (Kind.CLOSE, 1006, 0),
    ]  # fmt: skip


def test_it_resumes_from_the_highest_serial_that_it_received(desk: Desk) -> None:
    desk.open()
    for serial in (11, 14, 12):  # a hole and a straggler: recorded, not repaired
        desk.say(message("room:1", serial))
    desk.client.disconnected(1006, desk.now_ns)
    desk.records()
    link = desk.dial()
    assert [(want.channel, want.from_) for want in link.sent[0].subscribe] == [
        ("room:1", ("E1", 14)), ("room:2", ("E1", 10)),
    ]  # fmt: skip
    desk.say(connected(link.sent[0].id))
    desk.say(subscribed("room:1", top=20, start=14, resumed=True))
    (sub,) = desk.records(Kind.SUB)
    assert fields(sub, "publisher", "pub_seq", "epoch", "serial", "flags") == (1, 14, 1, 14, Flag.RESUMED)


def test_a_first_subscription_that_was_never_answered_asks_for_new_again(desk: Desk) -> None:
    desk.dial()
    desk.client.disconnected(1006, desk.now_ns)
    assert {want.from_ for want in desk.dial().sent[0].subscribe} == {"new"}


@pytest.mark.parametrize(
    ("code", "low_s", "high_s"),
    [
        pytest.param(1006, 0, 0.5, id="torn: backs off"),
        pytest.param(4003, 0, 0.5, id="slow consumer: backs off"),
        pytest.param(4101, 2.0, 3.0, id="drain: as the goodbye says"),
    ],
)
def test_the_close_code_says_how_long_to_stay_away(
    desk: Desk, code: int, low_s: float, high_s: float
) -> None:
    desk.open()
    desk.say(wire.Goodbye(code=4101, why="drain", after_ms=(2000, 3000), to=["ws://127.0.0.1:9"]))
    wait_s = desk.client.disconnected(code, desk.now_ns)
    assert wait_s is not None
    assert low_s <= wait_s <= high_s
    assert list(desk.client.next_target()) == ["ws://127.0.0.1:9"]
    assert list(desk.client.next_target()) == []


def test_a_client_that_is_sent_away_does_not_come_back(desk: Desk) -> None:
    desk.open()
    assert desk.client.disconnected(4503, desk.now_ns) is None
    assert desk.client.ended


def test_a_client_that_never_reconnects_is_lost_with_its_connection(desk: Desk) -> None:
    desk.shared.reconnect = "never"
    desk.client = Client(5, (1, 2), desk.shared)
    desk.open()
    assert desk.client.disconnected(1006, desk.now_ns) is None
    assert desk.client.ended


def test_a_client_that_never_reconnects_may_still_leave_on_purpose_and_return(desk: Desk) -> None:
    desk.shared.reconnect = "never"
    desk.client = Client(5, (1, 2), desk.shared)
    desk.open()
    desk.client.leave()
    assert desk.client.disconnected(1000, desk.now_ns) == 0.0
    assert not desk.client.ended


def test_a_pause_unsubscribes_on_the_open_connection_and_goes_on_from_where_it_was(desk: Desk) -> None:
    link = desk.open()
    desk.say(message("room:1", 11))
    desk.client.unsubscribe()
    left = link.sent[-2:]
    assert [(type(frame), frame.channel) for frame in left] == [
        (wire.Unsubscribe, "room:1"),
        (wire.Unsubscribe, "room:2"),
    ]
    for frame in left:
        desk.say(wire.Unsubscribed(id=frame.id, channel=frame.channel))
    desk.client.subscribe_again()
    assert [(type(frame), frame.from_) for frame in link.sent[-2:]] == [
        (wire.Subscribe, ("E1", 11)),
        (wire.Subscribe, ("E1", 10)),
    ]
    assert len(desk.records(Kind.UNSUB)) == 2


def test_a_pause_that_ends_before_it_was_answered_subscribes_after_the_answer(desk: Desk) -> None:
    link = desk.open()
    desk.client.unsubscribe()
    left = link.sent[-2:]
    desk.client.subscribe_again()
    assert link.sent[-2:] == left
    desk.say(wire.Unsubscribed(id=left[0].id, channel="room:1"))
    assert (type(link.sent[-1]), link.sent[-1].channel) == (wire.Subscribe, "room:1")


def test_a_pause_is_over_with_the_connection(desk: Desk) -> None:
    desk.open()
    desk.client.unsubscribe()
    desk.client.disconnected(1006, desk.now_ns)
    link = desk.open()
    before = list(link.sent)
    desk.client.subscribe_again()
    assert link.sent == before


def test_leaving_is_on_purpose_and_comes_back_at_once(desk: Desk) -> None:
    link = desk.open()
    desk.records()
    desk.client.leave()
    assert link.closed
    assert desk.client.disconnected(1000, desk.now_ns) == 0.0
    assert [fields(row, "kind", "serial", "flags") for row in desk.records()] == [
        (Kind.CLOSE, 1000, Flag.ON_PURPOSE)
    ]


def test_a_ping_is_answered_once(desk: Desk) -> None:
    link = desk.open()
    desk.say(wire.PING)
    assert link.sent.count("pong") == 1


# Deliveries ----------------------------------------------------------------------------------------------


def test_every_arrival_is_recorded_as_it_came(desk: Desk) -> None:
    desk.open()
    desk.records()
    for serial in (11, 11, 13, 12):
        desk.say(message("room:2", serial))
    rows = desk.records()
    assert [row["serial"] for row in rows] == [11, 11, 13, 12]
    names = ("kind", "t", "t2", "client", "channel", "publisher", "pub_seq", "epoch", "flags")
    assert {fields(row, *names) for row in rows} == {(Kind.RECV, desk.now_ns, 7, 5, 2, 8, 4, 1, 0)}


def test_a_delivery_before_live_is_a_replay_and_ones_own_is_an_echo(desk: Desk) -> None:
    link = desk.dial()
    desk.say(connected(link.sent[0].id))
    desk.say(subscribed("room:1", top=11, start=10))
    desk.say(message("room:1", 11, publisher=5))
    desk.say(wire.Live(channel="room:1", position=("E1", 11)))
    desk.say(message("room:1", 12, publisher=5))
    desk.say(message("room:1", 13, publisher=5, nonce=NONCE + 1))
    flags = [row["flags"] for row in desk.records(Kind.RECV)]
    assert flags == [Flag.REPLAYED | Flag.OWN_ECHO, Flag.OWN_ECHO, Flag.FOREIGN]


def test_a_damaged_delivery_still_witnesses_its_serial(desk: Desk) -> None:
    desk.open()
    desk.records()
    frame = wire.encode(message("room:1", 11, publisher=5)).replace(b"....", b"..,.")
    desk.say(frame)
    desk.client.disconnected(1006, desk.now_ns)
    assert [fields(row, "serial", "flags") for row in desk.records(Kind.RECV)] == [(11, Flag.BAD_DIGEST)]
    assert desk.dial().sent[0].subscribe[0].from_ == ("E1", 11)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        pytest.param(b"\x00\xff", BadReason.UNDECODABLE, id="no JSON"),
        pytest.param(b'{"type":"message","channel":"room:1"}', BadReason.UNDECODABLE, id="fields missing"),
        pytest.param(wire.encode(message("room:1", 2**32)), BadReason.SERIAL_RANGE, id="serial too large"),
        pytest.param(wire.encode(message("room:1", -1)), BadReason.SERIAL_RANGE, id="serial below 0"),
        pytest.param(wire.encode(message("room:77", 1)), BadReason.UNEXPECTED, id="a channel not its own"),
        pytest.param(wire.encode(connected(1)), BadReason.UNEXPECTED, id="accepted twice"),
    ],
)
def test_a_frame_that_cannot_be_recorded_is_bad_and_changes_nothing(
    desk: Desk, frame: bytes, reason: BadReason
) -> None:
    desk.open()
    desk.records()
    desk.say(frame)
    assert [fields(row, "kind", "client", "serial") for row in desk.records()] == [(Kind.BAD, 5, reason)]
    assert desk.client.lanes["room:1"].serial == 10


def test_a_declared_hole_is_recorded_and_moves_the_position(desk: Desk) -> None:
    desk.open()
    desk.records()
    desk.say(wire.Gap(channel="room:1", why="lag", from_=("E1", 10), to=("E1", 15)))
    (gap,) = desk.records()
    assert fields(gap, "kind", "t2", "publisher", "pub_seq", "serial", "epoch") == (Kind.GAP, 4, 1, 11, 15, 1)
    assert desk.client.lanes["room:1"].serial == 15


def test_a_stream_that_began_anew_is_a_fresh_life(desk: Desk) -> None:
    desk.open()
    desk.client.disconnected(1006, desk.now_ns)
    link = desk.dial()
    desk.say(connected(link.sent[0].id))
    desk.records()
    hole = wire.GapInfo(why="epoch", from_=("E1", 10), to=("E9", 2))
    desk.say(subscribed("room:1", top=2, start=2, epoch="E9", gap=hole, epochs=[("E9", 1)]))
    epoch, sub, gap = desk.records()
    assert fields(epoch, "kind", "channel", "epoch", "publisher", "serial") == (Kind.EPOCH, 1, 2, 0, 0)
    assert fields(sub, "kind", "publisher", "pub_seq", "epoch", "serial", "flags") == (
        Kind.SUB,
        1,
        10,
        2,
        2,
        0,
    )
    assert fields(gap, "kind", "t2", "publisher", "pub_seq", "epoch", "serial") == (Kind.GAP, 1, 1, 11, 2, 2)


def test_a_fork_is_recorded_with_its_parent(desk: Desk) -> None:
    desk.open()
    desk.say(message("room:1", 12))
    desk.records()
    desk.say(
        wire.Reset(channel="room:1", position=("E2", 11), fork=11, epochs=[("E1", 1), ("E2", 12)], why="f")
    )
    (epoch,) = desk.records()
    assert fields(epoch, "kind", "epoch", "publisher", "serial") == (Kind.EPOCH, 2, 1, 11)
    desk.say(message("room:1", 12))
    assert desk.records()[0]["epoch"] == 2
    desk.client.disconnected(1006, desk.now_ns)
    link = desk.dial()
    assert link.sent[0].subscribe[0].from_ == ("E2", 12)
    desk.say(connected(link.sent[0].id))
    desk.records()
    desk.say(
        subscribed("room:1", top=12, start=12, resumed=True, epoch="E3", epochs=[("E2", 12), ("E3", 13)])
    )
    assert fields(desk.records()[0], "kind", "epoch", "publisher", "serial") == (Kind.EPOCH, 3, 2, 12)


def test_a_subscription_refused_for_now_is_asked_for_again(desk: Desk) -> None:
    link = desk.dial()
    desk.say(connected(link.sent[0].id))
    lane = desk.client.lanes["room:1"]
    desk.client.refused("room:1", 503, "busy", temporary=True)
    desk.fire()
    assert isinstance(link.sent[-1], wire.Subscribe)
    lane.subscribed = True
    desk.client.refused("room:1", 503, "busy", temporary=True)
    sent = len(link.sent)
    desk.fire()
    assert len(link.sent) == sent


# Publishing ----------------------------------------------------------------------------------------------


def test_a_publish_is_recorded_before_it_is_written_and_acked_once(desk: Desk) -> None:
    link = desk.open()
    desk.records()
    desk.client.publish(2, 1, 123)
    publish = link.sent[-1]
    assert (publish.channel, publish.message) == ("room:2", "c5:1")
    desk.now_ns += 5
    desk.say(ack(publish, 11))
    desk.say(ack(publish, 11, duplicate=True))
    send, first, second = desk.records()
    names = ("kind", "t", "t2", "client", "channel", "publisher", "pub_seq", "serial", "flags")
    assert fields(send, *names) == (Kind.SEND, desk.now_ns - 5, 123, 5, 2, 5, 1, 70, 0)
    assert fields(first, "kind", "t2", "channel", "publisher", "pub_seq", "serial", "epoch", "flags") == (
        Kind.ACK, 123, 2, 5, 1, 11, 1, 0,
    )  # fmt: skip
    assert fields(second, "kind", "publisher", "pub_seq", "flags") == (
        Kind.ACK, 5, 1, Flag.DUPLICATE | Flag.NOT_OPEN,
    )  # fmt: skip


def test_an_ack_for_another_message_leaves_the_one_asked_open(desk: Desk) -> None:
    link = desk.open()
    desk.client.publish(1, 1, 0)
    desk.records()
    wrong = wire.Ack(
        id=link.sent[-1].id, message="c9:4", position=("E1", 11), duplicate=False, durability="fsync"
    )
    desk.say(wrong)
    (row,) = desk.records()
    assert fields(row, "publisher", "pub_seq", "flags") == (9, 4, Flag.NOT_OPEN)
    assert len(desk.client.lanes["room:1"].outbox) == 1


def test_what_is_said_while_away_keeps_its_time_and_goes_out_after_what_was_not_acked(desk: Desk) -> None:
    link = desk.open()
    for pub_seq in (1, 2, 3):
        desk.client.publish(1, pub_seq, pub_seq)
    publishes = [frame for frame in link.sent if isinstance(frame, wire.Publish)]
    desk.say(ack(publishes[1], 12))
    desk.client.disconnected(1006, desk.now_ns)
    desk.client.publish(1, 4, 4)
    desk.records()
    again = desk.dial()
    assert published(again) == []
    desk.say(connected(again.sent[0].id))
    desk.client.publish(1, 5, 5)
    assert published(again) == ["c5:1", "c5:3", "c5:4", "c5:5"]
    sends = desk.records(Kind.SEND)
    assert [(row["pub_seq"], row["t2"], row["flags"]) for row in sends] == [
        (1, 1, Flag.RETRY), (3, 3, Flag.RETRY), (4, 4, 0), (5, 5, 0),
    ]  # fmt: skip
    assert again.sent[1].data == publishes[0].data


def test_a_publish_without_an_answer_is_sent_again_under_its_id(desk: Desk) -> None:
    link = desk.open()
    desk.client.publish(1, 1, 0)
    desk.shared.expire(desk.now_ns + 4 * SECOND_NS)
    assert published(link) == ["c5:1"]
    desk.now_ns += 5 * SECOND_NS
    desk.shared.expire(desk.now_ns)
    assert published(link) == ["c5:1", "c5:1"]
    first, second = (frame for frame in link.sent if isinstance(frame, wire.Publish))
    assert first.id != second.id
    desk.records()
    desk.say(ack(second, 11))
    desk.say(ack(first, 11, duplicate=True))
    assert [row["flags"] for row in desk.records()] == [0, Flag.DUPLICATE]
    desk.shared.expire(desk.now_ns + 60 * SECOND_NS)
    assert len(published(link)) == 2


@pytest.mark.parametrize(
    "lost", [False, True], ids=["the connection stays", "it is lost, with the other answers"]
)
def test_one_answer_of_several_attempts_is_enough(desk: Desk, lost: bool) -> None:
    link = desk.open()
    desk.client.publish(1, 1, 0)
    desk.now_ns += 5 * SECOND_NS
    desk.shared.expire(desk.now_ns)
    first, _ = (frame for frame in link.sent if isinstance(frame, wire.Publish))
    desk.say(ack(first, 11))
    if lost:
        desk.client.disconnected(1006, desk.now_ns)
        link = desk.dial()
        desk.say(connected(link.sent[0].id))
    sent = published(link)
    for _ in range(3):
        desk.now_ns += 5 * SECOND_NS
        desk.shared.expire(desk.now_ns)
    assert published(link) == sent == ([] if lost else ["c5:1", "c5:1"])


def test_a_refusal_that_passes_holds_the_lane_until_all_is_answered_and_then_goes_on_in_order(
    desk: Desk,
) -> None:
    link = desk.open()
    for pub_seq in (1, 2, 3):
        desk.client.publish(1, pub_seq, 0)
    one, two, three = (frame for frame in link.sent if isinstance(frame, wire.Publish))
    desk.say(refusal(one, 503, temporary=True))
    desk.client.publish(1, 4, 0)
    desk.client.publish(2, 5, 0)  # another lane is not held
    assert published(link) == ["c5:1", "c5:2", "c5:3", "c5:5"]
    desk.say(refusal(two, 412, temporary=False))
    assert desk.timers == []
    desk.say(refusal(three, 412, temporary=False))
    assert [timer.wait_s for timer in desk.timers] == [0.25]
    desk.fire()
    assert published(link)[4:] == ["c5:1", "c5:2", "c5:3", "c5:4"]
    assert [fields(row, "t2", "flags") for row in desk.records(Kind.NACK)] == [
        (503, Flag.DEFINITE), (412, Flag.DEFINITE), (412, Flag.DEFINITE),
    ]  # fmt: skip


def test_a_lane_held_when_the_connection_ends_goes_on_with_the_next(desk: Desk) -> None:
    link = desk.open()
    desk.client.publish(1, 1, 0)
    desk.say(refusal(link.sent[-1], 503, temporary=True))
    (timer,) = desk.timers
    desk.client.disconnected(1006, desk.now_ns)
    assert timer.cancelled
    again = desk.dial()
    desk.say(connected(again.sent[0].id))
    desk.client.publish(1, 2, 0)
    assert published(again) == ["c5:1", "c5:2"]


def test_a_final_refusal_ends_the_publish(desk: Desk) -> None:
    link = desk.open()
    desk.client.publish(1, 1, 0)
    desk.records()
    desk.say(refusal(link.sent[-1], 409, temporary=False))
    desk.shared.expire(desk.now_ns + 60 * SECOND_NS)
    assert published(link) == ["c5:1"]
    assert [fields(row, "t2", "pub_seq", "flags") for row in desk.records()] == [(409, 1, Flag.DEFINITE)]


def test_a_write_that_was_never_made_is_a_definite_failure_and_is_tried_again(desk: Desk) -> None:
    link = desk.open()
    desk.records()
    link.closing = True
    desk.client.publish(1, 1, 0)
    send, nack = desk.records()
    assert fields(send, "kind", "pub_seq") == (Kind.SEND, 1)
    assert fields(nack, "kind", "t2", "pub_seq", "flags") == (Kind.NACK, 0, 1, Flag.DEFINITE)
    desk.client.disconnected(1006, desk.now_ns)
    again = desk.dial()
    desk.say(connected(again.sent[0].id))
    assert published(again) == ["c5:1"]


def test_nothing_is_sent_on_a_connection_that_we_are_leaving(desk: Desk) -> None:
    link = desk.open()
    desk.client.leave()
    desk.client.publish(1, 1, 0)
    assert published(link) == []


@pytest.mark.parametrize(("name", "number"), [("n1", 1), ("chat-12", 12), ("n", 0), ("", 0), ("9" * 12, 0)])
def test_a_node_is_numbered_by_the_end_of_its_name(name: str, number: int) -> None:
    assert node_id(name) == number

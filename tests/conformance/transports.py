"""What every transport of chatd must do, whatever carries the frames. Contract: PROTOCOL.md.

Subclass ``StreamSuite`` in a test module and give it ``serve``; every ``test_`` method here then
runs against that server. ``WebSocketSuite`` adds PROTOCOL.md § Transport and § Liveness. A transport
that is no WebSocket overrides ``dial`` too. ``tests/conformance/test_transports.py`` shows how.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import Any

import msgspec
import pytest
from websockets import Subprotocol
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from chatd.protocol import messages as m
from chatd.protocol.errors import CloseCode
from tests.conformance.wire import PATIENCE_S, ROOM, Wire

Dial = Callable[..., Wire]  # of a running server
Start = Callable[..., Dial]


class StreamSuite:
    """Give ``serve``: a running server with these settings (keys of chatd's configuration)."""

    def serve(self, **settings: Any) -> AbstractContextManager[str]:
        raise NotImplementedError

    def dial(self, url: str, **connect: Any) -> Wire:
        return Wire(url, **connect)

    @pytest.fixture
    def server(self) -> Iterator[Start]:
        """``server(**settings)`` starts one, and returns how to connect to it."""
        with ExitStack() as stack:

            def start(**settings: Any) -> Dial:
                url = stack.enter_context(self.serve(**settings))
                return lambda **connect: stack.enter_context(self.dial(url, **connect))

            yield start

    # Order and echo --------------------------------------------------------------------------------

    def test_all_subscribers_receive_the_same_frames_in_order(self, server: Start) -> None:
        dial = server()
        alice, bob, writer = dial(), dial(client="bob"), dial(client="carol")
        alice.live()
        bob.live()
        seen = len(alice.raw), len(bob.raw)
        for n in range(20):
            assert writer.publish(f"m{n}").position[1] == n + 1
        assert alice.serials(20) == bob.serials(20) == list(range(1, 21))
        assert alice.raw[seen[0] :] == bob.raw[seen[1] :]

    def test_publishes_that_do_not_wait_for_each_other_keep_their_order(self, server: Start) -> None:
        dial = server()
        reader, writer = dial(), dial(client="bob")
        reader.live()
        for n in range(2, 102):
            writer.send(m.Publish(id=n, channel=ROOM, message=f"m{n}", data=msgspec.Raw(b"0")))
        assert [reader.receive(m.Message).message for _ in range(100)] == [f"m{n}" for n in range(2, 102)]

    def test_ack_carries_the_place_where_subscribers_see_the_message(self, server: Start) -> None:
        dial = server()
        reader, writer = dial(), dial(client="bob")
        reader.live()
        ack = writer.publish("m1", b'{"a": [1, 2.50, "\xc3\xa9"]}')
        seen = reader.receive(m.Message)
        assert (seen.serial, seen.message, seen.user) == (ack.position[1], "m1", "bob")
        assert bytes(seen.data) == b'{"a": [1, 2.50, "\xc3\xa9"]}', "byte for byte"
        assert ack.durability == writer.connected.contract.durability
        assert not ack.duplicate

    def test_publisher_receives_its_own_message_unless_it_asked_not_to(self, server: Start) -> None:
        dial = server()
        alice, quiet = dial(), dial(client="bob")
        alice.live()
        quiet.replay(quiet.subscribe("new", echo=False))
        alice.publish("m1")
        assert alice.serials(1) == [1]
        quiet.publish("m1")
        alice.publish("m2")
        assert [quiet.receive(m.Message).serial for _ in range(2)] == [1, 3]

    def test_channels_do_not_mix(self, server: Start) -> None:
        dial = server()
        reader, writer = dial(), dial(client="bob")
        reader.live(channel="one")
        assert writer.publish("m1", channel="two").position[1] == 1
        assert writer.publish("m1", channel="one").position[1] == 1
        assert reader.receive(m.Message).channel == "one"
        assert reader.quiet()

    # Where a subscription starts -------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("from_", "start"),
        [
            pytest.param("new", 5, id="new"),
            pytest.param(None, 5, id="not said"),
            pytest.param("first", 0, id="first"),
            pytest.param(m.Last(2), 3, id="last 2"),
            pytest.param(m.Last(0), 5, id="last 0"),
            pytest.param(m.Last(99), 0, id="last of more than there are"),
        ],
    )
    def test_fresh_subscription_starts(self, server: Start, from_: m.From | None, start: int) -> None:
        wire = server()()
        for n in range(5):
            wire.publish(f"m{n}")
        answer = wire.subscribe(from_)
        assert (answer.start, answer.position[1], answer.count, answer.floor) == (start, 5, 5 - start, 1)
        assert not answer.resumed
        assert answer.gap is None
        assert wire.replay(answer) == list(range(start + 1, 6))

    def test_connect_opens_subscriptions_that_are_answered_without_an_id(self, server: Start) -> None:
        dial = server()
        position = dial().publish("m1").position
        wire = dial(subscribe=[m.ChannelFrom(channel=ROOM, from_=position), m.ChannelFrom(channel="other")])
        answers = {}
        for _ in range(4):
            frame = wire.next()
            if isinstance(frame, m.Subscribed):
                assert frame.id is None
                answers[frame.channel] = frame.resumed
            else:
                assert isinstance(frame, m.Live)
                assert frame.channel in answers
        assert answers == {ROOM: True, "other": False}

    # Resume and gaps -------------------------------------------------------------------------------

    @pytest.mark.parametrize("last", [1, 3, 9, 10])
    def test_resume_goes_on_after_the_position_with_nothing_skipped_or_repeated(
        self, server: Start, last: int
    ) -> None:
        dial = server()
        writer = dial(client="bob")
        position = [writer.publish(f"m{n}").position for n in range(10)][last - 1]
        reader = dial()
        answer = reader.subscribe(position)
        assert (answer.resumed, answer.start, answer.count, answer.gap) == (True, last, 10 - last, None)
        assert reader.replay(answer) == list(range(last + 1, 11))
        writer.publish("m10")
        assert reader.serials(1) == [11]

    def test_replay_and_what_is_published_meanwhile_are_one_stream(self, server: Start) -> None:
        dial = server()
        writer, stop = dial(client="bob"), threading.Event()
        published = 0

        def write() -> None:
            nonlocal published
            while not stop.is_set():
                writer.publish(f"m{published}")
                published += 1

        thread = threading.Thread(target=write)
        thread.start()
        try:
            for _ in range(10):
                reader = dial()
                answer = reader.subscribe("first")
                serials = reader.replay(answer)  # which also checks the position of `live`
                serials += reader.serials(5)
                assert serials == list(range(1, len(serials) + 1))
        finally:
            stop.set()
            thread.join()

    def test_position_of_another_epoch_is_a_gap(self, server: Start) -> None:
        wire = server()()
        epoch = wire.publish("m1").position[0]
        answer = wire.subscribe(("before", 41))
        assert not answer.resumed
        assert answer.gap == m.GapInfo(why="epoch", from_=("before", 41), to=(epoch, 0))
        assert (answer.start, answer.epochs) == (0, [(epoch, 1)])
        assert wire.replay(answer) == [1]

    def test_position_after_the_head_is_a_gap_back_to_it(self, server: Start) -> None:
        wire = server()()
        epoch, head = wire.publish("m1").position
        answer = wire.subscribe((epoch, head + 5))
        assert answer.gap == m.GapInfo(why="ahead", from_=(epoch, head + 5), to=(epoch, head))
        assert not answer.resumed
        assert wire.replay(answer) == []
        wire.publish("m2")
        assert wire.serials(1) == [head + 1]

    def test_gap_of_what_was_trimmed_is_exact(self, server: Start) -> None:
        dial = server(retain_n=5)
        wire = dial()
        epoch, _ = wire.publish("m1").position
        for n in range(2, 12):
            wire.publish(f"m{n}")
        self.until(lambda: dial().subscribe("first").floor == 7)
        answer = wire.subscribe((epoch, 2))
        assert answer.gap == m.GapInfo(why="trimmed", from_=(epoch, 2), to=(epoch, 6))
        assert (answer.resumed, answer.start, answer.floor, answer.count) == (False, 6, 7, 5)
        assert wire.replay(answer) == [7, 8, 9, 10, 11]
        edge = dial().subscribe((epoch, 6))
        assert (edge.resumed, edge.gap, edge.start) == (True, None, 6), "7 is still held"
        before = dial().subscribe((epoch, 5))
        assert before.gap == m.GapInfo(why="trimmed", from_=(epoch, 5), to=(epoch, 6)), "6 is missing"

    @staticmethod
    def until(condition: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline_s, "retention was never applied"

    # Idempotent publish ----------------------------------------------------------------------------

    def test_same_message_again_is_acked_at_its_place_and_not_delivered_again(self, server: Start) -> None:
        dial = server()
        writer, reader = dial(client="bob"), dial()
        reader.live()
        first = writer.publish("m1")
        again = writer.publish("m1")
        elsewhere = dial(client="bob").publish("m1")
        assert [first.duplicate, again.duplicate, elsewhere.duplicate] == [False, True, True]
        assert first.position == again.position == elsewhere.position
        writer.publish("m2")
        assert [reader.receive(m.Message).message for _ in range(2)] == ["m1", "m2"]

    def test_same_message_twice_in_flight_gets_one_place(self, server: Start) -> None:
        wire = server()()
        for request in (100, 101):
            wire.send(m.Publish(id=request, channel=ROOM, message="m1", data=msgspec.Raw(b"0")))
        one, two = wire.receive(m.Ack), wire.receive(m.Ack)
        assert one.position == two.position
        assert sorted([one.duplicate, two.duplicate]) == [False, True]

    def test_message_id_belongs_to_its_user_and_channel(self, server: Start) -> None:
        dial = server()
        dial(client="bob").publish("m1")
        assert not dial(client="carol").publish("m1").duplicate
        assert not dial(client="bob").publish("m1", channel="other").duplicate

    def test_message_id_with_other_data_is_refused_and_nothing_is_written(self, server: Start) -> None:
        wire = server()()
        wire.publish("m1", b"1")
        request = next(wire.ids)
        error = wire.error(m.Publish(id=request, channel=ROOM, message="m1", data=msgspec.Raw(b"2")), request)
        assert (error.code, error.temporary, error.definite) == (409, False, True)
        assert wire.history().position[1] == 1

    # Leaving and replacing -------------------------------------------------------------------------

    def test_nothing_of_a_channel_comes_after_unsubscribed(self, server: Start) -> None:
        dial = server()
        reader, writer = dial(), dial(client="bob")
        reader.live()
        writer.publish("m1")
        reader.unsubscribe()
        reader.kept.clear()
        writer.publish("m2")
        assert reader.quiet()
        assert reader.error(m.Unsubscribe(id=100, channel=ROOM), 100).code == 404

    def test_subscribe_on_an_open_subscription_needs_from_and_replaces_it(self, server: Start) -> None:
        dial = server()
        reader, writer = dial(), dial(client="bob")
        writer.publish("m1")
        reader.live()
        assert reader.error(m.Subscribe(id=100, channel=ROOM), 100).code == 405
        reader.ids = itertools.count(101)
        assert reader.live("first").start == 0
        writer.publish("m2")
        assert reader.serials(1) == [2], "once, not once for each subscription"
        assert reader.quiet()

    # History ---------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("asked", "serials", "more"),
        [
            pytest.param({}, [1, 2, 3, 4, 5, 6], False, id="everything"),
            pytest.param({"limit": 2}, [5, 6], True, id="the newest"),
            pytest.param({"before": 4, "limit": 2}, [2, 3], True, id="next below a serial"),
            pytest.param({"before": 4}, [1, 2, 3], False, id="all below a serial"),
            pytest.param({"before": 1}, [], False, id="below the first"),
            pytest.param({"after": 4}, [5, 6], False, id="all after a position"),
            pytest.param({"after": 1, "limit": 2}, [2, 3], True, id="next after a position"),
            pytest.param({"after": 6}, [], False, id="after the head"),
        ],
    )
    def test_history_reads(
        self, server: Start, asked: dict[str, Any], serials: list[int], more: bool
    ) -> None:
        wire = server()()
        epoch = [wire.publish(f"m{n}").position for n in range(6)][-1][0]
        if "after" in asked:
            asked = {**asked, "after": (epoch, asked["after"])}
        page = wire.history(**asked)
        found = [m.decode_reply(raw) for raw in page.messages]
        assert [entry.serial for entry in found if isinstance(entry, m.Message)] == serials
        assert (page.more, page.position, page.floor, page.epochs) == (more, (epoch, 6), 1, [(epoch, 1)])

    def test_history_holds_the_frames_of_the_live_stream_byte_for_byte(self, server: Start) -> None:
        wire = server()()
        wire.live()
        wire.publish("m1", b'{"a":  1.0}')
        wire.receive(m.Message)
        pushed = [payload for payload in wire.raw if b'"type":"message"' in payload]
        assert [bytes(raw) for raw in wire.history().messages] == pushed

    # Mistakes --------------------------------------------------------------------------------------

    def test_mistakes_are_answered_and_the_connection_goes_on(self, server: Start) -> None:
        wire = server()()
        assert wire.error(b'{"type":"wave","id":100,"channel":"c"}', 100).code == 404
        assert wire.error(b'{"type":"publish","id":101,"channel":"c","message":"m"}', 101).code == 400
        wire.ids = itertools.count(102)
        assert wire.publish("m1").position[1] == 1

    def test_fields_of_a_later_version_are_ignored(self, server: Start) -> None:
        wire = server()()
        wire.send(b'{"type":"publish","id":100,"channel":"c","message":"m","data":1,"later":{"x":[1]}}')
        assert wire.answer(100, m.Ack).position[1] == 1


class WebSocketSuite(StreamSuite):
    """What is particular to a WebSocket, and to a server that keeps time."""

    def test_subprotocol_is_agreed_on(self, server: Start) -> None:
        wire = server()()
        assert wire.socket.subprotocol == m.SUBPROTOCOL

    def test_handshake_that_offers_another_protocol_only_is_refused_or_closed_for_good(self) -> None:
        with self.serve() as url, suppress(InvalidStatus):
            with connect(url, subprotocols=[Subprotocol("x.v9")]) as socket:
                with pytest.raises(ConnectionClosed):
                    socket.recv(timeout=PATIENCE_S)
                assert socket.close_code == CloseCode.VERSION

    def test_query_string_of_the_path_is_ignored(self) -> None:
        with self.serve() as url, self.dial(url + "?c=12") as wire:
            assert wire.publish("m1")

    def test_first_request_must_be_connect(self) -> None:
        with self.serve() as url, connect(url, subprotocols=[Subprotocol(m.SUBPROTOCOL)]) as socket:
            socket.send(m.encode(m.Unsubscribe(id=1, channel=ROOM)), text=True)
            frame = m.decode_reply(socket.recv(timeout=PATIENCE_S, decode=False))
            assert isinstance(frame, m.Error)
            assert frame.code == 400

    def test_request_ids_must_rise(self, server: Start) -> None:
        wire = server()()
        wire.send(m.Publish(id=100, channel=ROOM, message="m1", data=msgspec.Raw(b"0")))
        wire.answer(100, m.Ack)
        assert wire.error(m.Unsubscribe(id=100, channel=ROOM), 100).code == 400

    @pytest.mark.parametrize(
        ("send", "code"),
        [
            pytest.param(lambda wire: wire.send(b"nonsense"), 4501, id="no frame of the protocol"),
            pytest.param(lambda wire: wire.socket.send(b"{}", text=False), 1003, id="binary"),
            pytest.param(lambda wire: wire.send(b'"\xff\xfe"'), 1007, id="no UTF-8"),
            pytest.param(lambda wire: wire.send(b'"' + b"x" * 5000 + b'"'), 1009, id="too long"),
            pytest.param(lambda wire: wire.socket.send([b'"' + b"x" * 3000, b"x" * 3000], text=True), 1009,
                         id="too long in fragments"),
        ],
    )  # fmt: skip
    def test_frames_that_close_the_connection(
        self, server: Start, send: Callable[[Wire], None], code: int
    ) -> None:
        wire = server(frame_bytes=4096)()
        with suppress(ConnectionClosed):  # the server may be quicker than the rest of the frame
            send(wire)
        assert wire.close_code() == code

    def test_fragmented_message_is_put_together(self, server: Start) -> None:
        wire = server()()
        payload = m.encode(m.Publish(id=100, channel=ROOM, message="m1", data=msgspec.Raw(b"0")))
        wire.socket.send([payload[:10], payload[10:20], payload[20:]], text=True)
        assert wire.answer(100, m.Ack)

    def test_frame_of_the_largest_size_is_taken(self, server: Start) -> None:
        wire = server(frame_bytes=4096)()
        assert wire.connected.limits.frame_bytes == 4096
        frame = m.Publish(id=100, channel=ROOM, message="m1", data=msgspec.Raw(b'""'))
        room = 4096 - len(m.encode(frame))
        wire.send(msgspec.structs.replace(frame, data=msgspec.Raw(b'"' + b"x" * room + b'"')))
        assert wire.answer(100, m.Ack)

    def test_client_that_answers_pings_stays(self, server: Start) -> None:
        wire = server(ping_s=0.1, pong_s=1.0)()
        with pytest.raises(TimeoutError):
            wire.next(timeout_s=1.5)
        assert wire.publish("m1")

    def test_client_that_answers_no_ping_is_closed(self, server: Start) -> None:
        wire = server(ping_s=0.1, pong_s=0.1)()
        wire.pongs = False
        assert wire.close_code() == 4004

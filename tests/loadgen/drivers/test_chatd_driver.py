"""The chatd driver: the conformance suite, and what is chatd's own."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.protocol import messages as wire
from loadgen.drivers.base import Capability, Hole, Want
from loadgen.drivers.chatd import ChatdDriver
from reports.history import BadReason, GapReason
from tests.conformance.drivers import DriverConformance, Spy


def request(frame: bytes) -> Any:
    return wire.decode_request(frame)


class ChatdPeer:
    """Writes chatd's frames with chatd's own structs."""

    def connected(self, connect_frame: bytes, *, ping_s: float, pong_s: float) -> bytes:
        contract = wire.Contract(
            profile="effectively-once", echo=True, durability="fsync", retain_n=9, retain_s=9, retain_bytes=9,
            dedupe_s=9,
        )  # fmt: skip
        return wire.encode(
            wire.Connected(
                id=request(connect_frame).id,
                node="n1",
                user="c1",
                contract=contract,
                limits=wire.Limits(frame_bytes=9, channels=9),
                ping_s=ping_s,
                pong_s=pong_s,
                retry_ms=(500, 30_000),
            )
        )

    def subscribed(
        self, channel: str, *, epoch: str, start: int, top: int, floor: int, resumed: bool
    ) -> bytes:
        return wire.encode(
            wire.Subscribed(
                channel=channel,
                position=(epoch, top),
                resumed=resumed,
                count=top - start,
                floor=floor,
                start=start,
            )
        )

    def live(self, channel: str, *, epoch: str, serial: int) -> bytes:
        return wire.encode(wire.Live(channel=channel, position=(epoch, serial)))

    def message(self, channel: str, serial: int, body: bytes) -> bytes:
        return wire.encode(
            wire.Message(
                channel=channel, serial=serial, message="c2:1", user="u", time=1, data=msgspec.Raw(body)
            )
        )

    def gap(self, channel: str, *, why: GapReason, after: tuple[str, int], to: tuple[str, int]) -> bytes:
        return wire.encode(wire.Gap(channel=channel, why=why.name.lower(), from_=after, to=to))  # type: ignore[arg-type]

    def ack(self, publish_frame: bytes, *, epoch: str, serial: int, duplicate: bool) -> bytes:
        publish = request(publish_frame)
        return wire.encode(
            wire.Ack(
                id=publish.id,
                message=publish.message,
                position=(epoch, serial),
                duplicate=duplicate,
                durability="fsync",
            )
        )

    def refusal(self, publish_frame: bytes, *, temporary: bool, definite: bool) -> bytes:
        code = 504 if temporary else 409
        return error(request(publish_frame).id, code, temporary=temporary, definite=definite)

    def ping(self) -> bytes:
        return wire.PING

    def goodbye(self) -> bytes:
        return wire.encode(wire.Goodbye(code=4101, why="drain", after_ms=(0, 5000)))

    def sent(self, publish_frame: bytes) -> tuple[str, str, bytes]:
        publish = request(publish_frame)
        return publish.channel, publish.message, bytes(publish.data)

    def asked(self, connect_frame: bytes) -> dict[str, Any]:
        return {wanted.channel: wanted.from_ for wanted in request(connect_frame).subscribe}


def error(request_id: int | None, code: int, *, temporary: bool, definite: bool) -> bytes:
    return wire.encode(
        wire.Error(
            id=request_id, code=code, reason="no", temporary=temporary, definite=definite, after_ms=250
        )
    )


class TestChatdDriver(DriverConformance):
    driver = ChatdDriver
    peer = ChatdPeer()

    def test_it_asks_for_the_protocol_by_name(self) -> None:
        assert ChatdDriver.subprotocol == "chatd.v1"

    @given(channel=st.text(), message=st.text(), data=st.text() | st.integers() | st.lists(st.booleans()))
    def test_a_publish_is_what_the_encoder_makes_of_it(
        self, channel: str, message: str, data: object
    ) -> None:
        body = msgspec.json.encode(data)
        frame = ChatdDriver().publish(channel, message, body, None)
        known = wire.Publish(id=1, channel=channel, message=message, data=msgspec.Raw(body))
        assert frame == wire.encode(known)

    def test_out_of_order_passes_when_the_earlier_publish_is_sent_again(self) -> None:
        driver, spy = self.open()
        frame = driver.publish("room:1", "c1:2", b'"x"', "tag")
        driver.feed(error(request(frame).id, 412, temporary=False, definite=True), spy)
        assert spy.calls[1] == ("nack", ("tag", 412), {"temporary": True, "definite": True, "after_s": 0.25})

    def test_a_refused_subscription_names_its_channel(self) -> None:
        driver, spy = self.open()
        frame = driver.subscribe(Want("room:9", "first"))
        driver.feed(error(request(frame).id, 403, temporary=False, definite=True), spy)
        assert spy.calls[1] == ("refused", ("room:9", 403, "no"), {"temporary": False})

    def test_an_error_without_a_request_concerns_the_connection(self) -> None:
        driver, spy = self.open()
        driver.feed(error(None, 400, temporary=False, definite=True), spy)
        assert spy.calls[1] == ("refused", (None, 400, "no"), {"temporary": False})

    def test_an_answer_with_a_hole_and_a_new_epoch_says_both(self) -> None:
        driver, spy = self.open()
        answer = wire.Subscribed(
            channel="room:1", position=("E2", 7), resumed=False, count=0, floor=1, start=7,
            gap=wire.GapInfo(why="epoch", from_=("E1", 41), to=("E2", 7)), epochs=[("E2", 1)],
        )  # fmt: skip
        driver.feed(wire.encode(answer), spy)
        (subscribed,) = spy.calls[1][1]
        assert subscribed.hole == Hole(GapReason.EPOCH, ("E1", 41), ("E2", 7))
        assert list(subscribed.lineage) == [("E2", 1)]

    @pytest.mark.parametrize("why", list(GapReason), ids=lambda why: why.name.lower())
    def test_every_reason_of_a_gap_is_known(self, why: GapReason) -> None:
        driver, spy = self.open()
        driver.feed(self.peer.gap("room:1", why=why, after=("E1", 1), to=("E1", 2)), spy)
        assert spy.calls[1][1][1].why is why

    def test_a_reset_tells_the_fork(self) -> None:
        driver, spy = self.open()
        epochs: list[tuple[str, int]] = [("E1", 1), ("E2", 101)]
        frame = wire.Reset(channel="room:1", position=("E2", 103), fork=100, epochs=epochs, why="failover")
        driver.feed(wire.encode(frame), spy)
        assert spy.calls[1] == ("reset", ("room:1", "E2", 100, epochs), {})

    @pytest.mark.parametrize(
        ("push", "kind"),
        [
            pytest.param(wire.Presence(channel="room:1", version=1, count=300), "presence", id="presence"),
            pytest.param(
                wire.Typing(channel="room:1", user="u", on=True, ttl_ms=6000), "typing", id="typing"
            ),
            pytest.param(
                wire.Receipt(channel="room:1", marks=[wire.Mark("u", read=3)]), "receipt", id="receipt"
            ),
        ],
    )
    def test_what_has_no_place_in_the_stream_is_noticed_and_no_more(
        self, push: wire.Reply, kind: str
    ) -> None:
        driver, spy = self.open()
        driver.feed(wire.encode(push), spy)
        assert spy.calls[1:] == [("noticed", (Capability(kind),), {})]

    def test_a_reaction_carries_its_body_there_and_back(self) -> None:
        driver, spy = self.open()
        body = b'"%b"' % (b"0f" * 32)
        asked = request(driver.react("room:1", 7, "c1:2", body, "tag"))
        assert (asked.to, asked.message, asked.op) == (7, "c1:2", "add")
        data = msgspec.Raw(msgspec.json.encode({"emoji": asked.emoji, "op": "add"}))
        push = wire.Message(
            channel="room:1", serial=9, message="c1:2", user="c1", time=1, data=data, kind="react", to=7
        )
        driver.feed(wire.encode(push), spy)
        assert spy.calls[1] == ("message", ("room:1", 9, body, 7), {})
        answer = wire.Ack(
            id=asked.id, message="c1:2", position=("E1", 9), duplicate=False, durability="fsync"
        )
        driver.feed(wire.encode(answer), spy)
        assert spy.calls[2] == ("ack", ("tag", "c1:2", "E1", 9, False), {})

    def test_requests_without_a_place_in_the_log_are_answered_or_refused(self) -> None:
        driver, spy = self.open()
        entered, page = request(driver.presence("room:1", True)), request(driver.history("room:1", 20))
        left = request(driver.presence("room:1", False))
        assert (entered.op, left.op, page.limit) == ("enter", "leave", 20)
        driver.feed(wire.encode(wire.Presence(id=entered.id, channel="room:1", version=1, count=1)), spy)
        driver.feed(
            wire.encode(
                wire.HistoryPage(
                    id=page.id,
                    channel="room:1",
                    position=("E1", 1),
                    floor=1,
                    epochs=[("E1", 1)],
                    messages=[],
                    more=False,
                )
            ),
            spy,
        )
        refusal = wire.Error(id=left.id, code=404, reason="x", temporary=False, definite=True)
        driver.feed(wire.encode(refusal), spy)
        assert spy.calls[1:] == [
            ("noticed", (Capability.PRESENCE,), {"answer": True}),
            ("noticed", (Capability.HISTORY,), {"answer": True}),
            ("failed", (Capability.PRESENCE, 404), {}),
        ]

    def test_notices_name_their_channel(self) -> None:
        driver = ChatdDriver()
        typing, receipt = request(driver.typing("room:1")), request(driver.receipt("room:2", 9))
        assert (typing.channel, typing.on) == ("room:1", True)
        assert (receipt.channel, receipt.serial, receipt.kind) == ("room:2", 9, "read")

    def test_a_subscription_may_ask_for_presence(self) -> None:
        driver = ChatdDriver()
        assert request(driver.subscribe(Want("room:1", presence=True))).presence
        assert request(driver.connect("c1", [Want("room:1", presence=True)])).subscribe[0].presence

    @pytest.mark.parametrize("kind", ["react", "edit", "delete", "of tomorrow"])
    def test_a_message_about_another_is_a_delivery_with_its_serial(self, kind: str) -> None:
        driver, spy = self.open()
        push = wire.Message(
            channel="room:1", serial=9, message="u:1", user="u", time=1, data=wire.NULL, kind=kind, to=3
        )
        driver.feed(wire.encode(push), spy)
        assert spy.calls[1] == ("message", ("room:1", 9, b"null", 3), {})

    def test_an_answer_that_nobody_asked_for_is_bad(self) -> None:
        spy = Spy()
        ChatdDriver().feed(wire.encode(wire.Presence(id=3, channel="room:1", version=1, count=1)), spy)
        assert spy.calls == [("bad", (BadReason.UNEXPECTED,), {})]

    def test_a_legal_frame_that_nobody_asked_for_is_bad(self) -> None:
        spy = Spy()
        page = wire.HistoryPage(
            id=5, channel="room:1", position=("E1", 1), floor=1, epochs=[("E1", 1)], messages=[], more=False
        )
        ChatdDriver().feed(wire.encode(page), spy)
        assert spy.calls == [("bad", (BadReason.UNEXPECTED,), {})]

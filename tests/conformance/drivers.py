"""What every load driver must do. Subclass ``DriverConformance`` and give it a driver and a peer.

The peer writes what the server would answer, so that the suite needs no server::

    class TestMyDriver(DriverConformance):
        driver = MyDriver
        peer = MyPeer()
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chaos.proxy.frame_view import Change, FrameView, load_view
from loadgen.drivers import driver_named
from loadgen.drivers.base import Capability, Driver, Want
from reports.history import GapReason

# One test of several classes; nothing of it outlives an example.
_SHARED = settings(suppress_health_check=[HealthCheck.differing_executors])
BODY = b'"0123456789abcdef"'


class Peer(Protocol):
    """The server's side of the protocol, as frames."""

    def connected(self, connect_frame: bytes, *, ping_s: float, pong_s: float) -> bytes: ...

    def subscribed(
        self, channel: str, *, epoch: str, start: int, top: int, floor: int, resumed: bool
    ) -> bytes: ...

    def live(self, channel: str, *, epoch: str, serial: int) -> bytes | None:
        """None: the answer to the subscription, with its replay, is all."""
        ...

    def message(self, channel: str, serial: int, body: bytes) -> bytes: ...

    def gap(
        self, channel: str, *, why: GapReason, after: tuple[str, int], to: tuple[str, int]
    ) -> bytes | None:
        """None: holes are declared by answers to subscriptions alone."""
        ...

    def ack(self, publish_frame: bytes, *, epoch: str, serial: int, duplicate: bool) -> bytes: ...

    def refusal(self, publish_frame: bytes, *, temporary: bool, definite: bool) -> bytes: ...

    def ping(self) -> bytes: ...

    def goodbye(self) -> bytes | None:
        """None: it has no word for it."""
        ...

    def sent(self, publish_frame: bytes) -> tuple[str, str | None, bytes]:
        """(channel, message id, body) of a publish, as the server reads it; None: no place for an id."""
        ...

    def asked(self, frame: bytes) -> dict[str, Any]:
        """Channel -> where its subscription begins, as the server reads it: of the first frame, or of that of
        a subscription where the first one has none."""
        ...


class Spy:
    """A sink that keeps every call, as (method, arguments)."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        def keep(*args: Any, **kwargs: Any) -> None:
            kept = tuple(bytes(arg) if name == "message" and i == 2 else arg for i, arg in enumerate(args))
            self.calls.append((name, kept, kwargs))

        return keep

    @property
    def names(self) -> list[str]:
        return [name for name, _, _ in self.calls]


class DriverConformance:
    """The suite."""

    driver: ClassVar[type[Driver]]
    peer: ClassVar[Peer]
    pong_s: ClassVar[float] = 8  # where the server does not say it: the patience of the driver
    epoch: ClassVar[str] = "E1"  # where the server has no epochs: the one that the driver says
    tells_floor: ClassVar[bool] = True  # the server says what the oldest serial is that it holds

    def offers(self, capability: Capability) -> bool:
        return capability in self.driver.capabilities

    def open(self, wanted: Sequence[Want] = (Want("room:1"),)) -> tuple[Driver, Spy]:
        driver, spy = self.driver(), Spy()
        at_once = wanted if driver.connect_subscribes else ()
        driver.feed(self.peer.connected(driver.connect("c1", at_once), ping_s=25, pong_s=8), spy)
        for want in () if driver.connect_subscribes else wanted:
            driver.subscribe(want)
        return driver, spy

    def test_it_is_found_under_its_name(self) -> None:
        assert driver_named(self.driver.name) is self.driver

    def test_its_path_carries_the_ordinal(self) -> None:
        assert len({self.driver.path(ordinal) for ordinal in (1, 2, 12)}) == 3

    def test_a_connection_is_accepted_with_its_ping_interval(self) -> None:
        _, spy = self.open()
        assert spy.names == ["connected"]
        (welcome,) = spy.calls[0][1]
        assert (welcome.ping_s, welcome.pong_s) == (25, self.pong_s)
        assert 0 < welcome.retry_s[0] <= welcome.retry_s[1]

    def test_a_subscription_asks_for_what_it_was_told(self) -> None:
        wanted = [Want("room:1", ("E1", 41)), Want("room:2", "new"), Want("room:3", "first")]
        driver = self.driver()
        if driver.connect_subscribes:
            asked = self.peer.asked(driver.connect("c1", wanted))
        else:
            driver.connect("c1", [])
            asked = {
                key: at for want in wanted for key, at in self.peer.asked(driver.subscribe(want)).items()
            }
        assert asked == {want.channel: want.start for want in wanted}

    def test_a_subscription_is_answered_and_goes_live(self) -> None:
        driver, spy = self.open([Want("room:1", ("E1", 41))])
        driver.feed(self.peer.subscribed("room:1", epoch="E1", start=41, top=57, floor=3, resumed=True), spy)
        if (live := self.peer.live("room:1", epoch="E1", serial=57)) is not None:
            driver.feed(live, spy)
        (answer,) = spy.calls[1][1]
        assert answer[:6] == ("room:1", self.epoch, 41, 57, 3 if self.tells_floor else 42, True)
        assert answer.hole is None
        assert set(spy.names[2:-1]) <= {"message"}
        assert spy.calls[-1] == ("live", ("room:1", self.epoch, 57), {})

    def test_a_delivery_passes_its_body_untouched(self) -> None:
        driver, spy = self.open()
        driver.feed(self.peer.message("room:1", 58, BODY), spy)
        assert spy.calls[1] == ("message", ("room:1", 58, BODY), {})

    def test_equal_delivery_frames_mean_the_same_on_every_connection(self) -> None:
        if not self.driver.pure_deliveries:
            return
        frame = self.peer.message("room:1", 58, BODY)
        calls = []
        for _ in range(2):
            driver, spy = self.open()
            driver.feed(frame, spy)
            calls.append(spy.calls[1:])
        assert calls[0] == calls[1]
        assert len(calls[0]) == 1

    def test_the_short_way_to_a_delivery_says_what_feed_says(self) -> None:
        if not self.driver.pure_deliveries:
            return
        driver, spy = self.open()
        for serial in (0, 58, 2**53):
            frame = self.peer.message("room:1", serial, BODY)
            driver.feed(frame, spy)
            said = self.driver.delivery(frame)
            assert said is not None
            assert spy.calls[-1] == ("message", (*said[:2], bytes(said[2])), {})
            assert said[3] == 0

    def test_what_is_no_delivery_is_left_to_feed(self) -> None:
        driver, _ = self.open()
        ack = self.peer.ack(
            driver.publish("room:1", "c1:7", BODY, "tag"), epoch="E1", serial=1, duplicate=False
        )
        for frame in (ack, b"", b"{}", b"nonsense", b"[" * 5000, self.peer.message("room:1", 1, BODY)[:-1]):
            assert self.driver.delivery(frame) is None

    def test_answers_that_come_often_begin_as_no_delivery_does(self) -> None:
        driver, _ = self.open()
        published = driver.publish("room:1", "c1:7", BODY, "tag")
        ack = self.peer.ack(published, epoch="E1", serial=1, duplicate=False)
        assert not self.peer.message("room:1", 1, BODY).startswith(self.driver.answers)
        assert ack.startswith(self.driver.answers or b"")

    def test_a_delivery_can_be_read_from_a_view(self) -> None:
        driver, spy = self.open()
        driver.feed(memoryview(self.peer.message("room:1", 58, BODY)), spy)
        assert spy.names == ["connected", "message"]

    def test_a_declared_hole_names_both_ends(self) -> None:
        frame = self.peer.gap("room:1", why=GapReason.TRIMMED, after=("E1", 41), to=("E1", 60))
        if frame is None or not self.offers(Capability.RESUME):
            return
        driver, spy = self.open()
        driver.feed(frame, spy)
        assert spy.calls[1] == ("gap", ("room:1", (GapReason.TRIMMED, ("E1", 41), ("E1", 60))), {})

    def test_a_publish_carries_channel_id_and_body(self) -> None:
        driver, _ = self.open()
        channel, message, body = self.peer.sent(driver.publish("room:1", "c1:7", BODY, object()))
        assert (channel, body) == ("room:1", BODY)
        assert message == "c1:7" or (message is None and not self.offers(Capability.DEDUPE))

    def test_an_ack_brings_its_own_tag_back_in_any_order(self) -> None:
        driver, spy = self.open()
        first = driver.publish("room:1", "c1:7", BODY, "first")
        second = driver.publish("room:1", "c1:8", BODY, "second")
        driver.feed(self.peer.ack(second, epoch="E1", serial=59, duplicate=False), spy)
        driver.feed(self.peer.ack(first, epoch="E1", serial=58, duplicate=True), spy)
        assert [args[0] for _, args, _ in spy.calls[1:]] == ["second", "first"]
        assert [args[4] for _, args, _ in spy.calls[1:]] == [False, self.offers(Capability.DEDUPE)]
        said = [args[2:4] for _, args, _ in spy.calls[1:]]
        placed = [(self.epoch, 59), (self.epoch, 58)]
        assert said == placed if self.offers(Capability.ACK_POSITION) else [("", 0)] * 2
        assert [args[1] for _, args, _ in spy.calls[1:]] == ["c1:8", "c1:7"]

    def test_two_attempts_of_one_message_are_two_requests(self) -> None:
        driver, spy = self.open()
        for tag in ("attempt 1", "attempt 2"):
            frame = driver.publish("room:1", "c1:7", BODY, tag)
            driver.feed(self.peer.ack(frame, epoch="E1", serial=58, duplicate=False), spy)
        assert [args[0] for _, args, _ in spy.calls[1:]] == ["attempt 1", "attempt 2"]

    def test_a_second_answer_to_one_attempt_has_no_tag(self) -> None:
        driver, spy = self.open()
        frame = driver.publish("room:1", "c1:7", BODY, "tag")
        for _ in range(2):
            driver.feed(self.peer.ack(frame, epoch="E1", serial=58, duplicate=False), spy)
        driver.feed(self.peer.refusal(frame, temporary=False, definite=True), spy)
        assert [(name, args[0]) for name, args, _ in spy.calls[1:]] == [
            ("ack", "tag"), ("ack", None), ("nack", None),
        ]  # fmt: skip

    def test_a_refusal_says_whether_it_passes_and_whether_it_is_definite(self) -> None:
        driver, spy = self.open()
        for temporary, definite in ((True, False), (False, True)):
            frame = driver.publish("room:1", "c1:7", BODY, "tag")
            driver.feed(self.peer.refusal(frame, temporary=temporary, definite=definite), spy)
        told = [(args[0], kwargs["temporary"], kwargs["definite"]) for _, args, kwargs in spy.calls[1:]]
        assert told == [("tag", True, False), ("tag", False, True)]

    def test_a_ping_is_told_and_can_be_answered(self) -> None:
        driver, spy = self.open()
        driver.feed(self.peer.ping(), spy)
        assert spy.names[1:] == ["ping"]
        assert driver.pong()

    def test_a_goodbye_is_told(self) -> None:
        driver, spy = self.open()
        if (frame := self.peer.goodbye()) is not None:
            driver.feed(frame, spy)
            assert spy.names[1:] == ["goodbye"]

    @pytest.mark.parametrize("code", [1000, 1001, 1006, 1012])
    def test_it_comes_back_after_an_ordinary_end(self, code: int) -> None:
        assert self.driver.may_return(code)

    @_SHARED
    @given(payload=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode()))
    def test_nothing_that_arrives_makes_it_raise(self, payload: bytes) -> None:
        driver, spy = self.driver(), Spy()
        driver.feed(payload, spy)
        assert len(spy.calls) == 1

    @_SHARED
    @given(data=st.data())
    def test_a_damaged_frame_makes_it_neither_raise_nor_stay_silent(self, data: st.DataObject) -> None:
        driver, spy = self.driver(), Spy()
        frame = bytearray(self.peer.message("room:1", 58, BODY))
        frame[data.draw(st.integers(0, len(frame) - 1))] ^= data.draw(st.integers(1, 255))
        driver.feed(bytes(frame), spy)
        assert len(spy.calls) == 1


class FrameViewConformance:
    """What the frame view of a driver must do, on frames that its peer writes."""

    driver: ClassVar[type[Driver]]
    peer: ClassVar[Peer]

    @property
    def view(self) -> FrameView:
        return load_view(self.driver.frame_view)

    @property
    def frame(self) -> bytes:
        return self.peer.message("room:1", 7, BODY)

    def test_it_reads_type_and_channel_of_a_delivery(self) -> None:
        seen = self.view.read(self.frame)
        assert seen is not None
        assert seen.type in self.view.types
        assert seen.channel == "room:1"

    def test_signs_of_life_are_types(self) -> None:
        assert set(self.view.liveness) <= set(self.view.types)

    def test_it_finds_the_body_and_changes_nothing_else(self) -> None:
        span = self.view.body(self.frame)
        assert span is not None
        assert self.frame[slice(*span)] == BODY
        other = self.view.with_body(self.frame, b'"other"')
        assert other == self.frame.replace(BODY, b'"other"')

    def test_a_moved_message_is_the_same_on_another_channel(self) -> None:
        moved = self.view.moved(self.frame, "room:2")
        assert moved == self.peer.message("room:2", 7, BODY)

    @given(st.binary(max_size=60))
    def test_whatever_comes_is_read_or_not_and_never_raises(self, payload: bytes) -> None:
        view = self.view
        changes = [Change("a.0", "add", 1), Change("b", "remove"), Change("c", "set", True)]
        for result in (view.read(payload), view.body(payload), view.changed(payload, changes)):
            assert result is None or result
        view.moved(payload, "x")
        view.with_body(payload, b"1")

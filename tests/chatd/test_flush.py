"""What waits for each connection, and when it is written."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chatd.flush import MAX_CORK_S, PIECE_BYTES, SLICE, Audience, Flusher, Outlet, Place, cut
from chatd.metrics import Metrics


class Desk:
    """A flusher with a clock that is moved by hand and a schedule that is run by hand."""

    def __init__(self, held_limit: int = 100) -> None:
        self.now = 0.0
        self.calls: list[tuple[float, Callable[[], None]]] = []
        self.overflowed: list[Outlet] = []
        self.flusher = Flusher(
            lambda delay, call: self.calls.append((delay, call)),
            lambda: self.now,
            self.overflowed.append,
            Metrics(),
            held_limit=held_limit,
        )

    def outlet(self) -> tuple[Outlet, list[bytes]]:
        written: list[bytes] = []
        return Outlet(self.flusher, written.append), written

    def tick(self) -> float:
        """Run the one flush that is scheduled; returns how long it was put off."""
        ((delay, call),) = self.calls
        self.calls = []
        call()
        return delay


def test_everything_of_a_tick_goes_out_in_one_write_in_order() -> None:
    desk = Desk()
    outlet, written = desk.outlet()
    for frame in (b"one", b"two", b"three"):
        outlet.send(frame)
    assert written == []
    desk.tick()
    assert written == [b"onetwothree"]
    assert desk.calls == []


def audience(*outlets: Outlet) -> Audience:
    listeners = Audience()
    listeners.live = {outlet: outlet.write for outlet in outlets}
    return listeners


def test_messages_of_a_channel_go_to_all_who_are_live_in_one_write_each() -> None:
    desk = Desk()
    (first, to_first), (second, to_second) = desk.outlet(), desk.outlet()
    room = audience(first, second)
    for serial, frame in enumerate((b"one", b"two")):
        desk.flusher.push(room, frame, Place("room", serial, 1))
    assert to_first == to_second == []
    desk.tick()
    assert to_first == to_second == [b"onetwo"]
    assert to_first[0] is to_second[0]
    assert (desk.flusher.metrics.sent_bytes, desk.flusher.metrics.writes) == (12, 2)


def test_what_was_sent_to_one_connection_goes_before_the_messages_of_a_channel() -> None:
    desk = Desk()
    (publisher, to_publisher), (other, to_other) = desk.outlet(), desk.outlet()
    room = audience(publisher, other)
    desk.flusher.push(room, b"message", Place("room", 0, 1))
    publisher.send(b"ack")
    desk.tick()
    assert (to_publisher, to_other) == ([b"ackmessage"], [b"message"])


def test_a_connection_that_was_flushed_ahead_gets_each_message_once() -> None:
    desk = Desk()
    outlet, written = desk.outlet()
    room = audience(outlet)
    outlet.send(b"page")
    outlet.flush()
    outlet.send(b"live")
    desk.flusher.push(room, b"message", Place("room", 0, 1))
    desk.tick()
    assert written == [b"page", b"livemessage"]


def test_messages_of_several_channels_share_a_write() -> None:
    desk = Desk()
    (both, to_both), (one, to_one) = desk.outlet(), desk.outlet()
    a, b = audience(both), audience(both, one)
    for room, frame in ((a, b"a1"), (b, b"b1"), (a, b"a2")):
        desk.flusher.push(room, frame, Place("?", 0, 1))
    desk.tick()
    assert (to_both, to_one) == ([b"a1a2b1"], [b"b1"])


def test_whoever_leaves_after_a_message_has_it_and_whoever_comes_does_not() -> None:
    desk = Desk()
    (leaver, to_leaver), (comer, to_comer) = desk.outlet(), desk.outlet()
    room = audience(leaver)
    desk.flusher.push(room, b"message", Place("room", 0, 1))
    desk.flusher.spread()
    room.live = {comer: comer.write}
    desk.tick()
    assert (to_leaver, to_comer) == ([b"message"], [])


def test_a_connection_takes_back_what_is_fresh_on_its_channels() -> None:
    desk = Desk()
    (outlet, written), (other, to_other) = desk.outlet(), desk.outlet()
    room = audience(outlet, other)
    desk.flusher.push(room, b"m8", Place("room", 7, 1))
    desk.flusher.push(room, b"m9", Place("room", 8, 1))
    assert outlet.retract() == [Place("room", 7, 2)]
    desk.tick()
    assert (written, to_other) == ([], [b"m8m9"])


def test_a_socket_that_fills_while_its_channel_is_written_harms_no_one_else() -> None:
    desk = Desk()
    room = Audience()
    full, taken = Outlet(desk.flusher, lambda data: room.live.pop(full) and None), []
    room.live = {full: full.write, (last := Outlet(desk.flusher, taken.append)): last.write}
    desk.flusher.push(room, b"message", Place("room", 0, 1))
    desk.tick()
    assert taken == [b"message"]


def test_more_than_a_piece_of_one_channel_goes_out_piece_by_piece() -> None:
    desk = Desk()
    outlet, written = desk.outlet()
    room = audience(outlet)
    frames = [bytes([n]) * (PIECE_BYTES // 2) for n in range(5)]
    for frame in frames:
        desk.flusher.push(room, frame, Place("room", 0, 1))
    desk.tick()
    assert b"".join(written) == b"".join(frames)
    assert [len(data) for data in written] == [PIECE_BYTES, PIECE_BYTES, PIECE_BYTES // 2]


@pytest.mark.parametrize(
    ("sizes", "counts"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([10, PIECE_BYTES - 10, 1], [2, 1], id="full to the byte"),
        pytest.param([10_000, 20_000, 10_000], [1, 1, 1], id="a large one is alone"),
        pytest.param([PIECE_BYTES + 1], [1], id="larger than a piece"),
    ],
)
def test_a_piece_is_no_larger_than_it_may_be_unless_one_frame_is(sizes, counts) -> None:
    assert [count for _, count in cut([bytes(size) for size in sizes])] == counts


def test_one_flush_serves_all_connections() -> None:
    desk = Desk()
    (first, to_first), (second, to_second) = desk.outlet(), desk.outlet()
    first.send(b"a")
    second.send(b"b")
    first.send(b"c")
    desk.tick()
    assert (to_first, to_second) == ([b"ac"], [b"b"])


def test_equal_lists_share_the_joined_bytes() -> None:
    desk = Desk()
    (first, to_first), (second, to_second) = desk.outlet(), desk.outlet()
    frames = [b"x" * 10, b"y" * 10]
    for outlet in (first, second):
        for frame in frames:
            outlet.send(frame)
    desk.tick()
    assert to_first[0] is to_second[0]


@pytest.mark.parametrize(
    ("took_s", "delay_s"),
    [
        pytest.param(0.0, 0.0, id="idle: at the end of the tick"),
        pytest.param(0.002, 0.002, id="busy: as long as the last one took"),
        pytest.param(0.5, MAX_CORK_S, id="never longer than the cork"),
    ],
)
def test_a_flush_waits_for_as_long_as_the_last_one_took(took_s, delay_s) -> None:
    desk = Desk()
    outlet, _ = desk.outlet()
    slow = Outlet(desk.flusher, lambda data: setattr(desk, "now", desk.now + took_s))
    slow.send(b"x")
    desk.tick()
    outlet.send(b"y")
    assert desk.tick() == pytest.approx(delay_s)


def test_after_a_quiet_time_a_flush_is_not_put_off() -> None:
    desk = Desk()
    outlet, _ = desk.outlet()
    slow = Outlet(desk.flusher, lambda data: setattr(desk, "now", desk.now + 1))
    slow.send(b"x")
    desk.tick()
    desk.now += MAX_CORK_S
    outlet.send(b"y")
    assert desk.tick() == 0.0


def test_a_huge_fan_out_is_cut_into_slices_and_nobody_is_forgotten() -> None:
    desk = Desk()
    outlets = [desk.outlet() for _ in range(SLICE + 5)]
    for outlet, _ in outlets:
        outlet.send(b"x")
    desk.tick()
    assert sum(written == [b"x"] for _, written in outlets) == SLICE
    outlets[0][0].send(b"y")
    assert desk.tick() == 0.0
    assert [written for _, written in outlets] == [[b"x", b"y"]] + [[b"x"]] * (SLICE + 4)


def test_a_full_socket_gets_nothing_until_it_drains_and_then_everything_in_order() -> None:
    desk = Desk(held_limit=10 * PIECE_BYTES)
    outlet, written = desk.outlet()
    outlet.block(1.0)
    parts = [bytes([65 + n]) * (PIECE_BYTES // 2) for n in range(5)]
    for part in parts:
        outlet.send(part)
        desk.tick()
    assert written == []
    assert not outlet.free
    assert desk.flusher.metrics.held_bytes == outlet.held_bytes == 5 * (PIECE_BYTES // 2)
    outlet.unblock()
    assert b"".join(written) == b"".join(parts)
    assert all(len(write) <= PIECE_BYTES for write in written)
    assert outlet.free
    assert desk.flusher.metrics.held_bytes == 0


def test_a_socket_that_fills_again_while_it_drains_keeps_the_rest() -> None:
    desk = Desk(held_limit=10 * PIECE_BYTES)
    written: list[bytes] = []

    def write(data: bytes) -> None:
        written.append(data)
        outlet.block(2.0)

    outlet = Outlet(desk.flusher, write)
    outlet.block(1.0)
    for part in (b"a" * PIECE_BYTES, b"b" * PIECE_BYTES):
        outlet.send(part)
        desk.tick()
    outlet.unblock()
    assert [data[:1] for data in written] == [b"a"]
    outlet.unblock()
    assert [data[:1] for data in written] == [b"a", b"b"]


def test_holding_too_much_is_reported_and_closing_gives_the_memory_back() -> None:
    desk = Desk(held_limit=10)
    outlet, written = desk.outlet()
    outlet.block(1.0)
    outlet.send(b"x" * 11)
    desk.tick()
    assert desk.overflowed == [outlet]
    outlet.finish(b"bye")
    assert written == [b"bye"], "what is held would take too long"
    assert desk.flusher.metrics.held_bytes == 0


def test_the_last_frame_follows_what_is_pending_and_nothing_follows_it() -> None:
    desk = Desk()
    outlet, written = desk.outlet()
    outlet.send(b"ack")
    outlet.finish(b"close")
    outlet.send(b"late")
    outlet.finish(b"again")
    desk.tick()
    assert written == [b"ackclose"]

"""The toxics that Toxiproxy lacks, as values: distributions, bursts, doors, beats. No sockets, no sleeps."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.proxy import silence
from chaos.proxy.chain import Chain
from chaos.proxy.draws import Draws
from chaos.proxy.toxics import cut
from chaos.proxy.toxics.base import NEVER, Answer, End, Knock, Leave, Place
from chaos.proxy.toxics.buffer import Buffer
from chaos.proxy.toxics.corrupt import Corrupt
from chaos.proxy.toxics.cut import Cut
from chaos.proxy.toxics.delay import LONGEST, Delay
from chaos.proxy.toxics.door import Door
from chaos.proxy.toxics.flap import Flap
from chaos.proxy.toxics.loss import SEGMENT, Loss
from tests.chaos.proxy.test_chain import toxic

DELAYS = {
    "normal": Delay("normal", p50=100, p99=180),
    "lognormal": Delay("lognormal", p50=100, p99=400),
    "pareto": Delay("pareto", p50=100, p99=2_000),
    "spike": Delay("spike", p50=100, p99=900, one_in=50),
}


@pytest.mark.parametrize("name", ["normal", "lognormal", "pareto"])
def test_a_distribution_goes_through_its_two_points(name):
    delay = DELAYS[name]
    assert delay.delay_ms(0.5) == pytest.approx(delay.p50)
    assert delay.delay_ms(0.99) == pytest.approx(delay.p99)


def test_the_shapes_are_those_of_their_names():
    assert DELAYS["normal"].delay_ms(0.25) == pytest.approx(200 - DELAYS["normal"].delay_ms(0.75))
    assert DELAYS["normal"].delay_ms(1e-9) == 0  # cut off
    log = DELAYS["lognormal"]
    assert log.delay_ms(0.1) * log.delay_ms(0.9) == pytest.approx(100**2)  # symmetric in the logarithm
    pareto = DELAYS["pareto"]
    assert pareto.delay_ms(0.0) == pytest.approx(100 * 0.5 ** (1 / 1.3058), rel=1e-3)  # its least
    assert pareto.delay_ms(0.9999) > 5 * pareto.p99
    assert pareto.delay_ms(1 - 1e-12) <= LONGEST * pareto.p99


def test_one_chunk_in_so_many_is_a_spike():
    drawn = [DELAYS["spike"].delay_ms(u / 1000) for u in range(1000)]
    assert Counter(drawn) == {100: 980, 900: 20}


@given(st.sampled_from(sorted(DELAYS)), st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_a_higher_draw_is_a_longer_delay_and_none_is_negative(name, one, other):
    low, high = sorted((one, other))
    assert 0 <= DELAYS[name].delay_ms(low) <= DELAYS[name].delay_ms(high)


def test_drawn_delays_have_the_quantiles_that_were_asked_for():
    draws, delay = Draws(5, "test"), DELAYS["lognormal"]
    drawn = sorted((t - 7.0) * 1000 for _ in range(4000) for t, _ in delay.flow(b"x", 7.0, draws))
    assert statistics.median(drawn) == pytest.approx(100, rel=0.05)
    assert drawn[3960] == pytest.approx(400, rel=0.15)


def lost(toxic: Loss, segments: int) -> list[bool]:
    draws = Draws(1, "loss")
    return [t > 0 for _ in range(segments) for t, _ in toxic.flow(b"x", 0.0, draws)]


@pytest.mark.parametrize(("share", "burst"), [(0.05, 1.0), (0.1, 4.0), (0.3, 2.0)])
def test_losses_are_as_many_and_come_in_bursts_as_long_as_asked_for(share, burst):
    loss, draws = Loss(lost=share, burst=burst), Draws(1, "steps")
    steps = [loss._loses(draws) for _ in range(60_000)]
    begins = sum(now and not before for before, now in zip([False, *steps], steps, strict=False))
    assert sum(steps) / len(steps) == pytest.approx(share, rel=0.08)
    assert sum(steps) / begins == pytest.approx(max(burst, 1 / (1 - share / (1 - share))), rel=0.08)


def test_a_segment_is_sent_again_after_twice_as_long_each_time():
    loss = Loss(lost=0.5, burst=3.0, rto=100)
    draws = Draws(2, "rto")
    waits = {round(t * 1000) for _ in range(3000) for t, _ in loss.flow(b"x", 0.0, draws)}
    assert {0, 100, 300, 700, 1500} <= waits
    steps = [min(100 * 2**n, 120_000) for n in range(15)]  # no repetition waits for more than two minutes
    assert waits <= {sum(steps[:n]) for n in range(16)}


def test_a_chunk_is_lost_by_segments_and_stays_whole():
    data = bytes(range(256)) * 20
    pieces = list(Loss(lost=0.5).flow(data, 0.0, Draws(3, "x")))
    assert b"".join(piece for _, piece in pieces) == data
    assert [len(piece) for _, piece in pieces] == [SEGMENT] * 3 + [len(data) - 3 * SEGMENT]


def test_without_loss_nothing_waits():
    assert not any(lost(Loss(), 200))


@pytest.mark.parametrize("chunks", [0.0, 0.25, 1.0])
def test_corruption_flips_one_bit_in_a_share_of_the_chunks(chunks):
    corrupt, draws = Corrupt(chunks=chunks), Draws(4, "x")
    flips = [
        sum(byte.bit_count() for byte in got)
        for _ in range(400)
        for _, got in corrupt.flow(bytes(50), 0, draws)
    ]
    assert set(flips) <= {0, 1}
    assert sum(flips) / 400 == pytest.approx(chunks, abs=0.08)


def knock(client: tuple[object, ...], now: float = 10.0, opened: float = 10.0) -> Knock:
    return Knock(client, opened, now, 5.0, Draws(1, "door", *client))


@pytest.mark.parametrize(
    ("first", "forbidden"),
    [
        (b"GET /ws?c=3 HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", True),
        (b"GET /ws?c=3 HTTP/1.1\r\nHost: x\r\nUPGRADE:WebSocket\r\nA: b\r\n\r\n", True),
        (b"GET /sse?c=3 HTTP/1.1\r\nHost: x\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n", False),
        (b"", False),
    ],
)
def test_a_strict_door_turns_away_websockets_and_nobody_else(first, forbidden):
    verdict = Door("forbid").admit(replace(knock(("client", 3, 1)), first=first))
    if forbidden:
        assert isinstance(verdict, Answer)
        assert verdict.data.startswith(b"HTTP/1.1 403 ")
    else:
        assert verdict == knock(("client", 3, 1)).now


def test_a_buffer_holds_streams_with_their_end_and_lets_all_other_answers_through():
    draws = Draws(1, "buffer")
    stream, plain = (
        b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n\r\n" % kind
        for kind in (b"Text/Event-Stream", b"text/plain")
    )
    toxic = Buffer()
    assert list(toxic.flow(b"under way", 1.0, draws)) == [(1.0, b"under way")]
    assert [t for t, _ in toxic.flow(plain + b"text/event-stream", 2.0, draws)] == [2.0]
    assert toxic.end(2.5) == 2.5
    assert list(toxic.flow(stream, 3.0, draws)) == [(NEVER, stream)]
    assert list(toxic.flow(b"data", 4.0, draws)) == [(NEVER, b"data")]
    assert toxic.end(5.0) == NEVER
    assert list(toxic.flow(plain, 6.0, draws)) == [(6.0, plain)]


def test_a_door_says_how_or_when():
    assert Door("rst").admit(knock((1,))) is End.RESET
    assert Door("fin").admit(knock((1,))) is End.CLOSE
    assert Door("hold").admit(knock((1,))) == NEVER
    assert Door("delay", delay=250).admit(knock((1,), now=12.0, opened=11.9)) == pytest.approx(12.15)


def test_a_door_asked_again_about_one_connection_gives_the_same_delay():
    door = Door("delay", delay=200, jitter=200)
    assert door.admit(knock(("client", 3, 1))) == door.admit(knock(("client", 3, 1), now=11.0))
    assert door.admit(knock(("client", 3, 1))) != door.admit(knock(("client", 3, 2)))


def test_attempts_are_counted_for_each_client_and_for_all_that_have_no_ordinal_together():
    door = Door("rst", first=1)
    clients = [("client", 1, 1), ("client", 1, 2), ("client", 2, 1), (77,), (78,)]
    assert [door.admit(knock(client)) is End.RESET for client in clients] == [True, False, True, True, False]


@pytest.mark.parametrize(
    ("at", "due"),
    [
        pytest.param(100.0, 100.0, id="down at its begin"),
        pytest.param(100.1, 100.1, id="down"),
        pytest.param(100.3, 100.5, id="up: at the next beat"),
        pytest.param(107.4, 107.5, id="many beats later"),
    ],
)
def test_a_flap_beats_from_when_it_was_added(at, due):
    flap = Flap(down=200, up=300)
    flap.begin(place(since=100.0))
    t, end = flap.deadline(at)
    assert t == pytest.approx(due)
    assert end is End.RESET
    admitted = flap.admit(Knock((1,), at, at, 100.0, Draws(1)))
    assert (admitted is End.RESET) == (t == at)


def place(*, since: float = 0.0, direction: str = "downstream") -> Place:
    return Place("t", since, 1, direction, lambda: (1,), None, Counter(), lambda **_: None)


def test_half_open_leaves_at_once():
    row = Chain(1, 1, "downstream")
    assert row.change([toxic("half_open", "h", side="server")], 3.0) == []
    assert list(row.run(3.0)) == [Leave("server", "h")]


MESSAGE = b"\x81\x03abc"
FAREWELL = b"\x88\x02\x03\xf4"


def saying_goodbye() -> Chain:
    """A stream on which a close frame is due at 0.1 s, and half of a message has come by then."""
    row = Chain(1, 1, "downstream")
    row.change([toxic("cut", how="ws_close", code=1012, after=100)], 0.0)
    row.feed(MESSAGE, 0.0)
    assert list(row.run(0.0)) == [MESSAGE]
    row.feed(MESSAGE[:3], 0.05)
    assert list(row.run(0.05)) == []
    assert list(row.run(0.11)) == []
    return row


def test_a_close_frame_waits_for_the_end_of_a_message():
    row = saying_goodbye()
    row.feed(MESSAGE[3:], 0.3)
    assert list(row.run(0.5)) == [MESSAGE]
    assert list(row.run(row.due())) == [FAREWELL, End.CLOSE]


def test_but_not_for_ever():
    row = saying_goodbye()
    assert list(row.run(1.0)) == []
    assert list(row.run(1.2)) == [End.CLOSE]


def test_a_stopped_chain_is_told_by_the_toxics_that_are_in_it():
    row, stall = Chain(1, 1, "upstream"), toxic("stall")
    assert not row.stopped
    row.change([stall], 0.0)
    assert row.stopped
    row.change([], 0.0)
    assert not row.stopped


def test_silence_is_refused_where_there_is_no_right_for_it(monkeypatch):
    monkeypatch.setattr(cut, "can_be_silent", lambda: False)
    assert Cut(how="silent").broken_rule() == f"how is 'silent': {silence.RULE}"
    assert "CAP_NET_ADMIN" in silence.RULE
    assert "blackhole" in silence.RULE


def test_the_right_is_found_by_trying(monkeypatch):
    def refused(sock):
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(silence, "go_silent", refused)
    silence.can_be_silent.cache_clear()
    assert not silence.can_be_silent()
    silence.can_be_silent.cache_clear()


def test_draws_of_a_stage_depend_on_whose_connection_it_is_and_not_on_its_number():
    def delays(number: int, whose: tuple[object, ...]) -> list[float]:
        row = Chain(9, number, "downstream", whose=lambda: whose)
        row.change([toxic("delay", "d", distribution="lognormal", p50=50, p99=500)], 0.0)
        dues = []
        for n in range(5):
            row.feed(b"x", 10.0 * n)
            assert list(row.run(10.0 * n)) == []
            dues.append(row.due() - 10.0 * n)
            assert list(row.run(10.0 * n + 9.9)) == [b"x"]
        return dues

    assert delays(1, ("client", 4, 1)) == delays(2, ("client", 4, 1))
    assert delays(1, ("client", 4, 1)) != delays(1, ("client", 5, 1))
    assert delays(1, ("client", 4, 1)) != delays(1, ("client", 4, 2))

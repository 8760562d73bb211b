"""Each toxic as a value: chunks and times in, releases out. No sockets, no sleeps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.engines.base import TOXIPROXY_TOXICS
from chaos.proxy.chain import attributes
from chaos.proxy.draws import Draws
from chaos.proxy.toxics import TOXICS
from chaos.proxy.toxics.bandwidth import Bandwidth
from chaos.proxy.toxics.base import NEVER, End, EndsOnRemoval, HoldsEnd, Toxic
from chaos.proxy.toxics.latency import Latency
from chaos.proxy.toxics.limit_data import LimitData
from chaos.proxy.toxics.noop import Noop
from chaos.proxy.toxics.reset_peer import ResetPeer
from chaos.proxy.toxics.slicer import Slicer
from chaos.proxy.toxics.slow_close import SlowClose
from chaos.proxy.toxics.timeout import Timeout

T = 100.0


def flow(toxic: Toxic, data: bytes, t: float = T) -> list[tuple[float, bytes | End]]:
    return list(toxic.flow(data, t, Draws(0, "test")))


@pytest.mark.parametrize(
    ("toxic", "data", "releases"),
    [
        pytest.param(Noop(), b"abc", [(T, b"abc")], id="noop passes"),
        pytest.param(Latency(latency=250), b"abc", [(T + 0.25, b"abc")], id="latency delays"),
        pytest.param(Bandwidth(rate=1), b"x" * 20, [(T + 0.02, b"x" * 20)], id="bandwidth in bytes per ms"),
        pytest.param(
            Bandwidth(rate=1), b"x" * 50,
            [(T + 0.02, b"x" * 20), (T + 0.04, b"x" * 20), (T + 0.05, b"x" * 10)],
            id="bandwidth cuts a long chunk into 20 ms",
        ),
        pytest.param(Bandwidth(rate=0), b"abc", [(NEVER, b"abc")], id="bandwidth 0 holds everything"),
        pytest.param(SlowClose(delay=50), b"abc", [(T, b"abc")], id="slow_close passes data"),
        pytest.param(Timeout(timeout=50), b"abc", [], id="timeout drops data"),
        pytest.param(ResetPeer(timeout=50), b"abc", [(NEVER, b"abc")], id="reset_peer holds data"),
        pytest.param(
            Slicer(average_size=2, delay=500), b"abcde",
            [(T, b"ab"), (T + 0.0005, b"cd"), (T + 0.001, b"e")],
            id="slicer cuts, delay apart",
        ),
        pytest.param(LimitData(bytes=5), b"abc", [(T, b"abc")], id="limit_data below its limit"),
        pytest.param(LimitData(bytes=3), b"abc", [(T, b"abc"), (T, End.CLOSE)], id="limit_data at its limit"),
        pytest.param(LimitData(bytes=2), b"abc", [(T, b"ab"), (T, End.CLOSE)], id="limit_data over it"),
        pytest.param(LimitData(bytes=0), b"abc", [(T, End.CLOSE)], id="limit_data 0"),
    ],
)  # fmt: skip
def test_flow_of_one_chunk(toxic, data, releases):
    got = flow(toxic, data)
    assert [item for _, item in got] == [item for _, item in releases]
    assert [t for t, _ in got] == pytest.approx([t for t, _ in releases])


def test_bandwidth_waits_for_the_chunk_before_but_saves_nothing_up_when_idle():
    toxic = Bandwidth(rate=1)
    assert flow(toxic, b"x" * 10, T) == [(pytest.approx(T + 0.010), b"x" * 10)]
    assert flow(toxic, b"x" * 10, T + 0.001) == [(pytest.approx(T + 0.020), b"x" * 10)]
    assert flow(toxic, b"x" * 10, T + 5) == [(pytest.approx(T + 5.010), b"x" * 10)]


def test_limit_data_counts_over_chunks():
    toxic = LimitData(bytes=4)
    assert flow(toxic, b"abc") == [(T, b"abc")]
    assert flow(toxic, b"def") == [(T, b"d"), (T, End.CLOSE)]


@given(jitter=st.integers(1, 1000), latency=st.integers(0, 1000), seed=st.integers())
def test_jitter_stays_within_its_bounds(jitter, latency, seed):
    draws = Draws(seed, "test")
    delays = [next(Latency(latency, jitter).flow(b"x", 0.0, draws))[0] * 1000 for _ in range(50)]
    assert all(latency - jitter <= delay <= latency + jitter for delay in delays)


def test_jitter_is_spread_evenly():
    draws = Draws(1, "test")
    delays = sorted(next(Latency(100, 50).flow(b"x", 0.0, draws))[0] * 1000 for _ in range(4000))
    for share, expected in ((0.1, 60), (0.25, 75), (0.5, 100), (0.75, 125), (0.9, 140)):
        assert delays[int(share * 4000)] == pytest.approx(expected, abs=3)


@given(data=st.binary(min_size=1, max_size=3000), average=st.integers(1, 200), share=st.floats(0, 1))
def test_slices_are_within_the_variation_and_add_up(data, average, share):
    variation = int(average * share)
    pieces = [piece for _, piece in flow(Slicer(average_size=average, size_variation=variation), data)]
    assert b"".join(pieces) == data
    assert all(max(1, average - variation) <= len(piece) <= average + variation for piece in pieces[:-1])


def test_the_average_slice_is_average_size():
    pieces = flow(Slicer(average_size=100, size_variation=60), b"x" * 200_000)
    assert 200_000 / len(pieces) == pytest.approx(100, rel=0.03)


@pytest.mark.parametrize(
    ("toxic", "deadline"),
    [
        pytest.param(Timeout(timeout=50), (T + 0.05, End.CLOSE), id="timeout closes"),
        pytest.param(Timeout(timeout=0), None, id="timeout 0 never closes"),
        pytest.param(ResetPeer(timeout=50), (T + 0.05, End.RESET), id="reset_peer resets"),
        pytest.param(ResetPeer(timeout=0), (T, End.RESET), id="reset_peer 0 resets at once"),
    ],
)
def test_deadline_counts_from_the_start(toxic, deadline):
    assert toxic.deadline(T) == deadline


def test_only_these_hold_the_end():
    holding = {name: kind().end(T) for name, kind in TOXICS.items() if isinstance(kind(), HoldsEnd)}
    assert holding == {"slow_close": T, "reset_peer": NEVER, "blackhole": NEVER, "buffer": T}
    assert SlowClose(delay=70).end(T) == pytest.approx(T + 0.07)


def test_only_the_toxic_that_loses_bytes_ends_the_connection_when_it_goes():
    ending = {name: kind().removed() for name, kind in TOXICS.items() if isinstance(kind(), EndsOnRemoval)}
    assert ending == {
        "timeout": End.CLOSE,
        "half_close": End.CLOSE,
        "frame": None,  # only after a close frame of its own
        "blackhole": None,  # only when it has dropped something
        "corrupt": None,  # only when it has damaged something
    }


@pytest.mark.parametrize(
    ("toxic", "rule"),
    [
        pytest.param(Slicer(), "average_size is 0: must be 1 or more bytes", id="no size"),
        pytest.param(
            Slicer(average_size=5, size_variation=6),
            "size_variation is 6: must not be above average_size, which is 5",
            id="variation above average",
        ),
        pytest.param(Slicer(average_size=5, size_variation=5), None, id="variation as large as average"),
    ],
)
def test_slicer_rules(toxic, rule):
    assert toxic.broken_rule() == rule


def test_table_names_every_toxic_of_toxiproxy_with_its_attributes():
    toxiproxys = {*TOXIPROXY_TOXICS, "noop"}
    assert {name: list(attributes(kind())) for name, kind in TOXICS.items() if name in toxiproxys} == {
        "bandwidth": ["rate"],
        "latency": ["latency", "jitter"],
        "limit_data": ["bytes"],
        "noop": [],
        "reset_peer": ["timeout"],
        "slicer": ["average_size", "size_variation", "delay"],
        "slow_close": ["delay"],
        "timeout": ["timeout"],
    }


@given(seed=st.integers(), low=st.integers(-1000, 0), high=st.integers(1, 1000))
def test_draws_are_reproducible_and_bounded(seed, low, high):
    first, second = Draws(seed, "a", 1), Draws(seed, "a", 1)
    drawn = [first.uniform(low, high) for _ in range(20)]
    assert drawn == [second.uniform(low, high) for _ in range(20)]
    assert all(low <= value < high for value in drawn)
    assert drawn != [Draws(seed, "a", 2).uniform(low, high) for _ in range(20)]

"""The row of toxics of one direction: order, drain safety, bounds. No sockets, no sleeps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.proxy.body import new_toxic
from chaos.proxy.chain import CHUNK_COST, ActiveToxic, Chain
from chaos.proxy.toxics.base import NEVER, End


def toxic(kind: str, name: str = "", **attributes: object) -> ActiveToxic:
    return new_toxic({"type": kind, "name": name, "attributes": attributes})


def chain(*toxics: ActiveToxic, now: float = 0.0) -> Chain:
    made = Chain(1, 1, "downstream")
    assert made.change(toxics, now) == []
    return made


def test_two_latencies_add_up_and_a_late_timer_does_not_add_to_them():
    row = chain(toxic("latency", "a", latency=100), toxic("latency", "b", latency=50))
    row.feed(b"x", 0.0)
    assert list(row.run(0.0)) == []
    assert row.due() == pytest.approx(0.1)
    assert list(row.run(0.12)) == []  # the first was let go 20 ms late
    assert row.due() == pytest.approx(0.15)
    assert list(row.run(0.151)) == [b"x"]
    assert row.due() == NEVER


def test_a_chunk_with_less_jitter_does_not_overtake():
    row = chain(toxic("latency", latency=100, jitter=100))
    chunks = [bytes([n]) for n in range(50)]
    for n, chunk in enumerate(chunks):
        row.feed(chunk, n / 1000)
    assert list(row.run(10.0)) == chunks


def test_the_end_follows_the_data_that_is_held():
    row = chain(toxic("latency", latency=100))
    row.feed(b"x", 0.0)
    row.feed(End.EOF, 0.0)
    assert list(row.run(0.05)) == []
    assert list(row.run(0.1)) == [b"x", End.EOF]


def test_slow_close_holds_the_end_only():
    row = chain(toxic("slow_close", delay=100))
    row.feed(b"x", 0.0)
    row.feed(End.EOF, 0.0)
    assert list(row.run(0.0)) == [b"x"]
    assert row.due() == pytest.approx(0.1)
    assert list(row.run(0.1)) == [End.EOF]


def test_timeout_counts_from_its_start_not_from_the_last_chunk():
    row = chain(toxic("timeout", timeout=100))
    for n in range(10):
        row.feed(b"ping", n / 100)
        assert list(row.run(n / 100)) == []
    assert row.due() == pytest.approx(0.1)
    assert list(row.run(0.1)) == [End.CLOSE]


def test_timeout_closes_once_and_removal_closes_too():
    dropping = toxic("timeout", timeout=0)
    row = chain(dropping)
    row.feed(b"lost", 0.0)
    assert list(row.run(0.0)) == []
    assert row.held == 0
    assert row.due() == NEVER
    assert row.change((), 1.0) == [End.CLOSE]


def test_a_removed_latency_gives_up_its_data_in_order_before_newer_data():
    slow = toxic("latency", latency=1000)
    row = chain(slow, toxic("noop"))
    for n in range(3):
        row.feed(bytes([n]), 0.0)
    assert list(row.run(0.0)) == []
    assert row.change((row.stages[1].active,), 0.5) == []
    row.feed(b"\x03", 0.6)
    assert b"".join(row.run(0.6)) == b"\x00\x01\x02\x03"


def test_a_removed_last_stage_gives_its_data_back_with_the_end():
    row = chain(toxic("bandwidth", rate=0))
    row.feed(b"ab", 0.0)
    row.feed(b"cd", 0.0)
    row.feed(End.EOF, 0.0)
    assert list(row.run(0.0)) == []
    assert row.change((), 1.0) == [b"abcd", End.EOF]


def test_changed_attributes_count_for_what_waits_too_from_its_arrival():
    slow = toxic("latency", latency=10_000)
    row = chain(slow)
    row.feed(b"a", 0.0)
    row.feed(b"b", 0.5)
    assert list(row.run(0.5)) == []
    slow.toxic.latency = 800
    row.update(slow)
    assert list(row.run(0.79)) == []
    assert list(row.run(0.81)) == [b"a"]
    assert row.due() == pytest.approx(1.3)


@pytest.mark.parametrize(
    ("kind", "name", "value", "at", "releases"),
    [
        pytest.param("reset_peer", "timeout", 2000, 1.9, [], id="reset_peer still holds"),
        pytest.param("reset_peer", "timeout", 500, 0.6, [End.RESET], id="reset_peer comes earlier"),
        pytest.param("bandwidth", "rate", 1, 0.7, [b"x", End.EOF], id="a stopped line goes on"),
        pytest.param("slow_close", "delay", 300, 0.31, [End.EOF], id="the end counts from its arrival"),
    ],
)
def test_a_change_of_one_attribute_while_something_is_held(kind, name, value, at, releases):
    held = toxic(kind, **{"reset_peer": {"timeout": 1000}, "slow_close": {"delay": 900}}.get(kind, {}))
    row = chain(held)
    row.feed(b"x", 0.0)
    row.feed(End.EOF, 0.0)
    assert list(row.run(0.0)) == ([b"x"] if kind == "slow_close" else [])
    setattr(held.toxic, name, value)
    row.update(held)
    assert list(row.run(at)) == releases


def test_a_change_keeps_the_state_of_stages_that_stay():
    limit = toxic("limit_data", bytes=5)
    row = chain(limit)
    row.feed(b"abc", 0.0)
    assert list(row.run(0.0)) == [b"abc"]
    assert row.change((toxic("noop"), limit), 0.0) == []
    row.feed(b"defg", 0.0)
    assert list(row.run(0.0)) == [b"de", End.CLOSE]


def test_held_counts_bytes_and_chunks_until_the_last_piece_has_left():
    row = chain(toxic("slicer", average_size=1, delay=1_000_000))
    row.feed(b"abc", 0.0)
    assert row.held == 3 + CHUNK_COST
    assert list(row.run(0.0)) == [b"a"]
    assert row.held == 3 + CHUNK_COST
    assert list(row.run(2.0)) == [b"b", b"c"]
    assert row.held == 0


def test_a_slicer_makes_its_pieces_one_at_a_time():
    row = chain(toxic("slicer", average_size=1, delay=1_000_000))
    row.feed(bytes(1 << 20), 0.0)
    assert list(row.run(0.0)) == [b"\x00"]
    assert row.due() == pytest.approx(1.0)


@pytest.mark.parametrize("pair", [("f_upstream", "f_downstream"), ("latency_upstream", "latency_downstream")])
def test_toxicity_is_drawn_once_for_both_directions(pair):
    up, down = (ActiveToxic(name, "noop", "upstream", 0.5, toxic("noop").toxic) for name in pair)
    hits = [up.hits(7, n) for n in range(400)]
    assert hits == [down.hits(7, n) for n in range(400)]
    assert 150 < sum(hits) < 250
    assert hits != [up.hits(8, n) for n in range(400)]


def test_toxicity_zero_hits_nothing_one_hits_all_and_more_hits_a_superset():
    made = toxic("noop")
    hit = {}
    for share in (0.0, 0.3, 0.6, 1.0):
        made.toxicity = share
        hit[share] = {n for n in range(300) if made.hits(1, n)}
    assert hit[0.0] == set()
    assert hit[1.0] == set(range(300))
    assert hit[0.3] < hit[0.6]


LOSSLESS = [
    ("latency", {"latency": 30, "jitter": 20}),
    ("latency", {"latency": 200, "jitter": 0}),
    ("bandwidth", {"rate": 1}),
    ("bandwidth", {"rate": 0}),
    ("slicer", {"average_size": 7, "size_variation": 3, "delay": 900}),
    ("slicer", {"average_size": 1, "size_variation": 0, "delay": 0}),
    ("slow_close", {"delay": 50}),
    ("reset_peer", {"timeout": 10**9}),
    ("limit_data", {"bytes": 10**9}),
    ("blackhole", {"mode": "hold"}),
    ("stall", {}),
    ("loss", {"lost": 0.4, "burst": 3.0, "rto": 40}),
    ("delay", {"distribution": "normal", "p50": 10, "p99": 60}),
    ("delay", {"distribution": "pareto", "p50": 5, "p99": 300}),
    ("cut", {"after": 10**9}),
    ("cut", {"after": 10**9, "how": "ws_close", "code": 1012}),
    ("cut", {"bytes": 10**9}),
    ("cut", {"mid_frame": 1}),
    ("cut", {"messages": 10**9}),
    ("flap", {"down": 10**9, "up": 10**9}),
    ("door", {"how": "hold"}),
    ("full_queue", {}),
    ("noop", {}),
]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("feed"), st.integers(1, 90)),
        st.tuples(st.just("wait"), st.floats(0, 0.3)),
        st.tuples(st.just("add"), st.sampled_from(LOSSLESS)),
        st.tuples(st.just("remove"), st.integers(0, 9)),
        st.tuples(st.just("change"), st.integers(0, 9)),
    ),
    max_size=60,
)


@given(steps)
def test_no_byte_is_lost_repeated_or_reordered_whatever_changes(steps):
    row, wanted, now, fed, got = Chain(3, 1, "upstream"), [], 0.0, 0, []

    def run() -> None:
        got.extend(row.run(now))

    for step, value in steps:
        if step == "feed":
            counting = b"".join(n.to_bytes(4, "big") for n in range(fed, fed + value))
            fed += value
            if row.stages:
                row.feed(counting, now)
            else:
                got.append(counting)
        elif step == "wait":
            now += value
        elif step == "add":
            kind, attributes = value
            wanted.append(toxic(kind, f"t{len(wanted)}-{now}", **attributes))
            wanted[-1].since = now - 10**6 if kind == "flap" else now  # a link that is up
            got.extend(row.change(wanted, now))
        elif step == "remove" and wanted:
            del wanted[value % len(wanted)]
            got.extend(row.change(wanted, now))
        elif step == "change" and wanted:
            row.update(wanted[value % len(wanted)])
        run()
    if row.stages:
        row.feed(End.EOF, now)
        run()
        got.extend(row.change((), now))
        assert got.pop() is End.EOF
    assert b"".join(got) == b"".join(n.to_bytes(4, "big") for n in range(fed))

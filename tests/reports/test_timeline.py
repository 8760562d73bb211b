"""The run second by second, and who was there."""

from __future__ import annotations

import polars as pl

from reports.history import CONN_OK, Flag, Kind
from reports.latency import by_second
from reports.sessions import closes, connects, presence, stays
from reports.timeline import COLUMNS, timeline
from tests.reports.synthetic import T0, Cut, S, Synthetic, fault_lines, in_memory, small


def rows(made: Synthetic) -> pl.DataFrame:
    history = in_memory(made)
    return timeline(history, by_second(history), presence(history, stays(history)))


def at(seconds: float) -> int:
    return T0 + round(seconds * S)


def test_every_second_is_there_and_a_stall_is_a_row_of_zeros() -> None:
    made = Synthetic(bare=True, clients=2, channels=1, warmup_s=1, steady_s=5)
    for second in (0.5, 4.5):
        what = {"client": 1, "channel": 1, "publisher": 1, "pub_seq": 1, "t2": at(second)}
        made.add(Kind.SEND, second, **what)
        made.add(Kind.RECV, second + 0.02, serial=1, epoch=1, **what)
    table = rows(made)
    assert table.columns == list(COLUMNS)
    assert table["second"].to_list() == [0, 1, 2, 3, 4]
    assert table["sent"].to_list() == [1, 0, 0, 0, 1]
    assert table["p99_ms"].is_null().to_list() == [False, True, True, True, False]
    assert table["warmup"].to_list() == [True, False, False, False, False]


def test_totals_equal_the_records() -> None:
    made = small(cuts=[Cut(4, 5, 1)])
    history = in_memory(made)
    table = rows(made)
    load = history.scan().filter(pl.col("publisher") != 0).collect()
    sends = load.filter((pl.col("kind") == Kind.SEND) & (pl.col("flags") & int(Flag.RETRY) == 0))
    received = load.filter((pl.col("kind") == Kind.RECV) & (pl.col("client") != 0))
    assert table["sent"].sum() == table["scheduled"].sum() == sends.height
    assert table["delivered"].sum() + table["replayed"].sum() == received.height
    assert table["latency_count"].sum() == table["delivered"].sum()
    assert table["replayed"].sum() > 0


def test_faults_in_force_are_named() -> None:
    table = rows(small(faults=fault_lines("cut", "down", 3.2, 4.8)))
    assert [s for s, f in zip(table["second"], table["faults"], strict=True) if f] == [3, 4]


def test_nothing_recorded_is_a_table_without_rows() -> None:
    table = rows(Synthetic(bare=True))
    assert table.height == 0
    assert table.columns == list(COLUMNS)


def test_connected_and_live_follow_the_records() -> None:
    made = Synthetic(bare=True, clients=2, channels=1)
    for client in (1, 2):
        made.add(Kind.CONN, 0.1, client=client, serial=CONN_OK)
        made.add(Kind.LIVE, 0.2, client=client, channel=1)
    made.add(Kind.CONN, 1.0, client=1, serial=503)  # a failed attempt connects nobody
    made.add(Kind.CLOSE, 2.1, client=1, serial=1006)
    made.add(Kind.UNSUB, 2.5, client=2, channel=1)
    made.add(Kind.CONN, 0.1, client=0, serial=CONN_OK)  # the run itself is no load
    history = in_memory(made)
    found = presence(history, stays(history))
    assert found.filter(pl.col("what") == "connected")["count"].to_list() == [2, 1]
    assert found.filter(pl.col("what") == "live")["count"].to_list() == [2, 1, 0]
    table = rows(made)
    assert table["connected"].to_list() == [2, 2, 1]
    assert table["live"].to_list() == [2, 2, 0]


def test_a_stay_ends_with_the_first_of_close_leaving_and_a_new_one() -> None:
    made = Synthetic(bare=True, clients=3, channels=2)
    for client in (1, 2, 3):
        made.add(Kind.LIVE, 1.0, client=client, channel=1)
    made.add(Kind.UNSUB, 2.0, client=1, channel=1)
    made.add(Kind.CLOSE, 3.0, client=1)
    made.add(Kind.LIVE, 4.0, client=2, channel=1)
    made.add(Kind.UNSUB, 4.5, client=2, channel=2)  # another channel's
    found = stays(in_memory(made)).sort("client", "live_ns")
    assert found["end_ns"].to_list() == [at(2.0), at(4.0), None, None]


def test_closes_say_whether_they_were_meant() -> None:
    made = Synthetic(bare=True, clients=2, channels=1)
    made.add(Kind.CLOSE, 1, client=1, serial=1006)
    made.add(Kind.CLOSE, 2, client=2, serial=1000, flags=Flag.ON_PURPOSE)
    made.add(Kind.CONN, 3, client=2, serial=65536 + 111)
    history = in_memory(made)
    assert closes(history)["on_purpose"].to_list() == [False, True]
    assert connects(history)["ok"].to_list() == [False]

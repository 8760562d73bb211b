"""Latency classes from records: what counts, from when, and what is left out."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from reports.history import Flag, Kind, Transport
from reports.latency import (
    CLASSES,
    Selection,
    SelectionError,
    by_channel,
    by_second,
    histograms_by_second,
    measure,
    quantiles_by,
    samples,
)
from tests.reports.synthetic import MS, T0, S, Synthetic, fault_lines, in_memory, small


def at(seconds: float) -> int:
    return T0 + round(seconds * S)


def bare() -> Synthetic:
    return Synthetic(bare=True, clients=4, channels=2, warmup_s=2, steady_s=8)


MESSAGE = {"channel": 1, "publisher": 2, "pub_seq": 1, "serial": 1, "epoch": 1}


def took(made: Synthetic, name: str, **selection: str) -> list[float]:
    frame = samples(in_memory(made), name, Selection(**selection)).collect()
    return [round(ns / MS, 3) for ns in frame["took_ns"]]


def test_delivery_counts_from_the_scheduled_time_to_each_live_arrival() -> None:
    made = bare()
    made.add(Kind.SEND, 3.5, t2=at(3.0), client=2, channel=1, publisher=2, pub_seq=1)
    made.add(Kind.RECV, 3.6, t2=at(3.0), client=1, **MESSAGE)
    made.add(Kind.RECV, 3.7, t2=at(3.0), client=3, **MESSAGE)
    assert took(made, "delivery") == [600, 700]


def test_service_counts_from_the_first_send() -> None:
    made = bare()
    made.add(Kind.SEND, 3.5, t2=at(3.0), client=2, channel=1, publisher=2, pub_seq=1)
    made.add(Kind.SEND, 3.55, t2=at(3.0), client=2, channel=1, publisher=2, pub_seq=1, flags=Flag.RETRY)
    made.add(Kind.RECV, 3.6, t2=at(3.0), client=1, **MESSAGE)
    assert took(made, "service") == [100]


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(Flag.BAD_DIGEST, id="damaged"),
        pytest.param(Flag.FOREIGN, id="of another run"),
        pytest.param(Flag.REPLAYED, id="replayed"),
    ],
)
def test_an_arrival_that_is_not_live_or_not_readable_is_no_delivery(flags: int) -> None:
    made = bare()
    made.add(Kind.RECV, 3.6, t2=at(3.0), client=1, flags=flags, **MESSAGE)
    assert took(made, "delivery") == []


def test_replayed_deliveries_are_a_class_of_their_own() -> None:
    made = bare()
    made.add(Kind.RECV, 3.6, t2=at(3.0), client=1, flags=Flag.REPLAYED, **MESSAGE)
    assert took(made, "replayed") == [600]


def test_an_echo_is_a_delivery_and_client_zero_is_no_load() -> None:
    made = bare()
    made.add(Kind.RECV, 3.6, t2=at(3.0), client=2, flags=Flag.OWN_ECHO, **MESSAGE)
    made.add(Kind.RECV, 3.6, t2=at(3.0), client=0, **MESSAGE)
    made.add(Kind.RECV, 3.6, t2=at(3.0), client=1, **(MESSAGE | {"publisher": 0}))
    assert took(made, "delivery") == [600]


def test_warm_up_is_left_out_by_scheduled_time() -> None:
    made = bare()
    made.add(Kind.RECV, 2.5, t2=at(1.999), client=1, **MESSAGE)  # due in the warm-up, received after it
    made.add(Kind.RECV, 2.5, t2=at(2.0), client=3, **MESSAGE)
    assert took(made, "delivery") == [500]
    assert took(made, "delivery", phase="warm-up") == [501]


def test_an_ack_counts_from_the_scheduled_time_unless_it_answers_nothing_open() -> None:
    made = bare()
    made.add(Kind.ACK, 3.2, t2=at(3.0), client=2, **MESSAGE)
    made.add(Kind.ACK, 3.3, t2=at(3.0), client=2, flags=Flag.NOT_OPEN, **MESSAGE)
    made.add(Kind.ACK, 3.4, t2=at(3.0), client=0, **(MESSAGE | {"publisher": 0}))
    assert took(made, "ack") == [200]


def test_connect_counts_successful_upgrades_in_the_warm_up_too() -> None:
    made = bare()
    made.add(Kind.CONN, 0.5, t2=at(0.4), client=1, serial=101)
    made.add(Kind.CONN, 0.5, t2=at(0.4), client=2, serial=503)
    made.add(Kind.CONN, 0.5, t2=at(0.4), client=3, serial=65536 + 111)
    assert took(made, "connect") == [100]


def test_resume_ends_with_the_live_of_the_same_request() -> None:
    made = bare()
    who = {"client": 1, "channel": 1}
    made.add(Kind.SUB, 3.1, t2=at(3.0), flags=Flag.RESUMED, **who)
    made.add(Kind.LIVE, 3.4, t2=at(3.0), **who)
    made.add(Kind.SUB, 4.1, t2=at(4.0), **who)  # a fresh subscription resumes nothing
    made.add(Kind.LIVE, 4.4, t2=at(4.0), **who)
    made.add(Kind.SUB, 5.1, t2=at(5.0), flags=Flag.RESUMED, **who)  # cut off before its replay ended
    assert took(made, "resume") == [400]


@pytest.mark.parametrize(
    ("fault", "left"),
    [
        pytest.param("none", [100.0, 50.0], id="none: in flight in no fault"),
        pytest.param("cut", [1100.0, 600.0], id="an id: in flight in that fault"),
    ],
)
def test_a_selection_by_fault_goes_by_time_in_flight(fault: str, left: list[float]) -> None:
    made = bare()
    made.faults = fault_lines("cut", "down", 4, 6)
    for due, received in ((3.0, 3.1), (3.0, 4.1), (5.9, 6.5), (6.5, 6.55)):
        made.add(Kind.RECV, received, t2=at(due), client=1, **MESSAGE)
    assert took(made, "delivery", fault=fault) == left


def test_a_selection_by_channel_takes_its_name() -> None:
    made = bare()
    made.add(Kind.RECV, 3.6, t2=at(3.0), client=1, **MESSAGE)
    made.add(Kind.RECV, 3.7, t2=at(3.0), client=1, **(MESSAGE | {"channel": 2}))
    assert took(made, "delivery", channel="room:2") == [700]


@pytest.mark.parametrize(
    ("selection", "told"),
    [
        pytest.param({"phase": "peak"}, "phase is 'peak': the run's phases are warm-up, steady", id="phase"),
        pytest.param({"fault": "cut"}, "where.fault is 'cut'", id="fault"),
        pytest.param({"channel": "attic"}, "where.channel is 'attic'", id="channel"),
        pytest.param({"persona": "ghost"}, "where.persona is 'ghost'", id="persona"),
    ],
)
def test_a_selection_of_something_that_the_run_lacks_is_refused(selection: dict[str, str], told: str) -> None:
    with pytest.raises(SelectionError, match=told):
        samples(in_memory(bare()), "delivery", Selection(**selection))


def test_a_persona_selects_what_its_clients_saw() -> None:
    made = bare()
    made.add(Kind.SEND, 3.5, t2=at(3.0), client=2, channel=1, publisher=2, pub_seq=1)
    made.add(Kind.RECV, 3.6, t2=at(3.0), client=1, **MESSAGE)
    made.add(Kind.RECV, 3.7, t2=at(3.0), client=3, **MESSAGE)
    history = in_memory(made)
    history = replace(history, names=replace(history.names, personas={"slow": (3, 4), "others": (1, 2)}))
    for persona, client in (("slow", 3), ("others", 1)):
        found = samples(history, "delivery", Selection(persona=persona)).collect()
        assert found["client"].to_list() == [client]


def test_a_transport_selects_what_came_while_the_client_was_connected_by_it() -> None:
    made = bare()
    conn = {"client": 1, "serial": 101, "pub_seq": 1}
    made.add(Kind.CONN, 3.0, t2=at(2.9), flags=Transport.WEBSOCKET, **conn)
    made.add(Kind.RECV, 3.6, t2=at(3.0), client=1, **MESSAGE)
    made.add(Kind.CONN, 4.0, t2=at(3.8), flags=Transport.WEBSOCKET, **(conn | {"serial": 403}))
    made.add(Kind.CONN, 4.1, t2=at(4.0), flags=Transport.SSE, **conn)
    made.add(Kind.RECV, 4.1, t2=at(3.4), client=1, **(MESSAGE | {"pub_seq": 2, "serial": 2}))
    made.add(Kind.CONN, 3.0, t2=at(2.0), flags=Transport.POLL, **(conn | {"client": 2}))
    made.add(Kind.RECV, 4.2, t2=at(3.4), client=2, **(MESSAGE | {"pub_seq": 2, "serial": 2}))
    assert took(made, "delivery", transport="websocket") == [600]
    assert took(made, "delivery", transport="sse") == [700]
    assert took(made, "delivery", transport="poll") == [800]
    assert took(made, "connect", transport="sse") == [100]


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_is_empty_for_an_empty_run(name: str) -> None:
    assert measure(in_memory(bare()), name).count == 0


def test_grouped_quantiles_equal_those_of_one_histogram_each() -> None:
    history = in_memory(small())
    by_room = by_channel(history)
    assert by_room["count"].sum() == measure(history, "delivery").count
    for row in by_room.to_dicts():
        name = history.names.channel(row["channel"])
        alone = measure(history, "delivery", Selection(channel=name)).summary()
        assert [row["count"], row["p50_ms"], row["p99_ms"], row["max_ms"]] == [
            alone["count"],
            alone["p50"],
            alone["p99"],
            alone["max"],
        ]


def test_seconds_add_up_to_the_whole_run_in_stretches_of_any_length() -> None:
    history = in_memory(small())
    counted = by_second(history)
    for each in (1, 3, 60):
        parts = list(histograms_by_second(counted, each))
        assert [start % each for start, _ in parts] == [0] * len(parts)
        assert sum(part.count for _, part in parts) == counted["n"].sum()


def test_grouped_quantiles_of_nothing_are_an_empty_table() -> None:
    empty = pl.DataFrame(schema={"second": pl.Int64, "bucket": pl.Int64, "n": pl.UInt32})
    assert quantiles_by(empty, "second").height == 0

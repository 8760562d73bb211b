"""Live figures, folded from the log; and what Locust is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadgen.figures import Figures
from loadgen.meters import Histogram
from loadgen.recorder import Recorder
from reports.history import CONN_ERRNO, Flag, Kind

MS = 1_000_000


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path, 1, 0, segment_bytes=1 << 14)


def test_every_record_is_counted_once(recorder: Recorder) -> None:
    figures = Figures(recorder)
    for round_ in range(3):
        recorder.write(Kind.SEND, t=5, t2=1)
        recorder.write(Kind.SEND, t=6, t2=1, flags=Flag.RETRY)
        recorder.write(Kind.ACK, t=3 * MS, t2=MS)
        recorder.write(Kind.ACK, t=9, flags=Flag.NOT_OPEN)
        recorder.write(Kind.RECV, t=4 * MS, t2=MS)
        recorder.write(Kind.RECV, t=4 * MS, flags=Flag.FOREIGN)
        recorder.write(Kind.CONN, t=1, serial=101)
        recorder.write(Kind.CONN, t=1, serial=CONN_ERRNO + 111)
        figures.fold([2 * MS])
        figures.fold([])
        n = round_ + 1
        assert figures.totals == {"sent": n, "retries": n, "acked": n, "received": 2 * n, "connects": n}
    recorder.close()
    assert figures.lag.count == 3
    assert figures.lag.quantile_ms(0.99) == 2.0


def test_what_is_taken_is_taken_once(recorder: Recorder) -> None:
    figures = Figures(recorder)
    recorder.write(Kind.RECV, t=4 * MS, t2=MS)
    recorder.write(Kind.RECV, t=9 * MS, t2=MS, flags=Flag.BAD_DIGEST)
    figures.fold([1000])
    delivery, lag = figures.take_recent()
    assert (sum(count for _, count in delivery), sum(count for _, count in lag)) == (1, 1)
    assert figures.take_recent() == ([], [])
    recorder.close()


def test_locust_gets_one_row_for_an_interval_and_errors_by_kind(recorder: Recorder) -> None:
    figures = Figures(recorder)
    for took_ms in (1.04, 1.04, 250.4):
        recorder.write(Kind.RECV, t=int(took_ms * MS), t2=0)
    recorder.write(Kind.CONN, t=1, serial=503)
    recorder.write(Kind.NACK, t=1, t2=429)
    recorder.write(Kind.NACK, t=1, t2=0)
    figures.fold([])
    report = figures.take_locust()
    row = report["stats"][0]
    assert (row["name"], row["num_requests"]) == ("delivery", 3)
    assert row["response_times"] == {1.0: 2, 250.0: 1}
    assert [each["name"] for each in report["stats"][1:]] == ["connect", "publish"]
    assert report["stats_total"]["num_requests"] == 6
    told = {(error["name"], error["error"]): error["occurrences"] for error in report["errors"].values()}
    assert told == {("connect", "HTTP 503"): 1, ("publish", "error 429"): 1, ("publish", "not written"): 1}
    empty = figures.take_locust()
    assert (empty["stats"], empty["errors"], empty["stats_total"]["num_requests"]) == ([], {}, 0)
    recorder.close()


def test_what_is_caught_up_on_is_no_live_delivery(recorder: Recorder) -> None:
    figures = Figures(recorder)
    recorder.write(Kind.RECV, t=4 * MS, t2=MS)
    recorder.write(Kind.RECV, t=30_000 * MS, t2=MS, flags=Flag.REPLAYED)
    figures.fold([])
    delivery, _ = figures.take_recent()
    told = Histogram()
    told.merge(delivery)
    assert (told.count, told.quantile_ms(1.0)) == (1, pytest.approx(3, rel=0.002))
    report = figures.take_locust()
    rows = {row["name"]: row["max_response_time"] for row in report["stats"]}
    assert rows == {"delivery": 3.0, "replayed": 29_999.0}
    assert report["stats_total"]["max_response_time"] == 3.0
    assert figures.totals["received"] == 2
    recorder.close()


def test_failures_are_rows_of_their_own_so_that_locust_counts_them(recorder: Recorder) -> None:
    figures = Figures(recorder)
    recorder.write(Kind.ACK, t=3 * MS, t2=MS)
    recorder.write(Kind.CONN, t=5 * MS, t2=MS, serial=CONN_ERRNO + 111)
    recorder.write(Kind.CONN, t=5 * MS, t2=MS, serial=101)
    recorder.write(Kind.NACK, t=1, t2=429)
    figures.fold([])
    report = figures.take_locust()
    told = ("num_requests", "num_failures", "num_none_requests", "min_response_time")
    assert {row["name"]: tuple(row[key] for key in told) for row in report["stats"]} == {
        "ack": (1, 0, 0, 2.0), "connect": (1, 1, 0, 4.0), "publish": (1, 1, 1, None),
    }  # fmt: skip
    assert tuple(report["stats_total"][key] for key in told) == (3, 2, 1, 2.0)
    assert sum(report["stats_total"]["num_fail_per_sec"].values()) == 2
    assert {error["error"] for error in report["errors"].values()} == {
        "Connection refused (errno 111)", "error 429",
    }  # fmt: skip
    recorder.close()


def test_deliveries_across_hosts_are_timed_by_both_clocks(recorder: Recorder) -> None:
    figures = Figures(recorder)
    figures.clocks_apart(1, [10_000 * MS, 4_000 * MS, 0])  # the master's clock is so much ahead
    recorder.write(Kind.RECV, t=9 * MS, t2=8 * MS, publisher=1)  # of worker 1 itself: 1 ms
    recorder.write(Kind.RECV, t=9 * MS, t2=6_007 * MS, publisher=2)  # 10,009 - 10,007
    recorder.write(Kind.RECV, t=9 * MS, t2=10_006 * MS, publisher=3)  # 10,009 - 10,006
    recorder.write(Kind.RECV, t=9 * MS, t2=10_005 * MS, publisher=0)  # of the run itself: 10,009 - 10,005
    figures.fold([])
    delivery, _ = figures.take_recent()
    recorder.close()
    told = Histogram()
    told.merge(delivery)
    assert [told.quantile_ms(q) for q in (0.25, 0.5, 0.75, 1.0)] == pytest.approx([1, 2, 3, 4], rel=0.002)

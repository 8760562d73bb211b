"""Who may use the page, and what its rows are made of."""

from __future__ import annotations

import socket

import numpy as np
import pytest
from flask import Flask

from loadgen.meters import Histogram
from loadgen.page import (
    COLUMNS,
    HEALTH,
    LATENCY,
    Guard,
    PageError,
    Tables,
    add_tabs,
    shown,
    try_address,
    wait_for_start,
)

LOGIN = ("ann", "correct horse battery")


def status(host: str, name: str, **headers: str) -> int:
    """What a page that listens on ``host`` answers to a request for ``name``, with the login."""
    app = Flask(__name__)
    app.before_request(Guard(host=host, login=LOGIN, target="ws://127.0.0.1:1"))
    app.add_url_rule("/stats", "stats", lambda: "there")
    given = {"Host": name, **{key.replace("_", "-"): value for key, value in headers.items()}}
    return app.test_client().get("/stats", headers=given, auth=LOGIN).status_code


@pytest.mark.parametrize(
    ("host", "name", "expected"),
    [
        pytest.param("127.0.0.1", "127.0.0.1:80", 200, id="loopback"),
        pytest.param("127.0.0.1", "localhost", 200, id="localhost"),
        pytest.param("127.0.0.1", "[::1]:80", 200, id="loopback-v6"),
        pytest.param("127.0.0.1", "10.0.0.5", 403, id="loopback-by-another-address"),
        pytest.param("127.0.0.1", "rebound.example.org", 403, id="a-rebound-name"),
        pytest.param("0.0.0.0", "10.0.0.5:80", 200, id="every-address"),
        pytest.param("0.0.0.0", "rebound.example.org", 403, id="every-address-by-a-name"),
        pytest.param("load.example.org", "load.example.org", 200, id="its-own-name"),
        pytest.param("load.example.org", "else.example.org", 403, id="another-name"),
        pytest.param("127.0.0.1", "127.0.0.1.example.org", 403, id="a-name-that-begins-like-loopback"),
        pytest.param("127.0.0.1", "127.0.0.1@example.org", 403, id="loopback-as-a-user"),
        pytest.param("127.0.0.1", "[::1", 403, id="half-an-address"),
    ],
)
def test_only_its_own_hosts_are_answered(host: str, name: str, expected: int) -> None:
    assert status(host, name) == expected


@pytest.mark.parametrize(
    ("header", "value", "expected"),
    [
        pytest.param("Origin", "http://127.0.0.1:8089", 200, id="itself"),
        pytest.param("Origin", "http://127.0.0.1:8090", 403, id="another-port"),
        pytest.param("Origin", "null", 403, id="a-hidden-origin"),
        pytest.param("Sec_Fetch_Site", "same-origin", 200, id="fetched-by-itself"),
        pytest.param("Sec_Fetch_Site", "same-site", 403, id="fetched-by-a-neighbour"),
    ],
)
def test_other_sites_may_ask_for_nothing(header: str, value: str, expected: int) -> None:
    assert status("127.0.0.1", "127.0.0.1:8089", **{header: value}) == expected


def report(index: int, *delivery_ms: float) -> dict[str, object]:
    took, none = Histogram(), Histogram()
    took.add((np.array(delivery_ms) * 1e6).astype(np.int64))
    return {
        "index": index, "delivery": took.sparse(), "lag": none.sparse(), "hiccup": none.sparse(),
        "rss_bytes": 2**20, "lost": index,
    }  # fmt: skip


def test_an_address_that_cannot_be_listened_on_is_named_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PageError, match=rf"--ui-port is {port}: .*in use; leave --ui-port out for any"):
            try_address("127.0.0.1", port)
    try_address("127.0.0.1", port)
    with pytest.raises(
        PageError, match=r"--ui-host is 'nosuch\.invalid': must be an address of this machine"
    ):
        try_address("nosuch.invalid", 0)
    with pytest.raises(PageError, match=r"--ui-host is '192\.0\.2\.1': cannot listen on 192"):
        try_address("192.0.2.1", 0)


def page(tables: Tables, *, before: str | None = None) -> Flask:
    """What is ours of the page, around a table of Locust's with figures as it gives them."""
    app, arguments = Flask(__name__), {}  # type: ignore[var-annotated]
    guard = Guard(host="127.0.0.1", login=None, target="ws://127.0.0.1:1")
    app.before_request(guard)
    app.after_request(guard.framed_by_nobody)
    wait_for_start(app, lambda: before)
    add_tabs(app, arguments, tables, "a-run", lambda: {"state": "stopped"})
    old = {"state": "running", "stats": [{"num_requests": 12345, "avg_response_time": 28.1349}]}
    app.add_url_rule("/stats/requests", "requests", lambda: old)
    app.add_url_rule("/swarm", "swarm", lambda: {"success": True}, methods=["POST"])
    app.add_url_rule("/user", "user", lambda: {}, methods=["POST"])
    app.add_url_rule("/", "index", lambda: arguments)
    return app


def test_a_row_has_the_deliveries_of_its_second_by_all_workers() -> None:
    tables = Tables()
    tables.begin(10.0)
    tables.add(report(1, 1.0, 1.0), 10.2, 0.5)
    tables.add(report(2, 9.0), 10.9, 0.25)
    tables.add(report(1, 50.0), 11.1, 0.5)
    tables.add(report(1), 13.0, 0.5)
    whole, *seconds = tables.latency()
    assert [(row["second"], row["deliveries"], row["p50_ms"], row["max_ms"]) for row in seconds] == [
        (1, 1, 50.015, 50.015), (0, 3, 1.0, 9.007),
    ]  # fmt: skip
    assert (whole["second"], whole["deliveries"]) == ("all", 4)
    told = ("worker", "cpu_cores", "memory_mib", "records_lost")
    assert [tuple(row[key] for key in told) for row in tables.health()] == [
        (1, 0.5, 1.0, 1), (2, 0.25, 1.0, 2), ("all", 0.75, 2.0, 3),
    ]  # fmt: skip


def test_what_was_before_the_start_is_no_load() -> None:
    tables = Tables()
    tables.add(report(1, 7.0), 9.0, 0.1)
    tables.begin(10.0)
    tables.add(report(1, 7.0), 9.9, 0.1)
    assert [row["deliveries"] for row in tables.latency()] == [0]
    tables.add(report(1), 12.5, 0.1)
    assert [row["second"] for row in tables.latency()] == ["all", 0]


def test_cleared_tables_go_on_with_the_seconds_of_the_load() -> None:
    tables = Tables()
    tables.begin(10.0)
    tables.add(report(1, 7.0), 10.5, 0.1)
    tables.add(report(1, 7.0), 11.5, 0.1)
    tables.clear()
    (whole,) = tables.latency()
    assert (whole["deliveries"], whole["p99_ms"]) == (0, None)
    assert tables.health()[0]["records_lost"] == 1
    tables.add(report(1, 2.0), 11.9, 0.1)
    tables.add(report(1, 3.0), 12.1, 0.1)
    assert [(row["second"], row["deliveries"]) for row in tables.latency()] == [("all", 2), (1, 1)]


def test_every_column_of_a_time_says_milliseconds_and_every_row_has_every_column() -> None:
    tables = Tables()
    tables.begin(0.0)
    tables.add(report(1, 7.0), 0.5, 0.1)
    for tab in (LATENCY, HEALTH):
        assert all(list(row) == list(COLUMNS[tab]) for row in tables.rows(tab))
        for key, title in COLUMNS[tab].items():
            assert title.endswith("(ms)") == key.endswith("_ms"), key


def test_figures_have_three_digits_that_matter_and_counts_stay_whole() -> None:
    told = {
        "a": [1.23456789, 26361.855, 0.00123456, 100.0],
        "n": 123_456,
        "ok": True,
        "none": None,
        "s": "1.2345",
    }
    assert shown(told) == {
        "a": [1.23, 26400.0, 0.00123, 100.0], "n": 123_456, "ok": True, "none": None, "s": "1.2345",
    }  # fmt: skip


def test_the_page_is_told_rounded_figures_and_a_dash_where_there_is_none() -> None:
    tables = Tables()
    tables.begin(10.0)
    tables.add(report(1, 1.23456), 10.5, 0.1)
    tables.add(report(1), 12.5, 0.1)
    tables.add(report(1), 13.5, 0.1)
    found = page(tables).test_client().get("/stats/requests").get_json()
    assert found["stats"] == [{"num_requests": 12345, "avg_response_time": 28.1}]
    assert found["state"] == "stopped"  # Locust keeps its answer for 2 s
    rows = {tab["key"]: tab["data"] for tab in found["extended_stats"]}
    assert [(row["second"], row["p99_ms"]) for row in rows[LATENCY]] == [("all", 1.23), (2, "–"), (0, 1.23)]
    assert rows[HEALTH][0]["lag_p99_ms"] == "–"


def test_the_files_have_the_run_in_their_names_and_an_empty_field_where_there_is_no_figure() -> None:
    answer = page(Tables()).test_client().get("/delivery.csv")
    assert answer.headers["Content-Disposition"] == "attachment; filename=a-run_delivery_latency.csv"
    assert answer.get_data(as_text=True).splitlines() == [
        "second,deliveries,p50_ms,p90_ms,p99_ms,p99_9_ms,max_ms", "all,0,,,,,",
    ]  # fmt: skip


def test_before_the_start_the_page_says_what_is_waited_for_and_takes_no_order() -> None:
    client = page(Tables(), before="1 of 2 workers are ready").test_client()
    told = client.get("/").get_data(as_text=True)
    assert "1 of 2 workers are ready. It starts by itself" in told
    assert 'http-equiv="refresh"' in told
    assert client.post("/swarm").get_json() == {
        "success": False, "message": "1 of 2 workers are ready: the load starts by itself",
    }  # fmt: skip
    assert page(Tables()).test_client().get("/").get_json()["extended_tabs"]


def test_a_target_that_is_not_the_plans_is_refused_in_the_words_of_locusts_form() -> None:
    client = page(Tables()).test_client()
    refused = client.post("/swarm", data={"user_count": "1", "host": "ws://192.0.2.1:80"}).get_json()
    assert refused == {
        "success": False, "message": "the target is the plan's: ws://127.0.0.1:1; no other is loaded",
    }  # fmt: skip
    assert client.post("/swarm", data={"user_count": "1", "host": "ws://127.0.0.1:1"}).get_json()["success"]
    assert client.post("/swarm", data={"user_count": "1"}).get_json()["success"]
    assert client.post("/swarm", data={"user_count": "1", "host": ""}).get_json() == refused
    assert client.post("/user", json={"host": "ws://192.0.2.1:80"}).status_code == 403


def test_nobody_may_show_the_page_in_a_frame() -> None:
    answer = page(Tables()).test_client().get("/", headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 200  # a link to it
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'none'"

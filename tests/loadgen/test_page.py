"""Who may use the page, and what its rows are made of."""

from __future__ import annotations

import numpy as np
import pytest
from flask import Flask

from loadgen.meters import Histogram
from loadgen.page import Guard, Tables

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


def test_a_row_has_the_deliveries_of_its_second_by_all_workers() -> None:
    tables = Tables()
    tables.add(report(1, 1.0, 1.0), 10.2, 0.5)
    tables.add(report(2, 9.0), 10.9, 0.25)
    tables.add(report(1, 50.0), 11.1, 0.5)
    tables.add(report(1), 13.0, 0.5)
    whole, *seconds = tables.latency()
    assert [(row["second"], row["deliveries"], row["p50"], row["max"]) for row in seconds] == [
        (1, 1, 50.015, 50.015), (0, 3, 1.0, 9.007),
    ]  # fmt: skip
    assert (whole["second"], whole["deliveries"]) == ("all", 4)
    assert [(row["worker"], row["cpu"], row["memory"], row["lost"]) for row in tables.health()] == [
        (1, 0.5, 1.0, 1), (2, 0.25, 1.0, 2), ("all", 0.75, 2.0, 3),
    ]  # fmt: skip

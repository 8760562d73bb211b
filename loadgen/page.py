"""What is ours on Locust's page: two tabs, their CSV files, and who may use it.

"Delivery latency" has a row for each of the last seconds, "Generator" one for each worker and one for all:
how late it was, how long its loop stood still, its CPU, and what its log could not keep. All quantiles are of
HDR histograms.

Locust's page lets anybody who reaches it steer the load, and takes requests from any site that a browser has
open. ``Guard`` says who may.
"""

from __future__ import annotations

import csv
import hmac
import io
import ipaddress
import json
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from flask import Flask, Response, abort, request

from .meters import Histogram
from .workload import is_loopback

ROWS: Final = 300  # seconds that are shown
SHORTEST_PASSWORD: Final = 12
LATENCY: Final = "delivery"
HEALTH: Final = "generator"
_QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}
COLUMNS: Final[Mapping[str, Mapping[str, str]]] = {
    LATENCY: {
        "second": "Second of the load", "deliveries": "Deliveries", "p50": "p50 ms", "p90": "p90 ms",
        "p99": "p99 ms", "p999": "p99.9 ms", "max": "max ms",
    },
    HEALTH: {
        "worker": "Worker", "lag50": "lag p50 ms", "lag99": "lag p99 ms", "lagmax": "lag max ms",
        "hiccup99": "hiccup p99 ms", "hiccupmax": "hiccup max ms", "cpu": "CPU (1 = a core)",
        "memory": "Memory MiB", "lost": "Records lost",
    },
}  # fmt: skip
_TITLES: Final = {LATENCY: "Delivery latency", HEALTH: "Generator"}


class LoginError(Exception):
    """The page may not be served like this; the text says why and what to do."""


class Tables:
    """The rows of both tabs, from the workers' reports."""

    def __init__(self) -> None:
        self._second: int | None = None
        self._first: int | None = None
        self._now = Histogram()  # of the second that is going on
        self._all = Histogram()
        self._past: deque[dict[str, float | str]] = deque(maxlen=ROWS)
        self._lag: dict[int, Histogram] = {}
        self._hiccup: dict[int, Histogram] = {}
        self._last: dict[int, Mapping[str, Any]] = {}

    def add(self, report: Mapping[str, Any], now_s: float, cpu: float) -> None:
        """Take in a report of a worker; ``cpu`` is its share of one core since the one before."""
        self._turn_to(int(now_s))
        self._now.merge(report["delivery"])
        self._all.merge(report["delivery"])
        index = report["index"]
        self._lag.setdefault(index, Histogram()).merge(report["lag"])
        self._hiccup.setdefault(index, Histogram()).merge(report["hiccup"])
        self._last[index] = {**report, "cpu": cpu}

    def _turn_to(self, second: int) -> None:
        if self._first is None:
            self._first = second
        if self._second is not None and second > self._second:
            self._past.appendleft(_latency_row(self._second - self._first, self._now))
            self._now.clear()
        self._second = second

    def latency(self) -> list[dict[str, float | str]]:
        """The whole load, then its seconds, the newest first; the one that is going on is left out."""
        return [_latency_row("all", self._all), *self._past]

    def health(self) -> list[dict[str, float | str]]:
        """A row for each worker, then one for all of them."""
        rows = [
            _health_row(index, self._lag[index], self._hiccup[index], [last])
            for index, last in sorted(self._last.items())
        ]
        lag, hiccup = _merged(self._lag), _merged(self._hiccup)
        return [*rows, _health_row("all", lag, hiccup, list(self._last.values()))]

    def rows(self, tab: str) -> list[dict[str, float | str]]:
        return self.latency() if tab == LATENCY else self.health()


def _merged(parts: Mapping[int, Histogram]) -> Histogram:
    whole = Histogram()
    for part in parts.values():
        whole.merge(part.sparse())
    return whole


def _latency_row(second: int | str, found: Histogram) -> dict[str, float | str]:
    quantiles = {name: round(found.quantile_ms(q), 3) for name, q in _QUANTILES.items()}
    return {"second": second, "deliveries": found.count, **quantiles}


def _health_row(
    worker: int | str, lag: Histogram, hiccup: Histogram, last: list[Mapping[str, Any]]
) -> dict[str, float | str]:
    return {
        "worker": worker,
        "lag50": round(lag.quantile_ms(0.5), 3),
        "lag99": round(lag.quantile_ms(0.99), 3),
        "lagmax": round(lag.quantile_ms(1.0), 3),
        "hiccup99": round(hiccup.quantile_ms(0.99), 3),
        "hiccupmax": round(hiccup.quantile_ms(1.0), 3),
        "cpu": round(sum(report["cpu"] for report in last), 2),
        "memory": round(sum(report["rss_bytes"] for report in last) / 2**20, 1),
        "lost": sum(report["lost"] for report in last),
    }


def read_login(path: Path | None, host: str) -> tuple[str, str] | None:
    """User and password of a file of one line, "user:password".

    Raises:
        LoginError: it cannot be used, or there is none and the page is to be reached from other machines.
    """
    if path is None:
        if is_loopback(host):
            return None
        raise LoginError(
            f"--ui-host is {host!r}: whoever reaches the page steers the load, so off loopback it needs a "
            "login: write user:password into a file and name it with --ui-login-file"
        )
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise LoginError(f"--ui-login-file is {str(path)!r}: cannot be read: {error}") from None
    user, colon, password = text.partition(":")
    if not (user and colon) or len(password) < SHORTEST_PASSWORD or "\n" in text:
        raise LoginError(
            f"--ui-login-file is {str(path)!r}: must hold one line, user:password, with a password of at "
            f"least {SHORTEST_PASSWORD} characters"
        )
    return user, password


class Guard:
    """Who may use the page.

    A name that was made to point here (DNS rebinding) shows in Host, another site's script or form in Origin,
    and its picture or link (Locust stops a test on GET) in Sec-Fetch-Site. Targets are the plan's: a form
    with another host is refused, and workers would not dial it anyway.

    Args:
        host: what the page listens on.
        login: user and password; None: none is asked for.
        target: the host that Locust's form shows.
    """

    def __init__(self, *, host: str, login: tuple[str, str] | None, target: str) -> None:
        self._host, self._login, self._target = host, login, target

    def __call__(self) -> Response | None:
        """For ``before_request``: None lets the request through."""
        name = urlsplit(f"//{request.host}").hostname or ""
        origin = request.headers.get("Origin")
        foreign = origin is not None and urlsplit(origin).netloc != request.host
        beside = request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
        if foreign or not self._known(name) or (beside and request.path != "/"):
            abort(403, "only this page itself may use this address")
        if self._login is not None and not self._logged_in(self._login):
            return Response("a login is needed\n", 401, {"WWW-Authenticate": 'Basic realm="chatproof"'})
        if request.path == "/swarm" and request.form.get("host", self._target) not in ("", self._target):
            abort(400, f"the target is the plan's: {self._target}")
        return None

    def _known(self, name: str) -> bool:
        """Whether a Host is one that this page has: no name but its own can be pointed at it by others."""
        if is_loopback(name) or name == self._host:
            return True
        return not is_loopback(self._host) and _is_address(name)

    def _logged_in(self, login: tuple[str, str]) -> bool:
        given = request.authorization
        if given is None or given.type != "basic":
            return False
        said = f"{given.username}:{given.password}".encode()
        return hmac.compare_digest(said, ":".join(login).encode())


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def add_tabs(app: Flask, template_args: dict[str, Any], tables: Tables) -> None:
    """Put the tabs on Locust's page; it asks for their rows with those of its own tables."""
    template_args.update(
        extended_tabs=[{"title": _TITLES[tab], "key": tab} for tab in COLUMNS],
        extended_tables=[
            {"key": tab, "structure": [{"key": key, "title": title} for key, title in columns.items()]}
            for tab, columns in COLUMNS.items()
        ],
        extended_csv_files=[{"href": f"./{tab}.csv", "title": f"Download {_TITLES[tab]}"} for tab in COLUMNS],
    )

    def extend(response: Response) -> Response:
        if request.path == "/stats/requests" and response.is_json:
            rows = [{"key": tab, "data": tables.rows(tab)} for tab in COLUMNS]
            response.set_data(json.dumps({**response.get_json(), "extended_stats": rows}))
        return response

    app.after_request(extend)
    for tab in COLUMNS:
        app.add_url_rule(f"/{tab}.csv", f"chat-{tab}", _csv_of(tables, tab))


def _csv_of(tables: Tables, tab: str) -> Callable[[], Response]:
    def answer() -> Response:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(COLUMNS[tab]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(tables.rows(tab))
        return Response(text.getvalue(), mimetype="text/csv")

    return answer

"""What is ours on Locust's page: two tabs, their CSV files, a word before the start, and who may use it.

"Delivery latency" has a row for each of the last seconds, "Generator health" one for each worker and one for
all: how late it was, how long its loop stood still, its CPU, and what its log could not keep. All quantiles
are of HDR histograms. Both begin anew with Locust's own table: when the page resets it, and with a new test.

Locust's page lets anybody who reaches it steer the load, and takes requests from any site that a browser has
open. ``Guard`` says who may.
"""

from __future__ import annotations

import csv
import errno
import hmac
import io
import ipaddress
import json
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from flask import Flask, Response, abort, request

from .meters import Histogram
from .workload import is_loopback

ROWS: Final = 300  # seconds that are shown
DIGITS: Final = 3  # that matter
SHORTEST_PASSWORD: Final = 12
LATENCY: Final = "delivery"
HEALTH: Final = "generator"
NONE: Final = "–"  # where there is no figure
_QUANTILES: Final = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "p99_9_ms": 0.999, "max_ms": 1.0}
COLUMNS: Final[Mapping[str, Mapping[str, str]]] = {
    LATENCY: {
        "second": "Second of the load", "deliveries": "# Deliveries", "p50_ms": "p50 (ms)",
        "p90_ms": "p90 (ms)", "p99_ms": "p99 (ms)", "p99_9_ms": "p99.9 (ms)", "max_ms": "Max (ms)",
    },
    HEALTH: {
        "worker": "Worker", "lag_p50_ms": "Lag p50 (ms)", "lag_p99_ms": "Lag p99 (ms)",
        "lag_max_ms": "Lag max (ms)", "hiccup_p99_ms": "Hiccup p99 (ms)", "hiccup_max_ms": "Hiccup max (ms)",
        "cpu_cores": "CPU (cores)", "memory_mib": "Memory (MiB)", "records_lost": "# Records lost",
    },
}  # fmt: skip
_TITLES: Final = {LATENCY: "Delivery latency", HEALTH: "Generator health"}
_SOON: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="refresh" content="1">
<title>chatproof: before the start</title>
<link rel="icon" href="./assets/favicon-light.png">
<style>
body { font: 1.1rem/1.5 system-ui, sans-serif; max-width: 36rem; margin: 20vh auto; padding: 1em }
</style>
<h1>The load has not started</h1>
<p>%s. It starts by itself, and this page goes on to it.</p>
</html>
"""

Row = dict[str, float | str | None]  # by column; None: there is no such figure


class PageError(Exception):
    """The page may not be served like this; the text says why and what to do."""


class Tables:
    """The rows of both tabs, from the workers' reports."""

    def __init__(self) -> None:
        self._t0_s: float | None = None
        self._second = 0
        self._now = Histogram()  # of the second that is going on
        self._all = Histogram()
        self._past: deque[Row] = deque(maxlen=ROWS)
        self._lag: dict[int, Histogram] = {}
        self._hiccup: dict[int, Histogram] = {}
        self._last: dict[int, Mapping[str, Any]] = {}

    def begin(self, t0_s: float) -> None:
        """Seconds count from ``t0_s``, in the time of ``add``. What was before is no load."""
        self._t0_s = t0_s
        self.clear()

    def clear(self) -> None:
        """Forget all latencies and lags; the load's seconds, and what a worker has lost, go on."""
        self._now.clear()
        self._all.clear()
        self._past.clear()
        for histogram in (*self._lag.values(), *self._hiccup.values()):
            histogram.clear()

    def add(self, report: Mapping[str, Any], now_s: float, cpu: float) -> None:
        """Take in a report of a worker; ``cpu`` is its share of one core since the one before."""
        index = report["index"]
        self._last[index] = {**report, "cpu": cpu}
        if self._t0_s is None or now_s < self._t0_s:
            return
        self._turn_to(int(now_s - self._t0_s))
        self._now.merge(report["delivery"])
        self._all.merge(report["delivery"])
        self._lag.setdefault(index, Histogram()).merge(report["lag"])
        self._hiccup.setdefault(index, Histogram()).merge(report["hiccup"])

    def _turn_to(self, second: int) -> None:
        if second > self._second:
            self._past.appendleft(_latency_row(self._second, self._now))
            self._now.clear()
        self._second = second

    def latency(self) -> list[Row]:
        """The whole load, then its seconds, the newest first; the one that is going on is left out."""
        return [_latency_row("all", self._all), *self._past]

    def health(self) -> list[Row]:
        """A row for each worker, then one for all of them."""
        none = Histogram()
        rows = [
            _health_row(index, self._lag.get(index, none), self._hiccup.get(index, none), [last])
            for index, last in sorted(self._last.items())
        ]
        lag, hiccup = _merged(self._lag), _merged(self._hiccup)
        return [*rows, _health_row("all", lag, hiccup, list(self._last.values()))]

    def rows(self, tab: str) -> list[Row]:
        return self.latency() if tab == LATENCY else self.health()


def _merged(parts: Mapping[int, Histogram]) -> Histogram:
    whole = Histogram()
    for part in parts.values():
        whole.merge(part.sparse())
    return whole


def _quantile_ms(found: Histogram, q: float) -> float | None:
    return round(found.quantile_ms(q), 3) if found.count else None


def _latency_row(second: int | str, found: Histogram) -> Row:
    quantiles = {name: _quantile_ms(found, q) for name, q in _QUANTILES.items()}
    return {"second": second, "deliveries": found.count, **quantiles}


def _health_row(worker: int | str, lag: Histogram, hiccup: Histogram, last: list[Mapping[str, Any]]) -> Row:
    return {
        "worker": worker,
        "lag_p50_ms": _quantile_ms(lag, 0.5),
        "lag_p99_ms": _quantile_ms(lag, 0.99),
        "lag_max_ms": _quantile_ms(lag, 1.0),
        "hiccup_p99_ms": _quantile_ms(hiccup, 0.99),
        "hiccup_max_ms": _quantile_ms(hiccup, 1.0),
        "cpu_cores": round(sum(report["cpu"] for report in last), 3) if last else None,
        "memory_mib": round(sum(report["rss_bytes"] for report in last) / 2**20, 1) if last else None,
        "records_lost": sum(report["lost"] for report in last),
    }


def shown(told: Any) -> Any:
    """Anything made of lists, tables and figures, with the figures as a person should see them.

    Counts stay whole; everything else has three digits that matter.
    """
    if isinstance(told, dict):
        return {key: shown(value) for key, value in told.items()}
    if isinstance(told, list):
        return [shown(value) for value in told]
    return float(f"{told:.{DIGITS}g}") if isinstance(told, float) else told


def try_address(host: str, port: int) -> None:
    """See that the page can listen there.

    Raises:
        PageError: it cannot.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise PageError(
            f"--ui-host is {host!r}: must be an address of this machine: {error.strerror}"
        ) from None
    with socket.socket(family, kind, protocol) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(address)
        except OSError as error:
            field, wrong = (
                ("--ui-port", port) if error.errno == errno.EADDRINUSE else ("--ui-host", repr(host))
            )
            raise PageError(
                f"{field} is {wrong}: cannot listen on {host} port {port}: {os.strerror(error.errno or 0)}; "
                "leave --ui-port out for any free port"
            ) from None


def read_login(path: Path | None, host: str) -> tuple[str, str] | None:
    """User and password of a file of one line, "user:password".

    Raises:
        PageError: it cannot be used, or there is none and the page is to be reached from other machines.
    """
    if path is None:
        if is_loopback(host):
            return None
        raise PageError(
            f"--ui-host is {host!r}: whoever reaches the page steers the load, so off loopback it needs a "
            "login: write user:password into a file and name it with --ui-login-file"
        )
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise PageError(f"--ui-login-file is {str(path)!r}: cannot be read: {error}") from None
    user, colon, password = text.partition(":")
    if not (user and colon) or len(password) < SHORTEST_PASSWORD or "\n" in text:
        raise PageError(
            f"--ui-login-file is {str(path)!r}: must hold one line, user:password, with a password of at "
            f"least {SHORTEST_PASSWORD} characters"
        )
    return user, password


class Guard:
    """Who may use the page.

    A name that was made to point here (DNS rebinding) shows in Host, another site's script or form in Origin,
    and its picture or link (Locust stops a test on GET) in Sec-Fetch-Site. Targets are the plan's: a form
    with another host is refused, and workers would not dial it anyway. Nobody may show the page in a frame,
    where a click on something else would be one on *Stop*.

    Args:
        host: what the page listens on.
        login: user and password; None: none is asked for.
        target: the host that Locust's form shows.
    """

    def __init__(self, *, host: str, login: tuple[str, str] | None, target: str) -> None:
        self._host, self._login, self._target = host, login, target

    def __call__(self) -> Response | None:
        """For ``before_request``: None lets the request through."""
        origin = request.headers.get("Origin")
        foreign = origin is not None and _netloc(origin) != request.host
        beside = request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
        if not self._known(_hostname(f"//{request.host}")):
            where = self._host if is_loopback(self._host) else f"{self._host}, or an address of this machine"
            abort(403, f"this page is to be asked for by what it listens on: {where}")
        if foreign or (beside and request.path != "/"):
            abort(403, "only this page itself may use this address")
        if self._login is not None and not self._logged_in(self._login):
            return Response("a login is needed\n", 401, {"WWW-Authenticate": 'Basic realm="chatproof"'})
        if request.path == "/user":
            abort(403, "what users do is the scenario's to say")
        if request.path == "/swarm" and request.form.get("host", self._target) != self._target:
            return answer(f"the target is the plan's: {self._target}; no other is loaded")
        return None

    def framed_by_nobody(self, response: Response) -> Response:
        """For ``after_request``."""
        response.headers["X-Frame-Options"] = "DENY"
        response.headers["Content-Security-Policy"] = "frame-ancestors 'none'"
        return response

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


def _netloc(url: str) -> str:
    try:
        return urlsplit(url).netloc
    except ValueError:
        return ""


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def answer(why_not: str) -> Response:
    """A refusal of ``/swarm`` as Locust's form shows it."""
    return Response(json.dumps({"success": False, "message": why_not}), mimetype="application/json")


def wait_for_start(app: Flask, before: Callable[[], str | None]) -> None:
    """Until the load has started, show that in the place of Locust's form: it starts by itself.

    Args:
        before: what is still waited for, a sentence without its full stop; None: it has started.
    """

    def early() -> Response | None:
        if request.path not in ("/", "/swarm") or (waiting := before()) is None:
            return None
        if request.path == "/":
            return Response(_SOON % waiting, mimetype="text/html", headers={"Cache-Control": "no-store"})
        return answer(f"{waiting}: the load starts by itself")

    app.before_request(early)


def add_tabs(
    app: Flask, template_args: dict[str, Any], tables: Tables, run: str, now: Callable[[], Mapping[str, Any]]
) -> None:
    """Put the tabs on Locust's page; it asks for their rows with those of its own tables.

    Args:
        run: its name, for those of the files.
        now: fields of Locust's answer that may not be as old as it keeps an answer.
    """
    template_args.update(
        extended_tabs=[{"title": _TITLES[tab], "key": tab} for tab in COLUMNS],
        extended_tables=[
            {"key": tab, "structure": [{"key": key, "title": title} for key, title in columns.items()]}
            for tab, columns in COLUMNS.items()
        ],
        extended_csv_files=[
            {"href": f"./{tab}.csv", "title": f"Download {_TITLES[tab].lower()} CSV"} for tab in COLUMNS
        ],
    )

    def extend(response: Response) -> Response:
        if request.path == "/stats/requests" and response.is_json:
            rows = [{"key": tab, "data": _dashed(tables.rows(tab))} for tab in COLUMNS]
            found = {**response.get_json(), **now(), "extended_stats": rows}
            response.set_data(json.dumps(shown(found)))
        return response

    app.after_request(extend)
    for tab in COLUMNS:
        app.add_url_rule(f"/{tab}.csv", f"chat-{tab}", _csv_of(tables, tab, run))


def _dashed(rows: list[Row]) -> list[Row]:
    return [{key: NONE if value is None else value for key, value in row.items()} for row in rows]


def _csv_of(tables: Tables, tab: str, run: str) -> Callable[[], Response]:
    def table() -> Response:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(COLUMNS[tab]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(tables.rows(tab))
        name = f"{run}_{_TITLES[tab].lower().replace(' ', '_')}.csv"
        disposition = {"Content-Disposition": f"attachment; filename={name}"}
        return Response(text.getvalue(), mimetype="text/csv", headers=disposition)

    return table

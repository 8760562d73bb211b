"""Locust's page with our tabs, in a real Chromium: started, edited, stopped, started again, reset."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.browser import CHROMIUM, MISSING, needs_browser
from tests.loadgen.test_master import CLIENTS, Load
from tests.loadgen.tiny_server import ServerThread

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(400),
    needs_browser,
]
if not MISSING:
    from playwright.sync_api import Page, expect, sync_playwright

PATIENCE_MS = 30_000
if not MISSING:
    expect.set_options(timeout=PATIENCE_MS)
PHASES = [{"name": "load", "duration_s": 600, "publish_per_s": 60}]
FIGURE = re.compile(r"\d+(\.\d+)?|–")


@pytest.fixture
def server() -> Iterator[ExitStack]:
    """What closes the server."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def load(tmp_path: Path, server: ExitStack) -> Iterator[Load]:
    load = Load(tmp_path, server.enter_context(ServerThread()).url, "--ui", phases=PHASES)
    try:
        load.expect("ready")
        yield load
    finally:
        load.close()


class Visit:
    """Somebody at the page."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._heard)
        page.goto(url)

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).click()

    def presses(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def asks_for(self, users: int, button: str) -> None:
        self.page.locator("input[name=userCount]").fill(str(users))
        self.page.locator("input[name=spawnRate]").fill("100")
        self.presses(button)

    def rows(self) -> list[list[str]]:
        """The table of the tab that is open, its head left out."""
        told: list[list[str]] = self.page.locator("tbody tr").evaluate_all(
            "rows => rows.map(row => [...row.cells].map(cell => cell.innerText))"
        )
        return told

    def sees(self, what: Callable[[list[list[str]]], bool]) -> list[list[str]]:
        """The rows, once they are as they should be."""
        until_s = time.monotonic() + PATIENCE_MS / 1000
        while not what(rows := self.rows()):
            assert time.monotonic() < until_s, rows
            self.page.wait_for_timeout(100)
        return rows


@pytest.fixture
def visit(load: Load) -> Iterator[Visit]:
    """Somebody who was there before the start."""
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-background-networking", "--disable-dev-shm-usage"]
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield Visit(chromium.new_page(), load.listening["ui"])
        chromium.close()


def some(rows: list[list[str]]) -> bool:
    return len(rows) > 1 and rows[0][0] == "all" and int(rows[0][1]) > 0


def test_our_tabs_follow_what_is_done_on_the_page(load: Load, visit: Visit) -> None:
    page = visit.page
    expect(page.get_by_role("heading")).to_have_text("The load has not started")
    load.say("start", t0_ns=time.monotonic_ns())
    visit.tab("Delivery latency")  # the page has gone on by itself
    rows = visit.sees(lambda rows: some(rows) and len(rows) > 4)
    head = page.locator("thead th").all_inner_texts()
    assert head[2:] == ["p50 (ms)", "p90 (ms)", "p99 (ms)", "p99.9 (ms)", "Max (ms)"]
    figures = [figure for row in rows for figure in row[2:]]
    assert all(FIGURE.fullmatch(figure) for figure in figures)
    assert all(len(figure.replace(".", "").strip("0")) <= 3 for figure in figures)

    visit.presses("Edit")
    visit.asks_for(2, "Update")
    load.expect("stats", live=2, clients=2)

    visit.presses("Stop")
    load.expect("stats", live=0, clients=0)
    stopped = int(visit.rows()[0][1])
    visit.presses("New")
    page.locator("input[name=host]").fill("ws://192.0.2.1:80")
    visit.asks_for(3, "Start")
    expect(page.get_by_text("no other is loaded")).to_be_visible()
    page.locator("input[name=host]").fill(load.spec["targets"][0])
    visit.asks_for(3, "Start")
    load.expect("stats", live=3, clients=3)
    rows = visit.sees(lambda rows: some(rows) and int(rows[0][1]) < stopped)  # a new test, as Locust has it
    assert int(rows[1][0]) > 3  # and the load's seconds go on

    seen = int(visit.sees(lambda rows: some(rows) and int(rows[0][1]) > 100)[0][1])
    visit.presses("Reset")
    visit.sees(lambda rows: int(rows[0][1]) < seen)
    visit.tab("Generator health")
    rows = visit.sees(lambda rows: len(rows) == 3 and rows[2][1] != "–")
    assert [row[0] for row in rows] == ["1", "2", "all"]
    assert visit.complaints == []


def test_more_users_than_there_are_clients_are_all_clients_and_the_logs_say_so(
    load: Load, visit: Visit
) -> None:
    load.say("start", t0_ns=time.monotonic_ns())
    visit.presses("Edit")
    visit.asks_for(CLIENTS + 44, "Update")
    visit.tab("Logs")
    told = f"{CLIENTS + 44} users were asked for: the scenario has {CLIENTS} clients"
    expect(visit.page.get_by_text(told)).to_be_visible()
    load.expect("stats", live=CLIENTS, clients=CLIENTS)


def test_a_page_that_is_open_hears_of_the_end(load: Load, visit: Visit) -> None:
    load.say("start", t0_ns=time.monotonic_ns())
    visit.tab("Delivery latency")
    visit.sees(some)
    load.say("stop")
    expect(visit.page.get_by_text("stopped", exact=True)).to_be_visible()
    assert load.master.wait(30) == 0
    visit.page.wait_for_timeout(3000)  # it would have asked again by now
    assert visit.complaints == []


def test_a_server_that_is_gone_is_a_failure_in_locusts_words(
    server: ExitStack, load: Load, visit: Visit
) -> None:
    load.say("start", t0_ns=time.monotonic_ns())
    visit.tab("Failures")
    load.expect("stats", live=CLIENTS)
    assert visit.rows() == []
    server.close()
    rows = visit.sees(lambda rows: any(row[3] == "Connection refused (errno 111)" for row in rows))
    assert {row[2] for row in rows} == {"connect"}
    visit.tab("Statistics")
    rows = visit.sees(lambda rows: any(row[1] == "connect" for row in rows))
    assert {row[1]: row[2] == row[3] for row in rows}["connect"]  # all of them have failed
    assert visit.complaints == []

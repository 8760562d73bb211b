"""The chat page in a real Chromium: people talk, lose the network, come back; nothing is missing or twice."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest

from chatd.auth import issue
from chatd.config import Config
from chatd.server import Server
from chatd.transports import TRANSPORTS
from chatd.transports.base import Gateway, Listening
from chatd.transports.websocket import listen_websocket
from tests.browser import CHROMIUM, MISSING, needs_browser
from tests.chatd.in_thread import chatd, in_a_thread

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(90),
    needs_browser,
]
if not MISSING:
    from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

PATIENCE_MS = 20_000
# What Chromium itself prints when a connection is refused or lost; the page cannot keep it from doing so.
NETWORK = re.compile(r"WebSocket connection to|net::ERR_|Failed to load resource")
SIZES = [pytest.param(375, 667, id="375 px"), pytest.param(1440, 900, id="1440 px")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-background-networking", "--disable-dev-shm-usage"]
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()


class Person:
    """Somebody at the page."""

    def __init__(self, browser: Browser, url: str, name: str, **options: Any) -> None:
        self.context: BrowserContext = browser.new_context(**options)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._heard)
        self.name = name
        self.page.goto(url)

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning") and not NETWORK.search(message.text):
            self.complaints.append(message.text)

    def join(self, channel: str = "garden") -> Person:
        self.page.get_by_label("Your name").fill(self.name)
        self.page.get_by_label("Channel").fill(channel)
        self.page.get_by_role("button", name="Join").click()
        return self.sees_state("Online")

    def sees_state(self, text: str) -> Person:
        expect(self.page.locator("#state")).to_contain_text(text, timeout=PATIENCE_MS)
        return self

    def says(self, *texts: str) -> None:
        for text in texts:
            self.page.get_by_role("textbox", name="Message").fill(text)
            self.page.keyboard.press("Enter")

    @property
    def texts(self) -> list[str]:
        """What stands in the stream, top to bottom."""
        return self.page.locator("#log .text").all_text_contents()

    def sees(self, *texts: str) -> None:
        """Exactly these, in this order, and nothing on its way any more."""
        expect(self.page.locator("#log .text")).to_have_text(list(texts), timeout=PATIENCE_MS)
        expect(self.page.locator("#outbox li")).to_have_count(0, timeout=PATIENCE_MS)


Meet = Callable[..., list[Person]]


@pytest.fixture
def meet(browser: Browser) -> Iterator[Meet]:
    """``meet(url, "Ann", "Bob")``: people at the page, who have had no trouble with it when the test ends."""
    people: list[Person] = []

    def come(url: str, *names: str, **options: Any) -> list[Person]:
        new = [Person(browser, url, name, **options) for name in names]
        people.extend(new)
        return new

    yield come
    complaints = {person.name: person.complaints for person in people if person.complaints}
    for person in people:
        person.context.close()
    assert not complaints


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(in_a_thread(lambda: chatd(**settings)))


def test_two_people_talk(meet, start) -> None:
    ann, bob = (person.join() for person in meet(start().http_url, "Ann", "Bob"))
    ann.says("Hello Bob", "How are you?")
    bob.sees("Hello Bob", "How are you?")
    bob.says("Fine")
    for person in (ann, bob):
        person.sees("Hello Bob", "How are you?", "Fine")
    assert bob.page.locator("#log .message:not(.more) .name").all_text_contents() == ["Ann", "Bob"], (
        "a name once per turn"
    )
    assert ann.page.locator("#log .own .text").all_text_contents() == ["Hello Bob", "How are you?"]
    assert ann.page.locator("#log time").first.get_attribute("datetime")


def test_one_loses_the_network_the_other_goes_on_and_nothing_is_missing_or_shown_twice(meet, start) -> None:
    ann, bob = (person.join() for person in meet(start().http_url, "Ann", "Bob"))
    ann.says("one")
    bob.sees("one")
    bob.context.set_offline(True)
    bob.sees_state("Offline, reconnecting")
    ann.says(*(f"while you were away {number}" for number in range(30)))
    bob.says("written offline 1", "written offline 2")
    waiting = bob.page.locator("#outbox .pending")
    expect(waiting).to_have_count(2)
    expect(waiting.first.locator(".note")).to_have_text("Waits for the connection")
    ann.sees("one", *(f"while you were away {number}" for number in range(30)))
    bob.context.set_offline(False)
    everything = ["one", *(f"while you were away {number}" for number in range(30))]
    everything += ["written offline 1", "written offline 2"]
    for person in (ann, bob):
        person.sees(*everything)
    bob.sees_state("Online")


def test_a_server_that_dies_and_comes_back_with_its_log_loses_nothing(meet, tmp_path: Path) -> None:
    def serve(port: int, http_port: int | str) -> AbstractContextManager[Server]:
        settings = {"store": "sqlite", "data": tmp_path, "port": port, "http_port": http_port}
        return in_a_thread(lambda: chatd(**settings, retry_ms=(100, 500)))

    with serve(0, "free") as server:
        ports = [int(re.search(r":(\d+)/", url)[1]) for url in (server.url, server.http_url)]  # type: ignore[index]
        ann, bob = (person.join() for person in meet(server.http_url, "Ann", "Bob"))
        ann.says("before")
        bob.sees("before")
    for person in (ann, bob):
        person.sees_state("econnecting")
    ann.says("during")
    with serve(*ports):
        for person in (ann, bob):
            person.sees("before", "during")
        bob.says("after")
        ann.sees("before", "during", "after")


def test_a_person_whose_socket_is_refused_talks_over_http(meet, start, monkeypatch) -> None:
    async def refused(config: Config, gateway: Gateway) -> Listening | None:
        listening = await listen_websocket(config, gateway)
        assert listening is not None
        listening.close()
        return listening

    monkeypatch.setitem(TRANSPORTS, "websocket", refused)
    ann, bob = (person.join() for person in meet(start().http_url, "Ann", "Bob"))
    ann.sees_state("Online over HTTP")
    ann.says("one", "two", "drei")
    bob.says("vier")
    bob.sees("one", "two", "drei", "vier")
    bob.context.set_offline(True)
    bob.sees_state("Offline")
    ann.says("five")
    bob.says("six")
    ann.sees("one", "two", "drei", "vier", "five")
    bob.context.set_offline(False)
    for person in (ann, bob):
        person.sees("one", "two", "drei", "vier", "five", "six")


def test_what_retention_has_forgotten_is_a_line_that_says_how_many(meet, start) -> None:
    ann, bob = (person.join() for person in meet(start(retain_n=5).http_url, "Ann", "Bob"))
    ann.says("one")
    bob.sees("one")
    bob.context.set_offline(True)
    bob.sees_state("Offline")
    ann.says(*(str(number) for number in range(17)))
    expect(ann.page.locator("#outbox li")).to_have_count(0)
    ann.page.wait_for_timeout(1500)  # retention is applied once a second
    bob.context.set_offline(False)
    bob.sees("one", "12", "13", "14", "15", "16")
    assert bob.page.locator("#log .gap").all_text_contents() == ["12 messages are no longer available"]
    order = bob.page.locator("#log > li:not(.day)").all_text_contents()
    assert [place for place, text in enumerate(order) if "no longer" in text] == [1]


def test_reactions_edits_and_deletions_are_shown_where_they_belong(meet, start) -> None:
    server = start()
    ann, bob = (person.join() for person in meet(server.http_url, "Ann", "Bob"))
    ann.says("good mroning", "a secret", "third")
    bob.sees("good mroning", "a secret", "third")

    def post(client: str, kind: str, to: int, **fields: Any) -> None:
        body = {"type": kind, "client": client, "channel": "garden", "message": f"{kind}{fields}", "to": to}
        reply = bob.context.request.post(f"{server.http_url}publish", data={**body, **fields})
        assert reply.ok, reply.text()

    post("Ann", "edit", 1, data={"text": "good morning"})
    post("Ann", "delete", 2)
    for client in ("Ann", "Bob"):
        post(client, "react", 3, emoji="👍", op="add")
    post("Bob", "react", 3, emoji="<b>", op="add")
    post("Bob", "react", 1, emoji="🎉", op="add")
    post("Bob", "react", 1, emoji="🎉", op="remove")
    bob.sees("good morning", "Deleted", "third")
    (carol,) = meet(server.http_url, "Carol")
    carol.join().sees("good morning", "Deleted", "third")  # from the log, not as it happened
    for person in (ann, bob, carol):
        expect(person.page.locator(".reactions li")).to_have_text(["👍 2", "<b>"])
        expect(person.page.locator("#log .note")).to_have_text(["edited"])


HOSTILE = [
    pytest.param("<img src=x onerror=\"document.title='owned'\">", id="markup"),
    pytest.param("</p><script>document.title='owned'</script>", id="script"),
    pytest.param("abc \u202e cba \u2066 \u200f\u061c end", id="marks of direction"),
    pytest.param("שלום <b>עולם</b>", id="right to left"),
    pytest.param("x" * 10_000, id="10,000 characters"),
    pytest.param("\u0301" * 500 + "Z", id="marks on marks"),
    pytest.param("${alert(1)} {{7*7}} javascript:alert(1) &lt;", id="templates"),
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_stay_text(meet, start, text: str) -> None:
    ann, bob = (person.join() for person in meet(start().http_url, "Ann", "Bob"))
    ann.says(text)
    bob.sees(text)
    for person in (ann, bob):
        assert person.page.locator("#room img, #room script, #room b").count() == 0
        assert "owned" not in person.page.title()
        assert fits(person.page)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("<img src=x onerror=alert(1)>", id="markup"),
        pytest.param("שרה", id="right to left"),
        pytest.param("W" * 64, id="long"),
        pytest.param("🦊 fox", id="emoji"),
    ],
)
def test_hostile_names_stay_text(meet, start, name: str) -> None:
    server = start()
    ann, bob = meet(server.http_url, name, "Bob", viewport={"width": 375, "height": 667})
    ann.join("<i>room</i>")
    bob.join("<i>room</i>")
    ann.says("hello")
    bob.sees("hello")
    assert bob.page.locator("#log .name").text_content() == name
    assert bob.page.locator("#title").text_content() == "<i>room</i>"
    assert fits(bob.page)
    assert fits(ann.page)


def test_a_name_that_the_server_refuses_is_said_at_the_door(meet, start) -> None:
    (ann,) = meet(start().http_url, "bad\u202ename")
    ann.page.get_by_label("Your name").fill(ann.name)
    ann.page.get_by_role("button", name="Join").click()
    expect(ann.page.get_by_role("alert")).to_contain_text("printable")


def test_who_has_a_token_is_known_by_it_and_who_has_none_is_told_so(meet, start, tmp_path: Path) -> None:
    secret = b"correct horse battery staple, and more"
    (tmp_path / "secret").write_bytes(secret)
    ann, bob = meet(start(auth_secret_file=tmp_path / "secret").http_url, "", "Bob")
    shown = issue(secret, user="ann-smith", audience="chatd", now_s=time.time(), ttl_s=600)
    ann.page.get_by_text("I have an access token").click()
    ann.page.get_by_label("Access token").fill(shown)
    ann.page.get_by_role("button", name="Join").click()
    ann.sees_state("Online").says("hello")
    ann.sees("hello")
    expect(ann.page.locator("#me")).to_have_text("ann-smith")
    everywhere = (
        "() => JSON.stringify([{...localStorage}, {...sessionStorage}, location.href, document.cookie])"
    )
    assert shown not in ann.page.evaluate(everywhere)
    assert shown not in ann.page.content()
    bob.page.get_by_label("Your name").fill("Bob")
    bob.page.get_by_role("button", name="Join").click()
    expect(bob.page.get_by_role("alert")).to_contain_text("token")


def test_a_text_that_no_message_can_hold_is_kept_and_explained(meet, start) -> None:
    (ann,) = meet(start(frame_bytes=1024).http_url, "Ann")
    ann.join().says("x" * 2000)
    expect(ann.page.get_by_role("alert")).to_contain_text("more than one message can hold")
    assert ann.page.get_by_role("textbox", name="Message").input_value() == "x" * 2000
    ann.says("short")
    ann.sees("short")


def test_earlier_messages_are_fetched_a_page_at_a_time_each_once(meet, start) -> None:
    server = start()
    ann, bob = meet(server.http_url, "Ann", "Bob")
    ann.join().says(*(str(number) for number in range(120)))
    expect(ann.page.locator("#log .text")).to_have_count(120, timeout=PATIENCE_MS)
    bob.join()
    earlier = bob.page.get_by_role("button", name="Show earlier messages")
    for count in (50, 100, 120):
        bob.sees(*(str(number) for number in range(120 - count, 120)))
        if count < 120:
            earlier.click()
    expect(earlier).to_be_hidden()
    assert bob.page.locator("#log .day").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_nothing_sticks_out_and_text_has_contrast(meet, start, width: int, height: int, scheme: str) -> None:
    view = {"width": width, "height": height}
    (ann,) = meet(start().http_url, "Ann", viewport=view, color_scheme=scheme)
    assert fits(ann.page)
    ann.join().says("hello", "x" * 300, "a few words " * 40)
    expect(ann.page.locator("#log .text")).to_have_count(3)
    assert fits(ann.page)
    for what in ("#log .text >> nth=0", "#state", ".me", "#composer .primary", "#log time >> nth=0"):
        assert ann.page.locator(what).evaluate(CONTRAST) >= 4.5, what


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_state_of_the_connection_has_room_beside_the_name(meet, start, width: int, height: int) -> None:
    (ann,) = meet(
        start().http_url, "Ann of the rather long name", viewport={"width": width, "height": height}
    )
    ann.join("a channel with a long name").context.set_offline(True)
    ann.sees_state("Offline, reconnecting")
    for what in (
        ann.page.get_by_role("button", name="Leave"),
        ann.page.locator("#state"),
        ann.page.locator("#me"),
    ):
        box = what.bounding_box()
        assert box is not None
        assert 0 <= box["x"] <= box["x"] + box["width"] <= width
        assert box["width"] > 30
    assert fits(ann.page)


def test_everything_can_be_reached_and_done_by_keyboard_and_has_a_name(meet, start) -> None:
    (ann,) = meet(start().http_url, "Ann")
    page = ann.page
    expect(page.get_by_label("Your name")).to_be_focused()
    page.keyboard.type("Ann")
    page.keyboard.press("Enter")
    expect(page.get_by_role("textbox", name="Message")).to_be_focused()
    expect(page.get_by_role("status")).to_have_text("Online")
    page.keyboard.type("first line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("second line")
    page.keyboard.press("Enter")
    ann.sees("first line\nsecond line")
    assert page.get_by_role("log", name="Messages").get_attribute("aria-live") == "polite"
    unnamed = "e => !(e.labels?.length || e.textContent.trim() || e.ariaLabel)"
    for control in page.locator("button, input, textarea, summary").all():
        assert not control.evaluate(unnamed)
    page.get_by_role("button", name="Leave").press("Enter")
    expect(page.get_by_role("button", name="Join")).to_be_visible()


def fits(page: Page) -> bool:
    """Whether the page needs no scrolling sideways."""
    sideways = "e => e.scrollWidth <= e.clientWidth"
    return bool(page.locator("html").evaluate(sideways) and page.locator("#scroll").evaluate(sideways))


# Contrast of an element's text against what is painted behind it (WCAG 2.2 § 1.4.3).
CONTRAST = """element => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  let ground = element;
  const clear = it => rgb(getComputedStyle(it).backgroundColor)[3] === 0;
  while (ground.parentElement && clear(ground)) ground = ground.parentElement;
  const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, index) => sum + v * [0.2126, 0.7152, 0.0722][index], 0);
  const colors = [getComputedStyle(element).color, getComputedStyle(ground).backgroundColor];
  const [a, b] = colors.map(rgb).map(luminance);
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}"""

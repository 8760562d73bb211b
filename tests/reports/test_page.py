"""report.html in a real Chromium: charts that answer, without a script too, on any screen and on paper."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from reports import trend_page
from reports.analysis import Analysis
from reports.baseline import read_baseline
from reports.capacity import Held, Search, Trial
from reports.capacity_report import CAPACITY_FILE, Soak, as_json
from reports.creep import Creep
from reports.pipeline import report_run
from reports.planning import Need, Price
from reports.render import report_html
from tests.browser import CHROMIUM, MISSING, needs_browser
from tests.reports.long_run import an_hour
from tests.reports.synthetic import small
from tests.reports.test_baseline import made
from tests.reports.test_sections import RUNS, analysed
from tests.reports.test_trend import worse

pytestmark = [
    pytest.mark.browser,
    needs_browser,
]
if not MISSING:
    from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright


def of_a_search(need: Need | None, price: Price | None) -> str:
    """The page of a run that confirmed 18,000 deliveries/s of a node."""
    loads = [(1.0, 10_000.0), (1.5, 15_000.0), (2.0, 20_000.0), (2.1, 21_000.0)]
    trials = [
        Trial(load=load, held=Held.YES if load <= 2 else Held.NO, deliveries_per_s=rate, connections=200,
              p99_ms=rate / 200, cpu_cores=rate / 50_000, rss_bytes=10**8)
        for load, rate in loads for _ in range(2)
    ]  # fmt: skip
    soak = Trial(load=1.8, held=Held.YES, deliveries_per_s=18_000.0, connections=200, p99_ms=90.0)
    found = as_json("capacity", "rate", Search(trials=trials), [Soak(soak, Creep())], need, price)
    analysis = analysed(small())
    with TemporaryDirectory() as folder:
        path = Path(folder) / CAPACITY_FILE
        path.parent.mkdir()
        path.write_text(json.dumps(found), encoding="utf-8")
        return report_html(replace(analysis, history=replace(analysis.history, path=Path(folder))))


SIZES = [pytest.param(375, 667, id="375 px"), pytest.param(1440, 900, id="1440 px")]
PAGES: dict[str, Callable[[], str]] = {
    **{name: lambda made=made: report_html(analysed(made())) for name, made in RUNS.items()},  # type: ignore[misc]
    "an hour": lambda: report_html(an_hour(200)),
    "beside a baseline": lambda: report_html(beside_a_baseline()),
    "a plan": lambda: of_a_search(Need(peak_deliveries_per_s=90_000), Price(0.34, "EUR")),
    "a trend": lambda: trend_page.page(worse()),
    "no plan yet": lambda: of_a_search(None, None),
}
Show = Callable[..., "Page"]


def beside_a_baseline() -> Analysis:
    with TemporaryDirectory() as folder:
        before = made(Path(folder), small(seed=3), mutant="x", run_id="before", started_utc="2026-01-01")
        report_run(before)
        return replace(analysed(RUNS["under faults"]()), baseline=read_baseline(before))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-background-networking", "--disable-dev-shm-usage"]
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """URL of the page of a run in PAGES."""
    folder = tmp_path_factory.mktemp("pages")

    def url(name: str) -> str:
        path: Path = folder / f"{name}.html"
        if not path.exists():
            path.write_text(PAGES[name](), encoding="utf-8")
        return path.as_uri()

    return url


@pytest.fixture
def show(browser: Browser, pages: Callable[[str], str]) -> Iterator[Show]:
    """``show("quiet")``: its page, which has neither complained nor asked for anything when the test ends."""
    contexts = []
    complaints: list[str] = []

    def shown(name: str, *, width: int = 1440, height: int = 900, **options: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("request", lambda r: complaints.append(r.url) if r.url != pages(name) else None)
        page.goto(pages(name))
        if options.get("java_script_enabled", True) and page.locator("figure.chart").count():
            expect(page.locator("figure.chart:not(.is-live)")).to_have_count(0, timeout=20_000)
        return page

    yield shown
    for context in contexts:
        context.close()
    assert not complaints


def fits(page: Page) -> bool:
    return bool(page.locator("html").evaluate("e => e.scrollWidth <= e.clientWidth"))


def painted(plot: Locator) -> bool:
    """Whether a canvas has anything on it."""
    return bool(
        plot.evaluate("c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(part => part)")
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("name", PAGES)
def test_every_kind_of_run_is_shown_whole(
    show: Show, name: str, width: int, height: int, scheme: str
) -> None:
    page = show(name, width=width, height=height, color_scheme=scheme)
    assert fits(page)
    for plot in page.locator(".live canvas").all():
        assert painted(plot)
    assert page.locator(".static:visible").count() == 0


def test_the_cursor_is_read_out_in_every_chart_of_time(show: Show) -> None:
    page = show("under faults")
    page.locator("#chart-timeline .u-over").first.hover(position={"x": 300, "y": 40})
    for name in ("timeline", "latency-over-time", "throughput", "presence"):
        expect(page.locator(f"#chart-{name} .where")).to_contain_text("cut")
        expect(page.locator(f"#chart-{name} .value").first).not_to_be_empty()
    expect(page.locator("#chart-latency-percentiles .where")).to_be_empty()
    expect(page.locator("#chart-timeline .value").last).to_contain_text("s")
    page.mouse.move(5, 5)
    expect(page.locator("#chart-timeline .where")).to_be_empty()


def test_a_trend_is_read_out_by_the_name_of_the_run(show: Show) -> None:
    figure = show("a trend").locator("#chart-cpu-per-delivery")
    box = figure.locator(".u-over").bounding_box()
    assert box is not None
    figure.locator(".u-over").hover(position={"x": box["width"] * 20.4 / 25, "y": 40})  # just before the 21st
    expect(figure.locator(".where")).to_have_text("run 21, 2026-01-21 02:00 c020 · run 21: +50\u00a0%, worse")
    expect(figure.locator(".value").first).to_contain_text("µs")
    figure.locator(".u-over").hover(position={"x": box["width"] * 1.5 / 25, "y": 40})
    expect(figure.locator(".where")).to_have_text("run 2, 2026-01-02 02:00 c001")


def test_beyond_the_end_of_a_curve_there_is_no_value(show: Show) -> None:
    page = show("under faults")
    plot = page.locator("#chart-latency-by-fault .u-over")
    box = plot.bounding_box()
    assert box
    plot.hover(position={"x": box["width"] - 2, "y": 40})
    values = page.locator("#chart-latency-by-fault .value")
    expect(page.locator("#chart-latency-by-fault .where")).to_contain_text("p99")
    assert "–" in values.all_text_contents()
    plot.hover(position={"x": 60, "y": 40})
    assert all("ms" in told for told in values.all_text_contents())


def test_the_baselines_curve_is_read_out_beside_the_runs_own(show: Show) -> None:
    page = show("beside a baseline")
    figure = page.locator("#chart-latency-percentiles")
    figure.locator(".u-over").hover(position={"x": 100, "y": 40})
    toggle = figure.locator(".toggle", has_text="baseline, delivery")
    expect(toggle).to_contain_text("ms")
    toggle.press("Enter")
    expect(toggle).to_have_attribute("aria-pressed", "false")
    expect(page.locator("#comparison th", has_text="delivery, p99.9")).to_be_visible()


def test_no_line_is_drawn_while_a_node_did_not_run(show: Show) -> None:
    """The second of three nodes, from 4 to 6 s; the lines of the others have points in between."""
    figure = show("several nodes").locator("#chart-nodes")
    shares = figure.locator("canvas").evaluate(
        """canvas => {
          const over = canvas.closest(".u-wrap").querySelector(".u-over");
          const hue = getComputedStyle(document.documentElement).getPropertyValue("--s1").trim();
          const wanted = [1, 3, 5].map(at => parseInt(hue.slice(at, at + 2), 16));
          const { data, width } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          const found = new Set();
          for (let i = 0; i < data.length; i += 4)
            if (wanted.every((value, part) => Math.abs(data[i + part] - value) < 30))
              found.add((i / 4) % width);
          return [...found].map(x => (x - over.offsetLeft) / over.offsetWidth);
        }"""
    )
    at_s = [share * 15 for share in shares]  # as long as the axis
    assert [t for t in at_s if 0 < t < 3]
    assert [t for t in at_s if 6.5 < t < 13]
    assert not [t for t in at_s if 4.2 < t < 5.8]
    figure.locator(".u-over").hover(position={"x": 335, "y": 40})
    expect(figure.locator(".toggle", has_text="chatd-2")).to_contain_text("–")


def test_a_drag_zooms_all_charts_of_time_and_a_double_click_shows_everything(show: Show) -> None:
    page = show("under faults")
    plot = page.locator("#chart-timeline .u-over").first
    plot.hover(position={"x": 200, "y": 40})
    page.mouse.down()
    plot.hover(position={"x": 400, "y": 40})
    page.mouse.up()
    for name in ("timeline", "presence"):
        expect(page.locator(f"#chart-{name} .reset")).to_be_visible()
    expect(page.locator("#chart-latency-percentiles .reset")).to_be_hidden()
    plot.dblclick(position={"x": 300, "y": 40})
    expect(page.locator("#chart-presence .reset")).to_be_hidden()


def test_the_keyboard_moves_zooms_and_goes_back(show: Show) -> None:
    page = show("under faults")
    live = page.get_by_role("group", name="Timeline")
    live.focus()
    page.keyboard.press("Home")
    expect(live.locator(".where")).to_contain_text("0 s")
    page.keyboard.press("Shift+ArrowRight")
    expect(live.locator(".where")).to_contain_text("0.75 s · warm-up")
    page.keyboard.press("+")
    expect(live.locator(".reset")).to_be_visible()
    page.keyboard.press("Escape")
    expect(live.locator(".reset")).to_be_hidden()


def test_cells_and_lanes_are_read_by_mouse_and_by_keyboard(show: Show) -> None:
    page = show("under faults")
    live = page.get_by_role("group", name="Delivery latency as a heat map")
    live.focus()
    page.keyboard.press("Home")
    expect(live.locator(".where")).to_contain_text("deliveries")
    page.keyboard.press("ArrowDown")
    expect(live.locator(".where")).to_contain_text(" ms: ")
    lanes = page.locator("#chart-fault-lanes")
    lanes.locator(".u-over").hover(position={"x": 200, "y": 15})
    expect(lanes.locator(".where")).to_contain_text("cut (down, b): planned at 4.00 s")
    lanes.locator(".u-over").hover(position={"x": 200, "y": 45})
    expect(lanes.locator(".where")).to_contain_text("idle (latency")


def test_a_series_is_hidden_and_shown_from_its_key(show: Show) -> None:
    page = show("under faults")
    toggle = page.locator("#chart-latency-over-time").locator(".toggle").nth(2)  # p99
    for pressed in ("false", "true"):
        toggle.press("Enter")
        expect(toggle).to_have_attribute("aria-pressed", pressed)


@pytest.mark.parametrize("name", PAGES)
def test_without_a_script_the_charts_are_drawings(show: Show, name: str) -> None:
    page = show(name, width=375, height=667, java_script_enabled=False)
    assert page.locator("figure.chart .static:visible").count() == page.locator("figure.chart").count()
    assert page.locator(".live").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_paper_the_charts_are_drawings_on_white(show: Show, scheme: str) -> None:
    page = show("under faults", color_scheme=scheme)
    page.emulate_media(media="print", color_scheme=scheme)
    assert page.locator(".static:visible").count() == page.locator("figure.chart").count() > 5
    assert page.locator(".live:visible").count() == 0
    ink = page.locator("h1").evaluate("e => getComputedStyle(e).color")
    assert max(int(part) for part in ink[4:-1].split(",")) < 80


@pytest.mark.parametrize("width", [pytest.param(718, id="A4"), pytest.param(1000, id="1000 px")])
@pytest.mark.parametrize("name", PAGES)
def test_on_paper_nothing_is_wider_than_the_sheet(show: Show, name: str, width: int) -> None:
    page = show(name, width=width)
    page.emulate_media(media="print")
    assert fits(page)
    assert page.locator(".scroll").evaluate_all("all => all.every(e => e.scrollWidth <= e.clientWidth)")


PLANNED = "For 90,000 deliveries/s at the peak and 30\u00a0% of growth: 7 nodes, and 8 so that 1 may fail."


def told(page: Page) -> Locator:
    """The plan's sentence."""
    return page.locator("#what-if [role=status]")


def test_the_form_begins_with_the_plan_that_was_asked_for(show: Show) -> None:
    written = show("a plan", java_script_enabled=False)
    page = show("a plan")
    assert told(page).text_content() == PLANNED
    assert page.locator(".planned").inner_text() == written.locator(".planned").inner_text()
    assert [entry.input_value() for entry in page.locator("#what-if input").all()] == [
        "90000",
        "30",
        "1",
        "0.34",
    ]
    assert page.locator("#what-if [aria-invalid]").count() == 0


def test_another_need_is_another_plan(show: Show) -> None:
    page = show("no plan yet")
    expect(told(page)).to_have_text("For a plan fill in: Deliveries at the peak.")
    page.get_by_label("Deliveries at the peak").press_sequentially("400,000")
    expect(told(page)).to_contain_text("29 nodes, and 30 so that 1 may fail")
    page.keyboard.press("Tab")  # from field to field in their order
    page.keyboard.insert_text("100")
    page.keyboard.press("Tab")
    page.keyboard.insert_text("2")
    page.keyboard.press("Tab")
    page.keyboard.insert_text("0.5")
    page.keyboard.press("Enter")  # sends nothing
    expect(told(page)).to_contain_text("100\u00a0% of growth: 45 nodes, and 47 so that 2 may fail")
    expect(page.locator(".planned")).to_contain_text("cost an hour, 0.5 a node23.50")


@pytest.mark.parametrize(
    ("label", "typed", "rule"),
    [
        ("Deliveries at the peak", "many", "a number above 0"),
        ("Deliveries at the peak", "", "a number above 0"),
        ("Growth on top of it", "-1", "a number from 0 to 1,000"),
        ("Nodes that may fail", "1.5", "a whole number from 0 to 1,000"),
        ("Price of a node (optional)", "0,34", "such as 0.34"),
    ],
)
def test_what_cannot_be_planned_with_is_marked_by_its_field(
    show: Show, label: str, typed: str, rule: str
) -> None:
    page = show("a plan")
    field = page.get_by_label(label)
    field.fill(typed)
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(page.locator(".rule:visible")).to_have_count(1)
    expect(page.locator(".rule:visible")).to_contain_text(rule)
    assert rule in field.evaluate(
        "e => document.getElementById(e.getAttribute('aria-describedby').split(' ')[1]).textContent"
    )
    expect(page.locator(".planned")).to_be_hidden()
    assert "NaN" not in page.locator("#what-if").inner_text()
    field.fill("2")
    expect(page.locator("#what-if [aria-invalid]")).to_have_count(0)
    expect(told(page)).to_contain_text("of growth: ")


def test_a_price_may_be_left_out(show: Show) -> None:
    page = show("a plan")
    page.get_by_label("Price of a node").fill("")
    expect(told(page)).to_have_text(PLANNED)
    expect(page.locator(".planned")).not_to_contain_text("cost")


def test_without_a_script_and_on_paper_there_is_the_plan_and_no_form(show: Show) -> None:
    bare = show("a plan", java_script_enabled=False)
    assert bare.locator("#what-if form").is_hidden()
    assert told(bare).text_content() == PLANNED
    assert "1,986\u00a0EUR" in (bare.locator(".planned").text_content() or "")
    printed = show("a plan")
    printed.get_by_label("Growth on top of it").fill("100")
    printed.emulate_media(media="print")
    assert printed.locator("#what-if form").is_hidden()
    expect(told(printed)).to_contain_text("100\u00a0% of growth: 10 nodes")
    expect(printed.locator(".planned")).to_be_visible()
    assert show("no plan yet", java_script_enabled=False).locator("#what-if:visible").count() == 0

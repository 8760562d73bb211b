"""HTML, Markdown, JUnit and the terminal: blocks, escaping, sizes, golden texts."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from reports import html, markdown
from reports.blocks import (
    Badge,
    Block,
    Bullets,
    Code,
    Column,
    Details,
    Entry,
    Pair,
    Para,
    Picture,
    Planner,
    Pre,
    Section,
    Table,
    Tile,
    Tiles,
    Tone,
    Verdict,
    pairs,
)
from reports.charts import Axis, Chart, Panel, Series
from reports.escape import code_for_markdown, for_html, for_markdown, for_terminal, for_xml
from reports.pipeline import Outcome
from reports.render import text

BLOCKS: dict[str, Block] = {
    "para": Para(("History is ", Badge(Tone.PASS, "valid"), ", see ", Code("a|b"), ".")),
    "bullets": Bullets(("one", "two")),
    "table": Table(
        (Column("Gate"), Column("Actual", "ms", "right")),
        (("p99", "1,234"), (Code("x_y"), "–")),
        caption="Gates",
        note="A note.",
    ),
    "tiles": Tiles((Tile("Lost", "0", note="D1", tone=Tone.PASS), Tile("p99", "12.3", "ms"))),
    "pre": Pre("chatproof report RUN"),
    "verdict": Verdict(Tone.FAIL, "invalid", "D1 × 2."),
    "details": Details("More", (Para("inside"),)),
    "pair": Pair((Para("left"), Para("right"))),
    "pairs": pairs([("name", "value")]),
}
GOLDEN_MARKDOWN = {
    "para": "History is ✓ valid, see a\\|b.\n\n",
    "bullets": "- one\n- two\n\n",
    "table": (
        "**Gates**\n\n| Gate | Actual (ms) |\n| --- | ---: |\n| p99 | 1,234 |\n| `x_y` | – |\n\nA note.\n\n"
    ),
    "tiles": "|  |  |  |\n| --- | ---: | --- |\n| Lost | ✓ 0 | D1 |\n| p99 | 12.3 ms |  |\n\n",
    "pre": "```\nchatproof report RUN\n```\n\n",
    "verdict": "**✗ INVALID** – D1 × 2.\n\n",
    "details": "<details><summary>More</summary>\n\ninside\n\n</details>\n\n",
    "pair": "left\n\nright\n\n",
    "pairs": "|  |  |\n| --- | --- |\n| name | value |\n\n",
}
GOLDEN_HTML = {
    "para": (
        '<p>History is <span class="badge pass"><span aria-hidden="true">✓</span> valid</span>, '
        "see <code>a|b</code>.</p>\n"
    ),
    "bullets": '<ul class="list"><li>one</li><li>two</li></ul>\n',
    "table": (
        '<div class="scroll" tabindex="0" role="region" aria-label="Gates"><table><caption>Gates</caption>'
        '<thead><tr><th scope="col">Gate</th><th scope="col" class="right">Actual<small>ms</small></th></tr>'
        '</thead><tbody><tr><th scope="row">p99</th><td class="right">1,234</td></tr>\n'
        '<tr><th scope="row"><code>x_y</code></th><td class="right">–</td></tr>\n</tbody></table></div>'
        '<p class="note">A note.</p>\n'
    ),
    "pre": "<pre>chatproof report RUN</pre>\n",
    "details": "<details><summary>More</summary><p>inside</p>\n</details>\n",
    "pair": '<div class="pair"><p>left</p>\n<p>right</p>\n</div>\n',
}


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_as_markdown(name: str) -> None:
    assert markdown.block(BLOCKS[name]) == GOLDEN_MARKDOWN[name]


@pytest.mark.parametrize("name", GOLDEN_HTML)
def test_a_block_as_html(name: str) -> None:
    assert html.block(BLOCKS[name]) == GOLDEN_HTML[name]


def test_a_plan_is_a_form_whose_fields_have_names_units_and_rules() -> None:
    made = html.block(PLANNER)
    assert made.startswith('<div id="what-if" data-node-rate="18000.5" data-currency="&quot;&lt;script&gt;">')
    assert '<label for="what-if-peak">&lt;b&gt;Peak</label>' in made
    assert 'name="peak" value="&quot;1" inputmode="decimal"' in made
    assert made.count(" required>") == 1
    assert "Write a number &lt; 2." in made
    assert '<p role="status">7 nodes &amp; 1.</p>' in made
    assert markdown.block(PLANNER) == "7 nodes &amp; 1.\n\n|  |  |\n| --- | --- |\n| cost | 2 &lt; |\n\n"
    empty = replace(PLANNER, sentence="", table=pairs([]))
    assert markdown.block(empty) == ""
    assert '<div class="planned" hidden>' in html.block(empty)


class Balance(HTMLParser):
    """Fails on a tag that is closed out of order; collects tags and attributes."""

    VOID = {"meta", "link", "br", "img", "input"}  # noqa: RUF012 - a constant

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


CHART = Chart(
    "rate",
    "Rate",
    Axis("time", "s"),
    (Panel(Axis("sent", "/s"), (Series("</script><b>", ((0.0, 1.0), (1.0, 2.0))),)),),
    "says",
)


PLANNER = Planner(
    head="<i>A node</i>",
    entries=(
        Entry("peak", "<b>Peak", "/s", '"1', "a number < 2"),
        Entry("price", "Price", "", "", "any", False),
    ),
    node_deliveries_per_s=18_000.5,
    currency='"<script>',
    sentence="7 nodes & 1.",
    table=pairs([("cost", "2 <")]),
)


def page(*charts: Chart, also: tuple[Block, ...] = ()) -> str:
    sections = [
        Section("verdict", "Verdict", (BLOCKS["verdict"],)),
        Section("all", "All", (*BLOCKS.values(), *also, Pair([Picture(chart) for chart in charts]))),
    ]
    return html.page("a & b", [("seed", "1")], sections, "the end")


WITH = pytest.mark.parametrize("also", [(), (PLANNER,)], ids=["no form", "a form"])


@WITH
@pytest.mark.parametrize("charts", [(), (CHART,)], ids=["no chart", "a chart"])
def test_the_page_is_balanced_and_loads_nothing(charts: tuple[Chart, ...], also: tuple[Block, ...]) -> None:
    reader = Balance()
    reader.feed(page(*charts, also=also))
    assert reader.open == []
    for tag, attrs in reader.tags:
        assert tag not in {"link", "iframe", "img", "object"}
        assert "style" not in attrs
        assert not [name for name in attrs if name.startswith("on")]
        assert "src" not in attrs
        assert str(attrs.get("href", "#")).startswith("#")
    assert "url(" not in page()


def hashed(kind: str, text: str) -> str:
    """The source expression of the page's only element of a kind; 'none' without one."""
    found = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
    assert len(found) <= 1
    digests = [base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in found]
    return f"'sha256-{digests[0]}'" if digests else "'none'"


@WITH
@pytest.mark.parametrize("charts", [(), (CHART,)], ids=["no chart", "a chart"])
def test_the_policy_allows_the_pages_own_style_and_script_and_nothing_else(
    charts: tuple[Chart, ...], also: tuple[Block, ...]
) -> None:
    text = page(*charts, also=also)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    assert policy[1] == (
        f"default-src 'none'; script-src {hashed('script', text)}; style-src {hashed('style', text)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    assert ("<script" in text) == bool(charts or also)
    assert ("uPlot" in text.split("<script")[-1]) == bool(charts)


def test_long_markdown_leaves_out_whole_sections_and_names_them() -> None:
    long = Section("long", "Too long", (Pre("x" * 70_000),))
    short = Section("short", "Short", (Para("here"),))
    made = markdown.document("t", [], [short, long, short], "end")
    assert len(made.encode()) <= markdown.MAX_BYTES
    assert "Left out here for length, see report.html: Too long." in made
    assert made.count("here") == 2 + 1


def test_long_tables_are_cut_in_markdown_and_say_so() -> None:
    table = Table((Column("n"),), tuple((str(n),) for n in range(100)))
    assert "… and 60 rows more, in report.html." in markdown.block(table)


# ── escaping ──────────────────────────────────────────────────────────────────────────────

CONTROL = "\x1b[2J\x07\x9b\x00\u202e\u2066"


@pytest.mark.parametrize("escape", [for_html, for_markdown, for_xml, for_terminal])
def test_no_output_lets_control_or_direction_characters_through(escape: Any) -> None:
    told = escape(CONTROL)
    assert not [c for c in told if ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u202e\u2066"]
    assert "x1b" in told


@pytest.mark.parametrize(
    ("given", "told"),
    [
        pytest.param("a|b", "a\\|b", id="cell"),
        pytest.param("<b>&", "&lt;b&gt;&amp;", id="tag"),
        pytest.param("`code`", "\\`code\\`", id="code"),
        pytest.param("@team", "@\u200bteam", id="mention"),
        pytest.param("[x](http://y)", "\\[x\\](http://y)", id="link"),
        pytest.param("*_~#\\", "\\*\\_\\~\\#\\\\", id="emphasis"),
        pytest.param("two\nlines", "two lines", id="line break"),
    ],
)
def test_markdown_is_escaped(given: str, told: str) -> None:
    assert for_markdown(given) == told


@pytest.mark.parametrize(
    ("given", "told"),
    [
        pytest.param("room:3", "`room:3`", id="a plain name is code"),
        pytest.param("a`b", "a\\`b", id="one that could end it is escaped text"),
        pytest.param("<b>", "&lt;b&gt;", id="and so is a tag"),
        pytest.param("", "", id="and nothing"),
    ],
)
def test_names_in_markdown(given: str, told: str) -> None:
    assert code_for_markdown(given) == told


def test_xml_has_no_character_that_it_cannot_hold() -> None:
    assert for_xml("a\ufffe\ud800\x0b<&\"'") == "a\ufffd\\ud800\\x0b&lt;&amp;&quot;&#x27;"


def test_html_is_escaped_in_text_and_in_attributes() -> None:
    assert for_html("<a href='x' \"y\">&") == "&lt;a href=&#x27;x&#x27; &quot;y&quot;&gt;&amp;"


# ── the terminal ──────────────────────────────────────────────────────────────────────────


def outcome(**more: Any) -> Outcome:
    found = {
        "outcome": "gate failed",
        "interactive": False,
        "reasons": [],
        "coverage": {"delivered": 65_040, "acked": 6492},
        "load": {"deliveries_per_s": 1135.2, "lag_p99_ms": 1.4, "lag_limit_ms": 5.0},
        "latency_ms": {"delivery": {"count": 9, "p50": 4.9, "p99": 40.1, "p99_9": 45.0, "max": 55.8}},
        "anomalies": {"lost": 0, "duplicated": 0, "reordered": 0},
        "faults": [
            {"id": "cut", "had_effect": True, "recovery": {"all_back_s": 0.948, "never_back": 0}},
            {"id": "slow", "had_effect": True, "recovery": None},
        ],
        "gates": [{"id": "p99", "verdict": "fail"}, {"id": "no-loss", "verdict": "pass"}],
    }
    known: dict[str, Any] = {
        "verdict": "valid",
        "void": [],
        "exit": 1,
        "summary": found | more.pop("summary", {}),
        "sentence": "1 of 2 gates failed.",
        "report": Path("runs/x/report/report.html"),
    }
    return Outcome(**(known | more))


GOLDEN_TEXT = """\
✗ GATE FAILED  1 of 2 gates failed.

  deliveries                   65,040, from 6,492 acked messages
  lost, duplicated, reordered  0, 0, 0
  delivery latency             p50 4.90 ms, p99 40.1 ms, p99.9 45.0 ms, max 55.8 ms
  delivery rate                1,135/s
  lag of the load, p99         1.40 ms (limit 5.00 ms)
  faults with an effect        2 of 2; all back 0.948 s after the revert at worst
  gates                        1 of 2 hold; not: p99

  report  runs/x/report/report.html
"""


def test_the_terminal_shows_verdict_figures_and_where_the_report_is() -> None:
    assert text(outcome()) == GOLDEN_TEXT


def test_colour_is_for_terminals_only() -> None:
    assert "\x1b" not in text(outcome())
    assert text(outcome(), colour=True).startswith("\x1b[1;31m✗ GATE FAILED\x1b[0m  ")


def test_reasons_stand_below_when_there_are_several() -> None:
    many = text(outcome(void=["late", "torn"], summary={"reasons": ["idle"], "outcome": "void"}, exit=5))
    assert many.splitlines()[1:4] == ["      void  late", "      void  torn", "   unknown  idle"]
    one = text(outcome(void=["late"], sentence="Late.", exit=5))
    assert "  void" not in one


def test_an_example_of_each_anomaly_is_told_in_words() -> None:
    shown = text(outcome(verdict="invalid", examples=("D1: c3 never received room:1 E 4",)))
    assert "      e.g.  D1: c3 never received room:1 E 4\n" in shown


def test_reasons_of_a_broken_contract_are_not_called_unknown() -> None:
    shown = text(
        outcome(verdict="invalid", void=["late"], summary={"reasons": ["D1 delivery-gap: 3 deliveries"]})
    )
    assert "   invalid  D1 delivery-gap: 3 deliveries" in shown
    assert "unknown" not in shown


def test_names_cannot_move_the_cursor() -> None:
    shown = text(outcome(sentence="\x1b[2J\u202eevil\nnext", void=["\x1b[31m", "b"]))
    assert "\x1b" not in shown
    assert "\\x1b[2J\\u202eevil next" in shown


def test_a_run_without_a_delivery_says_so() -> None:
    nothing = {"count": 0, "p50": None, "p99": None, "p99_9": None, "max": None}
    shown = text(outcome(summary={"latency_ms": {"delivery": nothing}, "faults": [], "gates": []}))
    assert "none: nothing was delivered live" in shown
    assert "faults" not in shown

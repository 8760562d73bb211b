"""A trend as people read it: a page, Markdown, lines in a terminal; and as programs do, in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from reports import html, markdown, wording
from reports.blocks import (
    SIGNS,
    Badge,
    Block,
    Code,
    Column,
    Details,
    Para,
    Picture,
    Section,
    Table,
    Text,
    Tone,
    Verdict,
)
from reports.charts import Axis, Band, Chart, Panel, Point, Series
from reports.compare_page import aligned, change_told, plain
from reports.comparison import figure
from reports.trend import Change, Line, Metric, Trend, TrendRun, counted

TREND_VERSION: Final = 1
TITLE: Final = "Trend of {}"
FOOTER: Final = "One figure a run, the median between changes. Times are UTC."
METHOD: Final = (
    "A change is where the runs before and after it differ more than they would in nearly any other order: "
    "the runs are put into 1,999 random orders (always the same ones), and p is the share that look as much "
    "like a change. Ranks are compared, so that one night on a bad machine is no change."
)
CAREFUL: Final = (
    "Of rows of 100 runs in which nothing changed, about one in a hundred is said to have a change, for each "
    "figure. The test takes the noise of one run to say nothing of the next: a machine that is busy for a "
    "week looks like a change. See what else changed between the two runs before you blame a commit."
)
_DRAWN: Final = (
    "A point is a run, a line the median between changes; a numbered stretch lies between the last run "
    "before a change and the first after it. An axis begins at 0 only where little moved, and for counts."
)
_HARDLY: Final = 1.25  # the largest figure against the smallest
_ANSI: Final = {"pass": "32", "fail": "31", "unknown": "33"}
_SHOWN_RUNS: Final = 200  # in the table of the page, the newest
_SHOWN_LEFT: Final = 40


def page(found: Trend) -> str:
    """trend.html."""
    return html.page(TITLE.format(found.scenario), _facts(found), sections(found), FOOTER)


def document(found: Trend) -> str:
    """trend.md."""
    title = TITLE.format(found.scenario)
    return markdown.document(title, _facts(found), sections(found), FOOTER, beside="trend.html")


def sections(found: Trend) -> list[Section]:
    """The first is the verdict."""
    tone, word, sentence = verdict(found)
    made = [
        Section("verdict", "Verdict", (Verdict(tone, word, sentence), _overview(found))),
        Section("changes", "Changes", _changes(found)),
        Section("figures", "Over the runs", tuple(_pictures(found))),
        Section("runs", "The runs", (_runs(found),)),
        Section("left", "Left out", _left(found)),
        Section("method", "How changes are found", (Para(METHOD), Para(CAREFUL), Para(_limits(found), True))),
    ]
    return [section for section in made if section.blocks]


def verdict(found: Trend) -> tuple[Tone, str, str]:
    """Tone, a word, and the sentence why."""
    limits = found.limits
    if found.worse:
        told = "; ".join(_lately(line) for line in found.worse)
        return Tone.FAIL, "got worse", f"{told}."
    if not found.enough:
        need, most = 2 * limits.least_runs, max((line.known for line in found.lines), default=0)
        return Tone.UNKNOWN, "too few runs", f"{most} of {need}: fewer cannot show a change."
    newest = wording.plural(min(limits.recent, len(found.runs)), "newest run")
    told = f"No figure got worse within the {newest}, by {_share(limits.min_change)} or more."
    return Tone.PASS, "nothing new got worse", told


def _lately(line: Line) -> str:
    """Of a line that got worse: how, and since which run."""
    worse = [change for change in line.changes if change.worse]
    since = f" since run {worse[-1].first + 1}" if worse else ""
    told = "was 0" if line.shift is None else _signed(line.shift)
    return f"{line.metric.title} {shown(line.levels[-1], line.metric)} ({told}){since}"


def _signed(change: float | None) -> str:
    return wording.NONE if change is None else change_told(change)


def _share(ratio: float) -> str:
    return f"{ratio * 100:g}{wording.NBSP}%"


def shown(value: float | None, metric: Metric) -> str:
    """A figure with its unit."""
    if metric.unit == "bytes":
        return wording.size_bytes(value)
    if metric.unit == "" and value is not None and not value.is_integer():
        return wording.decimal(value)
    return figure(value, metric.unit)


def _facts(found: Trend) -> list[tuple[str, str]]:
    first, last = found.runs[0], found.runs[-1]
    facts = [("runs", wording.count(len(found.runs))), ("from", first.told), ("to", last.told)]
    if found.left:
        facts.append(("left out", wording.count(len(found.left))))
    return [*facts, ("series", found.series)]


def _overview(found: Trend) -> Table:
    right = [Column(head, align="right") for head in ("first", "now", "all in all", "newest run", "changes")]
    return Table(
        (Column("level of"), *right, Column(f"last {wording.plural(found.limits.recent, 'run')}")),
        tuple((_named(line), *_row(line), _word(line)) for line in found.lines),
        note="First, now: medians up to the first change and since the last. ↓ less is better, ↑ more is.",
    )


def _named(line: Line) -> str:
    return f"{line.metric.title} {'↑' if line.metric.better == 'higher' else '↓'}"


def _row(line: Line) -> tuple[str, ...]:
    first, now = line.levels[0], line.levels[-1]
    whole = _signed(now / first - 1) if line.changes and first else wording.NONE
    newest = next(value for value in reversed(line.values) if value is not None)
    levels = (shown(first, line.metric), shown(now, line.metric))
    return (*levels, whole, shown(newest, line.metric), str(len(line.changes)))


def _word(line: Line) -> Text:
    if line.new:
        return Badge(Tone.FAIL, f"worse, {'from 0' if line.shift is None else _signed(line.shift)}")
    if line.shift:
        return Badge(Tone.PASS, f"better, {_signed(line.shift)}")
    return "no change"


def _numbered(line: Line) -> list[tuple[int, Change]]:
    return list(enumerate(line.changes, start=1))


def _changes(found: Trend) -> tuple[Block, ...]:
    """Every change of every figure, the newest first."""
    rows = sorted(
        ((change, line) for line in found.lines for change in line.changes), key=lambda row: -row[0].first
    )
    if not rows:
        return (Para("None was found."),)
    right = [Column(head, align="right") for head in ("before", "after", "change", "p")]
    heads = (Column("figure"), *right, Column(""), Column("last run before it", wrap=True))
    return (
        Table(
            (*heads, Column("first run after it", wrap=True), Column("also changed", wrap=True)),
            tuple(_change_row(found, line, change) for change, line in rows),
        ),
    )


def _change_row(found: Trend, line: Line, change: Change) -> tuple[Text, ...]:
    return (
        line.metric.title,
        shown(change.before, line.metric),
        shown(change.after, line.metric),
        "from 0" if change.change is None else _signed(change.change),
        p_told(change.p),
        _badge(change),
        _run_told(found.runs, change.last),
        _run_told(found.runs, change.first),
        "; ".join(change.also) or wording.NONE,
    )


def _badge(change: Change) -> Badge:
    return Badge(Tone.FAIL, "worse") if change.worse else Badge(Tone.PASS, "better")


def p_told(p: float) -> str:
    return f"{p:.4f}".rstrip("0")


def _run_told(runs: Sequence[TrendRun], index: int) -> str:
    return f"{index + 1}, {runs[index].told}"


def _pictures(found: Trend) -> list[Block]:
    """A chart of each figure that is not the same in all runs, and its levels; what changed comes first."""
    blocks: list[Block] = []
    same = []
    for line in sorted(found.lines, key=lambda line: (not line.new, not line.changes)):
        values = {value for value in line.values if value is not None}
        if len(values) == 1:
            same.append(f"{line.metric.title}: {shown(values.pop(), line.metric)}")
            continue
        drawn = chart(found, line)
        blocks.append(Picture(drawn if blocks else replace(drawn, says=f"{drawn.says} {_DRAWN}")))
        if line.changes:
            blocks.append(_levels(found, line))
    if same:
        blocks.append(Para(f"The same in all runs: {'; '.join(same)}."))
    return blocks


def _levels(found: Trend, line: Line) -> Table:
    starts = [0, *(change.first for change in line.changes)]
    ends = [*(change.last for change in line.changes), len(found.runs) - 1]
    signs = ["", *(_signed(change.change) for change in line.changes)]
    return Table(
        (
            Column("runs"),
            Column("level", align="right"),
            Column("change", align="right"),
            Column("first of them", wrap=True),
        ),
        tuple(
            (
                f"{start + 1}–{end + 1}",
                shown(level, line.metric),
                sign or wording.NONE,
                found.runs[start].told,
            )
            for start, end, level, sign in zip(starts, ends, line.levels, signs, strict=True)
        ),
        caption=f"Levels of {line.metric.title}",
    )


def chart(found: Trend, line: Line) -> Chart:
    """A point a run, a line at each level, and a numbered stretch between the two runs of each change."""
    unit, scale = _drawn(line)
    dots: list[Point] = [
        (float(n), None if value is None else value * scale) for n, value in enumerate(line.values, start=1)
    ]
    bands = tuple(
        Band(change.last + 1, change.first + 1, f"run {change.first + 1}: {_mark(change)}")
        for change in line.changes
    )
    told = "; ".join(band.label for band in bands)
    counts = line.metric.unit == ""
    known = [value for value in line.values if value is not None]
    # What hardly moves is drawn so: a close look at noise alarms people.
    whole = counts or (not line.changes and max(known) < _HARDLY * min(known))
    return Chart(
        line.name.replace("_", "-"),
        line.metric.title,
        Axis("run", whole=True),
        (
            Panel(
                Axis(line.metric.title, unit, whole=counts, zero=whole),
                (Series("run", tuple(dots), 5, "dots"), Series("level", _steps(found, line, scale), 0)),
            ),
        ),
        f"Changed {'once' if len(bands) == 1 else f'{len(bands)} times'}: {told}." if told else "No change.",
        bands=bands,
        filed=False,
        x_range=(0.5, len(found.runs) + 0.5),
        numbered="Changes",
        names=tuple(run.told for run in found.runs),
    )


def _mark(change: Change) -> str:
    told = "from 0" if change.change is None else _signed(change.change)
    return f"{told}, {'worse' if change.worse else 'better'}"


def _steps(found: Trend, line: Line, scale: float) -> tuple[Point, ...]:
    """The levels as one line, which leads from each to the next between the two runs of the change."""
    points: list[Point] = []
    starts = [0.5, *(change.first + 1.0 for change in line.changes)]
    ends = [*(change.last + 1.0 for change in line.changes), len(found.runs) + 0.5]
    for start, end, level in zip(starts, ends, line.levels, strict=True):
        points += [(start, level * scale), (end, level * scale)]
    return tuple(points)


def _drawn(line: Line) -> tuple[str, float]:
    """Unit of the axis, and what values are multiplied with."""
    if line.metric.unit != "bytes":
        return {"us": "µs"}.get(line.metric.unit, line.metric.unit), 1.0
    largest = max(value for value in line.values if value is not None)
    return ("MiB", 2.0**-20) if largest >= 1024**2 else ("KiB", 2.0**-10)


def _runs(found: Trend) -> Details:
    """The newest runs, each with its figures."""
    kept = list(enumerate(found.runs))[-_SHOWN_RUNS:][::-1]
    heads = (Column("no.", align="right"), Column("started"), Column("label"), Column("run"))
    figures = tuple(Column(line.metric.title, align="right") for line in found.lines)
    rows: list[tuple[Text, ...]] = [
        (
            str(n + 1),
            run.started_utc[:16].replace("T", " "),
            run.label or wording.NONE,
            Code(run.run_id),
            *(shown(line.values[n], line.metric) for line in found.lines),
        )
        for n, run in kept
    ]
    more = len(found.runs) - len(kept)
    note = f"The newest {len(kept)}; {more:,} older ones are in trend.json." if more else ""
    table = Table((*heads, *figures), tuple(rows), note=note)
    return Details(f"All figures of {wording.plural(len(kept), 'run')}, the newest first", (table,))


def _left(found: Trend) -> tuple[Block, ...]:
    if not found.left:
        return ()
    rows: tuple[tuple[Text, ...], ...] = tuple(
        (wording.count(count), why) for why, count in counted(found.left)[:_SHOWN_LEFT]
    )
    names = tuple((Code(each.name), each.why) for each in found.left[:_SHOWN_LEFT])
    more = len(found.left) - len(names)
    note = f"And {more:,} more, in trend.json." if more > 0 else ""
    return (
        Table((Column("runs", align="right"), Column("why", wide=True)), rows),
        Details("Which they are", (Table((Column("run"), Column("why", wide=True)), names, note=note),)),
    )


def _limits(found: Trend) -> str:
    limits = found.limits
    return (
        f"Here: p of at most {limits.significance:g}, at least {limits.least_runs} runs on each side, a "
        f"change of at least {_share(limits.min_change)}; the newest {limits.recent} runs are new."
    )


def text(found: Trend, *, colour: bool = False) -> str:
    """For a terminal."""
    tone, word, sentence = verdict(found)
    head = f"{SIGNS[tone]} {word.upper()}"
    if colour:
        head = f"\x1b[1;{_ANSI[str(tone)]}m{head}\x1b[0m"
    first, last = found.runs[0], found.runs[-1]
    span = f"{wording.plural(len(found.runs), 'run')} of {found.scenario} (series {found.series}), "
    span += f"{first.told} to {last.told}"
    table: list[tuple[str, ...]] = [("", "first", "now", "all in all", "newest run", "changes")]
    table += [(_named(line), *_row(line)) for line in found.lines]
    lines = [f"{head}  {plain(sentence)}", f"  {plain(span)}", ""]
    lines += aligned([tuple(map(plain, row)) for row in table])
    changes = [(line, change) for line in found.lines for change in line.changes]
    if changes:
        lines += ["", "Changes:"]
        lines += [f"  {plain(_told(found, line, change))}" for line, change in changes]
    if found.left:
        lines += ["", f"Left out: {wording.plural(len(found.left), 'run')}"]
        lines += [f"  {count:>5}  {plain(why)}" for why, count in counted(found.left)[:_SHOWN_LEFT]]
    return "\n".join(lines) + "\n"


def _told(found: Trend, line: Line, change: Change) -> str:
    also = f"; also {', '.join(change.also)}" if change.also else ""
    return (
        f"{line.metric.title}: {shown(change.before, line.metric)} → {shown(change.after, line.metric)} "
        f"({_mark(change)}, p {p_told(change.p)}), between run {_run_told(found.runs, change.last)} and run "
        f"{_run_told(found.runs, change.first)}{also}"
    )


def as_json(found: Trend) -> dict[str, Any]:
    """The content of trend.json (schemas/trend.schema.json): plain values. Changes are ratios."""
    limits = found.limits
    return {
        "schema_version": TREND_VERSION,
        "scenario": found.scenario,
        "series": found.series,
        "exit": int(found.exit),
        "enough": found.enough,
        "sentence": verdict(found)[2].replace(wording.NBSP, " "),
        "limits": {
            "min_change": limits.min_change,
            "significance": limits.significance,
            "least_runs": limits.least_runs,
            "recent": limits.recent,
        },
        "runs": [
            {
                "run_id": run.run_id,
                "started_utc": run.started_utc,
                "label": run.label,
                "host": run.host,
                "version": run.version,
            }
            for run in found.runs
        ],
        "figures": [_line_json(found, line) for line in found.lines],
        "left": [{"run": each.name, "why": each.why} for each in found.left],
    }


def _line_json(found: Trend, line: Line) -> dict[str, Any]:
    return {
        "name": line.name,
        "title": line.metric.title,
        "unit": line.metric.unit,
        "better": line.metric.better,
        "values": list(line.values),
        "levels": list(line.levels),
        "shift": None if line.shift is None else round(line.shift, 6),
        "new": line.new,
        "changes": [
            {
                "last": found.runs[change.last].run_id,
                "first": found.runs[change.first].run_id,
                "index": change.first,
                "before": change.before,
                "after": change.after,
                "change": None if change.change is None else round(change.change, 6),
                "p": round(change.p, 6),
                "worse": change.worse,
                "also": list(change.also),
            }
            for change in line.changes
        ],
    }

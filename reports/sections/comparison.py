"""Comparison: this run beside a stored one. It shows; `chatproof ab` decides."""

from __future__ import annotations

import tomllib
from typing import Any, Final

from reports import wording
from reports.analysis import Analysis, summary
from reports.baseline import MOST_TEXT, Baseline, Made, made
from reports.blocks import Badge, Block, Bullets, Code, Column, Details, Para, Table, Text, Tone
from reports.compare import MOST_SCENARIO_BYTES, Row, differing, figures, flattened, rows, side_of
from reports.history import HistoryError
from reports.rundir import read_text

BASELINE_VERSION: Final = 1
_SHOWN: Final = 40  # settings that differ
_CAUTION: Final = (
    "One run beside another decides nothing: a change may be chance, another load of the machine or another "
    "day. ",
    Code("chatproof ab"),
    " runs two sides in turn on one machine, and decides.",
)


def build(analysis: Analysis) -> tuple[Block, ...]:
    other = analysis.baseline
    if other is None:
        return ()
    own = made(analysis.run, summary(analysis))
    settings = _settings(analysis, other)
    blocks: list[Block] = [Para(_CAUTION)]
    if warned := _warnings(own, other.made, settings):
        blocks.append(Bullets(tuple((Badge(Tone.UNKNOWN, "careful"), f" {line}") for line in warned)))
    blocks += [_figures(_rows(analysis, other)), _how(own, other.made, settings)]
    if settings:
        blocks.append(Details(f"Settings that differ: {len(settings)}", (_differing(settings),)))
    return tuple(blocks)


def as_json(analysis: Analysis) -> dict[str, Any] | None:
    """The content of analysis/baseline.json: which run it was, by its id, and the figures of both."""
    other = analysis.baseline
    if other is None:
        return None
    own, settings = made(analysis.run, summary(analysis)), _settings(analysis, other)
    return {
        "schema_version": BASELINE_VERSION,
        "run_id": other.made.run_id,
        "scenario": other.made.scenario,
        "started_utc": other.made.started_utc,
        "differs": _differs(own, other.made, settings),
        "figures": figures(_rows(analysis, other)),
    }


Settings = tuple[tuple[str, tuple[str, ...]], ...]


def _rows(analysis: Analysis, other: Baseline) -> tuple[Row, ...]:
    own = side_of(analysis.history.path, summary(analysis), {})
    return rows([other.side, own])


def _settings(analysis: Analysis, other: Baseline) -> Settings | None:
    """What differs between the scenarios; None: this run does not have its own any more."""
    path = analysis.history.path / "config" / "scenario.toml"
    try:
        own = flattened(tomllib.loads(read_text(path, most_bytes=MOST_SCENARIO_BYTES)))
    except (HistoryError, ValueError, RecursionError):
        return None
    return differing([other.side.settings, own])


def _figures(found: tuple[Row, ...]) -> Table:
    columns = (
        Column("", wrap=True),
        *(Column(head, align="right") for head in ("Baseline", "This run", "Change", "Ratio")),
    )
    shown = tuple(
        (row.told, *(wording.figure(value, row.unit) for value in row.values), _change(row), _ratio(row))
        for row in found
    )
    note = "Ratio: this run divided by the baseline. ↓ less is better, ↑ more is."
    return Table(columns, shown, caption="Figures", note=note)


def _change(row: Row) -> str:
    before, now = row.values
    if before is None or now is None:
        return wording.NONE
    change = now - before
    sign = "+" if change > 0 else "−" if change < 0 else ""
    return sign + wording.figure(abs(change), row.unit)


def _ratio(row: Row) -> str:
    change = row.changes()[1]
    if change is None:
        return wording.NONE
    ratio = 1 + change
    told = f"{ratio:.2f}" if 0.1 <= ratio < 10 else wording.decimal(ratio)
    return f"×{wording.NBSP}{told}"


def _how(own: Made, other: Made, settings: Settings | None) -> Table:
    differs = _differs(own, other, settings)

    def same(what: str, known: bool) -> Text:
        if what in differs:
            return Badge(Tone.UNKNOWN, "differs")
        return "same" if known else wording.NONE

    host = same("host", bool(own.host))
    if host == "same" and (not own.boot_id or own.boot_id != other.boot_id):
        host = "alike"
    named = dict.fromkeys((*other.versions, *own.versions))
    versions = [name for name in named if _version(own, name) != _version(other, name)] or ["chatproof"]
    both = (other, own)
    lines: list[tuple[Text, ...]] = [
        ("run", "", *(Code(run.run_id) for run in both)),
        ("outcome", "", *(run.outcome for run in both)),
        ("started, UTC", same("day", bool(own.started_utc)), *(_second(run.started_utc) for run in both)),
        ("scenario", same("scenario", bool(own.scenario)), *(run.scenario for run in both)),
        ("its settings", _settings_told(settings), "", ""),
        ("seed", same("seed", bool(own.seed)), *(run.seed for run in both)),
        ("host", host, *(_host(run, "cores", "memory", "Python") for run in both)),
        ("its platform", "", *(_host(run, "platform") for run in both)),
        ("load average before", "", *(run.load1 for run in both)),
        ("versions", same("versions", bool(own.versions)),
         *(", ".join(f"{name} {_version(run, name)}" for name in versions) for run in both)),
    ]  # fmt: skip
    columns = (Column(""), Column(""), Column("Baseline", wrap=True), Column("This run", wrap=True))
    rows = tuple(tuple(_or_none(cell) for cell in line) for line in lines)
    note = "Alike: cores, memory, platform and Python are the same; which machine it was is not recorded."
    return Table(columns, rows, caption="How each was made", note=note if host == "alike" else "")


def _or_none(cell: Text) -> Text:
    return wording.NONE if cell == Code("") else cell


def _second(utc: str) -> str:
    """2026-01-01T10:00:00.123+00:00 → 2026-01-01 10:00:00."""
    return utc[:19].replace("T", " ")


def _host(run: Made, *names: str) -> str:
    told = {"cores": f"{run.host.get('cores')} cores", "Python": f"Python {run.host.get('Python')}"}
    return ", ".join(told.get(name, run.host[name]) for name in names if name in run.host)


def _version(run: Made, name: str) -> str:
    return run.versions.get(name) or "not there"


def _settings_told(settings: Settings | None) -> Text:
    if settings is None:
        return "not known"
    return Badge(Tone.UNKNOWN, f"{len(settings)} differ") if settings else "same"


def _differs(own: Made, other: Made, settings: Settings | None) -> list[str]:
    """What is not the same in both: some of scenario, settings, seed, host, versions and day."""
    apart = {
        "scenario": own.scenario != other.scenario,
        "settings": bool(settings),
        "seed": own.seed != other.seed,
        "host": own.host != other.host,
        "versions": own.versions != other.versions,
        "day": own.started_utc[:10] != other.started_utc[:10],
    }
    return [name for name, differs in apart.items() if differs]


def _warnings(own: Made, other: Made, settings: Settings | None) -> list[str]:
    """What forbids to read a change as one of the system."""
    found = [
        f"{name} is {run.outcome or 'without an outcome'}: {run.sentence}"
        for name, run in (("The baseline", other), ("This run", own))
        if run.outcome not in ("pass", "fail")
    ]
    if differs := _differs(own, other, settings):
        found.append(f"Not the same in both: {', '.join(differs)}. A change below may come from that.")
    return found


def _differing(settings: Settings) -> Table:
    rows: tuple[tuple[Text, ...], ...] = tuple(
        (Code(_cut(key)), *(_cut(value) or wording.NONE for value in values))
        for key, values in settings[:_SHOWN]
    )
    more = len(settings) - _SHOWN
    columns = (Column("setting"), Column("Baseline", wrap=True), Column("This run", wrap=True))
    return Table(columns, rows, note=f"… and {more} more." if more > 0 else "")


def _cut(text: str) -> str:
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…"

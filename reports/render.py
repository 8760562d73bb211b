"""From an analysis to texts: HTML, Markdown, JUnit, CTRF and OpenMetrics, and the lines in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from reports import ctrf, html, junit, markdown, openmetrics, wording
from reports.analysis import Analysis
from reports.blocks import SIGNS, Section
from reports.escape import for_terminal
from reports.sections import SECTIONS
from reports.sections.verdict import TONES
from reports.verdict import Exit

if TYPE_CHECKING:
    from reports.pipeline import Outcome

_ANSI: Final = {"pass": "32", "fail": "31", "unknown": "33", "void": "35"}


def sections(analysis: Analysis) -> list[Section]:
    """Every section of SECTIONS that has something to say of this run, in order."""
    made = [Section(name, title, build(analysis)) for name, (title, build) in SECTIONS.items()]
    return [section for section in made if section.blocks]


def report_html(analysis: Analysis) -> str:
    return html.page(_title(analysis), _facts(analysis), sections(analysis), _footer(analysis))


def report_markdown(analysis: Analysis) -> str:
    return markdown.document(_title(analysis), _facts(analysis), sections(analysis), _footer(analysis))


def report_junit(analysis: Analysis) -> str:
    return junit.document(analysis)


def report_ctrf(analysis: Analysis) -> dict[str, Any]:
    return ctrf.report(analysis)


def report_metrics(analysis: Analysis) -> str:
    return openmetrics.metrics_text(analysis)


def _title(analysis: Analysis) -> str:
    return str(analysis.run.get("scenario") or "run without a name")


def _facts(analysis: Analysis) -> list[tuple[str, str]]:
    run = analysis.run
    load = run.get("load") or {}
    duration = run.get("duration_s")
    rows = [
        ("run", run.get("run_id")),
        ("started", run.get("started_utc")),
        ("lasted", wording.span_s(float(duration)) if isinstance(duration, int | float) else None),
        ("status", run.get("status")),
        ("seed", run.get("seed")),
        ("clients", wording.count(load["clients"]) if isinstance(load.get("clients"), int) else None),
        ("channels", wording.count(load["channels"]) if isinstance(load.get("channels"), int) else None),
        ("via", run.get("via")),
    ]
    return [(name, str(value)) for name, value in rows if value is not None]


def _footer(analysis: Analysis) -> str:
    version = (analysis.run.get("versions") or {}).get("chatproof")
    made = f"Recorded by chatproof {version}. " if version else ""
    return made + "Seconds count from the start of the schedule; figures have three digits that matter."


def text(outcome: Outcome, *, colour: bool = False) -> str:
    """The last lines of ``chatproof run`` and ``report``: verdict, reasons, key figures, where the report is.

    Args:
        colour: mark the verdict with a terminal colour; for a terminal only.
    """
    found = outcome.summary
    tone = TONES.get(Exit(outcome.exit), TONES[Exit.UNKNOWN])
    head = f"{SIGNS[tone]} {str(found['outcome']).upper()}"
    if colour:
        head = f"\x1b[1;{_ANSI[str(tone)]}m{head}\x1b[0m"
    lines = [f"{head}  {_plain(outcome.sentence)}"]
    why = "invalid" if outcome.verdict == "invalid" else "unknown"
    shown = [*(("void", r) for r in outcome.void), *((why, r) for r in found["reasons"])]
    told = [(label, _plain(reason)) for label, reason in shown if len(shown) > 1]
    lines += [f"  {label:>8}  {reason}" for label, reason in told[:8]]
    if len(told) > 8:
        lines.append(f"  {'':>8}  and {len(told) - 8} more, in the report")
    lines += [f"  {'e.g.':>8}  {_plain(example)}" for example in outcome.examples]
    figures = _figures(found)
    if outcome.baseline is not None:
        figures.append(("shown beside", f"{_plain(outcome.baseline)}, in the report; no verdict hangs on it"))
    width = max((len(name) for name, _ in figures), default=0)
    lines += ["", *(f"  {name:<{width}}  {value}" for name, value in figures)]
    lines += ["", f"  report  {_plain(str(outcome.report))}"]
    return "\n".join(lines) + "\n"


def _plain(told: str) -> str:
    return " ".join(for_terminal(told).replace(wording.NBSP, " ").split("\n"))


def _count(n: int | None) -> str:
    return "not promised" if n is None else wording.count(n)


def _figures(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    covered, load, delivery = found["coverage"], found["load"], found["latency_ms"]["delivery"]
    anomalies = found["anomalies"]
    points = ", ".join(
        f"{label} {wording.ms(delivery[key])}"
        for key, label in (("p50", "p50"), ("p99", "p99"), ("p99_9", "p99.9"), ("max", "max"))
    )
    rows = [
        (
            "deliveries",
            f"{wording.count(covered['delivered'])}, from "
            f"{wording.plural(covered['acked'], 'acked message')}",
        ),
        ("lost, duplicated, reordered", ", ".join(_count(n) for n in anomalies.values())),
        ("delivery latency", points if delivery["count"] else "none: nothing was delivered live"),
        *_clock_line(load.get("clock_uncertainty_ms")),
        ("delivery rate", wording.figure(load["deliveries_per_s"], "/s")),
        (
            "lag of the load, p99",
            f"{wording.ms(load['lag_p99_ms'])} (limit {wording.ms(load['lag_limit_ms'])})",
        ),
        *_fault_line(found["faults"]),
        *_gate_line(found["gates"], by_hand=found["interactive"]),
    ]
    return [(name, _plain(value)) for name, value in rows]


def _clock_line(apart_ms: float | None) -> list[tuple[str, str]]:
    if apart_ms is None:
        return []
    return [("clocks of the load's hosts", f"± {wording.ms(apart_ms)}, in every delivery between them")]


def _fault_line(faults: list[dict[str, Any]]) -> list[tuple[str, str]]:
    if not faults:
        return []
    seen = sum(fault["had_effect"] for fault in faults)
    backs = [f["recovery"]["all_back_s"] for f in faults if f["recovery"]]
    slowest = max((b for b in backs if b is not None), default=None)
    never = sum(f["recovery"]["never_back"] for f in faults if f["recovery"])
    back = f"; {wording.plural(never, 'subscription')} never back" if never else ""
    if not never and slowest is not None:
        back = f"; all back {wording.span_s(slowest)} after the revert at worst"
    return [("faults with an effect", f"{seen} of {len(faults)}{back}")]


def _gate_line(gates: list[dict[str, Any]], *, by_hand: bool) -> list[tuple[str, str]]:
    if by_hand:
        return [("gates", "none judged: the load was steered by hand")]
    if not gates:
        return []
    held = sum(gate["verdict"] == "pass" for gate in gates)
    failed = ", ".join(gate["id"] for gate in gates if gate["verdict"] != "pass")
    return [("gates", f"{held} of {len(gates)} hold" + (f"; not: {failed}" if failed else ""))]

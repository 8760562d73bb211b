"""What a report for a CI server has test cases of: the run itself, its gates, the gated anomaly classes."""

from __future__ import annotations

from dataclasses import dataclass

from reports.analysis import Analysis
from reports.evaluate import GateResult, GateVerdict
from reports.verdict import failure


@dataclass(frozen=True, slots=True)
class Case:
    """``problem``: "failure": not as it must be; "error": undecided, or the run is void; "": passed."""

    group: str
    name: str
    problem: str = ""
    text: str = ""  # of a problem; the first line says it in short
    gate: GateResult | None = None


def cases(analysis: Analysis) -> list[Case]:
    """Every test case of a run, in the order of a report."""
    return [*_of_run(analysis), *_of_gates(analysis), *_of_classes(analysis)]


def _of_run(analysis: Analysis) -> list[Case]:
    judged = analysis.judgement
    void = "; ".join(judged.void)
    unknown = "; ".join(judged.reasons) if judged.verdict == "unknown" else ""
    return [
        Case("run", "the run can be believed", "error" if void else "", void),
        Case("run", "the history could be decided", "error" if judged.verdict == "unknown" else "", unknown),
    ]


def _of_gates(analysis: Analysis) -> list[Case]:
    problems = {GateVerdict.PASS: "", GateVerdict.FAIL: "failure", GateVerdict.UNKNOWN: "error"}
    return [
        Case(
            f"gates.{r.kind}",
            r.id,
            problems[r.verdict],
            "" if r.verdict is GateVerdict.PASS else failure(r),
            r,
        )
        for r in analysis.results
    ]


def _of_classes(analysis: Analysis) -> list[Case]:
    made = []
    for result in analysis.integrity.classes.values():
        if not result.gated:
            continue
        sentences = "\n".join(finding.sentence for finding in result.findings[:5])
        text = f"{result.count} {result.unit}\n{sentences}" if result.count else "; ".join(result.reasons)
        problem = "failure" if result.count else "error" if result.unknown else ""
        made.append(Case("integrity", f"{result.cls} {result.title}", problem, text if problem else ""))
    return made

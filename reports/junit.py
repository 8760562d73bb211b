"""junit.xml: gates, gated anomaly classes and the run's validity as test cases, for a CI server's test view.

The text of a failure stands in its message and in its body, since servers show either one.
"""

from __future__ import annotations

from dataclasses import dataclass

from reports.analysis import Analysis
from reports.escape import for_xml
from reports.evaluate import GateVerdict
from reports.verdict import failure


@dataclass(frozen=True, slots=True)
class _Case:
    group: str
    name: str
    problem: str = ""  # "failure" or "error"; "": passed
    text: str = ""


def document(analysis: Analysis) -> str:
    """The document; ``failure``: not as it must be; ``error``: could not be decided, or the run is void."""
    scenario = str(analysis.run.get("scenario") or "run")
    cases = [*_run_cases(analysis), *_gate_cases(analysis), *_class_cases(analysis)]
    failures = sum(case.problem == "failure" for case in cases)
    errors = sum(case.problem == "error" for case in cases)
    duration = analysis.run.get("duration_s")
    time = f"{duration:.3f}" if isinstance(duration, int | float) else "0"
    counts = f'tests="{len(cases)}" failures="{failures}" errors="{errors}" time="{time}"'
    body = "".join(_case(scenario, case) for case in cases)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<testsuites name="chatproof" {counts}>\n'
        f'<testsuite name="{for_xml(scenario)}" {counts} skipped="0">\n{body}</testsuite>\n</testsuites>\n'
    )


def _run_cases(analysis: Analysis) -> list[_Case]:
    judged = analysis.judgement
    void = "; ".join(judged.void)
    unknown = "; ".join(judged.reasons) if judged.verdict == "unknown" else ""
    return [
        _Case("run", "the run can be believed", "error" if void else "", void),
        _Case("run", "the history could be decided", "error" if judged.verdict == "unknown" else "", unknown),
    ]


def _gate_cases(analysis: Analysis) -> list[_Case]:
    problems = {GateVerdict.PASS: "", GateVerdict.FAIL: "failure", GateVerdict.UNKNOWN: "error"}
    return [
        _Case(
            f"gates.{r.kind}",
            r.id,
            problems[r.verdict],
            "" if r.verdict is GateVerdict.PASS else failure(r),
        )
        for r in analysis.results
    ]


def _class_cases(analysis: Analysis) -> list[_Case]:
    made = []
    for result in analysis.integrity.classes.values():
        if not result.gated:
            continue
        sentences = "\n".join(finding.sentence for finding in result.findings[:5])
        text = f"{result.count} {result.unit}\n{sentences}" if result.count else "; ".join(result.reasons)
        problem = "failure" if result.count else "error" if result.unknown else ""
        made.append(_Case("integrity", f"{result.cls} {result.title}", problem, text if problem else ""))
    return made


def _case(scenario: str, case: _Case) -> str:
    head = f'<testcase classname="{for_xml(f"{scenario}.{case.group}")}" name="{for_xml(case.name)}" time="0"'
    if not case.problem:
        return head + "/>\n"
    first = case.text.split("\n", 1)[0]
    return (
        f'{head}><{case.problem} message="{for_xml(first)}" type="{for_xml(case.group)}">'
        f"{for_xml(case.text)}</{case.problem}></testcase>\n"
    )

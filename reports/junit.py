"""junit.xml: gates, gated anomaly classes and the run's validity as test cases, for a CI server's test view.

The text of a failure stands in its message and in its body, since servers show either one.
"""

from __future__ import annotations

from reports.analysis import Analysis
from reports.cases import Case, cases
from reports.escape import for_xml


def document(analysis: Analysis) -> str:
    """The document; ``failure``: not as it must be; ``error``: could not be decided, or the run is void."""
    scenario = str(analysis.run.get("scenario") or "run")
    told = cases(analysis)
    failures = sum(case.problem == "failure" for case in told)
    errors = sum(case.problem == "error" for case in told)
    duration = analysis.run.get("duration_s")
    time = f"{duration:.3f}" if isinstance(duration, int | float) else "0"
    counts = f'tests="{len(told)}" failures="{failures}" errors="{errors}" time="{time}"'
    body = "".join(_case(scenario, case) for case in told)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<testsuites name="chatproof" {counts}>\n'
        f'<testsuite name="{for_xml(scenario)}" {counts} skipped="0">\n{body}</testsuite>\n</testsuites>\n'
    )


def _case(scenario: str, case: Case) -> str:
    head = f'<testcase classname="{for_xml(f"{scenario}.{case.group}")}" name="{for_xml(case.name)}" time="0"'
    if not case.problem:
        return head + "/>\n"
    first = case.text.split("\n", 1)[0]
    return (
        f'{head}><{case.problem} message="{for_xml(first)}" type="{for_xml(case.group)}">'
        f"{for_xml(case.text)}</{case.problem}></testcase>\n"
    )

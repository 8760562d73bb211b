"""ctrf.json: the test cases of junit.xml in the Common Test Report Format, whose tools show and compare runs.

A status says what the run can vouch for. Of a void run nothing has passed, and a gate on a figure has not
failed either: both are "other". A message that was lost is lost all the same, so what integrity found stays
"failed". What the server does not promise was not judged: "skipped".

Source: CTRF 0.1.0, https://ctrf.io (results, summary, tests, environment).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any, Final

from reports.analysis import Analysis
from reports.cases import Case, cases
from reports.escape import for_terminal
from reports.periods import phases

SPEC: Final = "0.1.0"
STATUSES: Final = ("passed", "failed", "skipped", "pending", "other")
_NAMES: Final = uuid.UUID("5d0f7c0c-6d5a-5a4e-9a55-3f2a1c8d7e10")  # of test cases; any, but always the same
_ACCUSES: Final = frozenset({"integrity", "gates.integrity"})  # groups that hold in a void run too
Span = tuple[int, int]  # from and to, ms since 1970


def report(analysis: Analysis) -> dict[str, Any]:
    """The content of ctrf.json; the same run gives the same."""
    run, judged = analysis.run, analysis.judgement
    scenario = _text(run.get("scenario") or "run")
    begin, end = whole = _run_ms(run)
    tests = [
        *(_test(case, scenario, _when(case, run, whole), bool(judged.void)) for case in cases(analysis)),
        *_skipped(analysis, scenario, whole),
    ]
    counts = {status: sum(test["status"] == status for test in tests) for status in STATUSES}
    version = (run.get("versions") or {}).get("chatproof")
    tool = {"name": "chatproof"} | ({"version": _text(version)} if version else {})
    return {
        "reportFormat": "CTRF",
        "specVersion": SPEC,
        "generatedBy": "chatproof",
        "results": {
            "tool": tool,
            "summary": {
                "tests": len(tests),
                **counts,
                "suites": len({tuple(test["suite"]) for test in tests}),
                "start": begin,
                "stop": end,
                "duration": end - begin,
                "extra": {
                    "outcome": judged.word,
                    "verdict": judged.verdict,
                    "exit": int(judged.exit),
                    "sentence": _text(judged.sentence),
                },
            },
            "tests": tests,
            "environment": _environment(run, scenario, believed=not judged.void),
        },
    }


def _test(case: Case, scenario: str, when: Span, void: bool) -> dict[str, Any]:
    told = _head(scenario, case.group, case.name, when) | {"status": _status(case, void)}
    raw = {"failure": "fail", "error": "unknown", "": "pass"}[case.problem]
    told["rawStatus"] = raw if case.gate is None else str(case.gate.verdict)
    text = _text(case.text)
    if void and told["status"] == "other" and case.group != "run":
        text = "\n".join(filter(None, ("the run is void", text)))
    if text:
        told["message"] = text.split("\n", 1)[0]
    if "\n" in text:
        told["trace"] = text
    if (gate := case.gate) is not None:
        where = {key: _text(value) for key, value in gate.where.items()}
        told["parameters"] = {
            "kind": gate.kind,
            "metric": _text(gate.metric),
            "condition": _text(gate.condition),
            "phase": _text(gate.phase),
        } | ({"where": where} if where else {})
        told["extra"] = {
            "actual": gate.actual,
            "threshold": gate.threshold,
            "margin": gate.margin,
            "unit": gate.unit,
        }
    return told


def _status(case: Case, void: bool) -> str:
    if case.problem == "error":
        return "other"
    if case.problem == "failure":
        return "other" if void and case.group not in _ACCUSES else "failed"
    return "other" if void and case.group != "run" else "passed"


def _skipped(analysis: Analysis, scenario: str, when: Span) -> list[dict[str, Any]]:
    return [
        _head(scenario, "integrity", f"{result.cls} {result.title}", when)
        | {"status": "skipped", "message": f"not promised by this server: {_text(', '.join(result.lacks))}"}
        for result in analysis.integrity.classes.values()
        if result.lacks
    ]


def _head(scenario: str, group: str, name: str, when: Span) -> dict[str, Any]:
    name = _text(name) or "?"  # a test has a name
    return {
        "id": str(uuid.uuid5(_NAMES, "\n".join((scenario, group, name)))),
        "name": name,
        "status": "",
        "duration": when[1] - when[0],
        "start": when[0],
        "stop": when[1],
        "suite": [scenario, group],
    }


def _environment(run: Mapping[str, Any], scenario: str, *, believed: bool) -> dict[str, Any]:
    host, load = run.get("host") or {}, run.get("load") or {}
    system = re.match(r"[A-Za-z]+", str(host.get("platform") or ""))
    named = {
        "reportName": scenario,
        "appName": load.get("driver"),
        "osPlatform": system and system[0].lower(),
        "osRelease": host.get("kernel"),
        "osVersion": host.get("platform"),
    }
    facts = {"run": run.get("run_id"), "status": run.get("status"), "via": run.get("via")}
    extra: dict[str, Any] = {key: _text(value) for key, value in facts.items() if value is not None}
    extra |= {"seed": seed} if isinstance(seed := run.get("seed"), int) else {}
    extra["versions"] = {_text(key): _text(value) for key, value in (run.get("versions") or {}).items()}
    return {key: _text(value) for key, value in named.items() if value} | {
        "healthy": believed,
        "extra": extra,
    }


def _run_ms(run: Mapping[str, Any]) -> Span:
    begin, took = (run.get("clock") or {}).get("unix_ns"), run.get("duration_s")
    start = begin // 1_000_000 if isinstance(begin, int) else 0
    known = phases(run)
    if isinstance(took, int | float):
        return start, start + round(took * 1000)
    return start, max([start, *(_phase_ms(run, phase.end_ns) for phase in known)])


def _when(case: Case, run: Mapping[str, Any], whole: Span) -> Span:
    """The stretch that a case is about: its phase, or the run."""
    named = [phase for phase in phases(run) if case.gate is not None and phase.name == case.gate.phase]
    if not named:
        return whole
    return _phase_ms(run, named[0].start_ns), _phase_ms(run, named[0].end_ns)


def _phase_ms(run: Mapping[str, Any], at_ns: int) -> int:
    clock = run.get("clock") or {}
    since, zero = clock.get("monotonic_ns"), clock.get("unix_ns")
    if not isinstance(since, int) or not isinstance(zero, int):
        return 0
    return (zero + at_ns - since) // 1_000_000


def _text(value: object) -> str:
    """Text with its control characters made visible."""
    return for_terminal(str(value))

"""What CTRF 0.1.0 asks of those of its fields that ctrf.json has; any other field is refused."""

from __future__ import annotations

from typing import Any

from tests.reports.schema_check import violations

_TEXT, _WHOLE = {"type": "string"}, {"type": "integer", "minimum": 0}


def _object(required: str, optional: str = "", **fields: dict[str, Any]) -> dict[str, Any]:
    """An object with these fields; those without a rule of their own are text."""
    named = dict.fromkeys([*required.split(), *optional.split()], _TEXT)
    return {
        "type": "object",
        "required": required.split(),
        "properties": named | fields,
        "additionalProperties": False,
    }


_FREE = {"type": "object"}
_COUNTS = dict.fromkeys(
    "tests passed failed skipped pending other start stop suites duration".split(), _WHOLE
)
_TEST = _object(
    "name status duration",
    "id message trace rawStatus",
    status={"enum": ["passed", "failed", "skipped", "pending", "other"]},
    duration=_WHOLE, start=_WHOLE, stop=_WHOLE,
    suite={"type": "array", "items": _TEXT},
    parameters=_FREE, extra=_FREE,
)  # fmt: skip
_RESULTS = _object(
    "tool summary tests",
    tool=_object("name", "version"),
    summary=_object("tests passed failed skipped pending other start stop", **_COUNTS, extra=_FREE),
    tests={"type": "array", "items": _TEST},
    environment=_object(
        "", "reportName appName osPlatform osRelease osVersion", healthy={"type": "boolean"}, extra=_FREE
    ),
)
RULES = _object(
    "reportFormat specVersion results", "generatedBy", reportFormat={"const": "CTRF"}, results=_RESULTS
)


def broken(report: dict[str, Any]) -> list[str]:
    """Rules that a report breaks, a line each."""
    found = violations(report, RULES)
    for test in report["results"]["tests"]:
        found += [] if test["name"] else ["a test has no name"]
        found += [] if test["suite"] else ["a test is in no suite"]
    return found

"""ctrf.json: in the rules of its format for every kind of run, and what each status stands for."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

import pytest

from reports import ctrf, junit
from reports.analysis import Analysis
from tests.reports.ctrf_rules import broken
from tests.reports.synthetic import small
from tests.reports.test_openmetrics import RUNS, analysed, lossy


@pytest.fixture(scope="module", params=RUNS)
def analysis(request: pytest.FixtureRequest) -> Analysis:
    return analysed(RUNS[request.param]())


def by_name(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {test["name"]: test for test in report["results"]["tests"]}


def test_every_kind_of_run_keeps_the_rules_of_the_format(analysis: Analysis) -> None:
    report = ctrf.report(analysis)
    assert broken(report) == []
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert re.fullmatch(r"\d+\.\d+\.\d+", report["specVersion"])
    tests, summary = report["results"]["tests"], report["results"]["summary"]
    assert summary["tests"] == len(tests)
    for status in ("passed", "failed", "skipped", "pending", "other"):
        assert summary[status] == sum(test["status"] == status for test in tests)
    for test in tests:
        assert test["stop"] - test["start"] == test["duration"]
        assert ("message" in test) == (test["status"] != "passed")
    assert len({uuid.UUID(test["id"]) for test in tests}) == len(tests)
    assert ctrf.report(analysis) == report


def test_the_rules_refuse_what_they_should() -> None:
    report = ctrf.report(analysed(small()))
    report["results"]["tests"][0] |= {"status": "ok", "duration": 1.5, "more": 1, "name": ""}
    del report["results"]["summary"]["pending"]
    assert len(broken(report)) == 5


def test_it_has_the_cases_of_junit_and_those_that_were_not_judged(analysis: Analysis) -> None:
    tests = ctrf.report(analysis)["results"]["tests"]
    judged = [test for test in tests if test["status"] != "skipped"]
    assert len(judged) == junit.document(analysis).count("<testcase ")
    lacking = [c for c in analysis.integrity.classes.values() if c.lacks]
    assert len(tests) - len(judged) == len(lacking)


def test_a_gate_is_a_test_with_its_condition_and_what_it_found() -> None:
    run = analysed(small())
    tests = by_name(ctrf.report(run))
    assert (tests["lost"]["status"], tests["soon"]["status"]) == ("passed", "failed")
    assert "must be <" in tests["soon"]["message"]
    assert tests["soon"]["suite"] == ["synthetic", "gates.threshold"]
    assert tests["soon"]["parameters"]["condition"] == "p(99) < 1ms"
    assert tests["soon"]["extra"]["threshold"] == 1.0
    assert tests["soon"]["start"] == 1_714_564_800_000
    assert tests["soon"]["duration"] == round(run.run["duration_s"] * 1000)


def test_a_loss_fails_and_says_which_message() -> None:
    tests = by_name(ctrf.report(analysed(lossy())))
    assert tests["D1 delivery-gap"]["status"] == "failed"
    assert tests["D1 delivery-gap"]["message"] == "1 deliveries"
    assert "c3" in tests["D1 delivery-gap"]["trace"]
    assert tests["lost"]["status"] == "failed"


def test_of_a_void_run_nothing_has_passed_and_only_integrity_has_failed() -> None:
    made = lossy()
    made.run = {"void": ["the machine slept"]}
    report = ctrf.report(analysed(made))
    tests = by_name(report)
    assert not [t for t in tests.values() if t["status"] == "passed" and t["suite"][1] != "run"]
    assert (tests["lost"]["status"], tests["D1 delivery-gap"]["status"]) == ("failed", "failed")
    assert (tests["soon"]["status"], tests["soon"]["rawStatus"]) == ("other", "fail")
    assert tests["soon"]["message"] == "the run is void"
    assert tests["L1 divergent-serial"]["status"] == "other"
    assert tests["the run can be believed"]["message"] == "the machine slept"
    assert report["results"]["environment"]["healthy"] is False


def test_what_a_server_does_not_promise_is_skipped() -> None:
    tests = by_name(ctrf.report(analysed(RUNS["poor server"]())))
    assert tests["D1 delivery-gap"]["status"] == "skipped"
    assert tests["D1 delivery-gap"]["message"].startswith("not promised by this server: ")


def test_control_characters_of_names_are_visible() -> None:
    told = json.dumps(ctrf.report(analysed(RUNS["hostile"]())), ensure_ascii=False)
    assert "\\u001b" not in told
    assert "\u202e" not in told
    assert "\\\\x1b" in told

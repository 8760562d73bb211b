"""From a run directory to its report: what is written, again and again the same, for any run."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports.gates import GatesError
from reports.history import HistoryError, Kind
from reports.pipeline import Outcome, report_run
from reports.render import text
from tests.reports.schema_check import violations
from tests.reports.synthetic import Cut, Slow, Synthetic, exit_line, fault_lines, small, start_line

SCHEMAS = Path(__file__).parents[2] / "reports" / "schemas"
GATES = """
[[gate]]
id = "no-loss"
kind = "integrity"
metric = "lost"
max = 0

[[gate]]
id = "p99"
kind = "threshold"
metric = "delivery"
expr = "p(99) < 65ms"
where = { fault = "none" }
"""
WRITTEN = {
    "analysis/summary.json",
    "analysis/findings.jsonl",
    "analysis/intervals.parquet",
    "analysis/gates.json",
    "report/gates.json",
    "report/report.html",
    "report/report.md",
    "report/junit.xml",
    "report/ctrf.json",
    "report/metrics.txt",
    "report/latency.hlog",
    "report/latency.hgrm",
    *(
        f"report/plots/{name}.{kind}"
        for name in ("timeline", "latency-percentiles", "latency-over-time", "latency-p99-histogram")
        for kind in ("png", "svg")
    ),
}


def short_storm(**more: Any) -> Synthetic:
    made = small(
        cuts=[Cut(3, 4, 1), Cut(7, 8)],
        slows=[Slow(5, 6, 30, 0)],
        **more,
    )
    made.faults = [
        *fault_lines("cut-b", "down", 3, 4, target="b"),
        *fault_lines("slow-a", "latency", 5, 6, target="a"),
        *fault_lines("kill", "kill", 7, 8, target="chatd-1"),
        exit_line("kill", 7.001),
        start_line("kill", 7.9),
    ]
    return made


def made_at(path: Path, made: Synthetic, gates: str = GATES) -> Path:
    made.write(path)
    (path / "config").mkdir()
    (path / "config" / "scenario.toml").write_text(gates)
    return path


def files(run: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(run)): path.read_bytes()
        for top in ("analysis", "report")
        for path in sorted((run / top).rglob("*"))
        if path.is_file()
    }


def schema(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    return loaded


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    run = made_at(tmp_path_factory.mktemp("runs") / "stormy", short_storm())
    return run, report_run(run)


def test_a_good_run_under_faults_passes(reported: tuple[Path, Outcome]) -> None:
    _, outcome = reported
    assert outcome.summary["reasons"] == []
    assert (outcome.verdict, outcome.void, outcome.exit) == ("valid", [], 0)
    assert [r.verdict for r in outcome.gates] == ["pass", "pass"]


def test_everything_is_written(reported: tuple[Path, Outcome]) -> None:
    run, outcome = reported
    assert set(files(run)) == WRITTEN
    assert outcome.report == run / "report" / "report.html"


def test_judging_again_gives_the_same_bytes(reported: tuple[Path, Outcome], tmp_path: Path) -> None:
    run, _ = reported
    again = tmp_path / "again"
    shutil.copytree(run, again)
    before = files(again)
    report_run(again)
    assert files(again) == before
    shutil.rmtree(again / "analysis")
    shutil.rmtree(again / "report")
    report_run(again)
    assert files(again) == before


def test_the_report_says_nothing_of_where_the_run_lies(reported: tuple[Path, Outcome]) -> None:
    run, _ = reported
    for name, content in files(run).items():
        assert str(run).encode() not in content, name


@pytest.mark.parametrize("name", ["summary", "gates"])
def test_json_files_obey_their_schemas(reported: tuple[Path, Outcome], name: str) -> None:
    run, _ = reported
    assert violations(json.loads((run / "analysis" / f"{name}.json").read_text()), schema(name)) == []


def test_a_schema_refuses_what_it_should(reported: tuple[Path, Outcome]) -> None:
    broken = json.loads(json.dumps(reported[1].summary)) | {"exit": 2, "seed": "one", "more": 1}
    del broken["load"]["sent"]
    found = violations(broken, schema("summary"))
    assert len(found) == 4, found


def test_the_page_and_the_text_keep_to_their_sizes(reported: tuple[Path, Outcome]) -> None:
    run, _ = reported
    assert (run / "report" / "report.html").stat().st_size < 1_000_000
    assert (run / "report" / "report.md").stat().st_size <= 60 * 1024


def test_summary_has_what_programs_read(reported: tuple[Path, Outcome]) -> None:
    found = reported[1].summary
    assert found["schema_version"] == 1
    assert found["coverage"]["acked"] == found["load"]["acked"] > 300
    assert found["latency_ms"]["delivery"]["p99"] > 0
    assert [f["had_effect"] for f in found["faults"]] == [True, True, True]
    assert found["faults"][0]["recovery"]["all_back_s"] < 1
    assert found["load"]["lag_p99_ms"] == 1.4


def test_junit_has_a_case_a_gate_and_a_class(reported: tuple[Path, Outcome]) -> None:
    run, outcome = reported
    suites = ET.parse(run / "report" / "junit.xml").getroot()
    cases = {(c.get("classname"), c.get("name")): c for c in suites.iter("testcase")}
    assert ("synthetic.gates.threshold", "p99") in cases
    assert ("synthetic.integrity", "D1 delivery-gap") in cases
    assert int(suites.get("tests", 0)) == len(cases)
    assert suites.get("failures") == suites.get("errors") == "0"
    assert outcome.exit == 0


# ── runs that are not as they should be ───────────────────────────────────────────────────


def test_a_lost_delivery_makes_the_run_invalid_and_its_example_shows_the_message(tmp_path: Path) -> None:
    made = small()
    records = made.records()[1]
    live = np.flatnonzero((records["kind"] == Kind.RECV) & (records["client"] == 3))
    lost = records[live[20]]
    made._rows[1].remove(tuple(lost.tolist()))
    run = made_at(tmp_path / "lossy", made)
    outcome = report_run(run)
    message = f"c{lost['publisher']}:{lost['pub_seq']}"
    assert (outcome.verdict, outcome.exit) == ("invalid", 3)
    assert outcome.sentence == "The contract was broken: D1 delivery-gap × 1."
    assert outcome.summary["anomalies"] == {"lost": 1, "duplicated": 0, "reordered": 0}
    (finding,) = [json.loads(line) for line in (run / "analysis" / "findings.jsonl").read_text().splitlines()]
    assert finding["cls"] == "D1"
    assert f"Timeline of {message}" in (run / "report" / "report.html").read_text()
    junit = ET.parse(run / "report" / "junit.xml").getroot()
    failed = [c.get("name") for c in junit.iter("testcase") if c.find("failure") is not None]
    assert failed == ["no-loss", "D1 delivery-gap"]


def test_a_fault_without_an_effect_leaves_the_verdict_unknown(tmp_path: Path) -> None:
    made = small(faults=fault_lines("cut-b", "down", 4, 6, target="b"))
    outcome = report_run(made_at(tmp_path / "idle", made))
    assert (outcome.verdict, outcome.exit) == ("unknown", 4)
    assert outcome.sentence.startswith("Fault cut-b (down) had no measured effect")


def test_a_failed_threshold_gate_sets_the_exit(tmp_path: Path) -> None:
    gates = '[[gate]]\nid = "tight"\nkind = "threshold"\nmetric = "delivery"\nexpr = "p(50) < 1ms"\n'
    outcome = report_run(made_at(tmp_path / "slow", small(), gates))
    assert (outcome.verdict, outcome.exit) == ("valid", 1)


def test_a_run_that_was_steered_by_hand_is_judged_by_no_gate(tmp_path: Path) -> None:
    gates = '[[gate]]\nid = "tight"\nkind = "threshold"\nmetric = "delivery"\nexpr = "p(50) < 1ms"\n'
    run = made_at(tmp_path / "steered", small(), gates)
    manifest = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**manifest, "interactive": True}))
    outcome = report_run(run)
    assert (outcome.exit, outcome.gates) == (0, ())
    assert "steered by hand" in (run / "report/report.md").read_text()
    assert outcome.sentence.endswith("; the load was steered by hand, so no gate was judged.")
    assert outcome.summary["interactive"] is True
    assert "none judged: the load was steered by hand" in text(outcome)


def test_a_gates_file_overrides_the_scenarios(tmp_path: Path) -> None:
    run = made_at(tmp_path / "run", small())
    extra = tmp_path / "gates.toml"
    extra.write_text('[[gate]]\nid = "p99"\nkind = "threshold"\nmetric = "delivery"\nexpr = "p(99) < 1us"\n')
    assert report_run(run, gates_file=extra).exit == 1
    assert report_run(run).exit == 0


def test_late_load_makes_the_run_void(tmp_path: Path) -> None:
    made = small()
    run = tmp_path / "late"
    made.write(run, counters={"lag_p99_ms": 12.0})
    outcome = report_run(run)
    assert outcome.exit == 5
    assert outcome.void == ["worker 1 ran late: p99 of its lag is 12.0\u00a0ms, more than 5.00\u00a0ms; "
                            "the load was not what the scenario says"]  # fmt: skip


def test_a_missing_log_makes_the_run_void(tmp_path: Path) -> None:
    run = made_at(tmp_path / "missing", small(run={"workers": [1, 2]}))
    outcome = report_run(run)
    assert outcome.exit == 5
    assert "worker 2 left no log" in outcome.void


def test_an_aborted_run_renders_and_says_so(tmp_path: Path) -> None:
    made = small(run={"status": "aborted", "ended_utc": None, "duration_s": None})
    made.faults = fault_lines("never", "down", 8, 9)[:1]
    run = made_at(tmp_path / "aborted", made)
    outcome = report_run(run)
    assert outcome.exit == 5
    assert outcome.summary["status"] == "aborted"
    assert violations(outcome.summary, schema("summary")) == []
    assert "The run was aborted" in (run / "report" / "report.html").read_text()


def test_an_empty_run_renders_and_is_unknown(tmp_path: Path) -> None:
    run = made_at(tmp_path / "empty", Synthetic(bare=True, clients=3, channels=2))
    outcome = report_run(run)
    assert (outcome.verdict, outcome.exit) == ("unknown", 1)  # its latency gate has no sample
    assert violations(outcome.summary, schema("summary")) == []
    assert outcome.summary["latency_ms"]["delivery"] == {
        "count": 0, "p50": None, "p90": None, "p99": None, "p99_9": None, "max": None,
    }  # fmt: skip
    assert "No load was recorded." in (run / "report" / "report.html").read_text()


def test_a_manifest_with_nothing_in_it_renders(tmp_path: Path) -> None:
    run = tmp_path / "bare"
    (run / "events").mkdir(parents=True)
    (run / "run.json").write_text('{"schema_version": 1, "nonce": 5, "status": "aborted"}')
    outcome = report_run(run)
    assert outcome.exit == 5
    assert violations(outcome.summary, schema("summary")) == []


# ── bad input ─────────────────────────────────────────────────────────────────────────────


def test_what_is_no_run_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HistoryError):
        report_run(tmp_path / "nowhere")


def test_gates_that_cannot_be_used_are_an_error_before_anything_is_read(tmp_path: Path) -> None:
    run = made_at(tmp_path / "run", small(), '[[gate]]\nid = "x"\n')
    with pytest.raises(GatesError, match="Field required"):
        report_run(run)
    assert not (run / "analysis").exists()


@pytest.mark.parametrize("place", ["analysis", "report", "report/plots"])
def test_nothing_is_written_through_a_link(tmp_path: Path, place: str) -> None:
    run, outside = made_at(tmp_path / "run", small()), tmp_path / "outside"
    outside.mkdir()
    if "/" in place:
        (run / "report").mkdir()
    (run / place).symlink_to(outside)
    with pytest.raises(HistoryError, match="is a link"):
        report_run(run)
    assert not list(outside.iterdir())


def test_a_link_in_the_place_of_a_file_is_replaced(tmp_path: Path) -> None:
    run, outside = made_at(tmp_path / "run", small()), tmp_path / "precious"
    outside.write_text("precious")
    (run / "report").mkdir()
    for name in ("report.html", "report.html.partial"):
        (run / "report" / name).symlink_to(outside)
    report_run(run)
    assert outside.read_text() == "precious"
    assert (run / "report" / "report.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param("phases", [{"name": "x"}], id="a phase without times"),
        pytest.param("phases", "steady", id="phases that are no list"),
        pytest.param("t0_ns", "noon", id="a start that is no number"),
    ],
)
def test_a_manifest_that_cannot_be_meant_is_an_error_with_a_name(
    tmp_path: Path, key: str, value: object
) -> None:
    run = made_at(tmp_path / "run", small(run={key: value}))
    with pytest.raises(HistoryError, match=key):
        report_run(run)


HOSTILE = "<img src=x onerror=alert(1)> | `@everyone` \x1b[31m\u202e ]]> & \"quoted\" 'single' $x^2$ # 漢字"


def test_hostile_names_come_through_as_text_everywhere(tmp_path: Path) -> None:
    made = small(
        channel_names=[HOSTILE, f"two {HOSTILE}"],
        scenario=HOSTILE,
        run={"why": HOSTILE, "via": HOSTILE, "problems": [HOSTILE], "versions": {HOSTILE: HOSTILE}},
    )
    records = made.records()[1]
    duplicate = records[np.flatnonzero((records["kind"] == Kind.RECV) & (records["flags"] == 0))[7]]
    made._rows[1].append(tuple(duplicate.tolist()))
    run = made_at(tmp_path / "hostile", made)
    outcome = report_run(run)
    assert outcome.verdict == "invalid"
    page = (run / "report" / "report.html").read_text()
    assert "<img" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    text = (run / "report" / "report.md").read_text()
    assert "<img" not in text
    assert "@everyone" not in text.replace("`@everyone`", "")
    suites = ET.parse(run / "report" / "junit.xml").getroot()
    assert "<img src=x" in str(suites.find("testsuite").get("name"))  # type: ignore[union-attr]
    for content in (page, text, (run / "report" / "junit.xml").read_text()):
        assert "\x1b" not in content
        assert "\u202e" not in content

"""Excerpts show their finding again, alone, whatever the class."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from reports.checks import CHECKS, run_checks
from reports.excerpts import MAX_ROWS, excerpts, make_excerpt, write_excerpts
from reports.history import Flag, HistoryError
from reports.pipeline import report_run
from reports.verdict import Exit
from scenarios.cli import main
from tests.reports.checks.twins import TWINS, delivery_gap, two_clients
from tests.scenes import Scene


@pytest.mark.parametrize("cls", CHECKS)
def test_an_excerpt_of_each_class_is_smaller_and_shows_the_same_finding(cls: str, tmp_path: Path) -> None:
    history = TWINS[cls].bad().history()
    (excerpt,) = [e for e in excerpts(history, run_checks(history)) if e.finding.cls == cls]
    assert excerpt.name == f"{cls}-1"
    assert excerpt.history.ingest.records < history.ingest.records
    write_excerpts(tmp_path / "excerpts", [excerpt])
    replayed = CliRunner().invoke(main, ["replay", str(tmp_path / "excerpts" / excerpt.name)])
    assert replayed.exit_code == Exit.INTEGRITY, replayed.output
    assert f"{cls}: {excerpt.finding.sentence}" in replayed.output


def busy_run() -> Scene:
    """A gap among a hundred other messages, in one of two channels."""
    scene = Scene(clients=4, channels=2)
    for client in range(1, 5):
        scene.join(client, 1, 2)
    for number in range(100):
        scene.publish(1 + number % 4, 1 + number % 2, skip=[3] if number == 50 else [])
    scene.finish()
    return scene


def test_an_excerpt_has_little_more_than_what_it_shows() -> None:
    history = busy_run().history()
    finding = run_checks(history).classes["D1"].findings[0]
    excerpt = make_excerpt(history, finding, name="D1-1")
    assert excerpt is not None
    assert excerpt.history.ingest.records <= 8
    assert sum(name is not None for name in excerpt.history.names.clients) <= 4


def test_a_message_of_nobody_that_comes_late_in_a_long_stream_has_an_excerpt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the sends of the others, each of their messages would look like one as well."""
    monkeypatch.setattr("reports.excerpts.MAX_ROWS", 300)  # the channel has more
    scene = Scene(clients=3)
    for client in (1, 2, 3):
        scene.join(client)
    for number in range(60):
        scene.publish(1 + number % 2)
    scene.publish(1, skip=[3])
    scene.recv(3, 61, (3, 40), flags=Flag.FOREIGN)
    scene.publish(2)
    scene.finish()
    history = scene.history()
    (finding,) = run_checks(history).classes["L5"].findings
    excerpt = make_excerpt(history, finding, name="L5-1")
    assert excerpt is not None
    assert excerpt.history.ingest.records <= 4


def test_a_report_leaves_excerpts_and_says_so(tmp_path: Path) -> None:
    run = busy_run().write(tmp_path / "run")
    for _ in range(2):  # once more changes nothing
        report_run(run)
        lines = [json.loads(x) for x in (run / "analysis" / "findings.jsonl").read_text().splitlines()]
        assert [line["excerpt"] for line in lines if line["cls"] == "D1"] == ["analysis/excerpts/D1-1"]
        assert "chatproof replay" in (run / "report" / "report.md").read_text()
        assert [path.name for path in (run / "analysis" / "excerpts").iterdir()] == ["D1-1"]
        replayed = CliRunner().invoke(main, ["replay", str(run / "analysis" / "excerpts" / "D1-1")])
        assert replayed.exit_code == Exit.INTEGRITY


def test_a_valid_run_leaves_none_and_takes_old_ones_away(tmp_path: Path) -> None:
    run = delivery_gap(False).write(tmp_path / "run")
    old = run / "analysis" / "excerpts" / "D1-1"
    old.mkdir(parents=True)
    report_run(run)
    assert not (run / "analysis" / "excerpts").exists()


def test_a_torn_log_stays_torn_in_its_excerpt() -> None:
    scene = two_clients()
    scene.publish(1)
    scene.give(2, 1, 1)
    scene.torn.add(1)
    history = scene.history()
    (excerpt,) = excerpts(history, run_checks(history))
    assert excerpt.finding.cls == "D5"
    assert excerpt.history.ingest.broken == {1}


def test_what_is_no_excerpt_is_refused(tmp_path: Path) -> None:
    run = delivery_gap(True).write(tmp_path / "run")
    for path in (run, tmp_path / "nowhere"):
        refused = CliRunner().invoke(main, ["replay", str(path)])
        assert refused.exit_code == Exit.USAGE
        assert refused.output.startswith("error: ")


def test_an_excerpt_that_was_changed_is_told(tmp_path: Path) -> None:
    history = delivery_gap(True).history()
    write_excerpts(tmp_path / "excerpts", list(excerpts(history, run_checks(history))))
    path = tmp_path / "excerpts" / "D1-1" / "run.json"
    document = json.loads(path.read_text())
    document["excerpt"]["class"] = "L1"
    path.write_text(json.dumps(document))
    replayed = CliRunner().invoke(main, ["replay", str(path.parent)])
    assert replayed.exit_code == Exit.UNKNOWN
    assert "does not find again" in replayed.output


def test_no_excerpt_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "excerpts").symlink_to(tmp_path)
    with pytest.raises(HistoryError, match="is a link"):
        write_excerpts(tmp_path / "excerpts", [])


def test_a_slice_that_is_too_large_gives_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_ROWS >= 10_000
    monkeypatch.setattr("reports.excerpts.MAX_ROWS", 3)
    history = delivery_gap(True).history()
    assert list(excerpts(history, run_checks(history))) == []

"""Runs as DataFrames: the columns that are promised, with their units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reports.frames import FINDING_COLUMNS, Run, load
from reports.history import Flag, HistoryError, Kind
from reports.timeline import COLUMNS
from tests.reports.synthetic import Cut, Synthetic, in_memory, small


@pytest.fixture(scope="module")
def run() -> Run:
    return Run(in_memory(small(cuts=[Cut(4, 5, 1)])))


def documented(method: object) -> set[str]:
    return set(str(method.__doc__).replace(",", " ").replace(";", " ").split())


def test_deliveries_are_every_arrival(run: Run) -> None:
    frame = run.deliveries()
    records = run.history.scan().collect()
    assert len(frame) == (records["kind"] == Kind.RECV).sum()
    assert set(frame.columns) <= documented(Run.deliveries)
    np.testing.assert_allclose(frame.latency_ms, (frame.received_s - frame.scheduled_s) * 1000, atol=1e-3)
    assert (
        frame.replayed.sum()
        == ((records["kind"] == Kind.RECV) & (records["flags"] & Flag.REPLAYED > 0)).sum()
    )
    assert set(frame.channel) == {"room:1", "room:2"}
    assert frame.epoch.unique().tolist() == ["E1"]
    assert frame[frame.warmup].scheduled_s.max() < 1.0


def test_sends_have_their_acks(run: Run) -> None:
    frame = run.sends()
    assert set(frame.columns) <= documented(Run.sends)
    assert (frame.sent_s >= frame.scheduled_s).all()
    assert frame.acked_s.notna().all()
    np.testing.assert_allclose(frame.lag_ms, (frame.sent_s - frame.scheduled_s) * 1000, atol=1e-3)


def test_intervals_are_those_of_the_report(run: Run) -> None:
    frame = run.intervals()
    assert list(frame.columns) == list(COLUMNS)
    assert frame.second.tolist() == list(range(len(frame)))


def test_findings_of_a_clean_run_are_a_table_without_rows(run: Run) -> None:
    frame = run.findings()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == list(FINDING_COLUMNS)
    assert frame.empty


def test_findings_name_class_message_and_record() -> None:
    made = small()
    records = made.records()[1]
    twice = records[np.flatnonzero(records["kind"] == Kind.RECV)[10]]
    made._rows[1].append(tuple(twice.tolist()))
    frame = Run(in_memory(made)).findings()
    assert frame.cls.tolist() == ["D5"]
    assert frame.message[0] == f"c{twice['publisher']}:{twice['pub_seq']}"
    assert frame.records[0].startswith("w1:")


def test_an_empty_run_has_empty_frames() -> None:
    empty = Run(in_memory(Synthetic(bare=True)))
    assert empty.deliveries().empty
    assert empty.sends().empty
    assert empty.intervals().empty


def test_a_run_is_loaded_from_its_directory(tmp_path: Path) -> None:
    assert len(load(small().write(tmp_path / "run")).deliveries()) > 1000
    with pytest.raises(HistoryError):
        load(tmp_path / "nowhere")

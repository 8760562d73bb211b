"""A run is held to its prediction: what the load itself has to answer for, and what it has not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reports.prediction import Offered, held

PREDICTED: dict[str, Any] = {
    "publishes": 1_000,
    "connections": 50,
    "deliveries": 20_000,
    "deliveries_per_s_peak": 100.0,
    "resumes": True,
}
OFFERED = Offered(delivered=20_000, acked=1_000, gaps=0, sentinels=5, dials=50, dialled=50)
WORKERS = [
    {"scheduled": 600, "sent": 590, "dropped": 6, "skipped": 1, "unsent": 3},
    {"scheduled": 400, "sent": 400, "unsent": 0},
]


def missed(
    *,
    workers: Any = WORKERS,
    run: dict[str, Any] | None = None,
    predicted: dict[str, Any] | None = None,
    **offered: Any,
) -> list[str]:
    told = {
        "status": "complete",
        "workers": [1, 2],
        "load": {"clients": 50, "predicted": {**PREDICTED, **(predicted or {})}},
        **(run or {}),
    }
    figures = held(told, workers, replace(OFFERED, **offered))
    return [figure.name for figure in figures if not figure.holds]


def test_a_run_that_did_what_was_planned_holds() -> None:
    assert missed() == []


@pytest.mark.parametrize(
    ("offered", "names"),
    [
        pytest.param({"dialled": 49}, ["clients that dialled"], id="a client that never dialled"),
        pytest.param({"dials": 45}, ["dials"], id="returns that were not made"),
        pytest.param({"dials": 400}, [], id="reconnects are no fault of the load"),
        pytest.param({"delivered": 19_499}, ["deliveries"], id="fewer deliveries than 98 % less a second"),
        pytest.param({"delivered": 19_500}, [], id="98 % less a second"),
        pytest.param({"delivered": 30_000}, [], id="more than planned"),
        pytest.param({"delivered": 10_000, "acked": 500}, [], id="half was not acked"),
        pytest.param({"delivered": 10_000, "gaps": 1}, [], id="declared missing"),
        pytest.param({"delivered": 10_000, "accused": True}, [], id="the checks know who lost it"),
        pytest.param({"delivered": 10_000, "refused": 3}, [], id="kept out by the server"),
        pytest.param({"delivered": 17_900, "faulty": True}, [], id="faults: 90 % less a second"),
        pytest.param({"delivered": 17_899, "faulty": True}, ["deliveries"], id="faults: below that"),
        pytest.param({"delivered": 13_900, "faulty": True, "refused": 3}, [], id="kept out by faults: 70 %"),
        pytest.param(
            {"delivered": 13_899, "faulty": True, "refused": 3}, ["deliveries"], id="below that too"
        ),
    ],
)
def test_what_clients_did_is_bound_by_what_the_server_and_the_faults_explain(
    offered: dict[str, Any], names: list[str]
) -> None:
    assert missed(**offered) == names


def test_who_does_not_ask_for_what_it_missed_has_a_wide_bound() -> None:
    assert missed(predicted={"resumes": False}, delivered=13_900) == []
    assert missed(predicted={"resumes": False}, delivered=13_899) == ["deliveries"]


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        pytest.param(
            {"scheduled": 401, "sent": 401}, ["publishes that fell due"], id="one more than the schedule has"
        ),
        pytest.param(
            {"scheduled": 400, "sent": 399},
            ["publishes sent, dropped by their persona, or waiting"],
            id="one went nowhere",
        ),
    ],
)
def test_what_falls_due_is_exact_whatever_the_faults(changes: dict[str, int], names: list[str]) -> None:
    workers = [WORKERS[0], {**WORKERS[1], **changes}]
    assert missed(workers=workers, faulty=True) == names


@pytest.mark.parametrize(
    "run",
    [
        pytest.param({"interactive": True}, id="steered by hand"),
        pytest.param({"status": "aborted"}, id="broken off"),
        pytest.param({"workers": [1, 2, 3]}, id="a worker was lost"),
        pytest.param({"load": {}}, id="nothing was predicted"),
    ],
)
def test_a_run_that_was_not_meant_to_reach_it_is_not_held_to_it(run: dict[str, Any]) -> None:
    assert missed(run=run, delivered=0) == []


def test_counters_of_an_older_version_are_not_judged() -> None:
    assert missed(workers=[{"scheduled": 1}, {"scheduled": 1}]) == []


def test_the_reason_names_the_figure_its_prediction_and_the_bound() -> None:
    run = {"status": "complete", "workers": [1, 2], "load": {"clients": 50, "predicted": PREDICTED}}
    (figure,) = [f for f in held(run, WORKERS, replace(OFFERED, dials=45)) if not f.holds]
    assert figure.sentence.replace("\u00a0", " ") == (
        "the prediction was missed: dials 45, predicted 50, allowed ≥ 50"
    )

"""--scale: the same workload with N times the clients and the demand."""

from __future__ import annotations

from typing import Any

import pytest

from loadgen.scale import scaled
from loadgen.workload import Workload, predict

TABLE: dict[str, Any] = {
    "clients": 100,
    "channels": 20,
    "channels_per_client": 2,
    "phase": [
        {"name": "a", "duration_s": 5.0, "publish_per_s": 20.0, "to_per_s": 60.0},
        {"name": "b", "duration_s": 5.0, "publish_per_s": 20.0,
         "sine": {"amplitude_per_s": 10.0, "period_s": 2.0}},
        {"name": "c", "duration_s": 5.0, "publish_per_s": 20.0, "steps": [{"at_s": 1.0, "per_s": 40.0}]},
    ],
    "absence": [
        {"at_s": 2.0, "duration_s": 1.0, "clients": 10},
        {"at_s": 4.0, "duration_s": 1.0, "share": 0.1},
    ],
    "topology": {
        "sized": [{"channels": 4, "members": 10}, {"channels": 1, "share": 1.0}],
        "direct_per_client": 1.0,
    },
}  # fmt: skip


def test_clients_rooms_and_rates_are_multiplied_and_what_is_of_one_client_is_not() -> None:
    made = Workload.model_validate(scaled(TABLE, 10))
    assert (made.clients, made.channels, made.channels_per_client) == (1_000, 200, 2)
    first, second, third = made.phase
    assert (first.publish_per_s, first.to_per_s) == (200.0, 600.0)
    assert second.sine is not None
    assert (second.sine.amplitude_per_s, second.sine.period_s) == (100.0, 2.0)
    assert third.steps[0].per_s == 400.0
    assert [absence.count(1_000) for absence in made.absence] == [100, 100]
    assert [(group.channels, group.size(1_000)) for group in made.topology.sized] == [(40, 10), (1, 1_000)]
    assert made.topology.direct_count(1_000) == 500


@pytest.mark.parametrize("factor", [0.25, 10])
def test_deliveries_grow_as_the_load_does_where_rooms_are_what_they_were(factor: float) -> None:
    table = {**TABLE, "topology": {}, "absence": []}
    once = predict(Workload.model_validate(table), 1)
    often = predict(Workload.model_validate(scaled(table, factor)), 1)
    assert often.deliveries / once.deliveries == pytest.approx(factor, rel=0.15)
    assert often.deliveries / often.publishes == pytest.approx(once.deliveries / once.publishes, rel=0.1)


def test_nothing_falls_to_nothing_nor_below_what_a_client_needs() -> None:
    table = {**TABLE, "absence": [TABLE["absence"][0]], "topology": {}}
    made = Workload.model_validate(scaled(table, 0.01))
    assert (made.clients, made.channels) == (1, 2)
    assert made.absence[0].count(1) == 1


def test_the_rooms_of_a_side_are_enough_for_who_is_kept_to_it() -> None:
    personas = [{"name": "odd", "weight": 1, "side": "odd"}, {"name": "all", "weight": 1}]
    assert scaled({**TABLE, "persona": personas}, 0.05)["channels"] == 4


@pytest.mark.parametrize(
    "junk",
    [
        {"clients": "many"},
        {"phase": 3},
        {"phase": [7]},
        {"topology": []},
        {"absence": {}},
        {"channels": None},
    ],
    ids=str,
)
def test_what_is_no_number_is_left_for_its_reader(junk: dict[str, Any]) -> None:
    made = scaled({**TABLE, **junk}, 3)
    (key,) = junk
    assert made[key] == junk[key]

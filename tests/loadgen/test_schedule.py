"""The schedule: one list, however many workers; and it is the Poisson process that it says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.schedule import PUBLISH, SECOND_NS, SETTLE_NS, owned, publishes, sessions, stripe
from loadgen.workload import Workload, client_channels, predict


def workload(**changes: Any) -> Workload:
    fields: dict[str, Any] = {
        "clients": 20,
        "channels": 6,
        "connect_over_s": 1.5,
        "phase": [
            {"name": "warm", "duration_s": 1.4, "publish_per_s": 30},
            {"name": "load", "duration_s": 3.2, "publish_per_s": 90},
        ],
        **changes,
    }
    return Workload.model_validate(fields)


def all_publishes(plan: Workload, seed: int) -> Any:
    return np.concatenate(list(publishes(plan, seed)))


workloads = st.builds(
    lambda clients, channels, per_client, rate: workload(
        clients=clients,
        channels=channels,
        channels_per_client=min(per_client, channels),
        phase=[
            {"name": "a", "duration_s": 1.7, "publish_per_s": rate},
            {"name": "b", "duration_s": 2.1, "publish_per_s": 0},
        ],
    ),
    clients=st.integers(1, 30),
    channels=st.integers(1, 9),
    per_client=st.integers(1, 4),
    rate=st.floats(0, 200),
)


@settings(max_examples=40)
@given(plan=workloads, seed=st.integers(0, 2**63 - 1), workers=st.sampled_from([1, 2, 5]))
def test_the_list_is_the_same_for_any_number_of_workers(plan: Workload, seed: int, workers: int) -> None:
    whole = all_publishes(plan, seed)
    parts = [np.concatenate(list(stripe(publishes(plan, seed), k, workers))) for k in range(1, workers + 1)]
    together = np.concatenate(parts)
    order = np.lexsort((together["client"], together["due_ns"]))
    expected = whole[np.lexsort((whole["client"], whole["due_ns"]))]
    assert (together[order] == expected).all()
    for k, part in enumerate(parts, start=1):
        assert set(part["client"]) <= set(owned(plan, k, workers))


@settings(max_examples=40)
@given(plan=workloads, seed=st.integers(0, 2**63 - 1))
def test_a_publisher_counts_from_1_over_all_of_its_channels_in_order_of_time(
    plan: Workload, seed: int
) -> None:
    whole = all_publishes(plan, seed)
    assert (np.diff(whole["due_ns"]) >= 0).all()
    for client in set(whole["client"].tolist()):
        own = whole[whole["client"] == client]
        assert own["pub_seq"].tolist() == list(range(1, len(own) + 1))


@settings(max_examples=40)
@given(plan=workloads, seed=st.integers(0, 2**63 - 1))
def test_clients_publish_on_their_own_channels_and_only_once_they_are_there(
    plan: Workload, seed: int
) -> None:
    channels = client_channels(plan, seed)
    arrived = sessions(plan, seed)["due_ns"]
    for publish in all_publishes(plan, seed):
        client = int(publish["client"])
        assert int(publish["channel"]) in channels[client]
        assert publish["due_ns"] >= arrived[client - 1] + SETTLE_NS


@settings(max_examples=40)
@given(plan=workloads, seed=st.integers(0, 2**63 - 1), workers=st.integers(1, 7))
def test_every_client_has_one_worker(plan: Workload, seed: int, workers: int) -> None:
    ordinals = [c for k in range(1, workers + 1) for c in owned(plan, k, workers)]
    assert sorted(ordinals) == list(range(1, plan.clients + 1))
    assert all(c % workers == k % workers for k in range(1, workers + 1) for c in owned(plan, k, workers))


def test_sessions_arrive_in_order_within_their_time() -> None:
    arrivals = sessions(workload(), 7)
    assert arrivals["client"].tolist() == list(range(1, 21))
    assert (np.diff(arrivals["due_ns"]) >= 0).all()
    assert 0 <= arrivals["due_ns"][0]
    assert arrivals["due_ns"][-1] < 1.5 * SECOND_NS


def test_a_seed_gives_the_same_schedule_always() -> None:
    whole = all_publishes(workload(), 12345)
    assert whole.dtype == PUBLISH
    assert (len(whole), whole[0].tolist(), whole[-1].tolist()) == (
        248,
        (1274492408, 1, 3, 1, 0),
        (4587422488, 9, 6, 15, 0),
    )


def test_another_seed_gives_another_schedule() -> None:
    assert (
        len(all_publishes(workload(), 1)) != len(all_publishes(workload(), 2))
        or (all_publishes(workload(), 1) != all_publishes(workload(), 2)).any()
    )


def test_gaps_between_publishes_are_exponential_with_the_rate_of_the_phase() -> None:
    rate = 200.0
    plan = workload(
        connect_over_s=0, clients=50, phase=[{"name": "a", "duration_s": 101.0, "publish_per_s": rate}]
    )
    due_s = all_publishes(plan, 4)["due_ns"] / SECOND_NS
    gaps = np.sort(np.diff(due_s))
    n = len(gaps)
    cdf = 1 - np.exp(-rate * gaps)
    steps = np.arange(1, n + 1) / n
    # Kolmogorov-Smirnov distance against its 1 % critical value.
    assert max(np.abs(cdf - steps).max(), np.abs(cdf - steps + 1 / n).max()) < 1.63 / math.sqrt(n)
    assert abs(n - rate * 100) < 3 * math.sqrt(rate * 100)


def test_counts_per_second_have_the_variance_of_a_poisson_process() -> None:
    plan = workload(connect_over_s=0, phase=[{"name": "a", "duration_s": 400.0, "publish_per_s": 50}])
    counts = np.array([len(block) for block in publishes(plan, 8)])[1:]
    assert 0.8 < counts.var() / counts.mean() < 1.25


def test_a_phase_without_publishes_is_silent_and_the_next_begins_on_time() -> None:
    plan = workload(
        connect_over_s=0,
        phase=[
            {"name": "silence", "duration_s": 2.5, "publish_per_s": 0},
            {"name": "load", "duration_s": 1.0, "publish_per_s": 500},
            {"name": "silence again", "duration_s": 1.5},
        ],
    )
    due = all_publishes(plan, 3)["due_ns"]
    assert 2.5 * SECOND_NS <= due.min() < 2.6 * SECOND_NS
    assert 3.4 * SECOND_NS < due.max() < 3.5 * SECOND_NS


def test_the_prediction_counts_the_schedule_one_by_one() -> None:
    plan = workload()
    whole, arrived, channels = all_publishes(plan, 5), sessions(plan, 5)["due_ns"], client_channels(plan, 5)
    deliveries = sum(
        sum(publish["channel"] in channels[c] and arrived[c - 1] <= publish["due_ns"] for c in range(1, 21))
        for publish in whole
    )
    prediction = predict(plan, 5)
    assert (prediction.connections, prediction.publishes, prediction.deliveries) == (
        20,
        len(whole),
        deliveries,
    )
    assert prediction.records == 20 * 6 + 2 * len(whole) + deliveries
    assert prediction.log_bytes == 64 + 40 * prediction.records
    seconds = whole["due_ns"] // SECOND_NS
    assert prediction.publishes_per_s_peak == np.bincount(seconds).max()


@pytest.mark.parametrize("rate", [0.0, 1e-9], ids=["none", "next to none"])
def test_an_empty_schedule_predicts_nothing(rate: float) -> None:
    prediction = predict(workload(phase=[{"name": "a", "duration_s": 2, "publish_per_s": rate}]), 1)
    assert prediction[1:5] == (0, 0, 0.0, 0.0)

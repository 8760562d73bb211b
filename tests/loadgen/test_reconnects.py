"""Reconnect policies: how long a client waits before it dials again."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest

from loadgen.reconnects import NO_WAIT_S, comes_back, heeds, waits
from loadgen.workload import Workload


def policy(value: Any) -> Any:
    fields = {"clients": 1, "channels": 2, "phase": [{"name": "p", "duration_s": 1}], "reconnect": value}
    return Workload.model_validate(fields).reconnect


def series(value: Any, count: int = 400, *, hint: tuple[float, float] | None = None) -> list[float]:
    made, rng = waits(policy(value)), random.Random(7)
    if hint:
        made.hinted(hint)
    return [made.next_delay_s(float(n), rng) for n in range(count)]


def test_fixed_is_fixed_and_spread_spreads_it() -> None:
    assert set(series({"policy": "fixed", "wait_s": 1.5})) == {1.5}
    spread = series({"policy": "fixed", "wait_s": 2.0, "spread": 0.25})
    assert 1.5 <= min(spread) < 1.55
    assert 2.45 < max(spread) <= 2.5


@pytest.mark.parametrize("value", [{"base_s": 0.5, "cap_s": 8.0}, "server-hint"], ids=["own", "the server's"])
def test_full_jitter_doubles_its_ceiling_up_to_the_cap(value: Any) -> None:
    ceilings = [min(8.0, 0.5 * 2**n) for n in range(400)]
    found = series(value, hint=(0.5, 8.0))
    assert all(0 <= wait < ceiling for wait, ceiling in zip(found, ceilings, strict=True))
    assert max(found) > 7.5
    assert sum(found[10:]) / 390 == pytest.approx(4.0, rel=0.1)


def test_an_own_backoff_does_not_follow_the_server() -> None:
    assert max(series({"base_s": 0.5, "cap_s": 1.0}, hint=(100.0, 200.0))) < 1.0


def test_decorrelated_waits_between_base_and_three_times_the_last_up_to_the_cap() -> None:
    found = series({"policy": "decorrelated", "base_s": 0.2, "cap_s": 6.0})
    assert all(0.2 <= wait <= 6.0 for wait in found)
    assert all(after <= max(0.2, before * 3) + 1e-9 for before, after in pairwise(found))
    assert max(found) == 6.0


@pytest.mark.parametrize(
    ("lasted_s", "most_s"), [(5.0, 0.6), (4.9, 6.0)], ids=["a stable connection", "a short one"]
)
def test_only_a_connection_that_lasted_starts_again_from_the_base(lasted_s: float, most_s: float) -> None:
    made, highest = waits(policy({"policy": "decorrelated", "base_s": 0.2, "cap_s": 6.0})), 0.0
    rng = random.Random(1)
    for n in range(200):
        for _ in range(8):
            made.next_delay_s(0.0, rng)
        made.connected(100.0 * n)
        highest = max(highest, made.next_delay_s(100.0 * n + lasted_s, rng))
    assert highest <= most_s
    assert highest > most_s * 0.9


def test_without_backoff_a_loss_is_answered_at_once_and_a_failed_dial_after_a_tenth_of_a_second() -> None:
    made, rng = waits(policy("none")), random.Random(1)
    assert made.next_delay_s(0, rng) == NO_WAIT_S
    made.connected(1)
    assert [made.next_delay_s(2, rng) for _ in range(3)] == [0.0, NO_WAIT_S, NO_WAIT_S]


def test_who_never_comes_back_and_who_heeds_what_it_is_asked() -> None:
    assert not comes_back(policy("never"))
    assert comes_back(policy("none"))
    told = {str(value): heeds(policy(value)) for value in ("none", "never", "server-hint")}
    assert told == {"none": False, "never": True, "server-hint": True}
    assert not heeds(policy({"policy": "fixed", "wait_s": 1}))
    assert heeds(policy({"policy": "decorrelated", "base_s": 1, "cap_s": 2}))

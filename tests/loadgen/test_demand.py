"""Phases with shapes: the rate that they say, the arrivals that follow it, block by block."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from loadgen.demand import Phase, curve, due, mean_per_s, peak_per_s, stretches
from loadgen.section import SECOND_NS, drawn


def phase(**keys: Any) -> Phase:
    return Phase.model_validate({"name": "p", "duration_s": 10.0, "publish_per_s": 20.0, **keys})


SHAPES = {
    "constant": phase(),
    "ramp": phase(publish_per_s=0, to_per_s=60),
    "ramp down": phase(publish_per_s=50, to_per_s=10),
    "steps": phase(steps=[{"at_s": 2.5, "per_s": 80}, {"at_s": 7, "per_s": 0}]),
    "sine": phase(publish_per_s=40, sine={"amplitude_per_s": 40, "period_s": 3}),
    "spike": phase(spikes=[{"at_s": 3.2, "for_s": 0.5, "factor": 8}]),
    "spikes on a sine": phase(
        publish_per_s=30,
        sine={"amplitude_per_s": 10, "period_s": 7},
        spikes=[{"at_s": 1, "for_s": 4, "factor": 3}, {"at_s": 4, "for_s": 20, "factor": 0.5}],
    ),
}
shapes = pytest.mark.parametrize("shape", [pytest.param(p, id=name) for name, p in SHAPES.items()])


def arrivals(shape: Phase, kind: Any, seed: int, *, share: float = 1.0) -> Any:
    """Due times in seconds, over all blocks."""
    parts = [
        due(stretch, share, kind, drawn(seed, second)).ns
        for second in range(math.ceil(shape.duration_s))
        for stretch in stretches([shape], second)
    ]
    return np.concatenate(parts) / SECOND_NS


@shapes
def test_the_integral_is_that_of_the_rate(shape: Phase) -> None:
    t = np.linspace(0, 10, 200_001)
    rates = curve(shape).rate(t)
    summed = np.concatenate([[0], np.cumsum((rates[1:] + rates[:-1]) / 2) * (t[1] - t[0])])
    assert np.abs(curve(shape).integral(t) - summed).max() < 0.02


@shapes
def test_no_piece_exceeds_its_bound(shape: Phase) -> None:
    rates = curve(shape)
    for low, high in rates.pieces(0, 10):
        inner = np.linspace(low, high, 1001)[1:-1]
        assert (rates.rate(inner) <= rates.bound(low, high) + 1e-9).all()


@pytest.mark.parametrize(
    ("name", "mean", "peak"),
    [
        ("constant", 20, 20),
        ("ramp", 30, 60),
        ("steps", (20 * 2.5 + 80 * 4.5) / 10, 80),
        ("spike", (20 * 10 + 0.5 * 7 * 20) / 10, 160),
    ],
)
def test_mean_and_peak_are_those_of_the_shape(name: str, mean: float, peak: float) -> None:
    assert mean_per_s(SHAPES[name]) == pytest.approx(mean)
    assert peak_per_s(SHAPES[name]) == pytest.approx(peak)


@shapes
def test_arrivals_are_a_poisson_process_of_the_rate(shape: Phase) -> None:
    due_s = np.concatenate([arrivals(shape, "poisson", seed) for seed in range(30)])
    rates = curve(shape)
    expected = rates.integral(np.array([10.0]))[0] * 30
    assert abs(len(due_s) - expected) < 4 * math.sqrt(expected)
    # In the time of its own integral a Poisson process is uniform: Kolmogorov-Smirnov, 1 % critical value.
    uniform = np.sort(rates.integral(due_s)) / rates.integral(np.array([10.0]))[0]
    steps = np.arange(1, len(uniform) + 1) / len(uniform)
    distance = max(np.abs(uniform - steps).max(), np.abs(uniform - steps + 1 / len(uniform)).max())
    assert distance < 1.63 / math.sqrt(len(uniform))


@shapes
def test_even_arrivals_come_when_the_integral_has_grown_by_one(shape: Phase) -> None:
    due_s = arrivals(shape, "constant", 1)
    passed = curve(shape).integral(due_s)
    assert np.abs(passed - (np.arange(len(due_s)) + 0.5)).max() < 0.01


def test_even_arrivals_of_a_constant_rate_are_evenly_spaced_over_the_seconds() -> None:
    assert np.diff(arrivals(phase(publish_per_s=8), "constant", 1)) == pytest.approx(np.full(79, 1 / 8))


@settings(max_examples=50)
@given(
    shape=st.sampled_from(list(SHAPES.values())),
    share=st.floats(0.01, 2),
    kind=st.sampled_from(["poisson", "constant"]),
    seed=st.integers(0, 2**32),
)
def test_arrivals_stay_in_their_block_and_in_order(shape: Phase, share: float, kind: Any, seed: int) -> None:
    for second in range(10):
        for stretch in stretches([shape], second):
            ns = due(stretch, share, kind, drawn(seed, second)).ns
            assert (np.diff(ns) >= 0).all()
            assert ((ns >= second * SECOND_NS) & (ns < (second + 1) * SECOND_NS)).all()


@pytest.mark.parametrize(
    ("keys", "part"),
    [
        pytest.param(
            {"to_per_s": 1, "sine": {"amplitude_per_s": 1, "period_s": 1}}, "exclude", id="two shapes"
        ),
        pytest.param({"sine": {"amplitude_per_s": 21, "period_s": 1}}, "below 0", id="a negative rate"),
        pytest.param({"steps": [{"at_s": 10, "per_s": 1}]}, "not before the end", id="a step at the end"),
        pytest.param(
            {"steps": [{"at_s": 2, "per_s": 1}, {"at_s": 2, "per_s": 3}]},
            "in order of time",
            id="equal steps",
        ),
        pytest.param(
            {"spikes": [{"at_s": 11, "for_s": 1, "factor": 2}]}, "not before the end", id="late spike"
        ),
        pytest.param({"arrivals": "trace"}, "poisson", id="unknown arrivals"),
    ],
)
def test_shapes_that_make_no_sense_are_refused(keys: dict[str, Any], part: str) -> None:
    with pytest.raises(ValidationError, match=part):
        phase(**keys)

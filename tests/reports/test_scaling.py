"""The Universal Scalability Law on systems whose law is known, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from reports.scaling import Point, ScalingError, best, fit

NODES = (1, 2, 3, 4, 6, 8, 12)
RATE = 10_000.0


def law(n: float, sigma: float, kappa: float) -> float:
    return RATE * n / (1 + sigma * (n - 1) + kappa * n * (n - 1))


def points(
    sigma: float,
    kappa: float,
    *,
    nodes: Sequence[int] = NODES,
    noise: float = 0.0,
    width: float = 0.0,
    seed: int = 1,
) -> list[Point]:
    rng = np.random.default_rng(seed)
    return [Point(n, law(n, sigma, kappa) * float(np.exp(rng.normal(0, noise))), width) for n in nodes]


def holds(measured: Sequence[Point], sigma: float, kappa: float) -> tuple[bool, bool, bool]:
    """Whether the interval of each parameter has the true value."""
    profile = best(measured)[3]
    assert profile.limit is not None
    squares = (profile.contention_at(sigma), profile.coherency_at(kappa), profile.rate_at(1, RATE))
    return tuple(value <= profile.limit for value in squares)


@pytest.mark.parametrize(
    ("sigma", "kappa"), [(0.0, 0.0), (0.05, 0.0), (0.0, 0.01), (0.1, 0.02), (0.5, 0.001), (1.0, 0.0)]
)
def test_a_law_without_noise_is_found(sigma: float, kappa: float) -> None:
    found = fit(points(sigma, kappa))
    assert found.rate_of_one.value == pytest.approx(RATE)
    assert found.contention.value == pytest.approx(sigma, abs=1e-6)
    assert found.coherency.value == pytest.approx(kappa, abs=1e-8)
    assert found.rate_at(12) == pytest.approx(law(12, sigma, kappa))


@pytest.mark.parametrize("nodes", [NODES, (1, 2, 4, 8)], ids=["seven points", "four points"])
@pytest.mark.parametrize(("sigma", "kappa"), [(0.05, 0.01), (0.1, 0.0), (0.0, 0.0), (0.0, 0.02)])
def test_the_intervals_hold_the_truth_nineteen_times_in_twenty(
    sigma: float, kappa: float, nodes: tuple[int, ...]
) -> None:
    tried = 300
    held = np.zeros(3)
    for seed in range(tried):
        held += holds(points(sigma, kappa, nodes=nodes, noise=0.03, seed=seed), sigma, kappa)
    assert (held / tried >= 0.92).all(), held / tried  # 0.95 less two standard errors and a half


def test_the_intervals_are_no_wider_than_they_need_be() -> None:
    missed = [not holds(points(0.2, 0.02, noise=0.03, seed=seed), 0.2, 0.02)[1] for seed in range(300)]
    assert 0.02 <= np.mean(missed) <= 0.08


def test_the_ends_of_an_interval_are_where_the_fit_gets_too_bad() -> None:
    found = fit(points(0.1, 0.02, noise=0.03))
    for estimate, squares in (
        (found.contention, found.profile.contention_at),
        (found.coherency, found.profile.coherency_at),
        (found.rate_of_one, lambda rate: found.profile.rate_at(1, rate)),
    ):
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low <= estimate.value <= estimate.high
        assert squares(estimate.high) == pytest.approx(found.profile.limit, rel=1e-3)
        assert squares(estimate.high * 1.01) > (found.profile.limit or 0)


def test_linear_growth_has_no_peak_however_it_is_measured() -> None:
    claimed = [not holds(points(0.0, 0.0, noise=0.03, seed=seed), 0.0, 0.0)[1] for seed in range(300)]
    assert np.mean(claimed) <= 0.05
    found = fit(points(0.0, 0.0, noise=0.03))
    assert not found.bends
    assert found.peak is None


def test_a_peak_that_was_passed_is_found() -> None:
    found = fit(points(0.05, 0.02, noise=0.01))  # at √(0.95 / 0.02) = 6.9
    assert found.bends
    assert found.peak is not None
    assert found.peak.low is not None
    assert found.peak.high is not None
    assert found.peak.low <= 6.892 <= found.peak.high
    assert found.peak.high - found.peak.low < 1.5


def test_a_peak_beyond_what_may_be_said_is_not_told() -> None:
    found = fit(points(0.0, 0.001, nodes=range(1, 13), noise=0.0005))  # at 31.6
    assert found.bends
    assert found.peak is None


def test_nothing_is_said_of_more_than_one_and_a_half_times_the_most() -> None:
    found = fit(points(0.1, 0.01))
    assert found.reach == 18
    assert found.rate_at(18) > 0
    with pytest.raises(ValueError, match=r"19 is more than 1\.5 times the most that were measured, 12"):
        found.rate_at(19)
    with pytest.raises(ValueError, match=r"1\.5 times"):
        found.estimate_at(19)


def test_three_points_have_a_fit_and_no_intervals() -> None:
    found = fit(points(0.1, 0.02, nodes=(1, 4, 8)))
    assert found.coherency.value == pytest.approx(0.02)
    assert not found.intervals
    assert found.peak is None
    assert (found.estimate_at(8).low, found.estimate_at(8).high) == (None, None)


@pytest.mark.parametrize("nodes", [(1, 2), (1, 2, 2, 2)])
def test_fewer_than_three_different_numbers_are_refused(nodes: tuple[int, ...]) -> None:
    with pytest.raises(ScalingError, match=r"2 different numbers were measured: .* at least 3"):
        fit(points(0.1, 0.02, nodes=nodes))


def test_points_on_a_curve_are_known_to_their_brackets_only() -> None:
    sharp, blunt = (fit(points(0.1, 0.02, width=width)) for width in (0.0, 0.05))
    assert sharp.coherency.high == pytest.approx(0.02, rel=1e-3)
    assert blunt.coherency.low is not None
    assert blunt.coherency.high is not None
    assert blunt.coherency.low < 0.019 < 0.021 < blunt.coherency.high


def test_more_than_linear_growth_is_taken_for_linear() -> None:
    found = fit([Point(n, RATE * n**1.2) for n in NODES])
    assert (found.contention.value, found.coherency.value) == (0.0, 0.0)
    assert not found.bends


def test_what_would_need_an_infinite_node_is_refused() -> None:
    with pytest.raises(ScalingError, match="measure smaller numbers"):
        fit([Point(n, RATE / (n - 1)) for n in (10, 20, 40, 80)])

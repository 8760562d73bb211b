"""What the simulator's correct server does is found to be correct."""

from __future__ import annotations

from reports.checks import Verdict, run_checks
from tests.reports.checks.verdicts import counts
from tests.simulator.simulate import simulate


def test_a_history_is_a_function_of_its_seed() -> None:
    one, other = simulate(3), simulate(3)
    assert one.story.logs == other.story.logs
    assert one.story.run() == other.story.run()
    assert simulate(4).story.logs != one.story.logs


def test_histories_judged_one_by_one_are_valid() -> None:
    for seed in range(60):
        simulated = simulate(seed)
        judged = run_checks(simulated.history())
        assert counts(judged) == simulated.expected, f"seed {seed}"
        expected = Verdict.UNKNOWN if simulated.shared.torn else Verdict.VALID
        assert judged.verdict is expected, f"seed {seed}: {judged.reasons}"

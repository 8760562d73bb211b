"""What the simulator's correct server does is found to be correct: 10,000 histories, packed as channels.

``CHATPROOF_HISTORIES`` sets how many (10000), ``CHATPROOF_SEED`` the first seed (0). A failure names the
history and the command that judges just that one again.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from reports.checks import Integrity, Verdict, run_checks
from tests.reports.checks.verdicts import counts
from tests.simulator.pack import pack, packs
from tests.simulator.simulate import Simulated, simulate

HISTORIES = int(os.environ.get("CHATPROOF_HISTORIES", 10_000))
FIRST = int(os.environ.get("CHATPROOF_SEED", 0))
_CHUNK = 625  # seeds of one test
_PART_ROWS = 20_000
_HARMLESS = {
    "resume from elsewhere than where the client stood",  # a client that went back on purpose
    "READ outside of a complete final read",  # placed when the read was complete, and sent all the same
}

# Every one of them has to occur among the first 1000 seeds: what never happens is not tested.
FEATURES = {
    "a replay pauses", "a request waits long", "an error, and not placed", "an error, and placed",
    "cut in a replay", "cut with a publish in flight", "dial failed", "evicted", "frames read together",
    "gap: lag", "gap: trimmed in a replay", "gone for good", "had it already", "half open",
    "left and came back", "never written", "placed between the reads", "placed when its publisher had gone",
    "placed, and nobody was told",
    "refused for certain", "repeated place", "reset", "restart: fork", "restart: keep", "restart: lose",
    "resume: ahead", "resume: epoch", "resume: fork", "resume: trimmed", "resume: true",
    "resume: true, over a fork", "sent again after dedupe_s", "sent again on the same connection",
    "silent channel", "slow consumer", "subscribe: first", "subscribe: int", "subscribe: new",
    "subscribe: tuple", "trimmed during a final read", "trimmed between the reads",
    "worker killed", "no echo",
}  # fmt: skip


def wrong(judged: Integrity, expected: dict[str, int], *, torn: bool) -> str:
    """What is not as it should be; "" when all is."""
    if counts(judged) != dict(expected):
        return f"counted {counts(judged)}, expected {dict(expected)}"
    if judged.verdict is not (Verdict.UNKNOWN if torn else Verdict.VALID):
        return f"{judged.verdict}: {'; '.join(judged.reasons)}"
    if strange := judged.coverage.unexplained.keys() - _HARMLESS:
        return f"unexplained: {sorted(strange)}"
    return ""


def replay(seed: int) -> str:
    return f"CHATPROOF_SEED={seed} CHATPROOF_HISTORIES=1 pytest tests/reports/checks/test_simulator.py"


def culprits(group: list[Simulated]) -> str:
    """The histories of a pack that are found wrong alone as well."""
    lines = []
    for simulated in group:
        judged = run_checks(simulated.history())
        if why := wrong(judged, simulated.expected, torn=simulated.shared.torn):
            said = [f.sentence for r in judged.classes.values() if r.gated for f in r.findings]
            lines.append(f"seed {simulated.seed}: {why}\n  {replay(simulated.seed)}\n  {said[:3]}")
    return "\n".join(lines[:5]) or "no history of it is found wrong alone"


@pytest.mark.parametrize("first", range(FIRST, FIRST + HISTORIES, _CHUNK))
def test_a_correct_server_is_found_valid(first: int) -> None:
    seeds = range(first, min(first + _CHUNK, FIRST + HISTORIES))
    for group in packs(seeds, simulate):
        packed = pack(group)
        judged = run_checks(packed.history(), part_rows=_PART_ROWS)
        why = wrong(judged, packed.expected, torn=group[0].shared.torn)
        assert not why, f"{why}\n{culprits(group)}"


def test_histories_judged_one_by_one_are_valid() -> None:
    for seed in range(FIRST, FIRST + 100):
        simulated = simulate(seed)
        why = wrong(run_checks(simulated.history()), simulated.expected, torn=simulated.shared.torn)
        assert not why, f"{why}\n{replay(seed)}"


def test_every_feature_occurs() -> None:
    seen = Counter[str]()
    for seed in range(1000):
        seen.update(simulate(seed).features.keys())
    assert seen.keys() == FEATURES
    assert min(seen.values()) >= 3, seen


def test_a_history_is_a_function_of_its_seed() -> None:
    one, other = simulate(3), simulate(3)
    assert one.story.logs == other.story.logs
    assert one.story.run() == other.story.run()
    assert simulate(4).story.logs != one.story.logs


def test_a_pack_judges_each_history_as_it_is_judged_alone() -> None:
    """With one history in it spoiled, a pack is found invalid for just that, and the seed is named."""
    group = next(packs(range(400), simulate, size=40))
    spoiled = group[17]
    story = spoiled.story
    story.faults = [*story.faults, dict(story.faults[0], kind="exit", planned=False)]
    judged = run_checks(pack(group).history())
    assert wrong(judged, pack(group).expected, torn=False).startswith("counted")
    assert f"seed {spoiled.seed}:" in culprits(group)
    assert f"CHATPROOF_SEED={spoiled.seed} " in culprits(group)


def test_histories_of_different_contracts_are_not_packed() -> None:
    some = {simulate(seed).shared: simulate(seed) for seed in range(20)}
    with pytest.raises(ValueError, match="contracts"):
        pack(list(some.values()))

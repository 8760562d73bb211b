"""Servers that are broken on purpose are found out, by the whole pipeline, and accused of nothing else.

Eight of different parts; ``make mutants`` runs all of them. So are proxies that falsify messages: three of
``make frame-mutants``.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.mutants.frames import FRAME_RUNS, FRAMES_IN_CI
from tests.mutants.judge import Outcome, carry_out
from tests.mutants.runs import IN_CI, RUNS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]
AT_A_TIME = 2
ALL = {**RUNS, **FRAME_RUNS}
CHOSEN = (*IN_CI, *FRAMES_IN_CI)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Outcome]:
    """All of them, run at once: most of a run is waiting."""
    folder: Path = tmp_path_factory.mktemp("mutants")
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        found = pool.map(lambda name: carry_out(name, ALL[name], folder / name), CHOSEN)
        return dict(zip(CHOSEN, found, strict=True))


@pytest.mark.parametrize("name", CHOSEN)
def test_a_broken_server_is_found_out(outcomes: Mapping[str, Outcome], name: str) -> None:
    outcome = outcomes[name]
    assert not outcome.wrong, outcome
    assert outcome.fired

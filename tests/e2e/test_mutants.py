"""Servers that are broken on purpose are found out, by the whole pipeline, and accused of nothing else.

Eight of different parts; ``make mutants`` runs all of them. So are proxies that falsify messages, three of
``make frame-mutants``, and one broken node beside an honest one, two of ``make node-mutants``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.frames import FRAME_RUNS, FRAMES_IN_CI
from tests.mutants.judge import carry_out
from tests.mutants.nodes import NODE_RUNS, NODES_IN_CI
from tests.mutants.runs import IN_CI, RUNS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
ALL = {**RUNS, **FRAME_RUNS, **NODE_RUNS}
CHOSEN = (*IN_CI, *FRAMES_IN_CI, *NODES_IN_CI)


@pytest.mark.parametrize("name", CHOSEN)
def test_a_broken_server_is_found_out(tmp_path: Path, name: str) -> None:
    outcome = carry_out(name, ALL[name], tmp_path / name)
    assert not outcome.wrong, outcome
    assert outcome.fired

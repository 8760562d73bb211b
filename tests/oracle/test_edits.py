"""The checker and the oracle agree on every edit of simulated histories, and see what it was made for."""

from __future__ import annotations

import pytest

from tests.oracle.agreement import disagreements
from tests.oracle.judge import judge
from tests.simulator.edits import EDITS

EACH = 10


@pytest.mark.parametrize("name", EDITS)
def test_they_agree_on_edited_histories(name: str) -> None:
    seen = 0
    for edited in EDITS[name].examples(EACH):
        apart = disagreements(edited.history())
        assert apart == {}, f"{name}, seed {edited.seed}: checker and oracle found {apart}"
        found = {cls for cls, count in judge(edited.history()).items() if count}
        assert found == edited.predicts, f"{name}, seed {edited.seed}"
        seen += 1
    assert seen == EACH

"""What several tests of scenarios begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.journal import Journal
from chaos.process import Supervisor


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    """Of processes that the test starts; they end with it."""
    journal = Journal(tmp_path / "faults.jsonl")
    made = Supervisor(journal)
    yield made
    made.end_all()
    journal.close()
